import { bitsOf, contains, type Family, formatCidr } from '../../netlink-lib/ip.ts'
import type { Decision, NoRoute } from '../../netlink-lib/route/decision.ts'
import type { Link } from '../../netlink-lib/route/link.ts'
import { type Found, inWords } from './findings.ts'
import type { Packet } from './packet.ts'
import type { Place } from './places.ts'
import { labIn, restoration, routesOf } from './records.ts'
import { masqueradeCommand, raiseCommand, remedies, routeCommand } from './remedy.ts'
import type { Walk } from './walk.ts'

/** Why a place cannot send: a route that refuses, no link, a link that is down, no address, and last no route. */

export function noRoute(walk: Walk, place: Place, packet: Packet, decision: NoRoute | Decision): Found {
  const { destination, family, reply } = packet
  const verdict = reply
    ? `answers of ${inWords(place)} find no route back to ${destination}`
    : `${inWords(place)} has no route to ${destination}`
  const base = { check: 'route', finding: `no route to ${destination}`, state: 'blocked', verdict } as const
  const kind = 'refused' in decision ? refusals[decision.refused] : undefined
  if (kind !== undefined)
    return { ...base, finding: `a route of kind ${kind} refuses ${destination}`, ...removal(place, packet, kind) }
  const links = place.links.filter(({ loopback }) => !loopback)
  if (links.length === 0) return { ...base, finding: 'no link but lo', ...attachCommand(place) }
  const [down] = links.filter(({ up }) => !up)
  if (down && !links.some((link) => link.up && hasAddress(place, family, link))) return isDown(walk, place, down)
  if (!hasAddress(place, family)) return noAddress(walk, place, family, links.find(({ up }) => up) ?? links[0]!)
  return { ...base, ...routeRemedy(walk, place, packet) }
}

/** Kinds of routes that refuse, by the error that they answer with. */
const refusals: Readonly<Record<string, string>> = {
  EHOSTUNREACH: 'unreachable',
  EACCES: 'prohibit',
  EINVAL: 'blackhole',
}

/** The most specific route without a link that holds the destination. */
function removal(place: Place, { destination, family }: Packet, kind: string): Pick<Found, 'fix'> {
  const [route] = place.route
    .listRoutes(family)
    .filter(({ link, dst }) => link === undefined && contains(dst, destination))
    .sort((a, b) => b.dst.prefix - a.dst.prefix)
  return route ? { fix: place.command(`ip route del ${kind} ${formatCidr(route.dst)}`) } : {}
}

function attachCommand(place: Place): Pick<Found, 'fix' | 'advice'> {
  if (place.door.kind !== 'name') return { advice: 'connect it: ip link add … type veth peer name eth0 netns …' }
  const { name } = place.door
  const attach = `ns-net attach ${name} default`
  return { fix: labIn(place) ? attach : `ns-net adopt ${name} && ${attach}` }
}

const hasAddress = (place: Place, family: Family, link?: Link): boolean =>
  place.addresses.some(
    (address) => address.family === family && address.scope === 0 && (!link || address.index === link.index),
  )

function isDown(walk: Walk, place: Place, link: Link): Found {
  const missing = missingParts(place)
  return {
    check: 'interface',
    finding: `${link.name} is down`,
    state: 'blocked',
    verdict: `${link.name} of ${inWords(place)} is down`,
    fix: missing ?? raiseCommand(walk.world, place, link),
  }
}

/** What gives a lab's interfaces back what its networks gave them; undefined when nothing is missing. */
function missingParts(place: Place): string | undefined {
  const lab = labIn(place)
  const commands = lab?.attachments.flatMap((attachment) => restoration(place, lab, attachment)) ?? []
  return commands.length > 0 ? commands.join(' && ') : undefined
}

export function noAddress(walk: Walk, place: Place, family: Family, link: Link): Found {
  const what = `no IPv${family} address`
  const missing = missingParts(place)
  const peer = walk.world.peerOf({ place, link })
  const command = place.command(`ip addr add ADDRESS/PREFIX dev ${link.name}`)
  return {
    check: 'interface',
    finding: `${link.up ? 'up' : 'down'}, ${what}`,
    state: 'blocked',
    verdict: `${inWords(place)} has ${what} on ${link.name}`,
    ...(missing ? { fix: missing } : { advice: peer ? `${command}, in a subnet of ${inWords(peer.place)}` : command }),
  }
}

/** The routes of the lab's networks come first, then one by a neighbour who forwards. */
function routeRemedy(walk: Walk, place: Place, packet: Packet): Pick<Found, 'fix' | 'alternative' | 'advice'> {
  const { destination, family, reply } = packet
  const missing = missingParts(place)
  if (missing) return { fix: missing }
  if (!reply && isInternal(place)) return { fix: `ns-net attach ${place.label} default` }
  const towards = { address: destination, prefix: bitsOf(family), family }
  const found = reply ? answerRoute(walk, place, packet) : { fix: routeCommand(walk.world, place, towards) }
  if (found.fix) return found
  return { advice: `add a route: ${place.command(`ip route add ${reply ? destination : 'default'} via GATEWAY`)}` }
}

/** All networks of the lab were made without a way out. */
function isInternal(place: Place): boolean {
  const lab = labIn(place)
  if (!lab || lab.attachments.length === 0) return false
  return lab.attachments.every((attachment) => routesOf(lab, attachment).every(({ dst }) => dst.prefix > 0))
}

/** Back to where the packet came from; a place that is not ours to configure gets to know the router's address instead. */
function answerRoute(walk: Walk, place: Place, { destination, family }: Packet): Pick<Found, 'fix' | 'alternative'> {
  const { router, parties } = walk
  const range = parties[0]?.addresses.find(({ address }) => address === destination)
  const towards = range ?? { address: destination, prefix: bitsOf(family), family }
  if (place.door.kind === 'process' && router && range)
    return remedies(walk, masqueradeCommand(router.place, range, router.out), router.place)
  return { fix: routeCommand(walk.world, place, towards) }
}
