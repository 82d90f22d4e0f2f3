import type { Section, Value } from '../config/reader.ts'
import { type Cidr, canonicalIp, contains } from '../netlink-lib/ip.ts'
import { IpamError } from './errors.ts'
import { cniArgsList, type IpamInput, parseRoutes, refuseCrowdedFamilies } from './input.ts'
import { optionalIp } from './range.ts'
import type { Dns, IpamAddress, IpamResult, Route } from './result.ts'

export interface StaticConf {
  readonly addresses: readonly IpamAddress[]
  readonly routes: readonly Route[]
  readonly dns?: Dns
}

/** Addresses come from the first of runtimeConfig.ips, args.cni.ips, and ipam.addresses with those of CNI_ARGS. */
export function parseStatic(input: IpamInput): StaticConf {
  const { ipam, args, runtimeConfig } = input
  const plain = (value: Value): IpamAddress => ({ address: value.cidr() })
  const configured = [
    ...ipam.list('addresses', (element) => parseAddress(element.object())),
    ...cniArgsAddresses(input.cniArgs),
  ]
  const choices = [runtimeConfig?.list('ips', plain) ?? [], args?.list('ips', plain) ?? []]
  const addresses = choices.find((list) => list.length > 0) ?? configured
  refuseCrowdedFamilies(
    input.cniVersion,
    addresses.map(({ address }) => address.family),
    ipam.at('addresses'),
  )
  const dns = ipam.get('dns')?.object()
  return { addresses, routes: parseRoutes(ipam), ...(dns && { dns: parseDns(dns) }) }
}

function parseAddress(section: Section): IpamAddress {
  const address: Cidr = section.require('address', 'a CIDR such as 10.1.0.5/24').cidr()
  const gateway = optionalIp(section, 'gateway')
  return { address, ...(gateway !== undefined && { gateway }) }
}

/** GATEWAY names the gateways of those IP addresses in CNI_ARGS whose subnet has them, and of no others. */
function cniArgsAddresses(cniArgs: ReadonlyMap<string, string>): IpamAddress[] {
  const gateways = cniArgsList(cniArgs, 'GATEWAY').map((value) => value.ip())
  return cniArgsList(cniArgs, 'IP').map((value) => {
    const address = value.cidr()
    const gateway = gateways.findLast((candidate) => contains(address, candidate))
    return { address, ...(gateway !== undefined && { gateway }) }
  })
}

function parseDns(section: Section): Dns {
  const words = (key: string) => section.list(key, (element) => element.string())
  const [nameservers, search, options] = [words('nameservers'), words('search'), words('options')]
  const domain = section.get('domain')?.string()
  return {
    ...(nameservers.length > 0 && { nameservers }),
    ...(domain && { domain }),
    ...(search.length > 0 && { search }),
    ...(options.length > 0 && { options }),
  }
}

/** ADD: what the configuration says. Nothing is recorded, and nothing keeps two attachments from the same address. */
export function staticResult({ addresses, routes, dns }: StaticConf): IpamResult {
  return { ips: addresses, routes, ...(dns && { dns }) }
}

/**
 * CHECK: an address that is configured and in the previous result must have the configured gateway, if one is. As in
 * the reference, an address that is in only one of them is no failure: interface plugins may leave some out.
 */
export function checkStatic(conf: StaticConf, previous: readonly IpamAddress[]): void {
  for (const { address, gateway } of conf.addresses) {
    if (gateway === undefined) continue
    const same = previous.filter((ip) => canonicalIp(ip.address.address) === address.address)
    if (same.length === 0 || same.some((ip) => ip.gateway !== undefined && canonicalIp(ip.gateway) === gateway))
      continue
    throw new IpamError(
      'missing',
      `${address.address} has gateway ${gateway} in ipam.addresses, but ${same[0]!.gateway ?? 'none'} in the previous result`,
      'recreate the container to apply the changed configuration',
    )
  }
}
