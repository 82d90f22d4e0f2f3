import fs from 'node:fs'
import { isKernelError } from '../../netlink-lib/errors.ts'
import { bitsOf, type Family, networkOf } from '../../netlink-lib/ip.ts'
import { listAddresses } from '../../netlink-lib/route/address.ts'
import { listRoutes } from '../../netlink-lib/route/route.ts'
import { createRedirect, listFilters, redirectIn, trafficMessage } from '../../netlink-lib/route/traffic-control.ts'
import {
  type AddressMessage,
  addressFamilies,
  addressMessage,
  type LinkMessage,
  linkFlags,
  linkMessage,
  messageTypes,
  type NeighbourMessage,
  neighbourMessage,
  neighbourStates,
  type RouteMessage,
  routeMessage,
  routeProtocols,
  routeScopes,
  routeTables,
  routeTypes,
} from '../../netlink-lib/route/wire.ts'
import { flags, type NetlinkSocket, type Request } from '../../netlink-lib/socket.ts'
import { findSysctl, type SysctlName } from '../../netlink-lib/sysctl.ts'

/*
 * What stands in a namespace, as the messages that would make it anew: for an undo, which tells them as commands, and for
 * a rehearsal, which sends them elsewhere.
 */

export interface LinkImage {
  readonly link: LinkMessage
  readonly addresses: readonly AddressMessage[]
  /** Those that the kernel does not make by itself. */
  readonly routes: readonly RouteMessage[]
  /** Those that the kernel makes by itself when the addresses come, and that are not there. */
  readonly absentRoutes: readonly RouteMessage[]
  /** Permanent ones. */
  readonly neighbours: readonly NeighbourMessage[]
  readonly traffic: readonly Request[]
  readonly sysctls: readonly (readonly [name: SysctlName, value: string])[]
}

const reading = (type: number, body: Buffer, subject: string): Request => ({ type, body, operation: 'read', subject })

export function findLink(netlink: NetlinkSocket, which: string | number): LinkMessage | undefined {
  const body = linkMessage.encode(typeof which === 'number' ? { index: which } : { name: which })
  try {
    const [reply] = netlink.request(reading(messageTypes.getLink, body, String(which)))
    return reply && linkMessage.decode(reply.body)
  } catch (error) {
    if (isKernelError(error, 'ENODEV')) return undefined
    throw error
  }
}

export const listLinks = (netlink: NetlinkSocket): LinkMessage[] =>
  netlink
    .dump(reading(messageTypes.getLink, linkMessage.encode({}), 'links'))
    .map(({ body }) => linkMessage.decode(body))

/** First what others are plugged into or redirected to. */
export function inOrder(links: readonly LinkMessage[]): LinkMessage[] {
  const isNeeded = ({ info }: LinkMessage) => info?.kind === 'bridge' || info?.kind === 'ifb'
  return [...links.filter(isNeeded), ...links.filter((link) => !isNeeded(link))]
}

export const isUp = ({ flags = 0 }: LinkMessage): boolean => (flags & linkFlags.up) !== 0

const isLinkLocal = ({ family, scope }: AddressMessage): boolean =>
  family === addressFamilies.ipv6 && scope === routeScopes.link

/** Without those that a link gives itself. */
export const addressesOf = (netlink: NetlinkSocket, { index = 0, name = '' }: LinkMessage): AddressMessage[] =>
  netlink
    .dump(listAddresses({ index, name }))
    .map(({ body }) => addressMessage.decode(body))
    .filter((address) => address.index === index && !isLinkLocal(address))

const onLink = 4 // RTNH_F_ONLINK; the other flags tell of the link's state

/** Every route, or those by a link, in an order in which they can be added: a gateway must be reached already. */
export function listRoutesOf(netlink: NetlinkSocket, index?: number): RouteMessage[] {
  const rank = ({ gateway }: RouteMessage) => (gateway === undefined ? 0 : 1)
  return ([4, 6] as const)
    .flatMap((family) => netlink.dump(listRoutes(family, index)))
    .map(({ body }) => routeMessage.decode(body))
    .map((route) => ({ ...route, flags: (route.flags ?? 0) & onLink }))
    .sort((a, b) => rank(a) - rank(b))
}

/** True for what the kernel makes by itself. */
export const isOwnRoute = ({ protocol, shortTable }: RouteMessage): boolean =>
  protocol === routeProtocols.kernel || shortTable === routeTables.local

/** Unicast routes by the link, of every table. */
const routesOf = (netlink: NetlinkSocket, { index }: LinkMessage): RouteMessage[] =>
  listRoutesOf(netlink, index).filter(
    ({ outLink, type, dst }) => outLink === index && type === routeTypes.unicast && !dst?.startsWith('fe80:'),
  )

