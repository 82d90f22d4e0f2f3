import type { Family } from '../../netlink-lib/ip.ts'
import { type IptablesTable, readIptables } from './iptables.ts'
import { toRule } from './nft-rule.ts'
import { type BaseChain, Ruleset } from './nft-ruleset.ts'
import type { Moment } from './packet.ts'
import type { Place } from './places.ts'
import { type Outcome, passChain } from './rules.ts'

/** Where packets come by: enum nf_inet_hooks, the same for bridges. */
export const hookNumbers = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4 } as const
export type Hook = keyof typeof hookNumbers

/** A base chain: every packet that comes by its hook passes it. */
export interface Gate {
  /** `iptables FORWARD`, `chain forward of table inet t`. */
  readonly title: string
  readonly kind: 'filter' | 'nat'
  readonly policy: 'accept' | 'drop'
  readonly origin:
    | { readonly of: 'iptables'; readonly table: IptablesTable; readonly chain: string }
    | { readonly of: 'nft'; readonly chain: BaseChain }
  pass(moment: Moment): Outcome
}

/** All that filters and translates in one place. */
export class Firewall implements Disposable {
  readonly #place: Place
  #ruleset: Ruleset | undefined
  readonly #iptables = new Map<Family, IptablesTable[]>()

  constructor(place: Place) {
    this.#place = place
  }

  [Symbol.dispose](): void {
    this.#ruleset?.[Symbol.dispose]()
  }

  get ruleset(): Ruleset {
    this.#ruleset ??= new Ruleset(this.#place)
    return this.#ruleset
  }

  tables(family: Family): readonly IptablesTable[] {
    const known = this.#iptables.get(family) ?? readIptables(this.#place, family)
    this.#iptables.set(family, known)
    return known
  }

  /** What a packet passes there, in order; the tables of iptables, which has no other, come in theirs. */
  gates(hook: Hook, family: Family): Gate[] {
    const tables = this.tables(family)
    const ofIptables = tableOrder(hook)
      .flatMap((name) => tables.filter((table) => table.name === name))
      .flatMap((table) => toGate(table, hook))
    const layer = family === 4 ? 'ip' : 'ip6'
    const printed = new Set(tables.filter(({ variant }) => variant === 'nft').map(({ name }) => name))
    const ofNft = this.ruleset.baseChains.filter(
      (chain) =>
        chain.hook === hookNumbers[hook] &&
        (chain.table.family === 'inet' || (chain.table.family === layer && !printed.has(chain.table.name))),
    )
    return [...ofIptables, ...ofNft.map((chain) => this.#gate(chain))]
  }

  /** Of family bridge: what a frame passes on its way through a bridge. */
  bridgeGates(hook: Hook): Gate[] {
    return this.ruleset.baseChains
      .filter(({ table, hook: number }) => table.family === 'bridge' && number === hookNumbers[hook])
      .map((chain) => this.#gate(chain))
  }

  /** Of family netdev: what everything that a link takes in (0) or sends (1) passes. */
  linkGates(link: string, hook: 0 | 1): Gate[] {
    return this.ruleset.baseChains
      .filter(
        ({ table, hook: number, devices }) => table.family === 'netdev' && number === hook && devices.includes(link),
      )
      .map((chain) => this.#gate(chain))
  }

  #gate(chain: BaseChain): Gate {
    const { ruleset } = this
    const rules = new Map<string, ReturnType<typeof toRule>[]>()
    const rulesOf = (name: string) => {
      const known =
        rules.get(name) ??
        ruleset.rulesOf(chain.table, name).map((rule) => toRule(this.#place, ruleset, chain.table, rule))
      rules.set(name, known)
      return known
    }
    return {
      title: `chain ${chain.name} of table ${chain.table.family} ${chain.table.name}`,
      kind: chain.type === 'nat' ? 'nat' : 'filter',
      policy: chain.policy,
      origin: { of: 'nft', chain },
      pass: (moment) => passChain(chain.name, chain.policy, rulesOf, moment),
    }
  }
}

/** Destinations are changed before filter decides, sources after. */
const tableOrder = (hook: Hook): readonly string[] =>
  hook === 'postrouting' || hook === 'input'
    ? ['raw', 'mangle', 'filter', 'security', 'nat']
    : ['raw', 'mangle', 'nat', 'filter', 'security']

function toGate(table: IptablesTable, hook: Hook): Gate[] {
  const chain = hook.toUpperCase()
  const policy = table.policies.get(chain)
  if (policy === undefined) return []
  return [
    {
      title: `${table.program} ${table.name === 'filter' ? '' : `${table.name} `}${chain}`,
      kind: table.name === 'nat' ? 'nat' : 'filter',
      policy,
      origin: { of: 'iptables', table, chain },
      pass: (moment) => passChain(chain, policy, (name) => table.chains.get(name) ?? [], moment),
    },
  ]
}

/** Whose rules these probably are, by the chains that each is known for. */
const owners: readonly (readonly [chain: RegExp, owner: string])[] = [
  [/^DOCKER(-USER|-FORWARD)?$/, 'docker'],
  [/^ufw6?-/, 'ufw'],
  [/^KUBE-/, 'kubernetes'],
  [/^LIBVIRT_/, 'libvirt'],
  [/^NETAVARK/, 'podman'],
  [/^NS-NET-/, 'ns-net'],
  [/^CNI-/, 'a CNI plugin'],
]

export function ownerOf({ origin }: Gate): string | undefined {
  if (origin.of === 'nft') {
    const { name } = origin.chain.table
    if (name === 'firewalld') return 'firewalld'
    return name.startsWith('ns-net') ? 'ns-net' : undefined
  }
  const chains = [...origin.table.chains.keys()]
  return owners.find(([pattern]) => chains.some((chain) => pattern.test(chain)))?.[1]
}
