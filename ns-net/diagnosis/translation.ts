import type { Gate, Hook } from './firewall.ts'
import type { Moment, Packet } from './packet.ts'
import type { Place } from './places.ts'
import type { Translation } from './rules.ts'
import type { Connection, Endpoint, Walk } from './walk.ts'

/** Address translation on the way there, and what takes it back in the answers. */

/** Takes the first packet of a connection through a chain of type nat. */
export function translate(walk: Walk, gate: Gate, hook: Hook, place: Place, moment: Moment): Packet {
  const { packet, outLink, inLink } = moment
  const connection = walk.connections.get(place) ?? {}
  const changesDestination = hook === 'prerouting' || hook === 'output'
  if (changesDestination ? connection.destination : connection.source) return packet // the first one counts
  const { action, rule, doubts } = gate.pass(moment)
  const tell = (finding: string, state: 'ok' | 'unknown') =>
    walk.findings.add(place, inLink ?? outLink, { check: 'nat', finding, state })
  if (action.kind !== 'translate') {
    const doubt = doubts.find((each) => each.action.kind === 'translate')
    if (doubt) tell(`${gate.title} may change addresses: ${doubt.rule.text}`, 'unknown')
    return packet
  }
  const change = changeOf(action.translation, place, moment, changesDestination)
  if (!change) {
    tell(`${gate.title} changes addresses by a rule that cannot be judged: ${rule?.text}`, 'unknown')
    return packet
  }
  walk.connections.set(place, { ...connection, [changesDestination ? 'destination' : 'source']: change })
  const what = changesDestination ? 'destination' : 'source'
  const words = changesDestination || action.translation.port ? inText : ({ address }: Endpoint) => address
  tell(`${what} ${words(change.from)} becomes ${words(change.to)}: ${gate.title}`, 'ok')
  return changesDestination
    ? { ...packet, destination: change.to.address, destinationPort: change.to.port }
    : { ...packet, source: change.to.address, sourcePort: change.to.port }
}

function changeOf(
  translation: Translation,
  place: Place,
  { packet, inLink, outLink }: Moment,
  changesDestination: boolean,
): Connection['source'] {
  const from: Endpoint = changesDestination
    ? { address: packet.destination, port: packet.destinationPort }
    : { address: packet.source, port: packet.sourcePort }
  const link = outLink ?? inLink
  const own = () =>
    link && place.addressesOf(link).find(({ family, scope }) => family === packet.family && scope === 0)?.address
  const address =
    translation.kind === 'masquerade'
      ? (sourceTowards(place, packet.destination, link?.index) ?? own())
      : translation.kind === 'redirect'
        ? inLink
          ? own()
          : loopback(packet)
        : translation.address
  return address === undefined ? undefined : { from, to: { address, port: translation.port ?? from.port } }
}

const loopback = ({ family }: Packet): string => (family === 4 ? '127.0.0.1' : '::1')

function sourceTowards(place: Place, destination: string, link: number | undefined): string | undefined {
  const decision = place.decide({ destination })
  return !('refused' in decision) && decision.link === link ? decision.source : undefined
}

const inText = ({ address, port }: Endpoint): string =>
  port === undefined ? address : address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`

/** In an answer: the destination as it comes in, the source as it goes out. */
export function restoreAddresses(walk: Walk, hook: Hook, place: Place, packet: Packet): Packet {
  const connection = walk.connections.get(place)
  if (!packet.reply || !connection) return packet
  const { source, destination } = connection
  if (source && (hook === 'prerouting' || hook === 'output') && packet.destination === source.to.address)
    return { ...packet, destination: source.from.address, destinationPort: source.from.port }
  if (destination && (hook === 'postrouting' || hook === 'input') && packet.source === destination.to.address)
    return { ...packet, source: destination.from.address, sourcePort: destination.from.port }
  return packet
}
