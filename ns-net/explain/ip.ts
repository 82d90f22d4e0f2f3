import { bitsOf, type Family } from '../../netlink-lib/ip.ts'
import {
  type AddressMessage,
  addressFamilies,
  addressFlags,
  addressMessage,
  linkMessage,
  messageTypes,
  type NeighbourMessage,
  neighbourMessage,
  neighbourStates,
  portVlanMessage,
  type RouteMessage,
  routeMessage,
  routeProtocols,
  routeScopes,
  routeTables,
  routeTypes,
  vlanFlags,
} from '../../netlink-lib/route/wire.ts'
import { flags, type Request } from '../../netlink-lib/socket.ts'
import { addLink, altNames, deleteLink, type Names, setLink } from './ip-link.ts'
import { type Place, toolOf } from './place.ts'
import { trafficCommand } from './tc.ts'
import { option, phrase } from './words.ts'

/* A message of rtnetlink as the command of iproute2 that sends the same. */

/** Message types of rtnetlink come in fours: new, delete, get, set. */
export const changesSomething = (type: number): boolean => type >= 16 && type < 256 && (type & 3) !== 2

export function ipCommand(place: Place, request: Request, names: Names): string {
  const ip = toolOf(place, 'ip')
  const { type, body } = request
  const sent = request.flags ?? 0
  const isVlan =
    (type === messageTypes.setLink || type === messageTypes.deleteLink) && body[0] === addressFamilies.bridge
  if (isVlan) return vlanCommand(toolOf(place, 'bridge'), type, body, names)
  switch (type) {
    case messageTypes.newLink:
    case messageTypes.setLink: {
      const message = linkMessage.decode(body)
      return sent & flags.create ? addLink(place, message, names) : setLink(place, message, names)
    }
    case messageTypes.deleteLink:
      return deleteLink(ip, linkMessage.decode(body), names)
    case messageTypes.newLinkProperty:
      return altNames(`${ip} link property add`, linkMessage.decode(body), names)
    case messageTypes.deleteLinkProperty:
      return altNames(`${ip} link property del`, linkMessage.decode(body), names)
    case messageTypes.newAddress:
      return addAddress(ip, addressMessage.decode(body), names)
    case messageTypes.deleteAddress:
      return deleteAddress(ip, addressMessage.decode(body), names)
    case messageTypes.newRoute:
      return addRoute(ip, sent, routeMessage.decode(body), names)
    case messageTypes.deleteRoute:
      return deleteRoute(ip, routeMessage.decode(body), names)
    case messageTypes.newNeighbour:
      return setNeighbour(ip, sent, neighbourMessage.decode(body), names)
    case messageTypes.deleteNeighbour:
      return deleteNeighbour(ip, neighbourMessage.decode(body), names)
    default:
      return trafficCommand(toolOf(place, 'tc'), request, names)
  }
}

const cidrIn = ({ local, address, prefix }: AddressMessage): string => `${local ?? address}/${prefix}`
const device = (index: number | undefined, names: Names): string | undefined =>
  index ? option('dev', names.link(index)) : undefined

function addAddress(ip: string, message: AddressMessage, names: Names): string {
  const { index, broadcast, flags: set = message.shortFlags ?? 0 } = message
  return phrase(
    `${ip} addr add`,
    cidrIn(message),
    option('brd', broadcast),
    device(index, names),
    (set & addressFlags.noDad) !== 0 && 'nodad',
  )
}

const deleteAddress = (ip: string, message: AddressMessage, names: Names): string =>
  phrase(`${ip} addr del`, cidrIn(message), device(message.index, names))

const named = (table: Readonly<Record<string, number>>, value: number): string =>
  Object.keys(table).find((name) => table[name] === value) ?? String(value)

const scopeNames = { global: routeScopes.universe, link: routeScopes.link, host: routeScopes.host }

const familyIn = ({ family }: { readonly family?: number }): Family => (family === addressFamilies.ipv4 ? 4 : 6)

/** `default` says nothing of the family, and some destinations neither. */
const forFamily = (ip: string, family: Family): string => (family === 6 ? `${ip} -6` : ip)

function destination(message: RouteMessage): string {
  const { dst, dstPrefix = 0 } = message
  if (dst === undefined) return 'default'
  return dstPrefix === bitsOf(familyIn(message)) ? dst : `${dst}/${dstPrefix}`
}

/** What tells one route from another. */
function routeKey(message: RouteMessage, names: Names): string {
  const { gateway, outLink, preferredSource, priority, table = message.shortTable } = message
  return phrase(
    destination(message),
    option('via', gateway),
    device(outLink, names),
    option('src', preferredSource),
    option('metric', priority),
    table !== undefined && table !== 0 && table !== routeTables.main && option('table', named(routeTables, table)),
  )
}

/** NLM_F_CREATE alone puts a route before those with the same destination; with NLM_F_EXCL there must be none. */
function routeVerb(sent: number): string {
  if (sent & flags.replace) return 'replace'
  if (sent & flags.append) return 'append'
  return sent & flags.exclusive ? 'add' : 'prepend'
}

const onLink = 4 // RTNH_F_ONLINK

function addRoute(ip: string, sent: number, message: RouteMessage, names: Names): string {
  const { type = routeTypes.unicast, protocol, scope, gateway, metrics, flags: set = 0 } = message
  const family = familyIn(message)
  const usual = gateway === undefined ? routeScopes.link : routeScopes.universe
  return phrase(
    `${forFamily(ip, family)} route ${routeVerb(sent)}`,
    type !== routeTypes.unicast && named(routeTypes, type),
    routeKey(message, names),
    protocol !== undefined && protocol !== routeProtocols.boot && option('proto', named(routeProtocols, protocol)),
    family === 4 && scope !== undefined && scope !== usual && option('scope', named(scopeNames, scope)),
    (set & onLink) !== 0 && 'onlink',
    option('mtu', metrics?.mtu),
    option('advmss', metrics?.advmss),
  )
}

const deleteRoute = (ip: string, message: RouteMessage, names: Names): string =>
  phrase(`${forFamily(ip, familyIn(message))} route del`, routeKey(message, names))

function setNeighbour(ip: string, sent: number, message: NeighbourMessage, names: Names): string {
  const { dst, mac, state } = message
  const verb = sent & flags.exclusive ? 'add' : 'replace'
  return phrase(
    `${ip} neigh ${verb} ${dst}`,
    option('lladdr', mac),
    device(message.index, names),
    state !== undefined && option('nud', named(neighbourStates, state)),
  )
}

const deleteNeighbour = (ip: string, message: NeighbourMessage, names: Names): string =>
  phrase(`${ip} neigh del ${message.dst}`, device(message.index, names))

/** VLANs of a bridge's port; a range is two entries. One command each, joined so that one message stays one step. */
function vlanCommand(bridge: string, type: number, body: Buffer, names: Names): string {
  const { index, vlans = [] } = portVlanMessage.decode(body)
  const verb = type === messageTypes.setLink ? 'add' : 'del'
  const commands: string[] = []
  let first: number | undefined
  for (const { flags: set = 0, id = 0 } of vlans) {
    if (set & vlanFlags.rangeBegin) {
      first = id
      continue
    }
    const ids = first === undefined ? String(id) : `${first}-${id}`
    first = undefined
    const marks =
      verb === 'add' ? phrase(set & vlanFlags.pvid ? 'pvid' : '', set & vlanFlags.untagged ? 'untagged' : '') : ''
    commands.push(phrase(`${bridge} vlan ${verb}`, device(index, names), `vid ${ids}`, marks))
  }
  return commands.join('; ')
}
