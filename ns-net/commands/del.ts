import { pause } from '../../netlink-lib/pause.ts'
import { Host } from '../../plugins/contract/host.ts'
import { CliError } from '../errors.ts'
import {
  checkLabName,
  exclusively,
  findLab,
  inodeOf,
  type Lab,
  listLabs,
  listNetnsNames,
  processesByNetns,
} from '../labs.ts'
import type { Report } from '../output.ts'
import { removeLabs } from '../removal.ts'
import { labelsOf } from './add.ts'

export interface DelOptions {
  /** Delete although processes run inside; they keep an unnamed namespace without network. */
  readonly force?: boolean
  /** End the processes inside first: SIGTERM, two seconds, SIGKILL. */
  readonly kill?: boolean
  readonly all?: boolean
  /** `KEY=VALUE`: every lab with all of these labels. */
  readonly selector?: readonly string[]
  readonly ignoreMissing?: boolean
}

/** Detaches and removes labs: those named, those with a label, or all. */
export function del(names: readonly string[], options: DelOptions): Report {
  for (const name of names) checkLabName(name)
  const ways = [names.length > 0, options.all, options.selector !== undefined].filter(Boolean).length
  if (ways !== 1) throw new CliError('usage', 'del takes names, or --all, or a selector', 'ns-net del NAME...')
  const labs = exclusively(() => {
    const chosen = choose(names, options)
    if (options.kill) endProcesses(chosen)
    else if (!options.force) refuseBusy(chosen)
    using host = new Host()
    removeLabs(chosen, host, { lingering: options.force })
    return chosen
  })
  const json = labs.map(({ name }) => ({ name, deleted: true }))
  const text = labs.map(({ name }) => `${name}  deleted\n`).join('') || 'nothing to delete\n'
  return { json, text }
}

function choose(names: readonly string[], { all, selector, ignoreMissing }: DelOptions): Lab[] {
  if (all) return listLabs()
  if (selector) return listLabs().filter((lab) => hasLabels(lab, selector))
  return [...new Set(names)].flatMap((name) => {
    const lab = findLab(name)
    if (!lab && !ignoreMissing) throw missing(name)
    return lab ?? []
  })
}

/** True when the lab has every label of the selector. */
export function hasLabels({ labels = {} }: Lab, selector: readonly string[]): boolean {
  return Object.entries(labelsOf(selector)).every(([key, value]) => labels[key] === value)
}

/** The error for a name that is no lab of ours. */
export function missing(name: string): CliError {
  if (listNetnsNames().includes(name))
    return new CliError(
      'notFound',
      `"${name}" was not made by ns-net`,
      `ns-net touches only its own; take it over with ns-net adopt ${name}, or remove it with: ip netns del ${name}`,
    )
  return new CliError('notFound', `no lab "${name}"`, 'ns-net ls shows all')
}

/** Names of the labs, each with the processes inside it. */
function inhabitants(labs: readonly Lab[]): [name: string, pids: number[]][] {
  const processes = processesByNetns()
  return labs.map(({ name }) => [name, processes.get(inodeOf(name) ?? -1) ?? []])
}

export function refuseBusy(labs: readonly Lab[]): void {
  const busy = inhabitants(labs).find(([, pids]) => pids.length > 0)
  if (!busy) return
  const [name, pids] = busy
  throw new CliError(
    'conflict',
    `${pids.length} ${pids.length === 1 ? 'process runs' : 'processes run'} in "${name}": ${pids.slice(0, 10).join(' ')}`,
    `ns-net del ${name} --kill ends them; --force leaves them in an unnamed namespace without network`,
  )
}

export function endProcesses(labs: readonly Lab[]): void {
  for (const [signal, waits] of [
    ['SIGTERM', 20],
    ['SIGKILL', 20],
  ] as const) {
    const pids = () => inhabitants(labs).flatMap(([, inside]) => inside)
    for (const pid of pids()) {
      try {
        process.kill(pid, signal)
      } catch {
        // it ended by itself
      }
    }
    for (let i = 0; i < waits && pids().length > 0; i++) pause(100)
  }
}
