import { type Cidr, contains, familyOf, formatCidr } from '../../netlink-lib/ip.ts'
import type { ClusterNode } from './nodes.ts'

/** What the nodes of the cluster mean for this one: no system call, no clock. */
export interface Plan {
  /** Where this node's pods get their addresses from; empty until the cluster has decided. */
  readonly podRanges: readonly Cidr[]
  readonly addresses: readonly string[]
  /** How the pods of the other nodes are reached. */
  readonly routes: readonly PodRoute[]
  /** Destinations that see a pod's own address. */
  readonly unmasqueraded: readonly Cidr[]
  /** What cannot be carried out, for people. */
  readonly problems: readonly string[]
}

/** The pods of a range are behind that node. */
export interface PodRoute {
  readonly range: Cidr
  readonly gateway: string
  readonly node: string
}

/** Undefined when the cluster does not know this node: then nothing is concluded from what it says about the others. */
export function planFor(
  nodes: readonly ClusterNode[],
  ownName: string,
  unmasqueraded: readonly Cidr[],
): Plan | undefined {
  const own = nodes.find(({ name }) => name === ownName)
  if (!own) return undefined
  const problems: string[] = []
  const routes = new Map<string, PodRoute>()
  for (const { name, podRanges, addresses } of nodes) {
    if (name === ownName) continue
    for (const range of podRanges) {
      const text = formatCidr(range)
      const gateway = addresses.find((address) => familyOf(address) === range.family)
      const rival = routes.get(text)
      if (own.podRanges.some((each) => overlap(each, range)))
        problems.push(`${text} of node ${name} overlaps this node's own range`)
      else if (rival) problems.push(`${text} belongs to nodes ${rival.node} and ${name}; the first one gets it`)
      else if (!gateway) problems.push(`node ${name} has no InternalIP of IPv${range.family} for ${text}`)
      else routes.set(text, { range, gateway, node: name })
    }
  }
  const everywhere = nodes.flatMap(({ podRanges, addresses }) => [...podRanges, ...addresses.map(single)])
  return {
    podRanges: own.podRanges,
    addresses: own.addresses,
    routes: [...routes.values()],
    unmasqueraded: distinct([...everywhere, ...unmasqueraded]),
    problems,
  }
}

const overlap = (a: Cidr, b: Cidr) => contains(a, b.address) || contains(b, a.address)

const single = (address: string): Cidr => {
  const family = familyOf(address)
  return { address, prefix: family === 4 ? 32 : 128, family }
}

/** In an order that does not depend on that of the nodes, so that nothing is rewritten for nothing. */
function distinct(ranges: readonly Cidr[]): Cidr[] {
  const byText = new Map(ranges.map((range) => [formatCidr(range), range]))
  return [...byText].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, range]) => range)
}
