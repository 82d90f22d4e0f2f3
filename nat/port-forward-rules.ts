import { type Cidr, cidr, type Family, formatCidr, ipBytes, networkOf } from '../netlink-lib/ip.ts'
import { type Command, createMap, deleteChain, deleteSet, hooks } from '../netlink-lib/nftables/commands.ts'
import { verdicts } from '../netlink-lib/nftables/expressions.ts'
import type { DataType, Element } from '../netlink-lib/nftables/messages.ts'
import {
  addressIn,
  destinationByMap,
  hasLabel,
  isForThisHost,
  joined,
  lookupAddress,
  lookupDestination,
  masquerade,
  setLabel,
  verdict,
} from '../netlink-lib/nftables/statements.ts'
import { parseConditions } from './conditions.ts'
import { type Forward, forwardsOf, type PortForwarding, portText, protocols } from './forwards.ts'
import { fnv1a } from './mark.ts'
import type { OwnedRecord } from './port-forward-records.ts'
import { type BaseChain, type Chain, createWithRules, type Feature, type Rule, table } from './table.ts'

/*
 * The rules of port forwarding, as data:
 *
 *   map ports4 { tcp . 8080 comment "lab 7c1f… eth0" : 10.7.0.2 . 80 }
 *   map bound-ports4 { 192.0.2.1 . udp . 53 comment "lab 7c1f… eth0" : 10.7.0.2 . 53 }
 *   map containers4 { 10.7.0.2 comment "lab 7c1f… eth0" : goto hairpin-lab-e1… }
 *   chain prerouting, output { fib daddr type local ct label set 126 jump ports; ct label 126 ct label set 127 }
 *   chain ports { dnat ip to ip daddr . meta l4proto . th dport map @bound-ports4; … }
 *   chain hairpin { ct label 127 return; ct label 126 ip daddr vmap @containers4 }      before postrouting
 *   chain hairpin-lab-e1… { ip saddr 10.7.0.0/24 masquerade; ip saddr 127.0.0.0/8 masquerade }
 *
 * Ports with conditions are in conditions4 or bound-conditions4 too, which lead past those rules into a chain that asks
 * first. `owned` says which elements an attachment has, so that DEL needs neither a search nor a file.
 */

const families = [4, 6] as const

const addressType = (family: Family): DataType => (family === 4 ? 'ipv4_addr' : 'ipv6_addr')
const destination: readonly DataType[] = ['inet_proto', 'inet_service']

export const portsMap = (family: Family, bound: boolean) => `${bound ? 'bound-' : ''}ports${family}`
export const conditionsMap = (family: Family, bound: boolean) => `${bound ? 'bound-' : ''}conditions${family}`
export const containersMap = (family: Family) => `containers${family}`
export const ownedMap = 'owned'

interface MapDeclaration {
  readonly name: string
  readonly key: readonly DataType[]
  readonly data: readonly DataType[]
  readonly comment: string
}

const mapsOf = (family: Family): MapDeclaration[] => [
  ...[false, true].flatMap((bound) => {
    const key = bound ? [addressType(family), ...destination] : destination
    const what = bound ? 'host address . protocol . port' : 'protocol . host port'
    const target: DataType[] = [addressType(family), 'inet_service']
    return [
      { name: portsMap(family, bound), key, data: target, comment: `${what} : container address . port` },
      { name: conditionsMap(family, bound), key, data: ['verdict' as const], comment: `${what} : conditions to meet` },
    ]
  }),
  {
    name: containersMap(family),
    key: [addressType(family)],
    data: ['verdict'],
    comment: 'container address : sources to masquerade',
  },
]

const maps: readonly MapDeclaration[] = [
  ...families.flatMap(mapsOf),
  {
    name: ownedMap,
    key: ['mark', 'mark', 'mark'],
    data: ['ipv6_addr', ...destination],
    comment: 'hash of the owner, number : one of its elements',
  },
]

