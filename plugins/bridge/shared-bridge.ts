import { isKernelError } from '../../netlink-lib/errors.ts'
import { type Cidr, contains, formatCidr } from '../../netlink-lib/ip.ts'
import type { Link } from '../../netlink-lib/route/link.ts'
import { CniError, codes } from '../contract/errors.ts'
import type { Host } from '../contract/host.ts'
import { bridgeMarkOf, isOurBridge, newBridgeMark } from '../contract/marks.ts'
import { type BridgeConf, usesVlans } from './config.ts'

/** What all containers of the network share: the bridge and the gateway's addresses on it. Never rolled back. */

export function ensureBridge(host: Host, conf: BridgeConf, network: string): Link {
  const { bridge: name, mtu, promiscMode } = conf
  let bridge = host.route.findLink(name)
  if (!bridge) {
    try {
      host.route.createBridge({ name, mtu, vlanFiltering: usesVlans(conf), ...newBridgeMark })
    } catch (error) {
      if (usesVlans(conf) && isKernelError(error, 'EOPNOTSUPP')) refuseUnfiltered(name, error)
      if (!isKernelError(error, 'EEXIST')) throw error // another ADD was faster
    }
    // Nobody else can have the link-local address of a bridge just made; until it passed detection, the host would
    // answer no neighbour solicitation on it.
    host.sysctl.try(['ipv6', 'conf', name, 'accept_dad'], '0')
    bridge = host.route.getLink(name)
  }
  requireUsable(bridge, conf)
  if (!bridge.alias && isOurBridge(bridge, network)) host.route.setLink(bridge, bridgeMarkOf(network))
  // Also on a bridge that was there: else a container could configure the host by router advertisements (CVE-2020-10749).
  host.sysctl.try(['ipv6', 'conf', name, 'accept_ra'], '0')
  const promiscuous = promiscMode && !bridge.promiscuous ? true : undefined
  if (!bridge.up || promiscuous) host.route.setLink(bridge, { up: true, promiscuous })
  return bridge
}

/** Throws when the link is no bridge that this configuration can use. */
export function requireUsable(link: Link, conf: BridgeConf): void {
  if (link.kind !== 'bridge')
    throw new CniError(
      codes.conflict,
      `"${link.name}" already exists but is not a bridge`,
      `it is a ${link.kind ?? 'physical'} link; choose another name for "bridge"`,
    )
  if (usesVlans(conf) && !link.vlanFiltering) refuseUnfiltered(link.name)
}

/** Without filtering, every VLAN of the bridge would see every other. */
function refuseUnfiltered(name: string, cause?: unknown): never {
  throw new CniError(
    codes.unavailable,
    `bridge "${name}" cannot filter VLANs, which vlan and vlanTrunk need`,
    cause
      ? 'this kernel is built without CONFIG_BRIDGE_VLAN_FILTERING'
      : `it was made without that, or the kernel lacks CONFIG_BRIDGE_VLAN_FILTERING: ip link set ${name} type bridge vlan_filtering 1`,
    { cause },
  )
}

/** The gateway's address on the bridge; another one there is an error, or is replaced with forceAddress. */
export function ensureGateway(host: Host, bridge: Link, address: Cidr, force: boolean): void {
  const present = host.route.listAddresses(bridge, address.family)
  if (present.some((other) => formatCidr(other) === formatCidr(address))) return
  for (const other of present) {
    const conflicts = address.family === 4 || contains(other, address.address) || contains(address, other.address)
    if (!conflicts || other.scope !== 0) continue
    if (!force)
      throw new CniError(
        codes.conflict,
        `"${bridge.name}" already has an IP address different from ${formatCidr(address)}`,
        `it has ${formatCidr(other)}; delete that, set forceAddress, or use another bridge`,
      )
    host.route.deleteAddress(bridge, other)
  }
  try {
    host.route.addAddress(bridge, address)
  } catch (error) {
    if (!isKernelError(error, 'EEXIST')) throw error // another ADD was faster
  }
  // A bridge takes the lowest MAC of its ports until one is set: pin it, or every ADD would change the gateway's.
  host.route.setLink(bridge, { mac: host.route.getLink(bridge.index).mac })
}
