import { ConfigError, Value } from '../../config/reader.ts'
import { checkLabName } from '../labs.ts'
import { defaultNetwork } from '../networks.ts'
import { checkConsistency } from './consistency.ts'
import type { LabDocument, LinkEntry } from './document.ts'
import { readLink, readTest } from './link-entry.ts'
import { Mistakes } from './mistakes.ts'
import { readNetwork } from './network-entry.ts'
import { readNode } from './node-entry.ts'
import { namesIn, orFail, readList, readMap } from './values.ts'

/** Reads a lab file's JSON. Collects one mistake for each entry; the document is whole when there is none. */
export function parseLabDocument(json: unknown): { document?: LabDocument; mistakes: readonly ConfigError[] } {
  const mistakes = new Mistakes()
  const document = mistakes.attempt(() => readDocument(new Value(json, ''), mistakes))
  if (document && mistakes.list.length === 0) checkConsistency(document, mistakes)
  return mistakes.list.length === 0 ? { document, mistakes: [] } : { mistakes: mistakes.list }
}

function readDocument(value: Value, mistakes: Mistakes): LabDocument {
  if (typeof value.json !== 'object' || value.json === null || Array.isArray(value.json))
    throw new ConfigError('the file', 'expected an object with the keys lab, networks, nodes, links, tests')
  const section = value.object()
  const name = mistakes.attempt(() => nameOf(section.require('lab', 'the name of the lab, such as clos1'))) ?? ''
  const entries = <T>(key: string, read: (name: string, entry: Value) => T) => readMap(section, key, mistakes, read)
  const networks = entries('networks', (each, entry) => readNetwork(each, entry, mistakes))
  const known = new Set([...networks.keys(), defaultNetwork])
  const nodeNames = namesIn(section.get('nodes')?.json)
  const links = readList(section, 'links', mistakes, (entry) => readLink(entry, nodeNames, mistakes))
  const taken = interfacesTaken(links)
  const nodes = entries('nodes', (each, entry) => readNode(each, entry, known, taken.get(each) ?? new Set(), mistakes))
  const tests = readList(section, 'tests', mistakes, (entry) => readTest(entry, nodeNames, mistakes))
  mistakes.refuseUnknown(value, section)
  return { name, networks, nodes, links, tests }
}

function nameOf(value: Value): string {
  const name = value.string()
  orFail(value, () => checkLabName(name))
  return name
}

/** Interface names that links use, by node. */
function interfacesTaken(links: readonly LinkEntry[]): Map<string, Set<string>> {
  const taken = new Map<string, Set<string>>()
  for (const { place, ifName } of links.flatMap(({ a, b }) => [a, b]))
    taken.set(place, (taken.get(place) ?? new Set()).add(ifName))
  return taken
}
