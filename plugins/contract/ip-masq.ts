import type { MasqueradeBackend } from '../../nat/masquerade.ts'
import { enableForwarding } from './container-interface.ts'
import type { Host } from './host.ts'
import { type Request, requirePrevResult } from './request.ts'
import type { ResultIp } from './result.ts'
import type { Rollback } from './rollback.ts'

/** `ipMasq` of the plugins that make an interface: its addresses are translated where they leave their subnet. */
export interface IpMasqConf {
  readonly ipMasq: boolean
  readonly ipMasqBackend: MasqueradeBackend
}

const cidrsOf = (ips: readonly ResultIp[]) => ips.map(({ address }) => address)

const isWanted = ({ ipMasq }: IpMasqConf, ips: readonly ResultIp[]) => ipMasq && ips.length > 0

export function addIpMasq(
  host: Host,
  conf: IpMasqConf,
  request: Request,
  ips: readonly ResultIp[],
  rollback: Rollback,
): void {
  if (!isWanted(conf, ips)) return
  const masquerade = host.masquerade(conf.ipMasqBackend)
  rollback.onFailure('remove masquerading', () => masquerade.del(request))
  masquerade.add(request, cidrsOf(ips))
}

export function checkIpMasq(host: Host, conf: IpMasqConf, request: Request): void {
  const { ips } = requirePrevResult(request)
  if (isWanted(conf, ips)) host.masquerade(conf.ipMasqBackend).check(request, cidrsOf(ips))
}

/** Puts back what a flush took, forwarding included. */
export function reloadIpMasq(host: Host, conf: IpMasqConf, request: Request): void {
  const { ips } = requirePrevResult(request)
  if (!isWanted(conf, ips)) return
  enableForwarding(host, ips)
  host.masquerade(conf.ipMasqBackend).add(request, cidrsOf(ips))
}
