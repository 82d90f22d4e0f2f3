import type { Family } from '../netlink-lib/ip.ts'
import {
  appendRule,
  type Command,
  createChain,
  createVerdictMap,
  deleteChain,
  deleteSet,
  flushChain,
  type Hook,
  hooks,
  type TableRef,
} from '../netlink-lib/nftables/commands.ts'
import { addressIn, type Expression, lookupSource, masquerade, verdict } from '../netlink-lib/nftables/statements.ts'
import type { Policy } from './policy.ts'

/*
 * The rules of masquerading, as data:
 *
 *   map sources4 { 10.7.0.2 comment "lab 7c1f… eth0" : goto masq-lab-e1…, … }
 *   chain postrouting { type nat hook postrouting priority srcnat; ip saddr vmap @sources4; ip6 saddr vmap @sources6 }
 *   chain masq-lab-e1… { ip daddr 10.7.0.0/24 return; ip daddr 224.0.0.0/4 return; masquerade }
 *
 * A packet costs one lookup however many containers there are, and an attachment is one element. Rejected: a set per
 * network, because a packet then passes one rule per network and nothing notices an address that is used twice.
 */

export const table: TableRef = { family: 'inet', name: 'ns-net' }
export const tableComment = 'made by ns-net'

const baseChain = 'postrouting'
const baseHook: Hook = { type: 'nat', number: hooks.postrouting, priority: 100 } // NF_IP_PRI_NAT_SRC

export const mapOf = (family: Family): 'sources4' | 'sources6' => `sources${family}`

export interface Rule {
  readonly expressions: readonly Expression[]
  readonly comment?: string
}

export interface Chain {
  readonly name: string
  readonly hook?: Hook
  readonly rules: readonly Rule[]
}

/** Where every packet that leaves the host comes by. */
export const base: Chain = {
  name: baseChain,
  hook: baseHook,
  rules: [{ expressions: lookupSource(4, mapOf(4)) }, { expressions: lookupSource(6, mapOf(6)) }],
}

const chainPrefix = 'masq-'

export const isPolicyChain = (name: string | undefined): boolean => name?.startsWith(chainPrefix) ?? false

/** The rules of a policy. */
export const policyChain = ({ network, untranslated, hash }: Policy): Chain => ({
  name: `${chainPrefix}${network.slice(0, 24).replaceAll(/[^\w.-]/g, '_')}-${hash}`,
  rules: [
    ...untranslated.map(({ range, reason }) => ({
      expressions: [...addressIn('daddr', range), verdict('return')],
      comment: reason,
    })),
    { expressions: masquerade() },
  ],
})

export const createWithRules = (chain: Chain): Command[] => [
  createChain(table, chain.name, chain.hook),
  ...chain.rules.map((rule) => appendRule(table, chain.name, rule.expressions, rule.comment)),
]

export const createBase = (): Command[] => [
  createVerdictMap(table, mapOf(4), 4, 1, 'container address : policy of its network'),
  createVerdictMap(table, mapOf(6), 6, 2, 'container address : policy of its network'),
  ...createWithRules(base),
]

/** Refused by the kernel with EBUSY when an element or a policy chain has appeared meanwhile. */
export const deleteBase = (): Command[] => [
  flushChain(table, baseChain),
  deleteSet(table, mapOf(4)),
  deleteSet(table, mapOf(6)),
  deleteChain(table, baseChain),
]
