import { type Cidr, cidr, type Family, formatCidr, networkOf } from '../netlink-lib/ip.ts'
import { fnv1a } from './mark.ts'

/** What masquerading does to packets from one subnet of a network, whichever backend carries it out. */
export interface Policy {
  readonly network: string
  readonly family: Family
  readonly subnet: Cidr
  /** Destinations that see the container's own address. */
  readonly untranslated: readonly { readonly range: Cidr; readonly reason: string }[]
  /** Of everything above: attachments that agree share their rules, and a changed configuration gets new ones. */
  readonly hash: string
}

/** The policy for a container address with its subnet's prefix length. Exemptions of the other family don't count. */
export function policyOf(network: string, address: Cidr, exempt: readonly Cidr[]): Policy {
  const subnet = networkOf(address)
  const { family } = subnet
  const exemptions = exempt.filter((range) => range.family === family).map(networkOf)
  return {
    network,
    family,
    subnet,
    untranslated: [
      { range: subnet, reason: 'inside the network' },
      { range: cidr(family === 4 ? '224.0.0.0/4' : 'ff00::/8'), reason: 'multicast' },
      ...exemptions.map((range) => ({ range, reason: 'exempt' })),
    ],
    hash: fnv1a(JSON.stringify([network, formatCidr(subnet), ...exemptions.map(formatCidr)])),
  }
}