/** All of them: what GC reads. */
export const mapNames: readonly string[] = maps.map(({ name }) => name)

/* The rules are made when they are asked for: most calls find them all in place. */

const ports: BaseChain = {
  name: 'ports',
  uses: 8 + 2, // prerouting and output lead here
  get rules() {
    return [
      ...families.flatMap((family) => [
        { expressions: lookupDestination(family, conditionsMap(family, true), true) },
        { expressions: lookupDestination(family, conditionsMap(family, false), false) },
      ]),
      ...families.flatMap((family) => [
        { expressions: destinationByMap(family, portsMap(family, true), true) },
        { expressions: destinationByMap(family, portsMap(family, false), false) },
      ]),
    ]
  },
}

/**
 * How `hairpin` knows the connections that `ports` has translated from those that somebody else has, kube-proxy for one,
 * when all that is left of the old destination is conntrack's copy, which `fib` cannot ask about. A label is set before,
 * and a second one after it: a translation ends the chain, and labels can be set but not taken away. A mark would be read
 * by rules of others, and by routing.
 */
const labels = { cameToPorts: 126, wentPast: 127 } as const

const toPorts = (): Rule[] => [
  { expressions: [...isForThisHost(), ...setLabel(labels.cameToPorts), verdict('jump', ports.name)] },
  { expressions: [...hasLabel(labels.cameToPorts), ...setLabel(labels.wentPast)] },
]
const destinationPriority = -100 // NF_IP_PRI_NAT_DST

/** IPv6 has no route_localnet: a packet to ::1 could not leave the host, and refused is better than lost. */
const exceptLocalhost6 = (): Rule => ({ expressions: [...addressIn('daddr', cidr('::1/128')), verdict('return')] })

const base: readonly BaseChain[] = [
  ports,
  {
    name: 'prerouting',
    hook: { type: 'nat', number: hooks.prerouting, priority: destinationPriority },
    uses: 2,
    get rules() {
      return toPorts()
    },
  },
  {
    name: 'output',
    hook: { type: 'nat', number: hooks.output, priority: destinationPriority },
    uses: 3,
    get rules() {
      return [exceptLocalhost6(), ...toPorts()]
    },
  },
  {
    name: 'hairpin',
    // Before everybody's masquerading at 100: iptables' rules for a bridge accept what stays in the subnet.
    hook: { type: 'nat', number: hooks.postrouting, priority: 99 },
    uses: 3,
    get rules() {
      return [
        { expressions: [...hasLabel(labels.wentPast), verdict('return')] },
        ...families.map((family) => ({
          expressions: [...hasLabel(labels.cameToPorts), ...lookupAddress('daddr', family, containersMap(family))],
        })),
      ]
    },
  },
]

const [hairpinPrefix, conditionsPrefix] = ['hairpin-', 'when-']

export const forwarding: Feature = {
  name: 'port forwarding',
  chains: base,
  create: () => [
    ...maps.map(({ name, comment, ...shape }, i) => createMap(table, name, shape, i + 1, comment)),
    ...base.flatMap(createWithRules),
  ],
  delete: (): Command[] => [
    ...[...base].reverse().map(({ name }) => deleteChain(table, name)),
    ...maps.map(({ name }) => deleteSet(table, name)),
  ],
  isPolicyChain: (name = '') => name.startsWith(hairpinPrefix) || name.startsWith(conditionsPrefix),
}

const policyName = (prefix: string, network: string, identity: readonly unknown[]): string =>
  `${prefix}${network.slice(0, 24).replaceAll(/[^\w.-]/g, '_')}-${fnv1a(JSON.stringify([network, ...identity]))}`

