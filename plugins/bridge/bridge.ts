import type { IpamResult } from '../../ipam/result.ts'
import { isKernelError } from '../../netlink-lib/errors.ts'
import { addToIp, type Cidr, contains, formatCidr, networkOf } from '../../netlink-lib/ip.ts'
import type { Link } from '../../netlink-lib/route/link.ts'
import {
  addAddresses,
  addRoutes,
  checkAddressing,
  checkInterface,
  checkReported,
  collectLinks,
  enableForwarding,
  pause,
  refuseExisting,
} from '../contract/container-interface.ts'
import { teardown } from '../contract/dispatch.ts'
import { CniError, codes } from '../contract/errors.ts'
import { bridgeMark, type Host, hostLinkName, linkMark } from '../contract/host.ts'
import { addressesToRelease, requireAddresses } from '../contract/ipam.ts'
import type { Plugin } from '../contract/plugin.ts'
import { type Request, requirePrevResult } from '../contract/request.ts'
import { mergeDns, type Result } from '../contract/result.ts'
import { type BridgeConf, parseBridge } from './config.ts'

/** The bridge of the network: made when it is not there, shared by all containers, never rolled back. */
function ensureBridge(host: Host, { bridge: name, mtu, promiscMode }: BridgeConf, network: string): Link {
  let bridge = host.route.findLink(name)
  if (!bridge) {
    try {
      host.route.createBridge({ name, mtu })
    } catch (error) {
      if (!isKernelError(error, 'EEXIST')) throw error // another ADD was faster
    }
    host.sysctl.try(['ipv6', 'conf', name, 'accept_ra'], '0')
    bridge = host.route.getLink(name)
    if (!bridge.alias) host.route.setLink(bridge, { alias: bridgeMark(network) })
  }
  if (bridge.kind !== 'bridge')
    throw new CniError(
      codes.conflict,
      `"${name}" already exists but is not a bridge`,
      `it is a ${bridge.kind ?? 'physical'} link; choose another name for "bridge"`,
    )
  const promiscuous = promiscMode && !bridge.promiscuous ? true : undefined
  if (!bridge.up || promiscuous) host.route.setLink(bridge, { up: true, promiscuous })
  return bridge
}

/** Fills in what isGateway and isDefaultGateway add to the lease: gateways and default routes. */
function withGateways(conf: BridgeConf, { ips, routes, dns }: IpamResult): Omit<Result, 'interfaces'> {
  const complete = ips.map((ip) => ({
    ...ip,
    gateway: ip.gateway ?? (conf.isGateway ? addToIp(networkOf(ip.address).address, 1n) : undefined),
    interface: 2,
  }))
  const isDefault = (dst: Cidr) => dst.prefix === 0
  const defaults = ([4, 6] as const).flatMap((family) => {
    const gateway = complete.find((ip) => ip.address.family === family)?.gateway
    const given = routes.some((route) => isDefault(route.dst) && route.dst.family === family && route.gw)
    if (!conf.isDefaultGateway || given || !gateway) return []
    return { dst: { address: family === 4 ? '0.0.0.0' : '::', prefix: 0, family }, gw: gateway }
  })
  return { ips: complete, routes: [...routes, ...defaults], dns: mergeDns(conf.dns, dns) }
}

/** The gateway's address on the bridge; another one there is an error, or is replaced with forceAddress. */
function ensureGateway(host: Host, bridge: Link, address: Cidr, force: boolean): void {
  const present = host.route.listAddresses(bridge).filter(({ family }) => family === address.family)
  if (present.some((other) => formatCidr(other) === formatCidr(address))) return
  for (const other of present) {
    const conflicts = address.family === 4 || contains(other, address.address) || contains(address, other.address)
    if (!conflicts || other.scope !== 0) continue
    if (!force)
      throw new CniError(
        codes.conflict,
        `"${bridge.name}" already has an IP address different from ${formatCidr(address)}`,
        `it has ${formatCidr(other)}; delete that, set forceAddress, or use another bridge`,
      )
    host.route.deleteAddress(bridge, other)
  }
  try {
    host.route.addAddress(bridge, address)
  } catch (error) {
    if (!isKernelError(error, 'EEXIST')) throw error // another ADD was faster
  }
  // A bridge takes the lowest MAC of its ports until one is set: pin it, or every ADD would change the gateway's.
  host.route.setLink(bridge, { mac: host.route.getLink(bridge.index).mac })
}

/** The container's link comes up a moment after both its ends are up; a port passes nothing before. */
function awaitPort(host: Host, outer: Link): void {
  const deadline = performance.now() + 2500
  for (let wait = 0.1; ; wait = Math.min(2 * wait, 50)) {
    const { operState } = host.route.getLink(outer.index)
    if (operState === 6) return // IF_OPER_UP, RFC 2863
    if (performance.now() > deadline)
      throw new CniError(
        codes.kernel,
        `port ${outer.name} of the bridge did not come up`,
        `operational state ${operState} after 2.5 s`,
      )
    pause(wait)
  }
}

