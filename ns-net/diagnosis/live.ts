import { KernelError } from '../../netlink-lib/errors.ts'
import { pause } from '../../netlink-lib/pause.ts'
import { type LegacyDrop, legacyCounters, newDrops } from './legacy-counters.ts'
import { describeRule } from './nft-text.ts'
import type { Packet } from './packet.ts'
import type { Place } from './places.ts'
import { type Answer, openProber, type Prober, sendingFailure, type Target } from './probe.ts'
import { type Drop, type Pattern, type Traced, Tracer } from './tracer.ts'
import type { Walk } from './walk.ts'

/** A real packet on the way that was looked at, traced in every place that it should come by. */

export interface PlaceSeen extends Traced {
  readonly place: string
  readonly drops: readonly (Drop & { readonly rule: string })[]
  /** Drops by rules of the older iptables, which nf_tables does not trace. */
  readonly legacyDrops: readonly LegacyDrop[]
}

export interface Seen {
  readonly sent: number
  readonly answers: readonly Answer[]
  /** From the last packet sent to its answer. */
  readonly milliseconds?: number
  /** Why none could be sent. */
  readonly failure?: string
  readonly places: readonly PlaceSeen[]
  /** Nothing could be traced there, and why. */
  readonly untraced: readonly string[]
}

const attempts = 3
const patience = 400 // milliseconds for each

/** Sends up to three packets from the origin, and tells what happened to them. */
export function observe(walk: Walk, origin: Place, packet: Packet): Seen {
  const target: Target = { ...packet, source: walk.source ?? '', port: packet.destinationPort }
  const opened: Disposable[] = []
  const untraced: string[] = []
  try {
    const prober = openProber(origin, target)
    opened.push(prober)
    const tracers = placesOf(walk, origin).flatMap((place) => {
      try {
        const tracer = new Tracer(place, patternsFor(walk, place, packet, prober.sourcePort))
        opened.push(tracer)
        return [tracer]
      } catch (error) {
        if (!(error instanceof KernelError)) throw error
        untraced.push(`${place.label}: ${error.message}`)
        return []
      }
    })
    const before = new Map(tracers.map(({ place }) => [place, legacyCounters(place, packet.family)]))
    const sending = send(prober, tracers)
    const places = tracers.map((tracer) => {
      const traced = tracer.result()
      const legacyDrops = newDrops(before.get(tracer.place) ?? [], legacyCounters(tracer.place, packet.family))
      return { place: tracer.place.label, ...traced, drops: traced.drops.map(named(walk, tracer.place)), legacyDrops }
    })
    return { ...sending, places, untraced }
  } finally {
    for (const each of opened.reverse()) each[Symbol.dispose]()
  }
}

/** Those that the packet should come by, in that order, and the ends of the way in any case. */
const placesOf = ({ seen, world, parties }: Walk, origin: Place): Place[] => [
  ...new Set([origin, ...seen.keys(), world.host, ...parties]),
]

/** How the packet and the answer to it look in a place; where the way was not found, as little as possible is asked. */
function patternsFor(
  { seen, connections, source }: Walk,
  place: Place,
  packet: Packet,
  sourcePort?: number,
): Pattern[] {
  const { protocol } = packet
  const known = seen.get(place)
  if (!known?.source) {
    const { destination } = packet
    return [
      { direction: 'there', protocol, destination, destinationPort: packet.destinationPort },
      { direction: 'back', protocol, source: destination, sourcePort: packet.destinationPort },
    ]
  }
  const connection = connections.get(place)
  const from = known.source
  const port = from === source ? sourcePort : undefined
  const there: Pattern = {
    direction: 'there',
    protocol,
    source: from,
    destination: known.destination,
    sourcePort: port,
    destinationPort: known.destinationPort,
  }
  const translated = connection?.source?.to.address ?? from
  const answering = connection?.destination?.to
  return [
    there,
    {
      direction: 'back',
      protocol,
      source: answering?.address ?? known.destination,
      destination: translated,
      sourcePort: answering?.port ?? known.destinationPort,
      destinationPort: translated === from ? port : undefined,
    },
  ]
}

function send(prober: Prober, tracers: readonly Tracer[]): Pick<Seen, 'sent' | 'answers' | 'milliseconds' | 'failure'> {
  const answers: Answer[] = []
  for (let sent = 1; sent <= attempts; sent++) {
    try {
      prober.send()
    } catch (error) {
      const failure = sendingFailure(error)
      if (failure === undefined) throw error
      pause(20)
      return { sent: sent - 1, answers, failure }
    }
    const start = performance.now()
    while (performance.now() - start < patience) {
      answers.push(...prober.receive())
      if (answers.length > 0) {
        const milliseconds = performance.now() - start
        pause(5) // for the traces of what is still on its way
        return { sent, answers, milliseconds }
      }
      for (const tracer of tracers) tracer.listen()
      pause(2)
    }
  }
  return { sent: attempts, answers }
}

