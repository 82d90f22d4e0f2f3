import fs from 'node:fs'
import { readStamp, writeStamp } from '../../ipam/lease-index.ts'
import { checked, libc } from '../../netlink-lib/libc.ts'
import { createNamedNetns } from '../../netlink-lib/netns.ts'
import { inodeOf, listLabs, listNetnsNames, processesByNetns } from '../labs.ts'
import { listDataDirs } from './files.ts'
import { rebuild, takeDown } from './kernel-copy.ts'
import { host, labPlace, Places } from './place.ts'
import { rebuildTables, restoreIptables, saveIptables, takeDownTables } from './rules-copy.ts'
import { type Renumbered, sealFiles } from './sealed-files.ts'

/*
 * A dry run is a rehearsal: the verb is carried out, on a copy of the host in namespaces that end with this process. So it
 * prints what was really done, and fails where the real one would.
 */

const newNetwork = 0x40000000 // CLONE_NEWNET

export interface Rehearsal {
  /** In what the copy differs from the host. */
  readonly failures: readonly string[]
  /** Processes in the labs that the copies of these labs do not have. */
  readonly inhabitants: ReadonlyMap<string, readonly number[]>
}

/** From here on this process is in the copy, for good. `conf` is a conflist that the verb is about to read. */
export function beginRehearsal(conf?: string): Rehearsal {
  using places = new Places()
  const labs = new Set(listLabs().map(({ name }) => name))
  const names = listNetnsNames()
  const copied = [host, ...names.filter((name) => labs.has(name)).map(labPlace)]
  const copies = copied.map((place) => takeDown(place, places)).filter((copy) => copy !== undefined)
  const tables = copies.map(({ place }) => [place, takeDownTables(place, places)] as const)
  const iptables = saveIptables()
  const processes = processesByNetns()
  const inhabitants = new Map([...labs].map((name) => [name, processes.get(inodeOf(name) ?? -1) ?? []]))

  process.env.NS_NET_REHEARSAL = '1' // for what a lab file starts in the background; see verb.ts
  const dataDirs = listDataDirs(conf)
  const renumbered = sealFiles(dataDirs)
  for (const dataDir of ['/var/lib/cni/networks', ...dataDirs]) keepIndexes(dataDir, renumbered)
  checked(libc.unshare(newNetwork), 'create network namespace for', 'the rehearsal')
  using stage = new Places()
  const failures = rebuild(copies, stage)
  // What is no lab is known by its name only; nothing that ns-net does reaches into it.
  for (const name of names) if (!labs.has(name)) createNamedNetns(name)
  for (const [place, transactions] of tables) rebuildTables(place, stage, transactions)
  return { failures: [...failures, ...restoreIptables(iptables)], inhabitants }
}

/** An index of leases knows the folder that it is about by its number; else it would be made anew, in another order. */
function keepIndexes(dataDir: string, renumbered: Renumbered): void {
  const root = `${dataDir}/.ns-net`
  for (const network of fs.existsSync(root) ? fs.readdirSync(root) : []) {
    const stamp = readStamp(`${root}/${network}`)
    const inode = stamp && renumbered.get(stamp.inode)
    if (stamp && inode !== undefined) writeStamp(`${root}/${network}`, { ...stamp, inode })
  }
}
