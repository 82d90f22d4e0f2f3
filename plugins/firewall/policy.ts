import { fnv1a, networkMark } from '../../nat/mark.ts'
import { type Cidr, type Family, formatCidr, networkOf } from '../../netlink-lib/ip.ts'
import { CniError, codes } from '../contract/errors.ts'
import type { Host } from '../contract/host.ts'
import type { Result } from '../contract/result.ts'

/** Who may send to a container. */
export type IngressPolicy =
  /** Everybody. */
  | 'open'
  /** Not the containers on other bridges that have a policy, either. */
  | 'same-bridge'
  /** Nor those on the same bridge. */
  | 'isolated'

/** What the firewall does to packets of one network and family, whichever backend carries it out. */
export interface Policy {
  readonly network: string
  readonly family: Family
  /** The bridge, or without one the host's end of a container's link; undefined when it does not matter. */
  readonly link: string | undefined
  /** Containers in these may send, and receive the answers. */
  readonly subnets: readonly Cidr[]
  readonly ingress: IngressPolicy
  /** The text that every rule of the policy carries: attachments that agree share their rules. */
  readonly mark: string
}

export function policyOf(parts: Omit<Policy, 'mark'>): Policy {
  const { network, family, link, subnets, ingress } = parts
  const hash = fnv1a(JSON.stringify([network, family, link, subnets.map(formatCidr), ingress]))
  return { ...parts, mark: `ns-net:${networkMark(network).trim()}:${hash}` }
}

/** The policies of an attachment: one per family of its addresses, both when it has none but is to be isolated. */
export function policiesOf(network: string, result: Result, ingress: IngressPolicy, host: Host): Policy[] {
  const link = linkOf(result, ingress, host)
  const subnets = new Map<string, Cidr>()
  for (const ip of result.ips) {
    const isOurs = ip.interface === undefined || result.interfaces[ip.interface]?.sandbox
    const subnet = networkOf(ip.address)
    if (isOurs) subnets.set(formatCidr(subnet), subnet)
  }
  const ofFamily = (family: Family) => [...subnets.values()].filter((subnet) => subnet.family === family)
  const needsBoth = subnets.size === 0 && ingress !== 'open' && link !== undefined
  return ([4, 6] as const)
    .filter((family) => needsBoth || ofFamily(family).length > 0)
    .map((family) => policyOf({ network, family, link, subnets: ofFamily(family), ingress }))
}

/** Only a bridge is shared; the end of a container's own link would make rules per container, so only on demand. */
function linkOf({ interfaces }: Result, ingress: IngressPolicy, host: Host): string | undefined {
  const outside = interfaces.filter(({ sandbox }) => !sandbox).map(({ name }) => name)
  const bridge = outside.find((name) => host.route.findLink(name)?.kind === 'bridge')
  const link = bridge ?? (ingress === 'open' ? undefined : outside[0])
  if (link !== undefined && !/^\w[\w.@:-]*$/.test(link))
    throw new CniError(
      codes.invalidConfig,
      `no firewall rule can be about a link named ${JSON.stringify(link)}`,
      'iptables takes some signs for its own; use letters, digits and . _ : @ - in the name of the bridge',
    )
  return link
}
