import { Value } from '../../config/reader.ts'
import type { Dns } from '../../ipam/result.ts'
import type { MasqueradeBackend } from '../../nat/masquerade.ts'
import { CniError, codes } from '../contract/errors.ts'
import { type Ipam, openIpam } from '../contract/ipam.ts'
import { checkInterfaceName, type Request } from '../contract/request.ts'
import { parseDns } from '../contract/result.ts'

export interface BridgeConf {
  /** Name of the bridge. */
  readonly bridge: string
  readonly isGateway: boolean
  readonly isDefaultGateway: boolean
  readonly forceAddress: boolean
  readonly ipMasq: boolean
  readonly ipMasqBackend: MasqueradeBackend
  /** Bytes; undefined leaves the kernel's default. */
  readonly mtu: number | undefined
  readonly hairpinMode: boolean
  readonly promiscMode: boolean
  /** Of the container's interface. */
  readonly mac: string | undefined
  readonly ipam: Ipam | undefined
  readonly dns: Dns | undefined
}

export function parseBridge(request: Request): BridgeConf {
  const { config } = request
  const flag = (key: string) => config.get(key)?.boolean() ?? false
  const bridge = config.get('bridge')?.string() || 'cni0'
  checkInterfaceName(bridge)
  const [hairpinMode, promiscMode] = [flag('hairpinMode'), flag('promiscMode')]
  if (hairpinMode && promiscMode)
    throw new CniError(
      codes.invalidConfig,
      'cannot set hairpin mode and promiscuous mode at the same time',
      'hairpinMode and promiscMode are both true; set one of them',
    )
  const isDefaultGateway = flag('isDefaultGateway')
  return {
    bridge,
    isGateway: flag('isGateway') || isDefaultGateway,
    isDefaultGateway,
    forceAddress: flag('forceAddress'),
    ipMasq: flag('ipMasq'),
    ipMasqBackend: config.get('ipMasqBackend')?.oneOf('auto', 'nftables', 'iptables') ?? 'auto',
    mtu: config.get('mtu')?.integer(0, 65535) || undefined,
    hairpinMode,
    promiscMode,
    mac: requestedMac(request),
    ipam: openIpam(request),
    dns: parseDns(config.get('dns')?.object()),
  }
}

/** CNI_ARGS, then args.cni, then the mac capability: the later wins. */
function requestedMac({ config, args }: Request): string | undefined {
  const channels = [config.get('runtimeConfig')?.object(), config.get('args')?.object().get('cni')?.object()]
  for (const channel of channels) {
    const mac = channel?.get('mac')
    if (mac && mac.json !== '') return mac.mac()
  }
  const mac = args.get('MAC')
  return mac ? new Value(mac, 'CNI_ARGS.MAC').mac() : undefined
}
