import { isKernelError } from '../errors.ts'
import { bitsOf, familyOf } from '../ip.ts'
import { NetlinkSocket, protocols } from '../socket.ts'
import { addressFamilies, messageTypes, routeMessage, routeTypes } from './wire.ts'

/** Index of the link that packets to this address leave by; undefined when there is no route, or it is the host's own. */
export function linkTowards(address: string): number | undefined {
  const family = familyOf(address)
  using netlink = new NetlinkSocket(protocols.route)
  try {
    const reply = netlink.get({
      type: messageTypes.getRoute,
      body: routeMessage.encode({
        family: family === 4 ? addressFamilies.ipv4 : addressFamilies.ipv6,
        dstPrefix: bitsOf(family),
        dst: address,
      }),
      operation: 'find route to',
      subject: address,
    })
    const route = reply && routeMessage.decode(reply.body)
    return route?.type === routeTypes.unicast ? route.outLink : undefined
  } catch (error) {
    if (isKernelError(error, 'ENETUNREACH', 'EHOSTUNREACH', 'EACCES', 'EINVAL')) return undefined // kinds of no route
    throw error
  }
}
