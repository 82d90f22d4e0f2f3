import type { Attachment } from '../config/attachment.ts'
import { type Family, formatIp, ipBytes } from '../netlink-lib/ip.ts'
import type { Element } from '../netlink-lib/nftables/messages.ts'
import type { NetfilterSocket } from '../netlink-lib/nftables/netfilter-socket.ts'
import { saysTheSame } from '../netlink-lib/nftables/statements.ts'
import { AddressTaken, PortTaken, RuleMissing } from './errors.ts'
import { type Forward, type PortForwarding, type PortMapping, portText, protocols } from './forwards.ts'
import { fnv1a, ownerMark } from './mark.ts'
import { decodeRecord, encodeRecord, type OwnedRecord, recordKey } from './port-forward-records.ts'
import {
  type Claim,
  conditionsMap,
  containersMap,
  destinationKey,
  type Entry,
  forwarding,
  forwardKey,
  mapNames,
  ownedMap,
  portsMap,
  wantedFor,
} from './port-forward-rules.ts'
import { checkChain, table } from './table.ts'

/* What the kernel holds of our port forwarding: nothing here changes it. */

/** Where an element is. */
export interface Place {
  readonly map: string
  readonly key: Buffer
}

/** An element that is there. */
export interface Held extends Place {
  readonly mark: string
  readonly data: Element['data']
}

const heldAs = (map: string, { key, data, userdata }: Element): Held => ({
  map,
  key: key?.value ?? Buffer.alloc(0),
  mark: userdata?.comment ?? 'an element without a comment',
  data,
})

export const findHeld = (socket: NetfilterSocket, places: readonly Place[]): (Held | undefined)[] =>
  socket
    .findElements(
      table,
      places.map(({ map, key }) => ({ set: map, key })),
    )
    .map((element, i) => element && heldAs(places[i]!.map, element))

/** Reads all maps wholly. */
export const listHeld = (socket: NetfilterSocket): Held[] =>
  mapNames.flatMap((map) => socket.listElements(table, map).map((element) => heldAs(map, element)))

/** The claims with their records, in the order of the index. */
export function withRecords(mark: string, claims: readonly Claim[]): Entry[][] {
  const hash = fnv1a(mark)
  return claims.map(({ record, entries }, n) => [
    { map: ownedMap, key: recordKey(hash, n), data: { value: encodeRecord(record) }, subject: `record ${n}` },
    ...entries,
  ])
}

/** What the index says of an attachment. */
export function readRecords(socket: NetfilterSocket, mark: string): OwnedRecord[] {
  const records: OwnedRecord[] = []
  const hash = fnv1a(mark)
  // Most attachments have few or none, some have a range of ports.
  for (let count = 8; ; count = 64) {
    const places = Array.from({ length: count }, (_, i) => ({
      map: ownedMap,
      key: recordKey(hash, records.length + i),
    }))
    for (const held of findHeld(socket, places)) {
      if (held?.mark !== mark || !held.data?.value) return records
      records.push(decodeRecord(held.data.value))
    }
  }
}

/** Where the elements of a record are, if they are there. */
export function placesOf(record: OwnedRecord, hasConditions: boolean): Place[] {
  const { family, address, protocol, port } = record
  if (protocol === 0) return [{ map: containersMap(family), key: ipBytes(address!) }]
  const destination = destinationKey(protocol, port)
  const key = address ? Buffer.concat([ipBytes(address), destination]) : destination
  const bound = address !== undefined
  return [{ map: portsMap(family, bound), key }, ...(hasConditions ? [{ map: conditionsMap(family, bound), key }] : [])]
}

/** The records that these mappings would have; a mapping without a host address counts for both families. */
export function recordsOf(mappings: readonly PortMapping[]): OwnedRecord[] {
  return mappings.flatMap(({ protocol, hostPort: port, hostIp }) => {
    const bytes = hostIp === undefined ? undefined : ipBytes(hostIp)
    const families: readonly Family[] = bytes ? [bytes.length === 4 ? 4 : 6] : [4, 6]
    const address = bytes?.some((byte) => byte !== 0) ? formatIp(bytes) : undefined
    return families.map((family) => ({ family, address, protocol: protocols[protocol], port }))
  })
}

/** An element that another attachment has is an error naming it. */
export function refuseTaken(entry: Entry, held: Held | undefined, mark: string): void {
  if (!held || held.mark === mark) return
  const isContainer = entry.map === containersMap(4) || entry.map === containersMap(6)
  if (isContainer) throw new AddressTaken(entry.subject, mark, held.mark, 'forward ports to')
  throw new PortTaken(entry.subject, mark, held.mark)
}

/** A port of every address and the same port of one address would compete for the packets of that one. */
export function refuseRivals(socket: NetfilterSocket, forwards: readonly Forward[], mark: string): void {
  const bound = forwards.filter(({ address }) => address !== undefined)
  const general = bound.map(({ family, protocol, port }) => ({
    map: portsMap(family, false),
    key: destinationKey(protocols[protocol], port),
  }))
  for (const [i, held] of findHeld(socket, general).entries())
    if (held && held.mark !== mark) throw new PortTaken(portText({ ...bound[i]!, address: undefined }), mark, held.mark)
  for (const family of [4, 6] as const) {
    const unbound = forwards.filter((forward) => forward.family === family && forward.address === undefined)
    if (unbound.length === 0) continue
    // The maps have no order, and this one is small: few bind ports to one address.
    for (const element of socket.listElementsEnding(table, portsMap(family, true), unbound.map(forwardKey))) {
      const { mark: holder, key } = heldAs(portsMap(family, true), element)
      const rival = unbound.find((forward) => key.subarray(-8).equals(forwardKey(forward)))
      if (holder !== mark && rival) throw new PortTaken(portText({ ...rival, address: addressIn(key) }), mark, holder)
    }
  }
}

/** The address at the beginning of a key of 12 or 24 bytes. */
const addressIn = (key: Buffer): string => formatIp(key.subarray(0, key.length - 8))

/** Throws, naming the first object that is missing or different. */
export function checkForwarding(socket: NetfilterSocket, attachment: Attachment, wish: PortForwarding): void {
  const mark = ownerMark(attachment)
  const { claims, policies } = wantedFor(attachment.network, wish)
  if (claims.length === 0) return
  for (const chain of [...forwarding.chains, ...policies]) checkChain(socket, forwarding, chain)
  const entries = withRecords(mark, claims).flat()
  for (const [i, held] of findHeld(socket, entries).entries()) {
    const { map, subject, data } = entries[i]!
    const place = `map ${map} of table ${table.family} ${table.name}`
    const fail = (what: string): never => {
      throw new RuleMissing(what, forwarding.name)
    }
    if (!held) fail(`${subject} for "${mark}" is missing from ${place}`)
    else if (held.mark !== mark) fail(`${subject} in ${place} belongs to "${held.mark}", expected "${mark}"`)
    else if (!saysTheSame(data, held.data)) fail(`${subject} in ${place} leads elsewhere than ADD made it lead`)
  }
}
