import { cross } from './crossing.ts'
import { tellListener } from './delivery.ts'
import { passHook } from './filtering.ts'
import { inWords } from './findings.ts'
import { isPrivate, passesReversePath, tellForwarding } from './forwarding.ts'
import { type Departure, depart, describeRoute } from './leaving.ts'
import type { Packet } from './packet.ts'
import type { End, Place } from './places.ts'
import { masqueradeCommand, raiseCommand, remedies } from './remedy.ts'
import type { Arrival, Walk } from './walk.ts'

/**
 * The way of one packet, place by place: what ip(8), nft(8) and sysctl(8) would be asked at each, in the order in which
 * the kernel asks. It goes on past a rule or a setting that stops it, as if that were mended, so that all are found.
 */

const mostPlaces = 12

/** Follows a packet from the place that sends it; an answer back to where its connection began. */
export function follow(walk: Walk, origin: Place, packet: Packet): void {
  walk.findings.direction = packet.reply ? 'back' : 'there'
  let arrival = send(walk, origin, packet)
  for (let count = 0; arrival; count++) {
    if (count === mostPlaces) {
      walk.findings.add(arrival.at.place, arrival.at.link, {
        check: 'route',
        finding: `${arrival.packet.destination} is passed on in a circle`,
        state: 'blocked',
        verdict: 'the routes lead in a circle',
        advice: 'compare the routes named above',
      })
      return
    }
    arrival = receive(walk, arrival)
  }
}

/** An answer that comes from beyond what can be seen, to where the packet had left. */
export function followFromOutside(walk: Walk, at: End, packet: Packet): void {
  walk.findings.direction = 'back'
  let arrival: Arrival | undefined = { at, packet }
  for (let count = 0; arrival && count < mostPlaces; count++) arrival = receive(walk, arrival)
}

function send(walk: Walk, place: Place, packet: Packet): Arrival | undefined {
  if (!packet.reply) walk.seen.set(place, packet)
  const first = depart(walk, place, packet)
  if (!first) return undefined
  if (!packet.reply) {
    walk.source = first.packet.source
    walk.seen.set(place, first.packet)
  }
  const sent = passHook(walk, 'output', place, { packet: first.packet, outLink: first.link })
  const isRedirected = sent.destination !== first.packet.destination
  const departure: Departure | undefined = isRedirected ? depart(walk, place, sent) : { ...first, packet: sent }
  return departure && transmit(walk, place, departure)
}

function transmit(walk: Walk, place: Place, { packet, link, gateway }: Departure): Arrival | undefined {
  const sent = passHook(walk, 'postrouting', place, { packet, outLink: link })
  const arrival = cross(walk, { place, link }, gateway ?? sent.destination, sent)
  if (walk.left && !sent.reply) tellOutside(walk, place, link, sent)
  return arrival
}

/** Nobody beyond may know the way back to an address of ours. */
function tellOutside(walk: Walk, place: Place, link: End['link'], { source, destination }: Packet): void {
  if (place.addresses.some(({ address }) => address === source)) return
  const range = walk.parties[0]?.addresses.find(({ address }) => address === source)
  const state = isPrivate(source) && !isPrivate(destination) ? 'blocked' : 'unknown'
  walk.findings.add(place, link, {
    check: 'nat',
    finding: `${source} leaves untranslated; whoever gets it must know a way back`,
    state,
    ...(state === 'blocked' && { verdict: `${source} leaves ${inWords(place)} untranslated, so no answer comes back` }),
    ...(range && remedies(walk, masqueradeCommand(place, range, link), place)),
  })
}

/** What a place does with a packet that comes in; where it goes next, unless it ends here. */
function receive(walk: Walk, { at, packet, sourceMac }: Arrival): Arrival | undefined {
  const { place, link } = at
  if (!link.up) {
    walk.findings.add(place, link, {
      check: 'interface',
      finding: 'down',
      state: 'blocked',
      verdict: `${link.name} of ${inWords(place)} is down`,
      fix: raiseCommand(walk.world, place, link),
    })
    return undefined
  }
  if (!packet.reply) walk.seen.set(place, packet)
  const come = passHook(walk, 'prerouting', place, { packet, inLink: link, sourceMac, destinationMac: link.mac })
  const isOurs = place.kindOf(come.destination) === 'local'
  if (isOurs) passesReversePath(walk, place, link, come)
  return isOurs ? deliver(walk, at, come) : forward(walk, at, come)
}

function deliver(walk: Walk, at: End, packet: Packet): undefined {
  if (!at.link.loopback && !packet.reply) walk.findings.ok(at.place, at.link, 'interface', `up, ${packet.destination}`)
  passHook(walk, 'input', at.place, { packet, inLink: at.link })
  tellListener(walk, at.place, packet)
  walk.delivered = { at, packet }
}

function forward(walk: Walk, { place, link }: End, packet: Packet): Arrival | undefined {
  tellForwarding(walk, place, link, packet)
  const isWelcome = passesReversePath(walk, place, link, packet)
  const { destination, source } = packet
  const asCome = place.decide({ destination, source, inLink: link.index })
  // Without forwarding, or from the wrong side, the kernel gives no answer for a packet that comes in.
  const decision = 'refused' in asCome ? place.decide({ destination }) : asCome
  const out = 'refused' in decision ? undefined : place.link(decision.link)
  if ('refused' in decision || !out || decision.kind !== 'unicast') {
    walk.findings.add(place, undefined, {
      check: 'route',
      finding: `no route to ${destination}`,
      state: 'blocked',
      verdict: `${inWords(place)} has no route to ${destination}`,
      advice: `add one: ${place.command(`ip route add ${destination} via GATEWAY`)}`,
    })
    return undefined
  }
  if ('refused' in asCome && isWelcome && asCome.refused === 'EINVAL') tellMartian(walk, place, link, source)
  walk.findings.ok(place, out, 'route', describeRoute(place, decision))
  const passed = passHook(walk, 'forward', place, { packet, inLink: link, outLink: out })
  walk.router = { place, out }
  return transmit(walk, place, { packet: passed, link: out, gateway: decision.gateway })
}

/** The kernel drops what claims to come from an address of its own. */
function tellMartian(walk: Walk, place: Place, link: End['link'], source: string): void {
  if (!place.linkWith(source)) return
  walk.findings.add(place, link, {
    check: 'route',
    finding: `${source} is an address of ${inWords(place)} too`,
    state: 'blocked',
    verdict: `${source} is used twice, so ${inWords(place)} drops what comes from it`,
    advice: 'give one of the two another address',
  })
}
