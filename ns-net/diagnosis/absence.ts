import { contains, familyOf, formatCidr } from '../../netlink-lib/ip.ts'
import type { Neighbour } from '../../netlink-lib/route/neighbour.ts'
import { type Found, inWords } from './findings.ts'
import { failed, stateName } from './neighbour-states.ts'
import type { Packet } from './packet.ts'
import type { End, Place } from './places.ts'
import { labGiven, restoration } from './records.ts'
import type { Segment } from './segment.ts'
import type { Walk } from './walk.ts'

/** Why nobody takes a packet for the next hop. */
export function nobody(
  walk: Walk,
  from: End,
  nextHop: string,
  { destination }: Packet,
  segment: Segment,
  neighbour: Neighbour | undefined,
): Found {
  const { link } = from
  const base = { check: 'neighbour', state: 'blocked' } as const
  const elsewhere = walk.world.ownersOf(nextHop).find(({ place }) => place !== from.place)
  if (elsewhere) return { ...base, ...disconnected(walk, from, nextHop, elsewhere, segment) }
  const given = labGiven(nextHop)
  if (given) {
    const place = walk.world.named().find(({ label }) => label === given.lab.name)
    const commands = place ? restoration(place, given.lab, given.attachment) : []
    return {
      ...base,
      finding: `${nextHop} was given to ${given.lab.name}, whose ${given.attachment.ifName} does not have it`,
      verdict: `${given.lab.name} has lost its address ${nextHop}`,
      ...(commands.length > 0 ? { fix: commands.join(' && ') } : { advice: `ns-net show ${given.lab.name}` }),
    }
  }
  const [exit] = segment.exits
  if (exit) return beyond(from, nextHop, exit, neighbour)
  const isGateway = nextHop !== destination || isGatewayOf(from.place, nextHop)
  return {
    ...base,
    finding: `nobody next to ${link.name} has ${nextHop}`,
    verdict: isGateway ? `the gateway ${nextHop} is not there` : `${nextHop} is nobody's address`,
    ...(isGateway ? giveGateway(from, nextHop, segment) : { advice: 'ns-net ls lists the addresses of labs' }),
  }
}

const isGatewayOf = (place: Place, address: string): boolean =>
  place.route.listRoutes(familyOf(address)).some(({ gateway }) => gateway === address)

/** Behind a link that leads out of what can be seen, only the neighbour table tells. */
function beyond({ place, link }: End, nextHop: string, exit: End, neighbour: Neighbour | undefined): Found {
  const state = neighbour && stateName(neighbour.state)
  if (neighbour?.mac) return { check: 'neighbour', finding: `${nextHop} at ${neighbour.mac} ${state}`, state: 'ok' }
  const finding = neighbour
    ? `${nextHop} ${state}: it did not answer`
    : `${nextHop} may be beyond ${exit.link.name} of ${inWords(exit.place)}`
  if (neighbour?.state !== failed) return { check: 'neighbour', finding, state: 'unknown' }
  return {
    check: 'neighbour',
    finding,
    state: 'blocked',
    verdict: `${nextHop} does not answer on ${link.name} of ${inWords(place)}`,
    advice: 'is it switched on, and on this link?',
  }
}

type Explained = Pick<Found, 'finding' | 'verdict' | 'fix' | 'advice'>

/** Somebody has the address, but no cable leads there: most often a veth that is in no bridge. */
function disconnected(walk: Walk, from: End, nextHop: string, owner: End, segment: Segment): Explained {
  const where = `${owner.link.name} of ${inWords(owner.place)}`
  const peer = walk.world.peerOf(owner)
  const bridge = from.link.kind === 'bridge' ? from : segment.stations.flatMap(({ crossings }) => crossings)[0]?.bridge
  if (peer && bridge && peer.place === bridge.place && peer.link.master === undefined)
    return {
      finding: `${where} has ${nextHop}, and its other end ${peer.link.name} is no port of ${bridge.link.name}`,
      verdict: `${peer.link.name} is no port of bridge ${bridge.link.name}`,
      fix: peer.place.command(`ip link set ${peer.link.name} master ${bridge.link.name} up`),
    }
  return {
    finding: `${where} has ${nextHop}, and is not connected to ${from.link.name} of ${inWords(from.place)}`,
    verdict: `${inWords(from.place)} and ${inWords(owner.place)} share no link`,
    advice: 'ns-net show tells the networks of a lab',
  }
}

/** Gives a gateway's address back to the bridge or the other end of the cable. */
function giveGateway(
  { place, link }: End,
  gateway: string,
  { peer, stations }: Segment,
): Pick<Found, 'fix' | 'advice'> {
  const range = place.addressesOf(link).find((address) => contains(address, gateway))
  const router: End | undefined = stations.find(({ end }) => end.link.kind === 'bridge')?.end ?? peer
  if (!range || !router) return { advice: `change the route to ${gateway}` }
  return {
    fix: router.place.command(`ip addr add ${formatCidr({ ...range, address: gateway })} dev ${router.link.name}`),
  }
}
