import { flowMessage } from '../../netlink-lib/conntrack/messages.ts'
import { listRoutes } from '../../netlink-lib/route/route.ts'
import {
  addressFamilies,
  type LinkMessage,
  linkMessage,
  messageTypes,
  routeMessage,
  vethData,
} from '../../netlink-lib/route/wire.ts'
import { flags, type NetlinkSocket, type Request } from '../../netlink-lib/socket.ts'
import { findLink } from './images.ts'
import { ipCommand } from './ip.ts'
import type { Names } from './ip-link.ts'
import { namesIn } from './neighbourhood.ts'
import type { Place, Places } from './place.ts'
import type { Step } from './recorder.ts'

/* A request with what is found out about it before it is obeyed. */

interface Asked {
  readonly command: string
  /** The link that it is about, if it is there. */
  readonly subject: LinkMessage | undefined
  /** The link that it creates, and of a pair the other end. */
  readonly created: LinkMessage | undefined
  readonly peer: { readonly place: Place; readonly name: string | undefined } | undefined
}

export function requestText(request: Request, place: Place, netlink: NetlinkSocket, places: Places): Asked {
  const names = namesIn(places, netlink)
  const created = createdBy(request)
  return {
    command: ipCommand(place, precise(request, netlink), names),
    subject: subjectOf(request, netlink),
    created,
    peer: created && peerPlace(created, place, names),
  }
}

export const deleteFlow = 0x102 // NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE

/** On another host there is no such flow: told as a remark. */
export function flowStep({ body }: Request, place: Place): Step {
  const port = flowMessage.decode(body).original?.protocol?.destinationPort
  const command = `# conntrack -D -p udp --orig-port-dst ${port}`
  return { command, why: 'a flow keeps the way it began with', undo: [], place: place.name }
}

/** The link that a request creates. */
function createdBy({ type, flags: sent = 0, body }: Request): LinkMessage | undefined {
  return type === messageTypes.newLink && sent & flags.create ? linkMessage.decode(body) : undefined
}

function peerPlace(
  { info }: LinkMessage,
  place: Place,
  names: Names,
): { place: Place; name: string | undefined } | undefined {
  if (info?.kind !== 'veth' || !info.data) return undefined
  const { name, netnsFd } = vethData.decode(info.data).peer ?? {}
  return { place: netnsFd === undefined ? place : names.behind(netnsFd), name }
}

/** The link that a request is about; links know themselves by index or name, everything else has an index. */
function subjectOf({ type, body }: Request, netlink: NetlinkSocket): LinkMessage | undefined {
  if (type <= messageTypes.setLink && body[0] !== addressFamilies.bridge) {
    const { index, name } = linkMessage.decode(body)
    return index || name ? findLink(netlink, index || name!) : undefined
  }
  const isRoute = type === messageTypes.newRoute || type === messageTypes.deleteRoute
  const index = isRoute ? routeMessage.decode(body).outLink : body.readInt32LE(4)
  return index ? findLink(netlink, index) : undefined
}

/** A route where there is none yet to its destination: `add` says it as well as `prepend`. */
function precise(request: Request, netlink: NetlinkSocket): Request {
  const { type, flags: sent = 0, body } = request
  if (type !== messageTypes.newRoute || (sent & (flags.replace | flags.exclusive | flags.append)) !== 0) return request
  const route = routeMessage.decode(body)
  const others = netlink
    .dump(listRoutes(route.family === addressFamilies.ipv4 ? 4 : 6))
    .map((reply) => routeMessage.decode(reply.body))
  const tableIn = ({ table, shortTable }: typeof route) => table ?? shortTable
  const isThere = others.some(
    (other) => other.dst === route.dst && other.dstPrefix === route.dstPrefix && tableIn(other) === tableIn(route),
  )
  return isThere ? request : { ...request, flags: sent | flags.exclusive }
}
