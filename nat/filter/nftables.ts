import {
  appendRule,
  type Command,
  createChain,
  createTable,
  deleteChain,
  deleteRule,
  deleteTable,
  flushChain,
  hooks,
  type TableRef,
} from '../../netlink-lib/nftables/commands.ts'
import type { NetfilterSocket } from '../../netlink-lib/nftables/netfilter-socket.ts'
import {
  addressIn,
  type Comparison,
  type Expression,
  joined,
  linkNamed,
  saysTheSame,
  verdict,
} from '../../netlink-lib/nftables/statements.ts'
import { RuleMissing } from '../errors.ts'
import type { Policy } from './policy.ts'

/*
 * Isolation in a table of our own:
 *
 *   chain forward { type filter hook forward priority filter
 *     iifname "br0" oifname != "br0" jump isolated       same-bridge and isolated
 *     iifname "br0" oifname "br0" drop                    isolated
 *   }
 *   chain isolated { oifname "br0" drop }
 *
 * and of an internal network, by its bridge or without one by its subnet:
 *
 *   chain forward {
 *     iifname "br0" oifname != "br0" drop                 or ip saddr 10.7.0.0/24 ip daddr != 10.7.0.0/24 drop
 *     iifname != "br0" oifname "br0" drop                 or ip saddr != 10.7.0.0/24 ip daddr 10.7.0.0/24 drop
 *   }
 *
 * There is nothing to accept here: a packet that another table drops stays dropped, whatever this one says. Each rule
 * carries the mark of its policy. The caller holds the lock, so nobody else of ours changes the table meanwhile.
 */

export const table: TableRef = { family: 'inet', name: 'ns-net-firewall' }
const forward = 'forward'
const isolated = 'isolated'

interface Rule {
  readonly chain: string
  readonly expressions: readonly Expression[]
}

/** Those of `isolated` first, as the others lead there. */
const rulesOf = (policy: Policy): Rule[] => [...isolationRules(policy), ...borderRules(policy)]

function isolationRules({ link, ingress }: Policy): Rule[] {
  if (ingress === 'open' || !link) return []
  const from = linkNamed('iifname', link)
  const within = [...from, ...linkNamed('oifname', link), verdict('drop')]
  return [
    { chain: isolated, expressions: [...linkNamed('oifname', link), verdict('drop')] },
    { chain: forward, expressions: [...from, ...linkNamed('oifname', link, 'neq'), verdict('jump', isolated)] },
    ...(ingress === 'isolated' ? [{ chain: forward, expressions: within }] : []),
  ]
}

/** What leaves an internal network, and what enters it. */
function borderRules({ link, subnets, internal }: Policy): Rule[] {
  if (!internal) return []
  const between = (from: Comparison, to: Comparison): Expression[][] =>
    link
      ? [[...linkNamed('iifname', link, from), ...linkNamed('oifname', link, to)]]
      : subnets
          .filter(({ prefix }) => prefix > 0)
          .map((subnet) => joined(addressIn('saddr', subnet, from), addressIn('daddr', subnet, to)))
  const crossing = [...between('eq', 'neq'), ...between('neq', 'eq')]
  return crossing.map((match) => ({ chain: forward, expressions: [...match, verdict('drop')] }))
}

/** The rules of our table, wherever they are. */
const listRules = (netfilter: NetfilterSocket) =>
  [forward, isolated].flatMap((chain) => netfilter.listRules(table, chain))

function missingRules(netfilter: NetfilterSocket, policy: Policy): Rule[] {
  const present = listRules(netfilter).filter(({ userdata }) => userdata?.comment === policy.mark)
  return rulesOf(policy).filter(
    ({ chain, expressions }) =>
      !present.some((rule) => rule.chain === chain && saysTheSame(expressions, rule.expressions)),
  )
}

/** Puts the rules of the policy where they are missing. */
export function install(netfilter: NetfilterSocket, policy: Policy): void {
  const missing = missingRules(netfilter, policy)
  if (missing.length === 0) return
  const commands: Command[] = []
  if (!netfilter.findTable(table)) commands.push(createTable(table, 'made by ns-net'))
  if (!netfilter.findChain(table, isolated)) commands.push(createChain(table, isolated))
  if (!netfilter.findChain(table, forward))
    commands.push(createChain(table, forward, { type: 'filter', number: hooks.forward, priority: 0 }))
  for (const { chain, expressions } of missing) commands.push(appendRule(table, chain, expressions, policy.mark))
  netfilter.transaction(commands)
}

/** Removes what carries the mark, and after the last policy the table. */
export function uninstall(netfilter: NetfilterSocket, mark: string): void {
  if (!netfilter.findTable(table)) return
  const rules = listRules(netfilter)
  const marked = rules.filter(({ userdata }) => userdata?.comment === mark)
  if (rules.length > marked.length)
    netfilter.transaction(marked.map(({ chain, handle }) => deleteRule(table, chain!, handle!)))
  else {
    const chains = [forward, isolated].filter((chain) => netfilter.findChain(table, chain))
    const empty = chains.map((chain) => flushChain(table, chain))
    netfilter.transaction([...empty, ...chains.map((chain) => deleteChain(table, chain)), deleteTable(table)])
  }
}

/** Throws, naming what is missing. */
export function check(netfilter: NetfilterSocket, policy: Policy): void {
  const [missing] = missingRules(netfilter, policy)
  if (!missing) return
  const place = `chain ${missing.chain} of table ${table.family} ${table.name}`
  throw new RuleMissing(`a rule "${policy.mark}" is missing from ${place}`, 'forwarding')
}
