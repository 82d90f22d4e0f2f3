import fs from 'node:fs'
import { messageOf } from '../../plugins/contract/errors.ts'
import type { Host } from '../../plugins/contract/host.ts'
import { CliError } from '../errors.ts'
import { listLabs, netnsPath } from '../labs.ts'
import { listNetworks } from '../networks.ts'
import { listCache } from '../result-cache.ts'
import { delNetwork } from '../runtime.ts'
import { type Applied, findApplied, listApplied, writeApplied } from './applied.ts'
import { questionFor } from './apply.ts'
import type { LabDocument } from './document.ts'
import { describeLive } from './export.ts'
import { formatLabDocument } from './format.ts'
import { type Live, readLive } from './live.ts'
import { mistakesError } from './mistakes.ts'
import { parseLabDocument } from './parse.ts'
import { planChanges } from './plan.ts'
import { carryOut, type Outcome } from './reconcile.ts'
import type { Step } from './steps.ts'

/** Everything, on the disk: for the time after a reboot. */

export const defaultFile = '/etc/ns-net/saved.json'

interface Saved {
  readonly version: 1
  /** ISO 8601. */
  readonly saved: string
  readonly document: Readonly<Record<string, unknown>>
  /** So that `down NAME` works afterwards. */
  readonly applied: readonly Applied[]
}

/** Writes all networks and labs to a file. The caller holds the lock. */
export function save(file: string, host: Host): LabDocument {
  const networks = listNetworks().map(({ name }) => name)
  const document = describeLive({ name: 'saved', labs: listLabs(), networks }, host)
  const content: Saved = {
    version: 1,
    saved: new Date().toISOString(),
    document: formatLabDocument(document),
    applied: listApplied(),
  }
  try {
    fs.mkdirSync(file.slice(0, file.lastIndexOf('/')) || '/', { recursive: true })
    fs.writeFileSync(`${file}.new`, `${JSON.stringify(content, undefined, 2)}\n`, { mode: 0o600 })
    fs.renameSync(`${file}.new`, file)
  } catch (error) {
    throw new CliError('failed', `cannot write ${file}: ${messageOf(error)}`)
  }
  return document
}

function readSaved(file: string): { document: LabDocument; applied: readonly Applied[] } {
  let json: Partial<Saved>
  try {
    json = JSON.parse(fs.readFileSync(file, 'utf8'))
  } catch (error) {
    const isAbsent = (error as { code?: string }).code === 'ENOENT'
    throw new CliError(
      isAbsent ? 'notFound' : 'usage',
      `cannot read ${file}: ${messageOf(error)}`,
      'ns-net save writes it',
    )
  }
  if (json?.version !== 1)
    throw new CliError('usage', `${file} was not written by ns-net save`, 'ns-net save writes it')
  const { document, mistakes } = parseLabDocument(json.document)
  if (!document) throw mistakesError(file, mistakes)
  return { document, applied: json.applied ?? [] }
}

export interface Restored extends Outcome {
  readonly notes: readonly string[]
}

/** Puts back what a file has and the host lacks; what is there stays as it is. The caller holds the lock. */
export function restore(file: string, host: Host): Restored {
  const saved = readSaved(file)
  const live = readLive(host, questionFor(saved.document))
  const { document, notes } = withoutTaken(saved.document, live)
  const { steps } = planChanges({ document, made: new Set(), restore: true }, live)
  const missing = steps.filter((step) => isAddition(step, live))
  forgetEarlierBoot(missing, host)
  for (const applied of saved.applied) if (!findApplied(applied.name)) writeApplied(applied)
  return { ...carryOut({ steps: missing }, { lists: new Map(live.networks) }), notes }
}

/** A namespace that somebody else made keeps its name; what was connected to the lab of that name stays away too. */
function withoutTaken(document: LabDocument, { foreign }: Live): { document: LabDocument; notes: string[] } {
  const isFree = (name: string) => !foreign.has(name)
  const taken = [...document.nodes.keys()].filter((name) => !isFree(name))
  return {
    document: {
      ...document,
      nodes: new Map([...document.nodes].filter(([name]) => isFree(name))),
      links: document.links.filter(({ a, b }) => isFree(a.place) && isFree(b.place)),
    },
    notes: taken.map((name) => `lab ${name} is not restored: a namespace of that name was not made by ns-net`),
  }
}

function isAddition(step: Step, { labs }: Live): boolean {
  const isThere = (name: string) => labs.get(name)?.isThere === true
  switch (step.kind) {
    case 'create network':
    case 'create lab':
    case 'add cable':
    case 'add route':
    case 'repair':
      return true
    case 'delete lab':
      return !isThere(step.lab)
    case 'set sysctl':
      return !step.back
    case 'shape':
      return step.shape !== undefined
    case 'start':
      return !isThere(step.lab)
    default:
      return false
  }
}

/** Results and leases on the disk survive the boot that their links ended with. */
function forgetEarlierBoot(steps: readonly Step[], host: Host): void {
  const created = new Set(steps.flatMap((step) => (step.kind === 'create lab' ? step.node.name : [])))
  for (const { list, target } of listCache())
    if (created.has(target.containerId) && target.netns === netnsPath(target.containerId))
      delNetwork(list, { ...target, netns: '' }, host)
}
