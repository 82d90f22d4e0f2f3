import type { Dns } from '../../ipam/result.ts'
import type { MasqueradeBackend } from '../../nat/masquerade.ts'
import { type Ipam, openIpam } from '../contract/ipam.ts'
import { masqueradeToRemove, type Request, requestedDns } from '../contract/request.ts'

export interface VethConf {
  readonly mtu: number | undefined
  readonly ipMasq: boolean
  readonly ipMasqBackend: MasqueradeBackend
  readonly ipam: Ipam
  readonly dns: Dns | undefined
}

export function parseVeth(request: Request): VethConf {
  const { config } = request
  if (request.command === 'DEL') {
    const ipam = openIpam(request) ?? config.fail('ipam.type', 'missing; whose addresses are to be released?')
    return { mtu: undefined, dns: undefined, ipam, ...masqueradeToRemove(request) }
  }
  return {
    mtu: config.get('mtu')?.integer(0, 65535) || undefined,
    ipMasq: config.get('ipMasq')?.boolean() ?? false,
    ipMasqBackend: config.get('ipMasqBackend')?.oneOf('auto', 'nftables', 'iptables') ?? 'auto',
    ipam: openIpam(request) ?? config.fail('ipam.type', 'missing; a point to point link needs addresses'),
    dns: requestedDns(request),
  }
}
