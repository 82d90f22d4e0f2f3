import { isKernelError } from '../../netlink-lib/errors.ts'
import type { Link } from '../../netlink-lib/route/link.ts'
import type { PortVlan } from '../../netlink-lib/route/vlan.ts'
import { CniError, codes } from '../contract/errors.ts'
import type { Host } from '../contract/host.ts'
import { hostLinkName } from '../contract/marks.ts'
import { type BridgeConf, usesVlans } from './config.ts'

/** VLANs of a container's port: `vlan` untagged, `vlanTrunk` tagged. */
export function portVlans({ vlan, vlanTrunk }: BridgeConf): PortVlan[] {
  const access = vlan === 0 ? [] : [{ first: vlan, last: vlan, pvid: true, untagged: true }]
  return [...access, ...vlanTrunk]
}

/** Puts a port into its VLANs; the ones it was born with (VLAN 1) go first, unless they are to be kept. */
export function setPortVlans(host: Host, port: Link, conf: BridgeConf): void {
  if (!usesVlans(conf)) return
  if (!conf.preserveDefaultVlan) {
    const present = host.route.listPortVlans(port)
    if (present.length > 0) host.route.deletePortVlans(port, present)
  }
  host.route.addPortVlans(port, portVlans(conf))
}

/**
 * The gateway of a VLAN: a link `<bridge>.<vlan>` on the host whose other end is a port of the bridge in that VLAN.
 * Shared by the containers of the VLAN, so it stays.
 */
export function ensureVlanGateway(host: Host, bridge: Link, conf: BridgeConf): Link {
  const name = `${bridge.name}.${conf.vlan}`
  if (name.length > 15)
    throw new CniError(
      codes.invalidConfig,
      `the name of the VLAN's gateway link, "${name}", has more than 15 bytes`,
      'choose a shorter name for "bridge"',
    )
  const present = host.route.findLink(name)
  if (present) return present
  const peer = hostLinkName({ network: bridge.name, containerId: String(conf.vlan), ifName: name })
  try {
    host.route.createVeth({ name: peer, master: bridge.index, up: true, mtu: conf.mtu, peer: { name, mtu: conf.mtu } })
  } catch (error) {
    if (!isKernelError(error, 'EEXIST')) throw error // another ADD was faster
  }
  setPortVlans(host, host.route.getLink(peer), { ...conf, vlanTrunk: [] })
  const gateway = host.route.getLink(name)
  host.route.setLink(gateway, { up: true, alias: bridge.alias })
  return gateway
}

/** The numbers from first to last. */
const numbers = ({ first, last }: PortVlan): number[] => Array.from({ length: last - first + 1 }, (_, i) => first + i)

/** Throws naming the first VLAN that the port should be in and is not. */
export function checkPortVlans(host: Host, port: Link, conf: BridgeConf): void {
  // The kernel tells each VLAN of a range for itself.
  const present = new Map(host.route.listPortVlans(port).flatMap((vlan) => numbers(vlan).map((id) => [id, vlan])))
  for (const wanted of portVlans(conf)) {
    const isIn = (vlan?: PortVlan) => vlan && (!wanted.pvid || (vlan.pvid && vlan.untagged === wanted.untagged))
    const missing = numbers(wanted).find((id) => !isIn(present.get(id)))
    if (missing !== undefined) throw new CniError(codes.checkFailed, `CHECK: "${port.name}" is not in VLAN ${missing}`)
  }
}
