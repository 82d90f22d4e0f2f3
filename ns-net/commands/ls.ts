import fs from 'node:fs'
import { listLabs, listNetnsNames, netnsPath, processesByNetns } from '../labs.ts'
import { type Report, table } from '../output.ts'

/** One row for every named namespace: ours, and those that somebody else pinned. Works without root. */
export function ls(): Report {
  const labs = listLabs()
  const processes = processesByNetns()
  const count = (name: string) => {
    const inode = fs.statSync(netnsPath(name), { throwIfNoEntry: false })?.ino
    return (inode !== undefined && processes.get(inode)?.length) || 0
  }
  const pinned = listNetnsNames()
  const rows = [
    ...labs.map(({ name, created, attachments }) => ({
      name,
      state: pinned.includes(name) ? 'ok' : 'namespace gone',
      created,
      networks: attachments.map(({ network, ifName, addresses }) => ({ network, ifName, addresses })),
      processes: count(name),
    })),
    ...pinned
      .filter((name) => !labs.some((lab) => lab.name === name))
      .map((name) => ({ name, state: 'unmanaged', created: undefined, networks: [], processes: count(name) })),
  ].sort((a, b) => (a.name < b.name ? -1 : 1))
  return {
    json: rows,
    text: table(
      ['NAME', 'NET', 'ADDRESS', 'IF', 'PROCS', 'STATE'],
      rows.map(({ name, networks, processes: inside, state }) => [
        name,
        networks.map(({ network }) => network).join(','),
        networks.flatMap(({ addresses }) => addresses).join(','),
        networks.map(({ ifName }) => ifName).join(','),
        String(inside),
        state,
      ]),
    ),
  }
}