/** The rule that a trace speaks of, in words. */
function named(walk: Walk, place: Place) {
  return (drop: Drop): Drop & { readonly rule: string } => {
    const [family = '', name = ''] = drop.table.split(' ')
    const rules = walk.firewall(place).ruleset.rulesOf({ family: family as 'inet', name }, drop.chain)
    const rule = rules.find(({ handle }) => handle !== undefined && Number(handle) === drop.handle)
    return { ...drop, rule: rule ? describeRule(rule.expressions ?? []) : drop.handle ? 'a rule' : 'policy drop' }
  }
}

const hasAnswer = ({ answers }: Seen): boolean => answers.some(({ kind }) => kind === 'reply')

/** With an answer. UDP needs none: there it is enough that the packet came to its end and nothing dropped it. */
export function wasReached(walk: Walk, seen: Seen): boolean {
  if (hasAnswer(seen)) return true
  const { delivered } = walk
  if (delivered?.packet.protocol !== 'udp' || seen.answers.length > 0) return false
  const end = seen.places.find(({ place }) => place === delivered.at.place.label)
  return end !== undefined && end.there > 0 && end.drops.length === 0 && end.legacyDrops.length === 0
}

const times = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`

/** One line for each place, and one for what came back. */
export function formatSeen({ places, answers, sent, milliseconds, failure, untraced }: Seen): string {
  const lines = places.flatMap(({ place, there, back, drops, legacyDrops }) => [
    `${place}: ${times(there, 'packet')}, ${times(back, 'answer')} seen`,
    ...drops.map((drop) => `${place}: ${describeDrop(drop)}`),
    ...legacyDrops.map((drop) => `${place}: ${describeLegacy(drop)}`),
  ])
  const outcome = failure
    ? `could not be sent: ${failure}`
    : answers.length === 0
      ? `no answer to ${times(sent, 'packet')}`
      : answers.map((answer) => describeAnswer(answer, milliseconds)).join('; ')
  const all = [...lines, ...untraced.map((each) => `not traced in ${each}`), outcome]
  return all.map((line, i) => `${i === 0 ? 'live:' : ''.padEnd(5)}    ${line}\n`).join('')
}

const describeDrop = ({ direction, table, chain, handle, rule, packets }: Drop & { readonly rule: string }): string =>
  `${times(packets, direction === 'there' ? 'packet' : 'answer')} dropped by ${handle === undefined ? '' : `handle ${handle} of `}chain ${chain} of table ${table}: ${rule}`

const describeLegacy = ({ program, chain, what, packets }: LegacyDrop): string =>
  `${times(packets, 'packet')} more dropped by ${program} ${chain}: ${what} (by its counter: nftables does not trace it)`

function describeAnswer(answer: Answer, milliseconds = 0): string {
  if (answer.kind === 'reply') return `answered after ${milliseconds.toFixed(3)} ms`
  if (answer.kind === 'refused') return 'refused: nobody listens there, or a rule rejects it'
  return `${answer.from ?? 'somebody'} says: ${answer.text}`
}

/** The verdict, from what was seen and not from what was looked at. */
export function verdictOf(walk: Walk, seen: Seen): string {
  if (hasAnswer(seen)) return `reachable: answered after ${(seen.milliseconds ?? 0).toFixed(3)} ms`
  for (const { place, drops, legacyDrops } of seen.places) {
    const where = place === 'host' ? 'the host' : place
    const [drop] = drops
    if (drop) return `${describeDrop(drop)}, on ${where}`
    const [legacy] = legacyDrops
    if (legacy) return `${describeLegacy(legacy)}, on ${where}`
  }
  const [answer] = seen.answers
  if (seen.failure) return `could not be sent: ${seen.failure}`
  const deaf = walk.findings.hops.find(({ check, state }) => check === 'listening' && state === 'blocked')
  if (answer?.kind === 'refused' && deaf) return `refused: ${deaf.verdict}`
  if (answer) return describeAnswer(answer)
  const came = seen.places.findLast(({ there }) => there > 0)
  const returned = seen.places.find(({ back }) => back > 0)
  if (returned) return `answers came to ${returned.place} and no further, and no rule that can be traced dropped them`
  const end = walk.delivered?.at.place.label
  if (!came) return 'no packet was seen anywhere'
  if (came.place === end && walk.delivered?.packet.protocol === 'udp')
    return `came to ${end}; no answer, which UDP does not need`
  return `last seen on ${came.place}${end && end !== came.place ? `, did not come to ${end}` : ''}; no rule that can be traced dropped it`
}
