import type { Route as ResultRoute } from '../../ipam/result.ts'
import { isKernelError } from '../../netlink-lib/errors.ts'
import { formatCidr, networkOf } from '../../netlink-lib/ip.ts'
import { pause } from '../../netlink-lib/pause.ts'
import type { Link, LinkSettings } from '../../netlink-lib/route/link.ts'
import { routeScopes } from '../../netlink-lib/route/wire.ts'
import { teardown } from './dispatch.ts'
import { CniError, codes } from './errors.ts'
import type { Container, Host } from './host.ts'
import { hostLinkName, linkMark } from './marks.ts'
import { type Request, requirePrevResult } from './request.ts'
import type { Interface, Result, ResultIp } from './result.ts'
import type { Rollback } from './rollback.ts'

/** The interface inside the container: made, addressed, checked. What bridge and veth have in common. */

/** An ADD of an interface that is there already is an error of the caller, before anything is made. */
export function refuseExisting(container: Container, request: Request): void {
  if (!container.route.findLink(request.ifName)) return
  throw new CniError(
    codes.conflict,
    `interface "${request.ifName}" already exists in ${request.netns}`,
    'an earlier ADD was not undone: run DEL first, or choose another CNI_IFNAME',
  )
}

/** The name is derived from the attachment, so whatever has it belongs to an ADD of the same attachment. */
function alreadyAttached(name: string, { containerId, ifName, network }: Request): CniError {
  return new CniError(
    codes.conflict,
    `container ${containerId} is already attached to network "${network}" by ${ifName}: link "${name}" exists on the host`,
    'an earlier ADD was not undone: run DEL first',
  )
}

export interface LinkOptions {
  readonly mtu?: number
  /** Of the inner end. */
  readonly mac?: string
  /** The bridge that the outer end becomes a port of. */
  readonly bridge?: Link
  readonly port?: LinkSettings['port']
}

/**
 * The link between host and container, marked as ours, its outer end up. The inner end is born in the container:
 * nothing is moved or renamed. Undone by `rollback`.
 */
export function createLink(
  host: Host,
  container: Container,
  request: Request,
  rollback: Rollback,
  { mtu, mac, bridge, port }: LinkOptions,
): { outer: Link; inner: Link } {
  const name = hostLinkName(request)
  const peer = { name: request.ifName, netnsFd: container.netns.fd, mtu, mac }
  try {
    host.route.createVeth({ name, mtu, master: bridge?.index, peer })
  } catch (error) {
    throw isKernelError(error, 'EEXIST') ? alreadyAttached(name, request) : error
  }
  rollback.onFailure(`delete ${name}`, () => host.route.deleteLink(name))
  const outer = host.route.getLink(name)
  if (bridge) silencePort(host, name)
  else configureRoutedEnd(host, name)
  host.route.setLink(outer, { up: true, alias: linkMark(request), port })
  return { outer, inner: container.route.getLink(request.ifName) }
}

/**
 * A bridge's port needs no IPv6 of its own: the host speaks by the bridge. With it, each new port would greet all others,
 * and the host would get four more routes.
 */
const silencePort = (host: Host, name: string): void => host.sysctl.try(['ipv6', 'conf', name, 'disable_ipv6'], '1')

/**
 * No container configures the host. The link solicits neighbours from its link-local address, which would be tentative for
 * a second or two.
 */
function configureRoutedEnd(host: Host, name: string): void {
  host.sysctl.try(['ipv6', 'conf', name, 'accept_ra'], '0')
  host.sysctl.try(['ipv6', 'conf', name, 'accept_dad'], '0')
}

/** An address that duplicate address detection found in use elsewhere on the link. */
function refuseDuplicate(ip: ResultIp, link: Link): never {
  throw new CniError(
    codes.conflict,
    `address ${formatCidr(ip.address)} on ${link.name} is already used by another host on the link`,
    'IPv6 duplicate address detection failed (RFC 4862); choose another address, or unset enabledad',
  )
}

/**
 * Addresses, then up; routes come after, as they need both. Addresses we give are unique already, so IPv6 starts
 * without duplicate address detection, which would cost 1 to 2 seconds, unless `dad` asks for it.
 */
export function addAddresses(
  container: Container,
  link: Link,
  ips: readonly ResultIp[],
  options: { dad?: boolean } = {},
): void {
  const { route, sysctl } = container
  if (ips.some(({ address }) => address.family === 6)) {
    for (const each of ['lo', link.name]) sysctl.set(['ipv6', 'conf', each, 'disable_ipv6'], '0')
    sysctl.try(['ipv6', 'conf', link.name, 'keep_addr_on_down'], '1')
  }
  for (const ip of ips) route.addAddress(link, ip.address, options)
  route.setLink(link, { up: true })
  if (options.dad) for (const ip of ips) awaitAddress(container, link, ip)
}

