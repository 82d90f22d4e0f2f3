import { bitsOf } from '../../netlink-lib/ip.ts'
import { trafficMessage } from '../../netlink-lib/route/traffic-control.ts'
import { listVlans } from '../../netlink-lib/route/vlan.ts'
import {
  addressFamilies,
  addressMessage,
  type LinkMessage,
  linkFlags,
  linkMessage,
  messageTypes,
  neighbourMessage,
  portVlanMessage,
  type RouteMessage,
  routeMessage,
  routeProtocols,
  routeScopes,
  routeTypes,
} from '../../netlink-lib/route/wire.ts'
import { flags, type NetlinkSocket, type Request } from '../../netlink-lib/socket.ts'
import { findSysctl, type SysctlName } from '../../netlink-lib/sysctl.ts'
import { findLink, imageOf, inOrder, isUp, type LinkImage, listLinks } from './images.ts'
import { ipCommand } from './ip.ts'
import { familySettings, type Names } from './ip-link.ts'
import { type Place, type Places, toolOf } from './place.ts'
import { addAddress, adding, type LinkThere, message, recreate, restoreRoutes } from './recreate-link.ts'
import { sysctlCommand } from './sysctl.ts'
import { word } from './words.ts'

/* The commands that take back what a message of rtnetlink is about to do, by what is there before. */

/** What is known before the request is obeyed. */
export interface Context {
  readonly place: Place
  readonly places: Places
  readonly netlink: NetlinkSocket
  readonly names: Names
  /** The other end of a veth. */
  peerOf(link: LinkMessage): LinkThere | undefined
}

export function undoRequest(request: Request, context: Context): string[] {
  const { type, body } = request
  if (body[0] === addressFamilies.bridge && type <= messageTypes.setLink) return undoVlans(request, context)
  const told = (kind: number, content = body, sent = 0) =>
    ipCommand(context.place, message(kind, content, sent), context.names)
  switch (type) {
    case messageTypes.newLink:
    case messageTypes.setLink:
      return undoNewLink(request, context)
    case messageTypes.deleteLink:
      return undoLinkDeletion(linkMessage.decode(body), context)
    case messageTypes.newLinkProperty:
      return [told(messageTypes.deleteLinkProperty)]
    case messageTypes.newAddress:
      return [told(messageTypes.deleteAddress)]
    case messageTypes.deleteAddress: {
      const gone = addressMessage.decode(body)
      return imageIn(context, gone.index)
        .addresses.filter((each) => (each.local ?? each.address) === (gone.local ?? gone.address))
        .map((each) => addAddress(context.place, each, context.names))
    }
    case messageTypes.newRoute:
      return [told(messageTypes.deleteRoute)]
    case messageTypes.deleteRoute:
      return undoRouteDeletion(routeMessage.decode(body), context)
    case messageTypes.newNeighbour:
    case messageTypes.deleteNeighbour: {
      const { index, dst } = neighbourMessage.decode(body)
      const before = imageIn(context, index).neighbours.filter((each) => each.dst === dst)
      if (type === messageTypes.newNeighbour && before.length === 0) return [told(messageTypes.deleteNeighbour)]
      return before.map((each) => told(messageTypes.newNeighbour, neighbourMessage.encode(each), flags.replace))
    }
    default:
      return undoTraffic(type, body, context)
  }
}

function undoNewLink({ body, flags: sent = 0 }: Request, context: Context): string[] {
  const { place, places, netlink, names } = context
  const asked = linkMessage.decode(body)
  if (sent & flags.create) return [`${toolOf(place, 'ip')} link del ${word(asked.name ?? '')}`]
  const present = findLink(netlink, asked.index || (asked.name ?? ''))
  if (!present) return []
  const image = places.run(place, () => imageOf(netlink, present))
  return [...undoSettings(asked, { place, names, image }), ...undoFamilies(asked, image.link, context)]
}

/** What is set by address family, as the sysctls that tell it. */
function undoFamilies(asked: LinkMessage, { name = '' }: LinkMessage, { place, places }: Context): string[] {
  const { arpNotify, addressGeneration } = familySettings(asked)
  const keys: SysctlName[] = [
    ...(arpNotify === undefined ? [] : [['ipv4', 'conf', name, 'arp_notify']]),
    ...(addressGeneration === undefined ? [] : [['ipv6', 'conf', name, 'addr_gen_mode']]),
  ]
  return keys.flatMap((key) => {
    const before = places.run(place, () => findSysctl(key))
    return before === undefined ? [] : [sysctlCommand(place, key, before)]
  })
}

/** Of one link, or of a group. */
function undoLinkDeletion({ index, name, group }: LinkMessage, context: Context): string[] {
  const { place, places, netlink, names } = context
  const isOne = ({ index: number, name: text }: LinkMessage) => (index ? number === index : text === name)
  const isGone = index || name ? isOne : (link: LinkMessage) => link.group === group
  return inOrder(listLinks(netlink).filter(isGone)).flatMap((link) => {
    const there = { place, names, image: places.run(place, () => imageOf(netlink, link)) }
    return recreate(there, context.peerOf(link))
  })
}

