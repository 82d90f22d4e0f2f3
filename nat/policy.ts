import { type Cidr, cidr, type Family, familyOf, formatCidr, networkOf } from '../netlink-lib/ip.ts'
import { fnv1a } from './mark.ts'

/** What an attachment may ask of the translation of its sources. */
export interface Translation {
  /** Destinations that see the container's own address. */
  readonly exempt?: readonly Cidr[]
  /** Sources that the world is to see, at most one of each family; the others are masqueraded. */
  readonly snat?: readonly string[]
}

/** What is done to the sources of packets from one subnet of a network, whichever backend carries it out. */
export interface Policy {
  readonly network: string
  readonly family: Family
  readonly subnet: Cidr
  /** Destinations that see the container's own address. */
  readonly untranslated: readonly { readonly range: Cidr; readonly reason: string }[]
  /** The source that the others see; undefined: the address of the link that the packet leaves by. */
  readonly source: string | undefined
  /** Of everything above: attachments that agree share their rules, and a changed configuration gets new ones. */
  readonly hash: string
}

/** The policy for a container address with its subnet's prefix length. What is of the other family doesn't count. */
export function policyOf(network: string, address: Cidr, { exempt = [], snat = [] }: Translation): Policy {
  const subnet = networkOf(address)
  const { family } = subnet
  const exemptions = exempt.filter((range) => range.family === family).map(networkOf)
  const source = snat.find((each) => familyOf(each) === family)
  // An exemption has a slash and a source has none.
  const wishes = [...exemptions.map(formatCidr), ...(source === undefined ? [] : [source])]
  return {
    network,
    family,
    subnet,
    untranslated: [
      { range: subnet, reason: 'inside the network' },
      { range: cidr(family === 4 ? '224.0.0.0/4' : 'ff00::/8'), reason: 'multicast' },
      ...exemptions.map((range) => ({ range, reason: 'exempt' })),
    ],
    source,
    hash: fnv1a(JSON.stringify([network, formatCidr(subnet), ...wishes])),
  }
}
