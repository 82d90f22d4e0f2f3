import { type Found, inWords } from './findings.ts'
import type { Gate, Hook } from './firewall.ts'
import { ownerOf } from './firewall.ts'
import type { Moment, Packet } from './packet.ts'
import type { Place } from './places.ts'
import { acceptCommand, remedies } from './remedy.ts'
import { type Outcome, passes, type Rule, stops } from './rules.ts'
import { restoreAddresses, translate } from './translation.ts'
import type { Walk } from './walk.ts'

/** Takes a packet through everything that filters or translates at a hook; returns it as it is afterwards. */
export function passHook(walk: Walk, hook: Hook, place: Place, moment: Moment): Packet {
  const gates = walk.firewall(place).gates(hook, moment.packet.family)
  return passGates(walk, gates, hook, place, moment)
}

export function passGates(walk: Walk, gates: readonly Gate[], hook: Hook, place: Place, moment: Moment): Packet {
  let packet = restoreAddresses(walk, hook, place, moment.packet)
  const passed: string[] = []
  for (const gate of gates) {
    const now = { ...moment, packet: marked(walk, place, packet) }
    if (gate.kind === 'nat') {
      if (!packet.reply) packet = translate(walk, gate, hook, place, now)
      continue
    }
    const outcome = gate.pass(now)
    const found = findingOf(walk, gate, hook, place, now, outcome)
    if (found) walk.findings.add(place, moment.inLink ?? moment.outLink, found)
    else passed.push(gate.title)
  }
  if (passed.length > 0) walk.findings.ok(place, linkToTell(moment), 'filter', `${passed.join(', ')}: let through`)
  else if (hook === 'forward' && gates.length === 0)
    walk.findings.ok(place, linkToTell(moment), 'filter', 'nothing filters forwarded packets')
  return packet
}

const linkToTell = ({ inLink, outLink }: Moment) => inLink ?? outLink

const marked = (walk: Walk, place: Place, packet: Packet): Packet => {
  const connection = walk.connections.get(place)
  const translated = { source: connection?.source !== undefined, destination: connection?.destination !== undefined }
  return { ...packet, translated }
}

function findingOf(
  walk: Walk,
  gate: Gate,
  hook: Hook,
  place: Place,
  moment: Moment,
  outcome: Outcome,
): Found | undefined {
  const passing = passes(outcome)
  if (passing === 'yes') return undefined
  const { action, rule, doubts } = outcome
  if (passing === 'maybe') {
    const decisive = doubts.find((doubt) => stops(doubt.action) !== stops(action))!
    const finding = stops(action)
      ? `${gate.title} drops it unless this lets it through: ${inChain(decisive.rule)}`
      : `${gate.title} may drop it, by a rule that cannot be judged: ${inChain(decisive.rule)}`
    return { check: 'filter', state: 'unknown', finding, advice: 'ns-net why --live sends a real packet and tells' }
  }
  const owner = ownerOf(gate)
  const did = action.kind === 'reject' ? 'rejected' : 'dropped'
  const what = moment.packet.reply ? 'answer ' : ''
  return {
    check: 'filter',
    state: 'blocked',
    finding: rule ? `${gate.title}: ${inChain(rule)}` : `${gate.title} policy DROP, no accept for ${subject(moment)}`,
    verdict: `${what}${did} on ${inWords(place)} in ${chainName(gate)}${owner ? ` (rule set owned by ${owner})` : ''}`,
    ...(isOwn(gate)
      ? { advice: 'ns-net made this rule: its network was made isolated or internal' }
      : remedies(walk, acceptCommand(gate, hook, moment, place), place)),
    ...(isLinkLayer(gate) && { advice: `the rule is in ${gate.title}` }),
  }
}

/** The rules of firewall that drop are those of an isolated or internal network. */
const isOwn = ({ origin }: Gate): boolean => origin.of === 'nft' && origin.chain.table.name.startsWith('ns-net')

const isLinkLayer = ({ origin }: Gate): boolean =>
  origin.of === 'nft' && ['netdev', 'bridge'].includes(origin.chain.table.family)

const chainName = ({ origin, title }: Gate): string => (origin.of === 'iptables' ? origin.chain : title)

const inChain = ({ text, handle }: Rule): string => (handle === undefined ? text : `${text} (handle ${handle})`)

const subject = ({ inLink, outLink, packet }: Moment): string =>
  `${packet.reply ? 'answers by ' : ''}${[inLink?.name, outLink?.name].filter(Boolean).join(' to ')}`
