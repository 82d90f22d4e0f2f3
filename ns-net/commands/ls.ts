import { inodeOf, listLabs, listNetnsNames, processesByNetns } from '../labs.ts'
import { type Report, table } from '../output.ts'
import { showPortMapping } from '../port-mappings.ts'
import { hasLabels } from './del.ts'

export interface LsOptions {
  /** `KEY=VALUE`: only labs with all of these labels. */
  readonly selector?: readonly string[]
}

/** One row for every named namespace: ours, and those that somebody else pinned. Works without root. */
export function ls({ selector }: LsOptions = {}): Report {
  const all = listLabs()
  const labs = selector ? all.filter((lab) => hasLabels(lab, selector)) : all
  const processes = processesByNetns()
  const count = (name: string) => processes.get(inodeOf(name) ?? -1)?.length ?? 0
  const managed = new Set(all.map(({ name }) => name))
  const pinned = new Set(listNetnsNames())
  const rows = [
    ...labs.map(({ name, created, attachments, labels }) => ({
      name,
      state: pinned.has(name) ? 'ok' : 'namespace gone',
      created,
      networks: attachments.map(({ network, ifName, addresses, ports = [] }) => ({
        network,
        ifName,
        addresses,
        ports,
      })),
      ...(labels && { labels }),
      processes: count(name),
    })),
    ...[...(selector ? [] : pinned)]
      .filter((name) => !managed.has(name))
      .map((name) => ({ name, state: 'unmanaged', created: undefined, networks: [], processes: count(name) })),
  ].sort((a, b) => (a.name < b.name ? -1 : 1))
  return {
    json: rows,
    text: table(
      ['NAME', 'NET', 'ADDRESS', 'IF', 'PORTS', 'PROCS', 'STATE'],
      rows.map(({ name, networks, processes: inside, state }) => [
        name,
        networks.map(({ network }) => network).join(','),
        networks.flatMap(({ addresses }) => addresses).join(','),
        networks.map(({ ifName }) => ifName).join(','),
        networks.flatMap(({ ports }) => ports.map(showPortMapping)).join(','),
        String(inside),
        state,
      ]),
    ),
  }
}