export const bridge: Plugin<BridgeConf> = {
  type: 'bridge',
  parse: parseBridge,

  add(conf, request, host): Result {
    using container = host.openContainer(request.netns)
    refuseExisting(container, request)
    using rollback = host.rollback()
    const bridge = ensureBridge(host, conf, request.network)

    // The inner end is born in the container: nothing is moved or renamed.
    const name = hostLinkName(request)
    const { mtu, mac } = conf
    const peer = { name: request.ifName, netnsFd: container.netns.fd, mtu, mac }
    host.route.createVeth({ name, mtu, master: bridge.index, up: true, peer })
    rollback.onFailure(`delete ${name}`, () => host.route.deleteLink(name))
    const outer = host.route.getLink(name)
    host.sysctl.try(['ipv6', 'conf', outer.name, 'accept_ra'], '0')
    const port = conf.hairpinMode ? { hairpin: true } : undefined
    host.route.setLink(outer, { alias: linkMark(request), port })

    const lease = conf.ipam ? requireAddresses(conf.ipam.add()) : { ips: [], routes: [] }
    rollback.onFailure('release addresses', () => conf.ipam?.del())
    const { ips, routes, dns } = withGateways(conf, lease)

    const inner = container.route.getLink(request.ifName)
    container.sysctl.try(['ipv6', 'conf', inner.name, 'accept_dad'], '0')
    container.sysctl.try(['ipv4', 'conf', inner.name, 'arp_notify'], '1')
    addAddresses(container, inner, ips)
    addRoutes(container, inner, routes, ips)

    if (conf.isGateway) {
      for (const { address, gateway } of ips)
        ensureGateway(host, bridge, { ...address, address: gateway! }, conf.forceAddress)
      enableForwarding(host, ips)
    }
    if (conf.ipMasq && ips.length > 0) {
      const masquerade = host.masquerade(conf.ipMasqBackend)
      rollback.onFailure('remove masquerading', () => masquerade.del(request))
      masquerade.add(
        request,
        ips.map(({ address }) => address),
      )
    }
    awaitPort(host, outer)
    const { mac: bridgeMac, mtu: bridgeMtu } = host.route.getLink(bridge.index)
    rollback.commit()
    return {
      interfaces: [
        { name: bridge.name, mac: bridgeMac, mtu: bridgeMtu },
        { name: outer.name, mac: outer.mac, mtu: outer.mtu },
        { name: inner.name, mac: inner.mac, mtu: inner.mtu, sandbox: request.netns },
      ],
      ips,
      routes,
      dns,
    }
  },

  del(conf, request, host): void {
    teardown(
      () => conf.ipMasq && host.masquerade(conf.ipMasqBackend).del(request, addressesToRelease(conf.ipam, request)),
      () => host.route.deleteLink(hostLinkName(request)),
      () => conf.ipam?.del(),
    )
  },

  check(conf, request, host): void {
    const prevResult = requirePrevResult(request)
    conf.ipam?.check()
    const bridge = host.route.findLink(conf.bridge)
    if (bridge?.kind !== 'bridge') throw new CniError(codes.checkFailed, `CHECK: bridge "${conf.bridge}" is gone`)
    if (bridge.promiscuous !== conf.promiscMode)
      throw new CniError(
        codes.checkFailed,
        `CHECK: promiscuous mode of "${bridge.name}" is ${bridge.promiscuous ? 'on' : 'off'}, promiscMode says otherwise`,
      )
    const reported = prevResult.interfaces.find(({ name, sandbox }) => name === conf.bridge && !sandbox)
    if (reported) checkReported(reported, bridge)

    using container = host.openContainer(request.netns)
    const inner = checkInterface(container, request)
    checkPort(host, request, conf, bridge, inner)
    checkAddressing(container, inner, prevResult, request)
    if (conf.ipMasq && prevResult.ips.length > 0)
      host.masquerade(conf.ipMasqBackend).check(
        request,
        prevResult.ips.map(({ address }) => address),
      )
  },

  gc(conf, request, host): void {
    teardown(
      () => conf.ipMasq && host.masquerade(conf.ipMasqBackend).collect(request.network, request.validAttachments),
      () => collectLinks(host, request),
      () => conf.ipam?.gc(),
    )
  },

  status: (conf) => conf.ipam?.status(),
}

/** The host's end: there, a port of this bridge, joined to the container's end, hairpin as configured. */
function checkPort(host: Host, request: Request, conf: BridgeConf, bridge: Link, inner: Link): void {
  const fail = (what: string): never => {
    throw new CniError(codes.checkFailed, `CHECK: ${what}`)
  }
  const name = hostLinkName(request)
  const outer = host.route.findLink(name) ?? fail(`host link "${name}" is gone`)
  if (outer.master !== bridge.index) fail(`"${name}" is not a port of bridge "${bridge.name}"`)
  if (outer.peerIndex !== inner.index) fail(`"${name}" and "${inner.name}" are not two ends of one link`)
  if (!outer.up) fail(`host link "${name}" is down`)
  if (Boolean(outer.port?.hairpin) !== conf.hairpinMode)
    fail(`hairpin mode of "${name}" is ${outer.port?.hairpin ? 'on' : 'off'}, hairpinMode says otherwise`)
}