/** Masquerades what reaches a container of this subnet by a host port. Attachments that agree share it. */
function hairpinChain(network: string, target: Cidr, sources: PortForwarding['masquerade']): Chain {
  const subnet = networkOf(target)
  const masqueraded = (range: Cidr, comment: string) => ({
    expressions: [...addressIn('saddr', range), ...masquerade()],
    comment,
  })
  const local = [
    masqueraded(subnet, 'the container and its neighbours'),
    ...(subnet.family === 4 ? [masqueraded(cidr('127.0.0.0/8'), 'localhost')] : []),
  ]
  const rules = { none: [], local, all: [{ expressions: masquerade() }] }
  return {
    name: policyName(hairpinPrefix, network, [sources, subnet.family, sources === 'local' ? formatCidr(subnet) : '']),
    rules: rules[sources],
  }
}

/** The ports that are open only under conditions; who does not meet them reaches the host itself. */
function conditionsChain(network: string, family: Family, tokens: readonly string[]): Chain | undefined {
  const conditions = parseConditions(tokens, family)
  if (conditions.length === 0) return undefined
  return {
    name: policyName(conditionsPrefix, network, [family, tokens]),
    rules: [true, false].map((bound) => ({
      expressions: joined(conditions, destinationByMap(family, portsMap(family, bound), bound)),
    })),
  }
}

/** An element of one of the maps, without its owner. */
export interface Entry {
  readonly map: string
  readonly key: Buffer
  readonly data: NonNullable<Element['data']>
  /** For the error texts. */
  readonly subject: string
}

const port16 = (port: number): Buffer => Buffer.from([port >> 8, port & 255, 0, 0])

/** `tcp . 8080`, each field in 4 bytes. */
export const destinationKey = (protocol: number, port: number): Buffer =>
  Buffer.concat([Buffer.from([protocol, 0, 0, 0]), port16(port)])

/** The key of a forward in the maps of its kind. */
export const forwardKey = ({ protocol, port, address }: Pick<Forward, 'protocol' | 'port' | 'address'>): Buffer =>
  Buffer.concat([address ? ipBytes(address) : Buffer.alloc(0), destinationKey(protocols[protocol], port)])

const goTo = (chain: Chain): Entry['data'] => ({ verdict: { code: verdicts.goto, chain: chain.name } })

/** What is made together: entries, and the record of them in `owned`. */
export interface Claim {
  readonly record: OwnedRecord
  readonly entries: readonly Entry[]
}

export interface Wanted {
  readonly forwards: readonly Forward[]
  readonly policies: readonly Chain[]
  readonly claims: readonly Claim[]
}

/** Everything that the table holds for an attachment, but for the records. */
export function wantedFor(network: string, wish: PortForwarding): Wanted {
  const forwards = forwardsOf(wish)
  const policies: Chain[] = []
  const claims: Claim[] = []
  for (const target of wish.targets) {
    const { family, address } = target
    const own = forwards.filter((forward) => forward.family === family)
    if (own.length === 0) continue
    const hairpin = hairpinChain(network, target, wish.masquerade)
    const conditions = conditionsChain(network, family, wish.conditions[family])
    policies.push(hairpin, ...(conditions ? [conditions] : []))
    const container = { map: containersMap(family), key: ipBytes(address), data: goTo(hairpin), subject: address }
    const record = { family, address, protocol: 0, port: conditions ? 1 : 0 }
    claims.push({ record, entries: [container] }, ...own.map((forward) => claimOf(forward, conditions)))
  }
  return { forwards, policies, claims }
}

function claimOf(forward: Forward, conditions: Chain | undefined): Claim {
  const { family, address, protocol, port } = forward
  const [key, bound, subject] = [forwardKey(forward), address !== undefined, portText(forward)]
  const data = { value: Buffer.concat([ipBytes(forward.target), port16(forward.targetPort)]) }
  const entries = [{ map: portsMap(family, bound), key, data, subject }]
  const asked = conditions && { map: conditionsMap(family, bound), key, data: goTo(conditions), subject }
  return {
    record: { family, address, protocol: protocols[protocol], port },
    entries: asked ? [...entries, asked] : entries,
  }
}