/** Waits until duplicate address detection is over: at most 5 s, asking every 20 ms. */
function awaitAddress(container: Container, link: Link, ip: ResultIp): void {
  if (ip.address.family === 4) return
  const deadline = performance.now() + 5000
  for (;;) {
    const found = container.route.listAddresses(link).find(({ address }) => address === ip.address.address)
    if (found?.dadFailed) refuseDuplicate(ip, link)
    if (!found?.tentative || performance.now() > deadline) return
    pause(20)
  }
}

/**
 * The result's routes, each through its own gateway or the first of its family, without one where the scope
 * says that the destination is on the link. A route that is there already stays.
 */
export function addRoutes(
  container: Container,
  link: Link,
  routes: readonly ResultRoute[],
  ips: readonly ResultIp[],
): void {
  for (const { dst, gw, ...rest } of routes) {
    const onLink = (rest.scope ?? 0) >= routeScopes.link
    const first = ips.find((ip) => ip.gateway !== undefined && ip.address.family === dst.family)?.gateway
    const gateway = gw ?? (onLink ? undefined : first)
    try {
      container.route.addRoute({ dst, gateway, link: link.index, ...rest })
    } catch (error) {
      if (!isKernelError(error, 'EEXIST')) throw error
    }
  }
}

/** Switches on forwarding for the families of the addresses. Shared by every container of the host: never undone. */
export function enableForwarding(host: Host, ips: readonly ResultIp[]): void {
  const has = (family: 4 | 6) => ips.some(({ address }) => address.family === family)
  if (has(4)) host.sysctl.set(['ipv4', 'ip_forward'], '1')
  if (has(6)) host.sysctl.set(['ipv6', 'conf', 'all', 'forwarding'], '1')
}

function missing(what: string, details?: string): never {
  throw new CniError(codes.checkFailed, `CHECK: ${what}`, details)
}

/** Deletes the network's links that no valid attachment owns; what does not carry our mark is not looked at. */
export function collectLinks(host: Host, { network, validAttachments }: Request): void {
  const valid = new Set(validAttachments.map((attachment) => hostLinkName({ network, ...attachment })))
  const stale = host.route
    .listLinks()
    .filter(({ name, alias, kind }) => kind === 'veth' && alias?.startsWith(`ns-net:${network}:`) && !valid.has(name))
  teardown(
    ...stale.map(
      ({ index }) =>
        () =>
          host.route.deleteLink(index),
    ),
  )
}

/** The container's interface of a prevResult: as ADD reported it, and as it is. */
export function checkInterface(container: Container, request: Request): Link {
  const { interfaces } = requirePrevResult(request)
  const reported = interfaces.find(({ name, sandbox }) => name === request.ifName && sandbox)
  if (!reported) missing(`prevResult has no interface "${request.ifName}" with a sandbox`)
  if (reported.sandbox !== request.netns)
    missing(`sandbox of "${request.ifName}" is ${reported.sandbox} in prevResult, CNI_NETNS is ${request.netns}`)
  const link = container.route.findLink(request.ifName)
  if (!link) missing(`interface "${request.ifName}" is gone from ${request.netns}`)
  if (link.kind !== 'veth') missing(`interface "${request.ifName}" is a ${link.kind ?? 'physical'} link, expected veth`)
  checkReported(reported, link)
  return link
}

/** A link as results tell of it. */
export const describeLink = ({ name, mac, mtu }: Link): Interface => ({ name, mac, mtu })

/** MAC and MTU of a link against what ADD reported. */
export function checkReported(reported: Interface, link: Link): void {
  if (reported.mac && reported.mac.toLowerCase() !== link.mac)
    missing(`MAC of "${link.name}" is ${link.mac}, expected ${reported.mac}`)
}

/** Every address and route of a prevResult is still on the interface. */
export function checkAddressing(
  container: Container,
  link: Link,
  { ips, routes, interfaces }: Result,
  request: Request,
): void {
  const addresses = container.route.listAddresses(link)
  for (const ip of ips) {
    const owner = ip.interface === undefined ? undefined : interfaces[ip.interface]
    if (owner && owner.name !== request.ifName) continue
    const text = formatCidr(ip.address)
    if (!addresses.some((address) => formatCidr(address) === text))
      missing(`address ${text} is gone from "${link.name}"`)
  }
  for (const { dst, gw, table } of routes) {
    const isDefault = dst.prefix === 0
    const wanted = formatCidr(networkOf(dst))
    const found = container.route
      .listRoutes(dst.family, { table })
      .some((route) => formatCidr(route.dst) === wanted && (isDefault || !gw || route.gateway === gw))
    if (!found) missing(`route ${formatCidr(dst)}${gw ? ` via ${gw}` : ''} is gone from ${request.netns}`)
  }
}
