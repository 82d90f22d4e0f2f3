import type { MasqueradeBackend } from '../../nat/masquerade.ts'
import type { Cidr } from '../../netlink-lib/ip.ts'
import { enableForwarding } from '../contract/container-interface.ts'
import { CniError, codes } from '../contract/errors.ts'
import type { Plugin } from '../contract/plugin.ts'
import type { Request } from '../contract/request.ts'
import type { Result } from '../contract/result.ts'

export interface NatConf {
  readonly backend: MasqueradeBackend
  /** Destinations that see the container's own address. */
  readonly nonMasqueradeCIDRs: readonly Cidr[]
}

function parseNat({ config, command }: Request): NatConf {
  if (command === 'DEL') return { backend: 'auto', nonMasqueradeCIDRs: [] } // it goes by what is there
  return {
    backend: config.get('backend')?.oneOf('auto', 'nftables', 'iptables') ?? 'auto',
    nonMasqueradeCIDRs: config.list('nonMasqueradeCIDRs', (value) => value.cidr()),
  }
}

/** The addresses that earlier plugins of the list gave this interface. */
function addressesOf(request: Request): Cidr[] {
  const { prevResult } = request
  if (!prevResult)
    throw new CniError(
      codes.invalidConfig,
      'nat must be called as chained plugin',
      'put it after bridge or veth in the "plugins" list',
    )
  return prevResult.ips
    .filter((ip) => ip.interface === undefined || prevResult.interfaces[ip.interface]?.sandbox)
    .map(({ address }) => address)
}

/** Chained: traffic that leaves the subnet of prevResult's addresses gets the host's source address. */
export const nat: Plugin<NatConf> = {
  type: 'nat',
  parse: parseNat,

  add(conf, request, host): Result {
    const addresses = addressesOf(request)
    enableForwarding(host, request.prevResult!.ips)
    // All or nothing by itself; a rollback would take what an "ipMasq" before it in the list made.
    if (addresses.length > 0) host.masquerade(conf.backend).add(request, addresses, conf.nonMasqueradeCIDRs)
    return request.prevResult!
  },

  del(_conf, request, host): void {
    const addresses = request.prevResult?.ips.map(({ address }) => address.address)
    host.removeMasquerade(request, addresses, true)
  },

  check(conf, request, host): void {
    const addresses = addressesOf(request)
    if (addresses.length > 0) host.masquerade(conf.backend).check(request, addresses, conf.nonMasqueradeCIDRs)
  },

  reload(conf, request, host): void {
    const addresses = addressesOf(request)
    if (addresses.length === 0) return
    enableForwarding(host, request.prevResult!.ips)
    host.masquerade(conf.backend).add(request, addresses, conf.nonMasqueradeCIDRs)
  },

  gc(conf, request, host): void {
    host.masquerade(conf.backend).collect(request.network, request.validAttachments)
  },
  status: (conf, _request, host) => host.masquerade(conf.backend).requireUsable(),
}
