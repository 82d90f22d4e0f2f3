import { bitsOf, type Cidr, type Family, familyOf, formatCidr, ipToInteger, networkOf } from '../ip.ts'
import { flags, type Request } from '../socket.ts'
import {
  addressFamilies,
  familyNumber,
  messageTypes,
  type RouteMessage,
  routeMessage,
  routeProtocols,
  routeScopes,
  routeTables,
  routeTypes,
} from './wire.ts'

/** A route to add, find or delete. Destination `0.0.0.0/0` or `::/0` is the default route. */
export interface RouteSettings {
  readonly dst: Cidr
  /** Index of the outgoing link. */
  readonly link?: number
  readonly gateway?: string
  readonly source?: string
  readonly priority?: number
  readonly table?: number
  /** RT_SCOPE_*; default link without gateway, universe with one. */
  readonly scope?: number
  readonly mtu?: number
  readonly advmss?: number
  /** RTPROT_*, who made it; boot unless told, as ip(8) says. */
  readonly protocol?: number
  /** RTN_*; unicast unless told. One of type unreachable has neither link nor gateway. */
  readonly type?: number
}

export interface Route extends RouteSettings {
  readonly protocol: number
  readonly type: number
}

/** What a route is known by: destination, table and, as far as they are given, the rest. */
function keyOf(route: RouteSettings): RouteMessage {
  const { dst, table = routeTables.main } = route
  const isDefault = dst.prefix === 0 && ipToInteger(dst.address) === 0n
  return {
    family: familyNumber(dst.address),
    dstPrefix: dst.prefix,
    shortTable: table < 256 ? table : 0,
    dst: isDefault ? undefined : networkOf(dst).address,
    table: table < 256 ? undefined : table,
    gateway: route.gateway,
    outLink: route.link,
    preferredSource: route.source,
    priority: route.priority,
  }
}

const isRefusing = ({ type }: RouteSettings) => type === routeTypes.unreachable

const named = (verb: string, { dst, gateway, link }: RouteSettings) => ({
  operation: `${verb} route ${formatCidr(dst)}${gateway ? ` via ${gateway}` : ''}`,
  subject: link === undefined ? '' : `on link ${link}`,
})

/** Asks which way packets to an address go. */
export const routeTo = (address: string): Request => ({
  type: messageTypes.getRoute,
  body: routeMessage.encode({ family: familyNumber(address), dstPrefix: bitsOf(familyOf(address)), dst: address }),
  operation: 'find route to',
  subject: address,
})

export const addRoute = (route: RouteSettings): Request => ({
  type: messageTypes.newRoute,
  flags: flags.create,
  body: routeMessage.encode({
    ...keyOf(route),
    protocol: route.protocol ?? routeProtocols.boot,
    scope: route.scope ?? (route.gateway || isRefusing(route) ? routeScopes.universe : routeScopes.link),
    type: route.type ?? routeTypes.unicast,
    metrics: route.mtu || route.advmss ? { mtu: route.mtu || undefined, advmss: route.advmss || undefined } : undefined,
  }),
  ...named('add', route),
})

export const deleteRoute = (route: RouteSettings): Request => ({
  type: messageTypes.deleteRoute,
  body: routeMessage.encode({
    ...keyOf(route),
    protocol: route.protocol,
    scope: route.scope ?? routeScopes.any,
    type: route.type,
  }),
  ...named('delete', route),
})

export const listRoutes = (family: Family, link?: number): Request => ({
  type: messageTypes.getRoute,
  body: routeMessage.encode({
    family: family === 4 ? addressFamilies.ipv4 : addressFamilies.ipv6,
    outLink: link,
  }),
  operation: 'list',
  subject: 'routes',
})

export function toRoute(message: RouteMessage, family: Family): Route {
  return {
    dst: { address: message.dst ?? (family === 4 ? '0.0.0.0' : '::'), prefix: message.dstPrefix!, family },
    link: message.outLink,
    gateway: message.gateway,
    source: message.preferredSource,
    priority: message.priority,
    table: message.table ?? message.shortTable,
    scope: message.scope,
    mtu: message.metrics?.mtu,
    advmss: message.metrics?.advmss,
    protocol: message.protocol!,
    type: message.type!,
  }
}
