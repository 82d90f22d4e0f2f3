import type { Attachment, AttachmentId } from '../config/attachment.ts'
import { deleteUdpFlows, type UdpDestination } from '../netlink-lib/conntrack/flows.ts'
import { type Command, createElements, deleteElements } from '../netlink-lib/nftables/commands.ts'
import { NetfilterSocket } from '../netlink-lib/nftables/netfilter-socket.ts'
import { saysTheSame } from '../netlink-lib/nftables/statements.ts'
import { NetlinkSocket, protocols as netlinkProtocols } from '../netlink-lib/socket.ts'
import { type PortForwarding, type PortMapping, protocols } from './forwards.ts'
import { fnv1a, networkMark, ownerMark, ownerMarks } from './mark.ts'
import type { PortForward } from './port-forward.ts'
import { decodeRecord, recordKey } from './port-forward-records.ts'
import { containersMap, type Entry, forwarding, ownedMap, wantedFor } from './port-forward-rules.ts'
import {
  checkForwarding,
  findHeld,
  type Held,
  listHeld,
  type Place,
  placesOf,
  readRecords,
  recordsOf,
  refuseRivals,
  refuseTaken,
  withRecords,
} from './port-forward-state.ts'
import { commit, completion, deleteUnused, isUnused, table } from './table.ts'

/*
 * Port forwarding on nf_tables by netlink, in the manner of masquerading: no lock, no files, each verb looks first and
 * then sends exactly what is missing. Connection tracking is spoken to over the same socket, as each one that is closed
 * waits for what the kernel has yet to free.
 */

interface Sockets {
  readonly netlink: NetlinkSocket
  readonly tables: NetfilterSocket
}

/** `warn` tells of what is done as well as possible: a stale flow does no lasting harm. */
export function nftablesPortForward(warn: (message: string) => void): PortForward {
  let opened: Sockets | undefined
  const open = (): Sockets => {
    if (!opened) {
      const netlink = new NetlinkSocket(netlinkProtocols.netfilter)
      opened = { netlink, tables: new NetfilterSocket(netlink) }
    }
    return opened
  }
  const flush = (destinations: readonly UdpDestination[]) => {
    if (destinations.length === 0) return
    try {
      deleteUdpFlows(open().netlink, destinations)
    } catch (error) {
      warn(`port forwarding: UDP flows from before may go on as they were: ${(error as Error).message}`)
    }
  }
  return {
    add: (attachment, wish) => flush(add(open().tables, attachment, wish)),
    del: (attachment, mappings = []) => flush(del(open().tables, attachment, mappings)),
    check: (attachment, wish) => checkForwarding(open().tables, attachment, wish),
    collect: (network, valid) => flush(collect(open().tables, network, valid)),
    probe: () => void open().tables.generation(),
    [Symbol.dispose]() {
      opened?.tables[Symbol.dispose]()
      opened = undefined
    },
  }
}

/** Claims or elements per transaction: the socket's send buffer bounds one. */
const portion = 250

function portions<T>(all: readonly T[]): T[][] {
  return Array.from({ length: Math.ceil(all.length / portion) }, (_, i) => all.slice(i * portion, (i + 1) * portion))
}

/** Returns the UDP ports that lead to the container now. */
function add(socket: NetfilterSocket, attachment: Attachment, wish: PortForwarding): UdpDestination[] {
  const mark = ownerMark(attachment)
  const { forwards, policies, claims } = wantedFor(attachment.network, wish)
  if (claims.length === 0) return []
  const groups = withRecords(mark, claims)
  let held: Found | undefined = heldBefore(socket, attachment, groups)
  try {
    for (const group of portions(groups))
      commit(socket, () => {
        const entries = group.flat()
        const found = held ?? findHeld(socket, entries)
        held = undefined // what is asked again is looked up again
        for (const [i, entry] of entries.entries()) refuseTaken(entry, found[i], mark)
        refuseRivals(socket, forwards, mark)
        const missing = entries.filter((_, i) => !found[i])
        return [...completion(socket, forwarding, policies), ...createCommands(missing, mark)]
      })
    // The two kinds of rivals have no key in common that one of them would be refused for. Of two that came at the same
    // time at least one sees the other now.
    refuseRivals(socket, forwards, mark)
  } catch (error) {
    undo(socket, attachment)
    throw error
  }
  return forwards.filter(({ protocol }) => protocol === 'udp')
}

/** The error that made us undo is the one to report; what is left now, DEL finds. */
function undo(socket: NetfilterSocket, attachment: Attachment): void {
  try {
    del(socket, attachment, [])
  } catch {}
}

