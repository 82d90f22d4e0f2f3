import type { Request } from '../socket.ts'
import type { LinkRef } from './link.ts'
import { addressFamilies, messageTypes, portVlanMessage, vlanFlags } from './wire.ts'

/** VLANs first to last that a bridge's port is a member of. */
export interface PortVlan {
  readonly first: number
  readonly last: number
  /** Frames without a tag that come in belong to it. */
  readonly pvid?: boolean
  /** Its frames go out without a tag. */
  readonly untagged?: boolean
}

interface VlanInfo {
  readonly flags?: number
  readonly id?: number
}

/** One entry, or the two that begin and end a range. */
export function vlanInfos({ first, last, pvid, untagged }: PortVlan): VlanInfo[] {
  const flags = (pvid ? vlanFlags.pvid : 0) | (untagged ? vlanFlags.untagged : 0)
  if (first === last) return [{ flags, id: first }]
  return [
    { flags: flags | vlanFlags.rangeBegin, id: first },
    { flags: flags | vlanFlags.rangeEnd, id: last },
  ]
}

export function toPortVlans(infos: readonly VlanInfo[]): PortVlan[] {
  const vlans: PortVlan[] = []
  let first: number | undefined
  for (const { flags = 0, id = 0 } of infos) {
    if (flags & vlanFlags.rangeBegin) first = id
    else {
      const is = (flag: number) => (flags & flag) !== 0
      vlans.push({ first: first ?? id, last: id, pvid: is(vlanFlags.pvid), untagged: is(vlanFlags.untagged) })
      first = undefined
    }
  }
  return vlans
}

const named = (vlans: readonly PortVlan[]) =>
  vlans.map(({ first, last }) => (last === first ? first : `${first}-${last}`)).join(', ')

const body = (port: LinkRef, vlans: readonly PortVlan[]) =>
  portVlanMessage.encode({ family: addressFamilies.bridge, index: port.index, vlans: vlans.flatMap(vlanInfos) })

export const addVlans = (port: LinkRef, vlans: readonly PortVlan[]): Request => ({
  type: messageTypes.setLink,
  body: body(port, vlans),
  operation: `add VLAN ${named(vlans)} of`,
  subject: port.name,
})

export const deleteVlans = (port: LinkRef, vlans: readonly PortVlan[]): Request => ({
  type: messageTypes.deleteLink,
  body: body(port, vlans),
  operation: `delete VLAN ${named(vlans)} of`,
  subject: port.name,
})

/** A dump of the ports of all bridges: the kernel does not filter it. */
export const listVlans = (port: LinkRef): Request => ({
  type: messageTypes.getLink,
  body: portVlanMessage.encode({ family: addressFamilies.bridge, extensionMask: 2 }), // RTEXT_FILTER_BRVLAN
  operation: 'list VLANs of',
  subject: port.name,
})
