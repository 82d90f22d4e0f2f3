import type { Value } from '../../config/reader.ts'
import type { Dns } from '../../ipam/result.ts'
import type { MasqueradeBackend } from '../../nat/masquerade.ts'
import type { PortVlan } from '../../netlink-lib/route/vlan.ts'
import { CniError, codes } from '../contract/errors.ts'
import { type Ipam, openIpam } from '../contract/ipam.ts'
import { checkInterfaceName, type Request, requestedDns, requestedMac, requireKnownArgs } from '../contract/request.ts'

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
  /** Access VLAN; 0 is none. */
  readonly vlan: number
  /** Tagged VLANs. */
  readonly vlanTrunk: readonly PortVlan[]
  readonly preserveDefaultVlan: boolean
  /** Frames from the container must carry its own MAC. */
  readonly macspoofchk: boolean
  /** Containers of the bridge reach the gateway only, not one another. */
  readonly portIsolation: boolean
  /** Leaves the container's interface down. */
  readonly disableContainerInterface: boolean
  /** IPv6 duplicate address detection, which ADD then waits for. */
  readonly enabledad: boolean
  /** False: a container with IPv4 addresses only gets no IPv6 link-local address either. */
  readonly ipv6LinkLocal: boolean
  readonly ipam: Ipam | undefined
  readonly dns: Dns | undefined
}

/** A bridge with nothing switched on: what a DEL or GC sees of everything that it has no use for. */
const plain: Omit<BridgeConf, 'ipam'> = {
  ipMasq: false,
  ipMasqBackend: 'auto',
  bridge: 'cni0',
  isGateway: false,
  isDefaultGateway: false,
  forceAddress: false,
  mtu: undefined,
  hairpinMode: false,
  promiscMode: false,
  mac: undefined,
  vlan: 0,
  vlanTrunk: [],
  preserveDefaultVlan: true,
  macspoofchk: false,
  portIsolation: false,
  disableContainerInterface: false,
  enabledad: false,
  ipv6LinkLocal: true,
  dns: undefined,
}

export function parseBridge(request: Request): BridgeConf {
  const { config } = request
  if (request.command === 'DEL' || request.command === 'GC') {
    // As far as it can be understood: what ADD would refuse must not keep what an earlier one made.
    const isOn = (key: string) => config.get(key)?.json === true
    const ipMasqBackend = config.get('ipMasqBackend')?.json === 'iptables' ? 'iptables' : 'auto'
    return {
      ...plain,
      ipMasq: isOn('ipMasq'),
      ipMasqBackend,
      macspoofchk: isOn('macspoofchk'),
      ipam: openIpam(request),
    }
  }
  requireKnownArgs(request)
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
  const ipam = openIpam(request)
  const disableContainerInterface = flag('disableContainerInterface')
  if (ipam && disableContainerInterface)
    config.fail('disableContainerInterface', 'cannot be used with "ipam": an address needs an interface that is up')
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
    vlan: config.get('vlan')?.integer(0, 4094) ?? 0,
    vlanTrunk: config.list('vlanTrunk', parseTrunk),
    preserveDefaultVlan: config.get('preserveDefaultVlan')?.boolean() ?? true,
    macspoofchk: flag('macspoofchk'),
    portIsolation: flag('portIsolation'),
    disableContainerInterface,
    enabledad: flag('enabledad'),
    ipv6LinkLocal: config.get('ipv6LinkLocal')?.boolean() ?? true,
    ipam,
    dns: requestedDns(request),
  }
}

export const usesVlans = ({ vlan, vlanTrunk }: BridgeConf): boolean => vlan !== 0 || vlanTrunk.length > 0

/** `{ "id": 5 }` or `{ "minID": 100, "maxID": 110 }`. */
function parseTrunk(value: Value): PortVlan {
  const trunk = value.object()
  const vlan = (key: string) => trunk.get(key)?.integer(1, 4094)
  const [id, first, last] = [vlan('id'), vlan('minID'), vlan('maxID')]
  if ((first === undefined) !== (last === undefined)) value.fail('minID and maxID must be given together')
  if (first !== undefined && last !== undefined) {
    if (first > last) value.fail(`minID ${first} is greater than maxID ${last}`)
    return { first, last }
  }
  return id === undefined ? value.fail('expected "id", or "minID" and "maxID"') : { first: id, last: id }
}
