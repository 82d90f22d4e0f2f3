import { familyOf } from '../../netlink-lib/ip.ts'
import { parseDestination } from '../diagnosis/destination.ts'
import { formatHops, formatRemedies, type Hop } from '../diagnosis/findings.ts'
import { formatSeen, observe, type Seen, verdictOf as verdictOfSeen, wasReached } from '../diagnosis/live.ts'
import type { Packet } from '../diagnosis/packet.ts'
import { follow, followFromOutside } from '../diagnosis/path.ts'
import { type Place, World } from '../diagnosis/places.ts'
import { Walk } from '../diagnosis/walk.ts'
import { toCliError } from '../errors.ts'
import type { Report } from '../output.ts'

export interface WhyOptions {
  /** Sends a real packet and traces it. */
  readonly live?: boolean
}

/** Where a packet from one place to another dies, and the remedy. */
export function why(from: string, to: string, { live = false }: WhyOptions): Report {
  using world = new World()
  try {
    const origin = world.open(from)
    const { address, protocol, port, place } = parseDestination(to, world, origin)
    using walk = new Walk(world, place ? [origin, place] : [origin])
    const packet: Packet = {
      family: familyOf(address),
      protocol,
      source: '',
      destination: address,
      ...(port !== undefined && { sourcePort: clientPort(origin), destinationPort: port }),
      reply: false,
    }
    follow(walk, origin, packet)
    const { delivered, left } = walk
    if (delivered && delivered.at.place !== origin) follow(walk, delivered.at.place, answerTo(delivered.packet))
    else if (left) followFromOutside(walk, left.from, answerTo(left.packet))
    const seen = live ? observe(walk, origin, packet) : undefined
    return report({ from, to, walk, packet, seen })
  } catch (error) {
    throw toCliError(error, `cannot look from "${from}" to "${to}"`)
  }
}

interface Diagnosis {
  readonly from: string
  readonly to: string
  readonly walk: Walk
  readonly packet: Packet
  readonly seen: Seen | undefined
}

function report({ from, to, walk, packet, seen }: Diagnosis): Report {
  const { findings, source, delivered, left } = walk
  const { hops } = findings
  const blocks = hops.filter(({ state }) => state === 'blocked')
  const isOpen = blocks.length === 0 && (delivered !== undefined || left !== undefined)
  const reachable = seen ? wasReached(walk, seen) : isOpen
  const verdict = seen ? verdictOfSeen(walk, seen) : verdictOf(hops, isOpen)
  const { protocol, destination, destinationPort: port } = packet
  const json = {
    from,
    to,
    protocol,
    ...(source && { source }),
    destination,
    ...(port !== undefined && { port }),
    reachable,
    verdict,
    fix: reachable ? [] : [...new Set(blocks.flatMap(({ fix }) => fix ?? []))],
    hops,
    ...(seen && { live: seen }),
  }
  const told = reachable ? [] : isOpen ? hops.filter(({ state }) => state === 'unknown') : blocks
  const text = [formatHops(hops), seen ? formatSeen(seen) : '', `verdict: ${verdict}\n`, formatRemedies(told)].join('')
  return { json, text, negative: !reachable }
}

/** In the middle of those that clients are given. */
function clientPort(place: Place): number {
  const [first = 32_768, last = 60_999] = (place.sysctl('ipv4', 'ip_local_port_range') ?? '').split(/\s+/).map(Number)
  return Math.floor(((first || 32_768) + last) / 2)
}

/** What the one who got it sends back. */
const answerTo = ({ source, destination, sourcePort, destinationPort, ...rest }: Packet): Packet => ({
  ...rest,
  source: destination,
  destination: source,
  sourcePort: destinationPort,
  destinationPort: sourcePort,
  reply: true,
})

function verdictOf(hops: readonly Hop[], reachable: boolean): string {
  const [first] = hops.filter(({ state }) => state === 'blocked')
  if (first) return first.verdict ?? first.finding
  const unknown = hops.filter(({ state }) => state === 'unknown').length
  if (!reachable) return 'the way cannot be followed further'
  if (unknown === 0) return 'reachable, as far as can be seen'
  return `reachable, as far as can be seen; ${unknown} ${unknown === 1 ? 'point' : 'points'} above cannot be judged`
}
