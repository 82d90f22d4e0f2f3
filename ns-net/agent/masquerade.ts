import { type Cidr, cidr, type Family, formatCidr } from '../../netlink-lib/ip.ts'
import {
  appendRule,
  type Command,
  createChain,
  createTable,
  deleteTable,
  type Hook,
  hooks,
  type TableRef,
} from '../../netlink-lib/nftables/commands.ts'
import type { NetfilterSocket } from '../../netlink-lib/nftables/netfilter-socket.ts'
import { addressIn, type Expression, masquerade, saysTheSame, verdict } from '../../netlink-lib/nftables/statements.ts'
import type { Plan } from './plan.ts'

/*
 * What pods send out of the cluster gets the node's address. One table that is the agent's alone:
 *
 *   chain postrouting { type nat hook postrouting priority 90; ip saddr 10.244.1.0/24 goto pods4; … }
 *   chain pods4 { ip daddr 10.244.0.0/24 return; …; ip daddr 172.18.0.2 return; …; masquerade }
 *
 * Before kube-proxy's and portmap's chains (srcnat, 100), and those still see what returns from here: they masquerade
 * what comes back to the pod that sent it. Node addresses are exempt, so that whoever listens on a node sees the pod.
 */

const table: TableRef = { family: 'inet', name: 'ns-net-agent' }
const tableComment = 'made by ns-net agent'
const base = 'postrouting'
const hook: Hook = { type: 'nat', number: hooks.postrouting, priority: 90 }

interface Chain {
  readonly name: string
  readonly hook?: Hook
  readonly rules: readonly (readonly Expression[])[]
}

const multicast = { 4: cidr('224.0.0.0/4'), 6: cidr('ff00::/8') } as const

/** The chains of the table; none without pods. */
export function masqueradeChains({ podRanges, unmasqueraded }: Pick<Plan, 'podRanges' | 'unmasqueraded'>): Chain[] {
  if (podRanges.length === 0) return []
  const isOf = (family: Family) => (range: Cidr) => range.family === family
  const families = ([4, 6] as const).filter((family) => podRanges.some(isOf(family)))
  return [
    ...families.map((family) => ({
      name: `pods${family}`,
      rules: [
        ...[...unmasqueraded.filter(isOf(family)), multicast[family]].map((range) => [
          ...addressIn('daddr', range),
          verdict('return'),
        ]),
        masquerade(),
      ],
    })),
    {
      name: base,
      hook,
      rules: podRanges.map((range) => [...addressIn('saddr', range), verdict('goto', `pods${range.family}`)]),
    },
  ]
}

/** Undefined when all is as planned; otherwise why the table was replaced. */
export function reconcileMasquerade(
  socket: NetfilterSocket,
  plan: Pick<Plan, 'podRanges' | 'unmasqueraded'>,
): string | undefined {
  const chains = masqueradeChains(plan)
  const present = socket.findTable(table) !== undefined
  const difference = present ? differenceFrom(socket, chains) : chains.length > 0 ? 'it was not there' : undefined
  if (difference) socket.transaction([...(present ? [deleteWhole()] : []), ...creation(chains)])
  return difference
}

/** False when there is no such table. */
export function removeMasquerade(socket: NetfilterSocket): boolean {
  if (!socket.findTable(table)) return false
  socket.transaction([deleteWhole()])
  return true
}

/** With all that is in it: the flag that {@link deleteTable} sets is the one that refuses this. */
const deleteWhole = (): Command => ({ ...deleteTable(table), flags: 0 })

/** Chains before the rules, which name them. */
const creation = (chains: readonly Chain[]): Command[] =>
  chains.length === 0
    ? []
    : [
        createTable(table, tableComment),
        ...chains.map(({ name, hook }) => createChain(table, name, hook)),
        ...chains.flatMap(({ name, rules }) => rules.map((expressions) => appendRule(table, name, expressions))),
      ]

function differenceFrom(socket: NetfilterSocket, wanted: readonly Chain[]): string | undefined {
  const present = socket.listChains(table)
  const names = (chains: readonly { name?: string }[]) => chains.map(({ name }) => name).sort()
  if (!saysTheSame(names(wanted), names(present))) return `its chains were ${names(present).join(', ') || 'gone'}`
  for (const { name, hook, rules } of wanted) {
    const actual = present.find((chain) => chain.name === name)
    if (hook && !saysTheSame({ type: hook.type, hook: { number: hook.number, priority: hook.priority } }, actual))
      return `chain ${name} was not at its hook`
    const found = socket.listRules(table, name).map(({ expressions }) => expressions)
    if (!saysTheSame(rules, found)) return `the rules of ${name} were different`
  }
  return undefined
}

/** For the log. */
export const describePolicy = ({ podRanges, unmasqueraded }: Pick<Plan, 'podRanges' | 'unmasqueraded'>) => ({
  pods: podRanges.map(formatCidr),
  except: unmasqueraded.map(formatCidr),
})
