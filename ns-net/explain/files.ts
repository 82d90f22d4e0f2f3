import fs from 'node:fs'
import { listLabs } from '../labs.ts'
import { hereDocument, word } from './words.ts'

/*
 * The files that ns-net and its plugins keep, before and after. What others read, /etc/netns and the names of the labs, is
 * told as commands; our own bookkeeping as remarks, which only an undo turns into commands.
 */

/** Text of a file, target of a symbolic link, or a directory. */
type Entry = { readonly text: string } | { readonly target: string } | 'directory'
export type Tree = ReadonlyMap<string, Entry>

const roots = ['/etc/netns', '/run/ns-net', '/run/cni', '/var/lib/cni']

/** Directories that conflists of labs, or one that is about to be used, name for leases and other files of their own. */
export function listDataDirs(conf: string | undefined): string[] {
  const text = JSON.stringify(listLabs()) + (conf === undefined ? '' : readIfPresent(conf))
  const found = [...text.matchAll(/"dataDir"\s*:\s*"(\/[^"\\]+)"/gi)].map(([, path]) => path!.replace(/\/+$/, ''))
  return [...new Set(found)].filter((path) => !roots.some((root) => path.startsWith(`${root}/`)))
}

function readIfPresent(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8')
  } catch {
    return '' // the verb says so
  }
}

export function readTrees(dataDirs: readonly string[]): Tree {
  const found = new Map<string, Entry>()
  for (const root of [...roots, ...dataDirs]) if (fs.existsSync(root)) readInto(root, found)
  return found
}

function readInto(path: string, found: Map<string, Entry>): void {
  // Only locks in our own folders are deleted; an index of leases is made anew from them.
  if (path.endsWith('/.ns-net') || (path.endsWith('/lock') && !path.startsWith('/run/ns-net/'))) return
  const status = fs.lstatSync(path, { throwIfNoEntry: false })
  if (status?.isSymbolicLink()) found.set(path, { target: fs.readlinkSync(path) })
  else if (status?.isFile()) found.set(path, { text: fs.readFileSync(path, 'utf8') })
  else if (status?.isDirectory()) {
    found.set(path, 'directory')
    for (const name of fs.readdirSync(path).sort()) readInto(`${path}/${name}`, found)
  }
}

export interface FileChange {
  readonly path: string
  readonly before: Entry | undefined
  readonly after: Entry | undefined
}

/** New and changed ones first, directories before what is in them; then the gone, in the opposite order. */
export function changesBetween(before: Tree, after: Tree): FileChange[] {
  const isSame = (path: string) => JSON.stringify(before.get(path)) === JSON.stringify(after.get(path))
  const made = [...after.keys()].filter((path) => !isSame(path)).sort()
  const gone = [...before.keys()]
    .filter((path) => !after.has(path))
    .sort()
    .reverse()
  return [...made, ...gone].map((path) => ({ path, before: before.get(path), after: after.get(path) }))
}

/** True for what others read as well. */
export const isPublic = ({ path }: FileChange): boolean => /^\/etc\/netns|^\/run\/ns-net(\/hosts)?$/.test(path)

const kinds: readonly (readonly [pattern: RegExp, kind: string])[] = [
  [/^\/var\/lib\/cni\/results\//, 'result'],
  [/^\/run\/ns-net\/labs\//, 'record'],
  [/^\/run\/ns-net\/networks\//, 'network'],
  [/^\/run\/ns-net\/(nat|firewall)\/.*\/[^/]+$/, 'user'],
  [/^\/run\/cni\/tuning\//, 'backup'],
  [/\/[^./][^/]*\/[0-9a-f:][0-9a-f:.]*$/, 'lease'],
]

/** What a file of our own is; undefined for what only helps to find others. */
export const kindOf = ({ path, before, after }: FileChange): string | undefined =>
  (after ?? before) === 'directory' ? undefined : kinds.find(([pattern]) => pattern.test(path))?.[1]

const started = /^\/run\/ns-net\/exec\/([^/]+)\/commands\.json$/

interface Background {
  readonly command: string
  readonly pid: number
}

/** What a lab file has running in the background, by the record of it: what was started, and what was ended. */
export function backgroundChanges({
  path,
  before,
  after,
}: FileChange): { lab: string; started: Background[]; ended: Background[] } | undefined {
  const [, lab] = started.exec(path) ?? []
  if (lab === undefined) return undefined
  const read = (entry: Entry | undefined) =>
    typeof entry === 'object' && 'text' in entry ? (JSON.parse(entry.text) as Background[]) : []
  const [old, now] = [read(before), read(after)]
  const without = (all: readonly Background[], others: readonly Background[]) =>
    all.filter(({ pid }) => !others.some((other) => other.pid === pid))
  return { lab, started: without(now, old), ended: without(old, now) }
}

/** The commands that turn one state into the other. */
export const commandsFor = ({ path, before, after }: FileChange): string[] => toState(path, before, after)
export const undoFor = ({ path, before, after }: FileChange): string[] => toState(path, after, before)

function toState(path: string, from: Entry | undefined, to: Entry | undefined): string[] {
  const file = word(path)
  if (to === undefined) return [from === 'directory' ? `rmdir --ignore-fail-on-non-empty ${file}` : `rm -f ${file}`]
  if (to === 'directory') return [`mkdir -p ${file}`]
  if ('target' in to) return [`ln -sfn ${word(to.target)} ${file}`]
  const old = typeof from === 'object' && 'text' in from ? from.text : ''
  const isLonger = old !== '' && old.endsWith('\n') && to.text.startsWith(old)
  return [write(file, isLonger ? '>>' : '>', isLonger ? to.text.slice(old.length) : to.text)]
}

/** Lines as lines; what is none, exactly as it is. */
function write(file: string, arrow: string, text: string): string {
  if (text === '') return `: ${arrow}${file}`
  const isLines = text.endsWith('\n') && /^[\t\n\x20-\x7e\x80-\uffff]*$/.test(text)
  if (isLines) return hereDocument(`cat ${arrow}${file}`, text.slice(0, -1).split('\n'))
  const escaped = text
    .replaceAll('\\', '\\\\')
    .replaceAll('%', '%%')
    .replaceAll('\r', '\\r')
    .replaceAll('\n', '\\n')
    .replaceAll('\0', '\\0')
  return `printf '${escaped.replaceAll("'", `'\\''`)}' ${arrow}${file}`
}
