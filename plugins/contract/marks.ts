import type { Attachment } from '../../config/attachment.ts'
import { fnv1a } from '../../nat/mark.ts'
import type { Link } from '../../netlink-lib/route/link.ts'

/**
 * The name of an attachment's link on the host: derived, so that DEL finds it with nothing but network, container id
 * and interface name. 44 bits of FNV-1a (draft-eastlake-fnv): links are told apart by it, nothing is proved by it.
 */
export const hostLinkName = ({ network, containerId, ifName }: Attachment): string =>
  `veth${fnv1a(`${network}\0${containerId}\0${ifName}`).slice(0, 11)}`

/** The alias that marks a link as an attachment's (`ip link` shows it); cut to the kernel's 255 bytes. */
export function linkMark({ network, containerId, ifName }: Attachment): string {
  return Buffer.from(`ns-net:${network}:${containerId}:${ifName}`).subarray(0, 255).toString()
}

/** The alias of a bridge that we made for a network. */
const bridgeMark = (network: string): string => `ns-net:${network}`.slice(0, 255)

/** The group that our bridges are born in: an alias can only be set on a link that is there already. */
const bridgeGroup = 0x6e73

/** How a bridge of ours begins and what {@link isOurBridge} knows it by. */
export const newBridgeMark = { group: bridgeGroup }
export const bridgeMarkOf = (network: string): { alias: string } => ({ alias: bridgeMark(network) })

/** True for the bridge that we made for the network, also when we were killed before it had its alias. */
export const isOurBridge = ({ kind, alias, group }: Link, network: string): boolean =>
  kind === 'bridge' && (alias === undefined ? group === bridgeGroup : alias === bridgeMark(network))
