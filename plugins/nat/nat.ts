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

function parseNat({ config }: Request): NatConf {
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
    using rollback = host.rollback()
    enableForwarding(host, request.prevResult!.ips)
    if (addresses.length > 0) {
      const masquerade = host.masquerade(conf.backend)
      rollback.onFailure('remove masquerading', () => masquerade.del(request))
      masquerade.add(request, addresses, conf.nonMasqueradeCIDRs)
    }
    rollback.commit()
    return request.prevResult!
  },

  del(conf, request, host): void {
    host.masquerade(conf.backend).del(
      request,
      request.prevResult?.ips.map(({ address }) => address.address),
    )
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
}