type Found = readonly (Held | undefined)[]

/**
 * What is there of the wanted, unless it is asked for in portions. An ADD that is repeated with other ports or other
 * options begins anew.
 */
function heldBefore(socket: NetfilterSocket, attachment: Attachment, groups: readonly Entry[][]): Found | undefined {
  const mark = ownerMark(attachment)
  const wanted = groups.flat()
  const after = { map: ownedMap, key: recordKey(fnv1a(mark), groups.length) }
  const held = findHeld(socket, [...wanted, after])
  const isOther = wanted.some(({ data }, i) => held[i]?.mark === mark && !saysTheSame(data, held[i]!.data))
  if (!isOther && held.pop()?.mark !== mark) return groups.length > portion ? undefined : held
  del(socket, attachment, [])
  // Without its record an element is not found by DEL.
  const strays = findHeld(socket, wanted).filter((one) => one?.mark === mark) as Held[]
  for (const group of portions(strays)) socket.transaction(deleteCommands(group))
  return undefined
}

/** One command for each map; `subject` of a refused one says whose elements they are. */
function createCommands(entries: readonly Entry[], mark: string): Command[] {
  const names = [...new Set(entries.map(({ map }) => map))]
  return names.map((name) => {
    const elements = entries
      .filter(({ map }) => map === name)
      .map(({ key, data }) => ({ key: { value: key }, data, userdata: { comment: mark } }))
    return createElements(table, name, elements, `for "${mark}"`)
  })
}

function deleteCommands(held: readonly Held[]): Command[] {
  const names = [...new Set(held.map(({ map }) => map))]
  return names.map((name) => {
    const elements = held.filter(({ map }) => map === name).map(({ key }) => ({ key: { value: key } }))
    return deleteElements(table, name, elements, `of "${held[0]!.mark}"`)
  })
}

/** Returns the UDP ports that led to the container. */
function del(socket: NetfilterSocket, attachment: Attachment, mappings: readonly PortMapping[]): UdpDestination[] {
  const mark = ownerMark(attachment)
  const records = readRecords(socket, mark)
  const known = records.length > 0 ? records : recordsOf(mappings)
  const hasConditions = records.length === 0 || records.some(({ protocol, port }) => protocol === 0 && port === 1)
  const hash = fnv1a(mark)
  const places = known.map((record, n): Place[] => [
    { map: ownedMap, key: recordKey(hash, n) },
    ...placesOf(record, hasConditions),
  ])
  const policies = new Set<string>()
  // From the end: what a DEL that is killed leaves is still an index without gaps.
  for (const group of portions([...containersOf(socket, mark, places.flat()), ...places].reverse()))
    commit(socket, () => {
      const held = findHeld(socket, group.flat()).filter((one) => one?.mark === mark) as Held[]
      for (const { data } of held) if (data?.verdict?.chain) policies.add(data.verdict.chain)
      return deleteCommands(held)
    })
  // Nothing found: perhaps a DEL before this one was killed between its two transactions.
  if (policies.size === 0 || [...policies].some((name) => isUnused(socket, socket.findChain(table, name))))
    deleteUnused(socket, forwarding)
  return known.filter(({ protocol }) => protocol === protocols.udp)
}

/** The containers that ports at these places lead to; only needed when they have no records. */
function containersOf(socket: NetfilterSocket, mark: string, places: readonly Place[]): Place[][] {
  if (places.some(({ map }) => map === containersMap(4) || map === containersMap(6))) return []
  const ports = places.filter(({ map }) => map !== ownedMap)
  const targets = findHeld(socket, ports).flatMap((held) => (held?.mark === mark ? (held.data?.value ?? []) : []))
  const keys = new Map(targets.map((value) => [value.toString('hex'), value.subarray(0, value.length - 4)]))
  return [...keys.values()].map((key) => [{ map: containersMap(key.length === 4 ? 4 : 6), key }])
}

function collect(socket: NetfilterSocket, network: string, valid: readonly AttachmentId[]): UdpDestination[] {
  const keep = ownerMarks(network, valid)
  const stale = () => listHeld(socket).filter(({ mark }) => mark.startsWith(networkMark(network)) && !keep.has(mark))
  const first = stale()
  for (let left = first; left.length > 0; left = stale())
    commit(socket, () => deleteCommands(stale().slice(0, portion)))
  deleteUnused(socket, forwarding)
  return first
    .filter(({ map }) => map === ownedMap)
    .map(({ data }) => decodeRecord(data!.value!))
    .filter(({ protocol }) => protocol === protocols.udp)
}
