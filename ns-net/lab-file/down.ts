import type { Host } from '../../plugins/contract/host.ts'
import { endProcesses, refuseBusy } from '../commands/del.ts'
import { CliError } from '../errors.ts'
import { listLabs } from '../labs.ts'
import { findNetwork, removeNetwork, usersOf } from '../networks.ts'
import { removeLabs } from '../removal.ts'
import { findApplied, forgetApplied, labsOfFile } from './applied.ts'
import { endCommands, listCommands } from './background.ts'

export interface TakenDown {
  readonly labs: readonly string[]
  readonly networks: readonly string[]
  readonly notes: readonly string[]
}

/** Removes the labs and networks of a lab file, by their marks and its record. The caller holds the lock. */
export function takeDown(
  name: string,
  { kill, force }: { readonly kill?: boolean; readonly force?: boolean },
  host: Host,
): TakenDown {
  const applied = findApplied(name)
  const labs = labsOfFile(name)
  if (!applied && labs.length === 0)
    throw new CliError('notFound', `nothing was applied by the name "${name}"`, 'ns-net ls shows all labs')
  const names = labs.map((lab) => lab.name)
  endCommands(names.flatMap(listCommands))
  if (kill) endProcesses(labs)
  else if (!force) refuseBusy(labs)
  if (labs.length > 0) removeLabs(labs, host, { lingering: force })
  const rest = listLabs()
  const networks: string[] = []
  const notes: string[] = []
  for (const network of applied?.networks ?? []) {
    if (!findNetwork(network)) continue
    const [user] = usersOf(network, rest)
    if (user) notes.push(`network ${network} stays: lab ${user} uses it`)
    else {
      removeNetwork(network, host)
      networks.push(network)
    }
  }
  forgetApplied(name)
  return { labs: names, networks, notes }
}
