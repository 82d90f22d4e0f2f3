import { deleteNamedNetns } from '../../netlink-lib/netns.ts'
import { pause } from '../../netlink-lib/pause.ts'
import { Host } from '../../plugins/contract/host.ts'
import { releaseNetwork } from '../default-network.ts'
import { CliError, toCliError } from '../errors.ts'
import {
  checkLabName,
  exclusively,
  findLab,
  forgetLab,
  type Lab,
  listNetnsNames,
  netnsPath,
  processesIn,
} from '../labs.ts'
import type { Report } from '../output.ts'
import { removeResolvConf } from '../resolv-conf.ts'
import { delNetwork } from '../runtime.ts'

export interface DelOptions {
  /** Delete although processes run inside; they keep an unnamed namespace without network. */
  readonly force?: boolean
  /** End the processes inside first: SIGTERM, two seconds, SIGKILL. */
  readonly kill?: boolean
}

/** Detaches and removes a lab. Steps that fail do not stop the others; the record stays until all is gone. */
export function del(name: string, options: DelOptions): Report {
  checkLabName(name)
  exclusively(() => {
    const lab = findLab(name)
    if (!lab) throw missing(name)
    if (options.kill) endProcesses(name)
    else if (!options.force) refuseBusy(name)
    remove(lab)
  })
  return { json: { name, deleted: true }, text: `${name}  deleted\n` }
}

/** The error for a name that is no lab of ours. */
export function missing(name: string): CliError {
  if (listNetnsNames().includes(name))
    return new CliError(
      'notFound',
      `"${name}" was not made by ns-net`,
      `ns-net touches only its own; remove it with: ip netns del ${name}`,
    )
  return new CliError('notFound', `no lab "${name}"`, 'ns-net ls shows all')
}

function refuseBusy(name: string): void {
  const pids = processesIn(name)
  if (pids.length === 0) return
  throw new CliError(
    'conflict',
    `${pids.length} ${pids.length === 1 ? 'process runs' : 'processes run'} in "${name}": ${pids.slice(0, 10).join(' ')}`,
    `ns-net del ${name} --kill ends them; --force leaves them in an unnamed namespace without network`,
  )
}

function endProcesses(name: string): void {
  for (const [signal, waits] of [
    ['SIGTERM', 20],
    ['SIGKILL', 20],
  ] as const) {
    for (const pid of processesIn(name)) {
      try {
        process.kill(pid, signal)
      } catch {
        // it ended by itself
      }
    }
    for (let i = 0; i < waits && processesIn(name).length > 0; i++) pause(100)
  }
}

function remove(lab: Lab): void {
  using host = new Host()
  const failures: unknown[] = []
  const attempt = (step: () => unknown) => {
    try {
      step()
    } catch (error) {
      failures.push(error)
    }
  }
  for (const { config, ifName } of lab.attachments.toReversed())
    attempt(() => delNetwork(config, { containerId: lab.name, netns: netnsPath(lab.name), ifName }, host))
  attempt(() => removeResolvConf(lab.name))
  attempt(() => deleteNamedNetns(lab.name))
  if (failures.length > 0) {
    const first = toCliError(failures[0], `cannot delete "${lab.name}" completely`)
    throw new CliError(
      first.kind,
      first.message,
      first.hint ?? `what remains is still recorded: run ns-net del ${lab.name} again`,
    )
  }
  forgetLab(lab.name)
  for (const { config } of lab.attachments) releaseNetwork(config, host)
}
