import { type Cidr, type Family, formatCidr, networkOf } from '../../netlink-lib/ip.ts'
import type { RouteSocket } from '../../netlink-lib/route/socket.ts'
import { fnv1a, networkMark } from '../mark.ts'

/** Who may send to a container. */
export type IngressPolicy =
  /** Everybody. */
  | 'open'
  /** Not the containers on other bridges that have a policy, either. */
  | 'same-bridge'
  /** Nor those on the same bridge. */
  | 'isolated'

/** What is done to forwarded packets of one network and family, whichever backend carries it out. */
export interface Policy {
  readonly network: string
  readonly family: Family
  /** The bridge, or without one the host's end of a container's link; undefined when it does not matter. */
  readonly link: string | undefined
  /** Containers in these may send, and receive the answers. */
  readonly subnets: readonly Cidr[]
  readonly ingress: IngressPolicy
  /** Nothing is forwarded between the network and anything else. */
  readonly internal?: boolean
  /** The text that every rule of the policy carries: attachments that agree share their rules. */
  readonly mark: string
}

export function policyOf(parts: Omit<Policy, 'mark'>): Policy {
  const { network, family, link, subnets, ingress, internal } = parts
  const facts = [network, family, link, subnets.map(formatCidr), ingress]
  const hash = fnv1a(JSON.stringify(internal ? [...facts, 'internal'] : facts))
  return { ...parts, mark: `ns-net:${networkMark(network).trim()}:${hash}` }
}

/** Of the result of earlier plugins: their links, and the addresses that they gave. */
export interface Connected {
  readonly interfaces: readonly { readonly name: string; readonly sandbox?: string }[]
  readonly ips: readonly { readonly address: Cidr; readonly interface?: number }[]
}

/** The policies of an attachment: one per family of its addresses, both when it has none but is to be kept apart. */
export function policiesOf(
  network: string,
  connected: Connected,
  ingress: IngressPolicy,
  route: RouteSocket,
  internal = false,
): Policy[] {
  const link = linkOf(connected, ingress, route)
  const subnets = new Map<string, Cidr>()
  for (const ip of connected.ips) {
    const isOurs = ip.interface === undefined || connected.interfaces[ip.interface]?.sandbox
    const subnet = networkOf(ip.address)
    if (isOurs) subnets.set(formatCidr(subnet), subnet)
  }
  const ofFamily = (family: Family) => [...subnets.values()].filter((subnet) => subnet.family === family)
  const needsBoth = subnets.size === 0 && (ingress !== 'open' || internal) && link !== undefined
  return ([4, 6] as const)
    .filter((family) => needsBoth || ofFamily(family).length > 0)
    .map((family) => policyOf({ network, family, link, subnets: ofFamily(family), ingress, internal }))
}

/** Only a bridge is shared; the end of a container's own link would make rules per container, so only on demand. */
function linkOf({ interfaces }: Connected, ingress: IngressPolicy, route: RouteSocket): string | undefined {
  const outside = interfaces.filter(({ sandbox }) => !sandbox).map(({ name }) => name)
  const bridge = outside.find((name) => route.findLink(name)?.kind === 'bridge')
  return bridge ?? (ingress === 'open' ? undefined : outside[0])
}
