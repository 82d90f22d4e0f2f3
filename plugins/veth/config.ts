import type { Dns } from '../../ipam/result.ts'
import type { MasqueradeBackend } from '../../nat/masquerade.ts'
import { type Ipam, openIpam } from '../contract/ipam.ts'
import { type Request, requestedDns, requestedMac } from '../contract/request.ts'

export interface VethConf {
  readonly mtu: number | undefined
  /** Of the container's end. */
  readonly mac: string | undefined
  readonly ipMasq: boolean
  readonly ipMasqBackend: MasqueradeBackend
  /** Missing only on DEL and GC. */
  readonly ipam: Ipam | undefined
  readonly dns: Dns | undefined
}

export function parseVeth(request: Request): VethConf {
  const { config } = request
  if (request.command === 'DEL' || request.command === 'GC') {
    // As far as it can be understood: what ADD would refuse must not keep what an earlier one made.
    const ipMasq = config.get('ipMasq')?.json === true
    const ipMasqBackend = config.get('ipMasqBackend')?.json === 'iptables' ? 'iptables' : 'auto'
    return { mtu: undefined, mac: undefined, ipMasq, ipMasqBackend, ipam: openIpam(request), dns: undefined }
  }
  return {
    mtu: config.get('mtu')?.integer(0, 65535) || undefined,
    mac: requestedMac(request),
    ipMasq: config.get('ipMasq')?.boolean() ?? false,
    ipMasqBackend: config.get('ipMasqBackend')?.oneOf('auto', 'nftables', 'iptables') ?? 'auto',
    ipam: openIpam(request) ?? config.fail('ipam.type', 'missing; a point to point link needs addresses'),
    dns: requestedDns(request),
  }
}
