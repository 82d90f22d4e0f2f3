import {
  type AddressMessage,
  addressFlags,
  addressMessage,
  type BridgePort,
  bridgeData,
  type LinkMessage,
  linkFlags,
  linkMessage,
  messageTypes,
  neighbourMessage,
  type RouteMessage,
  routeMessage,
  vethData,
} from '../../netlink-lib/route/wire.ts'
import { flags, type Request } from '../../netlink-lib/socket.ts'
import { isUp, type LinkImage } from './images.ts'
import { ipCommand } from './ip.ts'
import type { Names } from './ip-link.ts'
import { type Place, toolOf } from './place.ts'
import { sysctlCommand } from './sysctl.ts'
import { word } from './words.ts'

/* The commands that make a link anew. */

/** A link in its place, with all that hangs on it. */
export interface LinkThere {
  readonly place: Place
  readonly image: LinkImage
  /** Of that place. */
  readonly names: Names
}

/** A request that is told and not sent. */
export const message = (type: number, body: Buffer, sent = 0): Request => ({
  type,
  flags: sent,
  body,
  operation: '',
  subject: '',
})
const create = flags.create | flags.exclusive

/** What `ip link show` has no reason to tell of a new link. */
const usual = { mtu: 1500, queue: new Map([['ifb', 32]]) }

/** A link as it is born: what can be said of it at that moment. */
export function birth({ name, mac, mtu, group, txQueueLength, info, flags: set = 0 }: LinkMessage): LinkMessage {
  const queue = usual.queue.get(info?.kind ?? '') ?? 1000
  return {
    change: set & (linkFlags.promiscuous | linkFlags.allMulticast),
    flags: set & (linkFlags.promiscuous | linkFlags.allMulticast),
    mtu: mtu === usual.mtu ? undefined : mtu,
    txQueueLength: txQueueLength === queue ? undefined : txQueueLength,
    mac,
    group: group === 0 ? undefined : group,
    name,
  }
}

/** The commands that make a link, or a pair, anew. Other kinds than ours are only named. */
export function recreate(there: LinkThere, peer: LinkThere | undefined): string[] {
  const { place, image, names } = there
  const { info, name } = image.link
  const born = (data?: Buffer) => {
    const body = linkMessage.encode({ ...birth(image.link), info: { kind: info?.kind, data } })
    const behind = () => peer?.place ?? place
    return ipCommand(place, message(messageTypes.newLink, body, create), { ...names, behind })
  }
  const dress = [there, ...(peer ? [peer] : [])].flatMap(configure)
  switch (info?.kind) {
    case 'veth': {
      if (!peer) return [`# ${name} does not come back: its other end is in a namespace that ns-net does not know`]
      const far = { ...birth(peer.image.link), netnsFd: 0 }
      return [born(vethData.encode({ peer: far })), ...dress]
    }
    case 'bridge': {
      const filtering = info.data && bridgeData.decode(info.data).vlanFiltering
      return [born(filtering ? bridgeData.encode({ vlanFiltering: filtering }) : undefined), ...dress]
    }
    case 'ifb':
      return [born(), ...dress]
    default:
      return [`# ${name} does not come back: it is a ${info?.kind ?? 'physical'} link`]
  }
}

/** Everything of a link that exists again, in the order in which the kernel takes it. */
export function configure(there: LinkThere): string[] {
  const { place, image, names } = there
  const { link, addresses, neighbours, traffic, sysctls } = image
  const name = link.name ?? ''
  const ip = toolOf(place, 'ip')
  const settings: LinkMessage = { alias: link.alias, master: link.master || undefined }
  const port = specialPort(link)
  const set = (value: LinkMessage) =>
    ipCommand(place, message(messageTypes.newLink, linkMessage.encode({ index: link.index, ...value })), names)
  return [
    ...(link.altNames?.length ? [ipCommand(place, namedToo(link), names)] : []),
    ...(Object.values(settings).some((value) => value !== undefined) ? [set(settings)] : []),
    ...(port ? [set({ info: { portKind: 'bridge', portData: port } })] : []), // it must be a port already
    ...sysctls.map(([key, value]) => sysctlCommand(place, key, value)),
    ...addresses.map((address) => addAddress(place, address, names)),
    ...traffic.map((request) => ipCommand(place, request, names)),
    ...(isUp(link) ? [`${ip} link set ${word(name)} up`, ...restoreRoutes(there)] : []),
    ...neighbours.map((each) =>
      ipCommand(place, message(messageTypes.newNeighbour, neighbourMessage.encode(each), create), names),
    ),
  ]
}

/** The names that a link has besides its own. */
export const namedToo = ({ index, altNames }: LinkMessage): Request =>
  message(messageTypes.newLinkProperty, linkMessage.encode({ index, altNames }), create)

/** Settings as a bridge's port that a new port does not have. */
function specialPort({ info }: LinkMessage): BridgePort | undefined {
  const { hairpin, isolated } = (info?.portKind === 'bridge' && info.portData) || {}
  if (!hairpin && !isolated) return undefined
  return { ...(hairpin && { hairpin: 1 }), ...(isolated && { isolated: 1 }) }
}

/** Those that come with the addresses and were not there, and those that do not. */
export function restoreRoutes({ place, image, names }: LinkThere): string[] {
  return [
    ...image.absentRoutes.map((route) => ipCommand(place, deleting(route), names)),
    ...image.routes.map((route) => ipCommand(place, adding(route), names)),
  ]
}

export const adding = (route: RouteMessage): Request =>
  message(messageTypes.newRoute, routeMessage.encode(route), create)
const deleting = (route: RouteMessage): Request => message(messageTypes.deleteRoute, routeMessage.encode(route))

/** IPv6 addresses would wait for the detection of duplicates, which they have behind them. */
export function addAddress(place: Place, address: AddressMessage, names: Names): string {
  const isIpv6 = (address.local ?? address.address ?? '').includes(':')
  const body = addressMessage.encode({ ...address, flags: isIpv6 ? addressFlags.noDad : undefined, shortFlags: 0 })
  return ipCommand(place, message(messageTypes.newAddress, body, create), names)
}
