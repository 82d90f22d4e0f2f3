import { isKernelError } from '../../netlink-lib/errors.ts'
import { bitsOf, type Cidr, familyOf, networkOf } from '../../netlink-lib/ip.ts'
import type { Link } from '../../netlink-lib/route/link.ts'
import { routeScopes } from '../../netlink-lib/route/wire.ts'
import {
  addAddresses,
  addRoutes,
  checkAddressing,
  checkInterface,
  collectLinks,
  createLink,
  describeLink,
  enableForwarding,
  refuseExisting,
} from '../contract/container-interface.ts'
import { teardown } from '../contract/dispatch.ts'
import { CniError, codes } from '../contract/errors.ts'
import type { Container, Host } from '../contract/host.ts'
import { addIpMasq, checkIpMasq, reloadIpMasq } from '../contract/ip-masq.ts'
import { addressesToRelease, requireAddresses } from '../contract/ipam.ts'
import { hostLinkName } from '../contract/marks.ts'
import type { Plugin } from '../contract/plugin.ts'
import { type Request, requirePrevResult } from '../contract/request.ts'
import { mergeDns, type Result, type ResultIp } from '../contract/result.ts'
import { parseVeth, type VethConf } from './config.ts'

/** The one address of a host: /32 or /128. */
const single = (address: string): Cidr => ({ address, prefix: bitsOf(familyOf(address)), family: familyOf(address) })

/**
 * Inside, everything goes through the gateway, the container's own subnet included: the kernel's connected route is
 * replaced by `gw dev eth0 scope link` and `subnet via gw`. The result's routes come in between, as the kernel checks
 * a next hop only when its route is added: it may be the gateway, or another host of the subnet.
 */
function addRoutesThroughGateway(
  container: Container,
  link: Link,
  ips: readonly ResultIp[],
  routes: Result['routes'],
): void {
  const { route } = container
  for (const { address, gateway } of ips)
    route.addRoute({ dst: single(gateway!), link: link.index, source: address.address, scope: routeScopes.link })
  addRoutes(container, link, routes, ips)
  for (const { address, gateway } of ips) {
    const subnet = networkOf(address)
    route.deleteRoute({ dst: subnet, link: link.index, source: address.address })
    route.addRoute({ dst: subnet, gateway: gateway!, link: link.index, source: address.address })
  }
}

/** Outside, the gateway's address sits on the link itself and a host route leads to the container. */
function configureHostSide(host: Host, outer: Link, ips: readonly ResultIp[]): void {
  for (const { address, gateway } of ips) {
    host.route.addAddress(outer, single(gateway!))
    unlessThere(() => host.route.addRoute({ dst: single(address.address), link: outer.index, scope: routeScopes.host }))
  }
}

function unlessThere(create: () => void): void {
  try {
    create()
  } catch (error) {
    if (!isKernelError(error, 'EEXIST')) throw error
  }
}

/** When the link was down, the kernel has forgotten the host's route to the container, and IPv6 addresses. */
function restoreHostSide(host: Host, request: Request): void {
  const { ips } = requirePrevResult(request)
  const outer = host.route.findLink(hostLinkName(request))
  if (!outer?.up) return
  for (const ip of ips) {
    if (!ip.gateway) continue
    unlessThere(() => host.route.addAddress(outer, single(ip.gateway!)))
    const route = { dst: single(ip.address.address), link: outer.index, scope: routeScopes.host }
    unlessThere(() => host.route.addRoute(route))
  }
}

export const veth: Plugin<VethConf> = {
  type: 'veth',
  parse: parseVeth,

  add(conf, request, host): Result {
    using container = host.openContainer(request.netns)
    refuseExisting(container, request)
    using rollback = host.rollback()

    const lease = requireAddresses(conf.ipam!.add())
    rollback.onFailure('release addresses', () => conf.ipam?.del())
    for (const { address, gateway } of lease.ips)
      if (!gateway)
        throw new CniError(
          codes.invalidConfig,
          `address ${address.address} has no gateway`,
          'a point to point link is routed through one: set "gateway" in the ipam section',
        )
    const ips = lease.ips.map((ip) => ({ ...ip, interface: 1 }))
    enableForwarding(host, ips)

    const { outer, inner } = createLink(host, container, request, rollback, { mtu: conf.mtu, mac: conf.mac })
    addAddresses(container, inner, ips)
    addRoutesThroughGateway(container, inner, ips, lease.routes)
    configureHostSide(host, outer, ips)

    addIpMasq(host, conf, request, ips, rollback)
    rollback.commit()
    return {
      interfaces: [describeLink(outer), { ...describeLink(inner), sandbox: request.netns }],
      ips,
      routes: lease.routes,
      dns: mergeDns(conf.dns, lease.dns),
    }
  },

  del(conf, request, host): void {
    teardown(
      () => host.removeMasquerade(request, addressesToRelease(conf.ipam, request), conf.ipMasq),
      () => host.route.deleteLink(hostLinkName(request)),
      () => conf.ipam?.del(),
    )
  },

  check(conf, request, host): void {
    const prevResult = requirePrevResult(request)
    conf.ipam?.check()
    using container = host.openContainer(request.netns)
    const link = checkInterface(container, request)
    checkAddressing(container, link, prevResult, request)
    checkIpMasq(host, conf, request)
  },

  reload(conf, request, host): void {
    restoreHostSide(host, request)
    reloadIpMasq(host, conf, request)
  },

  gc(conf, request, host): void {
    teardown(
      () => host.masquerade(conf.ipMasqBackend).collect(request.network, request.validAttachments),
      () => collectLinks(host, request),
      () => conf.ipam?.gc(),
    )
  },

  status(conf, _request, host): void {
    conf.ipam?.status()
    if (conf.ipMasq) host.masquerade(conf.ipMasqBackend).requireUsable()
  },
}
