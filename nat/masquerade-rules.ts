import type { Family } from '../netlink-lib/ip.ts'
import {
  type Command,
  createMap,
  deleteChain,
  deleteSet,
  flushChain,
  type Hook,
  hooks,
  type MapShape,
} from '../netlink-lib/nftables/commands.ts'
import { addressIn, lookupAddress, masquerade, newSource, verdict } from '../netlink-lib/nftables/statements.ts'
import type { Policy } from './policy.ts'
import { type BaseChain, type Chain, createWithRules, type Feature, table } from './table.ts'

/*
 * The rules of masquerading, as data:
 *
 *   map sources4 { 10.7.0.2 comment "lab 7c1f… eth0" : goto masq-lab-e1…, … }
 *   chain postrouting { type nat hook postrouting priority srcnat; ip saddr vmap @sources4; ip6 saddr vmap @sources6 }
 *   chain masq-lab-e1… { ip daddr 10.7.0.0/24 return; ip daddr 224.0.0.0/4 return; masquerade }
 *
 * where a policy with a source of its own ends in `snat ip to 192.0.2.10` instead. A packet costs one lookup however many containers there are, and an attachment is one element. Rejected: a set per
 * network, because a packet then passes one rule per network and nothing notices an address that is used twice.
 */

const baseHook: Hook = { type: 'nat', number: hooks.postrouting, priority: 100 } // NF_IP_PRI_NAT_SRC

export const mapOf = (family: Family): 'sources4' | 'sources6' => `sources${family}`

const families = [4, 6] as const

/** Where every packet that leaves the host comes by. */
export const base: BaseChain = {
  name: 'postrouting',
  hook: baseHook,
  uses: 2,
  get rules() {
    return families.map((family) => ({ expressions: lookupAddress('saddr', family, mapOf(family)) }))
  },
}

const chainPrefix = 'masq-'

/** The rules of a policy. */
export const policyChain = ({ network, untranslated, source, hash }: Policy): Chain => ({
  name: `${chainPrefix}${network.slice(0, 24).replaceAll(/[^\w.-]/g, '_')}-${hash}`,
  rules: [
    ...untranslated.map(({ range, reason }) => ({
      expressions: [...addressIn('daddr', range), verdict('return')],
      comment: reason,
    })),
    { expressions: source === undefined ? masquerade() : newSource(source) },
  ],
})

const sources = (family: Family, id: number): Command => {
  const shape: MapShape = { key: [family === 4 ? 'ipv4_addr' : 'ipv6_addr'], data: ['verdict'] }
  return createMap(table, mapOf(family), shape, id, 'container address : policy of its network')
}

export const masquerading: Feature = {
  name: 'masquerade',
  chains: [base],
  create: () => [sources(4, 1), sources(6, 2), ...createWithRules(base)],
  delete: () => [
    flushChain(table, base.name),
    deleteSet(table, mapOf(4)),
    deleteSet(table, mapOf(6)),
    deleteChain(table, base.name),
  ],
  isPolicyChain: (name) => name?.startsWith(chainPrefix) ?? false,
}
