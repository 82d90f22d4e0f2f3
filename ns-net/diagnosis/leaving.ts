import { formatCidr } from '../../netlink-lib/ip.ts'
import type { Decision } from '../../netlink-lib/route/decision.ts'
import type { Link } from '../../netlink-lib/route/link.ts'
import { inWords } from './findings.ts'
import { noAddress, noRoute } from './no-route.ts'
import type { Packet } from './packet.ts'
import type { Place } from './places.ts'
import type { Walk } from './walk.ts'

/** A packet that a place sends of its own: from which address, by which link. */

/** What the routes decided, in the words of ip(8). */
export function describeRoute(place: Place, { kind, route, gateway, link, source }: Decision): string {
  if (kind === 'local') return `${source ?? 'an address'} is an address of ${inWords(place)}: goes over lo`
  const destination = !route || route.prefix > 0 ? (route ? formatCidr(route) : 'a route') : 'default'
  const name = place.link(link)?.name ?? String(link)
  return `${destination}${gateway ? ` via ${gateway}` : ''} dev ${name}`
}

export interface Departure {
  readonly packet: Packet
  readonly link: Link
  readonly gateway?: string
}

/** Route and source of a packet; undefined when it cannot leave. An answer has its source already. */
export function depart(walk: Walk, place: Place, packet: Packet): Departure | undefined {
  const { destination, reply } = packet
  const decision = place.decide({ destination, ...(reply && { source: packet.source }) })
  const link = 'refused' in decision ? undefined : place.link(decision.link)
  if ('refused' in decision || !link) {
    walk.findings.add(place, undefined, noRoute(walk, place, packet, decision))
    return undefined
  }
  const source = reply ? packet.source : decision.source
  if (decision.kind === 'local') return departLocally(walk, place, packet, decision)
  if (decision.kind !== 'unicast') {
    const finding = `${destination} is a ${decision.kind} destination, which cannot be followed`
    walk.findings.add(place, link, { check: 'route', finding, state: 'unknown' })
    return undefined
  }
  if (source === undefined) {
    walk.findings.add(place, link, noAddress(walk, place, packet.family, link))
    return undefined
  }
  if (!reply) tellInterface(walk, place, source)
  walk.findings.ok(place, link, 'route', describeRoute(place, decision))
  return { packet: { ...packet, source }, link, gateway: decision.gateway }
}

function tellInterface(walk: Walk, place: Place, source: string): void {
  const link = place.linkWith(source)
  const range = place.addresses.find(({ address }) => address === source)
  if (!link || !range) return
  const finding = `${link.up ? 'up' : 'down'}, ${formatCidr(range)}`
  if (range.tentative || range.dadFailed) {
    const state = range.dadFailed ? 'duplicate address detection failed' : 'duplicate address detection is going on'
    walk.findings.add(place, link, { check: 'interface', finding: `${finding}: ${state}`, state: 'unknown' })
  } else walk.findings.ok(place, link, 'interface', finding)
}

function departLocally(walk: Walk, place: Place, packet: Packet, decision: Decision): Departure | undefined {
  const lo = place.links.find(({ loopback }) => loopback)!
  walk.findings.ok(place, undefined, 'route', describeRoute(place, { ...decision, source: packet.destination }))
  if (!lo.up) {
    walk.findings.add(place, lo, {
      check: 'interface',
      finding: 'down',
      state: 'blocked',
      verdict: `${inWords(place)} cannot reach itself: lo is down`,
      fix: place.command('ip link set lo up'),
    })
    return undefined
  }
  return { packet: { ...packet, source: decision.source ?? packet.destination }, link: lo }
}