const tableOf = ({ table, shortTable }: RouteMessage): number => table ?? shortTable ?? 0

/** The route to an address's own subnet, which comes with the address. */
function connectedRoute({
  family,
  prefix = 0,
  local,
  address,
  index,
  scope,
}: AddressMessage): RouteMessage | undefined {
  const bits: Family = family === addressFamilies.ipv4 ? 4 : 6
  const own = local ?? address
  if (own === undefined || prefix === bitsOf(bits) || scope === routeScopes.host) return undefined
  const source = bits === 4 ? { preferredSource: own } : {}
  const dst = networkOf({ address: own, prefix, family: bits }).address
  const anyScope = { scope: routeScopes.any } // when it is deleted
  return { family, dstPrefix: prefix, dst, outLink: index, shortTable: routeTables.main, ...anyScope, ...source }
}

const isSameRoute = (a: RouteMessage, b: RouteMessage): boolean =>
  a.dst === b.dst && a.dstPrefix === b.dstPrefix && tableOf(a) === tableOf(b) && a.gateway === b.gateway

/** What follows from something else, or cannot be read before it is set. */
const noSettings = new Set(['mtu', 'stable_secret'])

/** The names of all settings that a link has, or `all` and `default`. */
export const linkSysctls = (name: string): SysctlName[] =>
  (['ipv4', 'ipv6'] as const).flatMap((family) =>
    listSysctls([family, 'conf', name])
      .filter((key) => !noSettings.has(key))
      .map((key) => [family, 'conf', name, key]),
  )

/** Those that are not as for every new link. */
function sysctlsOf({ name = '' }: LinkMessage): [SysctlName, string][] {
  return linkSysctls(name).flatMap((full): [SysctlName, string][] => {
    const [family = '', conf = '', , key = ''] = full
    const value = findSysctl(full)
    return value === undefined || value === findSysctl([family, conf, 'default', key]) ? [] : [[full, value]]
  })
}

function listSysctls(name: SysctlName): string[] {
  const folder = `/proc/sys/net/${name.join('/')}`
  return fs.existsSync(folder) ? fs.readdirSync(folder).sort() : []
}

const qdisc = { create: 36, list: 38 } as const // RTM_NEWQDISC, RTM_GETQDISC
const ingress = 0xfffffff1 // TC_H_INGRESS

/** Queueing disciplines that somebody chose, which have a handle, and where what comes in is redirected to. */
function trafficOf(netlink: NetlinkSocket, { index = 0, name = '' }: LinkMessage): Request[] {
  const link = { index, name }
  const creation = {
    type: qdisc.create,
    flags: flags.create | flags.exclusive,
    operation: 'restore qdisc of',
    subject: name,
  }
  const qdiscs = netlink
    .dump(reading(qdisc.list, trafficMessage.encode({ index }), 'qdiscs'))
    .map(({ body }) => trafficMessage.decode(body))
    .filter((each) => each.index === index && each.handle !== 0)
  const made = qdiscs.map(({ handle, parent, kind, options }) => ({
    ...creation,
    body: trafficMessage.encode({ index, handle, parent, kind, options }),
  }))
  const hasIngress = qdiscs.some(({ parent }) => parent === ingress)
  const target = hasIngress ? redirectIn(netlink.dump(listFilters(link))) : undefined
  if (target === undefined) return made
  return [...made, createRedirect(link, { index: target, name: findLink(netlink, target)?.name ?? '' })]
}

function neighboursOf(netlink: NetlinkSocket, { index = 0 }: LinkMessage): NeighbourMessage[] {
  return netlink
    .dump(reading(messageTypes.getNeighbour, neighbourMessage.encode({ link: index }), 'neighbours'))
    .map(({ body }) => neighbourMessage.decode(body))
    .filter((each) => each.index === index && each.state === neighbourStates.permanent && each.dst !== undefined)
}

/** To be called where the link is: sysctls are read as the thread sees them. */
export function imageOf(netlink: NetlinkSocket, link: LinkMessage): LinkImage {
  const addresses = addressesOf(netlink, link)
  const present = routesOf(netlink, link)
  const connected = isUp(link) ? addresses.flatMap((address) => connectedRoute(address) ?? []) : []
  return {
    link,
    addresses,
    routes: present.filter((route) => !isOwnRoute(route)),
    absentRoutes: connected.filter((route) => !present.some((other) => isSameRoute(route, other))),
    neighbours: neighboursOf(netlink, link),
    traffic: trafficOf(netlink, link),
    sysctls: sysctlsOf(link),
  }
}
