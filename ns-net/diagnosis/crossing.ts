import type { Neighbour } from '../../netlink-lib/route/neighbour.ts'
import { nobody } from './absence.ts'
import { passLink, takeBridge } from './bridging.ts'
import { type Found, inWords } from './findings.ts'
import { failed, stateName, trusted } from './neighbour-states.ts'
import type { Packet } from './packet.ts'
import type { End } from './places.ts'
import { raiseCommand } from './remedy.ts'
import { ownersIn, type Segment, type Station, segmentOf } from './segment.ts'
import type { Arrival, Walk } from './walk.ts'

/** From a link to whoever has the next hop's address: neighbours, cables, bridges. */

/** Undefined when it gets no further, or where nobody can see it. */
export function cross(walk: Walk, from: End, nextHop: string, packet: Packet): Arrival | undefined {
  const { place, link } = from
  if (link.loopback) return { at: from, packet }
  const segment = segmentOf(walk.world, from)
  const owners = ownersIn(segment, nextHop)
  const neighbour = place.neighbour(link, nextHop)
  const [owner] = owners
  const station = owner ?? proxyFor(segment, nextHop)
  if (!station) {
    walk.findings.add(place, link, nobody(walk, from, nextHop, packet, segment, neighbour))
    if (segment.exits.length > 0) walk.left = { from, packet }
    return undefined
  }
  walk.findings.add(place, link, neighbourFinding(from, nextHop, station, neighbour, owners))
  return take(walk, from, station, packet) ? { at: station.end, packet, sourceMac: link.mac } : undefined
}

/** Somebody who answers for addresses of others. */
const proxyFor = ({ stations }: Segment, nextHop: string): Station | undefined =>
  stations.find(
    ({ end: { place, link } }) =>
      !nextHop.includes(':') && place.sysctl('ipv4', 'conf', link.name, 'proxy_arp') === '1',
  )

function neighbourFinding(
  { place, link }: End,
  nextHop: string,
  { end }: Station,
  neighbour: Neighbour | undefined,
  owners: readonly Station[],
): Found {
  const where = `${end.link.name} of ${inWords(end.place)}`
  if (owners.length > 1) {
    const all = owners.map((owner) => `${owner.end.link.name} of ${inWords(owner.end.place)}`).join(' and ')
    return {
      check: 'neighbour',
      finding: `${nextHop} is claimed by ${all}`,
      state: 'unknown',
      advice: 'give one of them another address',
    }
  }
  const state = neighbour && stateName(neighbour.state)
  if (!neighbour?.mac) {
    const before = neighbour?.state === failed ? 'has not answered before' : 'has not been asked for yet'
    return {
      check: 'neighbour',
      finding: `${nextHop} ${before}: ${where} has it`,
      state: neighbour?.state === failed ? 'unknown' : 'ok',
    }
  }
  if (neighbour.mac !== end.link.mac && neighbour.state & trusted)
    return {
      check: 'neighbour',
      finding: `${nextHop} at ${neighbour.mac} ${state}, but ${where} has ${end.link.mac}`,
      state: 'blocked',
      verdict: `${inWords(place)} sends to a MAC address that nobody has`,
      fix: place.command(`ip neigh del ${nextHop} dev ${link.name}`),
    }
  return { check: 'neighbour', finding: `${nextHop} at ${neighbour.mac} ${state}`, state: 'ok' }
}

/** Takes the frame along the cables and bridges to the station. */
function take(walk: Walk, from: End, station: Station, packet: Packet): boolean {
  if (station.peer && !tellPeer(walk, from, station.peer)) return false
  const moment = { packet, sourceMac: from.link.mac, destinationMac: station.end.link.mac }
  passLink(walk, from, 1, packet)
  if (!station.crossings.every((crossing) => takeBridge(walk, crossing, moment))) return false
  if (station.end.link.kind !== 'bridge') passLink(walk, station.end, 0, packet)
  return true
}

function tellPeer(walk: Walk, from: End, { place, link }: End): boolean {
  const of = `other end of ${inWords(from.place)} ${from.link.name}`
  const master = link.master === undefined ? undefined : place.link(link.master)?.name
  if (link.up) {
    walk.findings.ok(place, link, 'link', `${of}, up${master ? `, port of ${master}` : ''}`)
    return true
  }
  walk.findings.add(place, link, {
    check: 'link',
    finding: `${of} is down`,
    state: 'blocked',
    verdict: `${link.name} of ${inWords(place)}, the ${of}, is down`,
    fix: raiseCommand(walk.world, place, link),
  })
  return false
}