/** A deletion takes flags along that it does not tell. */
function undoVlans({ type, body }: Request, { place, netlink, names }: Context): string[] {
  const { index = 0, vlans = [] } = portVlanMessage.decode(body)
  if (type === messageTypes.setLink) return [ipCommand(place, message(messageTypes.deleteLink, body), names)]
  const ids = new Set(vlans.map(({ id }) => id))
  const present = netlink
    .dump(listVlans({ index, name: names.link(index) }))
    .map((reply) => portVlanMessage.decode(reply.body))
    .filter((each) => each.index === index)
    .flatMap((each) => each.vlans ?? [])
    .filter(({ id }) => ids.has(id))
  const content = portVlanMessage.encode({ family: addressFamilies.bridge, index, vlans: present })
  return [ipCommand(place, message(messageTypes.setLink, content), names)]
}

function imageIn({ netlink, places, place }: Context, index = 0): LinkImage {
  const link = findLink(netlink, index) ?? { index }
  return places.run(place, () => imageOf(netlink, link))
}

/** The old values of what is set; a link that goes down loses its routes, one that comes up gets none back. */
function undoSettings(asked: LinkMessage, there: LinkThere): string[] {
  const { place, image, names } = there
  const { link } = image
  const old: Record<string, unknown> = {}
  for (const key of ['mac', 'mtu', 'txQueueLength', 'group'] as const)
    if (asked[key] !== undefined && asked[key] !== link[key]) old[key] = link[key]
  if (asked.master !== undefined && asked.master !== (link.master ?? 0)) old.master = link.master ?? 0
  if (asked.alias !== undefined && asked.alias !== link.alias) old.alias = link.alias ?? ''
  const changed = (asked.change ?? 0) & ((asked.flags ?? 0) ^ (link.flags ?? 0))
  const portData = undoPort(asked, link)
  if (Object.keys(old).length === 0 && changed === 0 && !portData) return []
  const body = linkMessage.encode({
    index: link.index,
    change: changed,
    flags: (link.flags ?? 0) & changed,
    ...old,
    info: portData && { portKind: 'bridge', portData },
  })
  const back = ipCommand(place, message(messageTypes.newLink, body), names)
  const goesDown = (changed & linkFlags.up) !== 0 && isUp(link)
  return goesDown ? [back, ...restoreLost(there)] : [back]
}

/** What a link loses that goes down: routes, but for those of scope host, and with most settings its IPv6 addresses. */
function restoreLost(there: LinkThere): string[] {
  const { place, image, names } = there
  const keepsAddresses = image.sysctls.some(([name, value]) => name.at(-1) === 'keep_addr_on_down' && value === '1')
  const addresses = image.addresses.filter(
    ({ family, scope }) => family === addressFamilies.ipv6 && scope !== routeScopes.host && !keepsAddresses,
  )
  const isLost = ({ family, scope }: RouteMessage) => family === addressFamilies.ipv6 || scope !== routeScopes.host
  return [
    ...addresses.map((address) => addAddress(place, address, names)),
    ...restoreRoutes({ ...there, image: { ...image, routes: image.routes.filter(isLost) } }),
  ]
}

function undoPort(asked: LinkMessage, { info }: LinkMessage): Record<string, number> | undefined {
  const wanted = asked.info?.portData
  if (!wanted) return undefined
  const old = Object.entries(wanted).flatMap(([key, value]) => {
    const before = info?.portData?.[key as 'hairpin'] ?? 0
    return value === before ? [] : [[key, before] as const]
  })
  return old.length > 0 ? Object.fromEntries(old) : undefined
}

/** The kernel's own route to the subnet of an address is not among those that an image has. */
function undoRouteDeletion(gone: RouteMessage, context: Context): string[] {
  const { place, names } = context
  const isIt = ({ dst, dstPrefix }: RouteMessage) => dst === gone.dst && dstPrefix === gone.dstPrefix
  const own = imageIn(context, gone.outLink).routes.filter(isIt)
  if (own.length > 0) return own.map((route) => ipCommand(place, adding(route), names))
  const isConnected = gone.dstPrefix !== undefined && gone.dstPrefix < bitsOf(gone.dst?.includes(':') ? 6 : 4)
  const kernel = { ...gone, protocol: routeProtocols.kernel, type: routeTypes.unicast, scope: routeScopes.link }
  return isConnected ? [ipCommand(place, adding(kernel), names)] : []
}

/** With a qdisc go those below it, and its filters. */
function undoTraffic(type: number, body: Buffer, context: Context): string[] {
  const { place, names } = context
  const isCreation = (type & 3) === 0
  if (isCreation) return [ipCommand(place, message(type + 1, body), names)]
  const { index, parent } = trafficMessage.decode(body)
  const all = imageIn(context, index).traffic
  const isBelow = (each: Request) => (trafficMessage.decode(each.body).parent === ingress) === (parent === ingress)
  const gone = all.filter((each) => (each.type === newFilter ? parent === ingress : isBelow(each)))
  return gone.map((each) => ipCommand(place, each, names))
}

const newFilter = 44 // RTM_NEWTFILTER
const ingress = 0xfffffff1 // TC_H_INGRESS
