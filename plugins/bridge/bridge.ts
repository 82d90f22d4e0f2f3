import type { IpamResult } from '../../ipam/result.ts'
import { isKernelError } from '../../netlink-lib/errors.ts'
import { addToIp, type Cidr, networkOf } from '../../netlink-lib/ip.ts'
import { pause } from '../../netlink-lib/pause.ts'
import type { Link } from '../../netlink-lib/route/link.ts'
import {
  addAddresses,
  addRoutes,
  checkAddressing,
  checkInterface,
  checkReported,
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
import { allowAnySource, checkSources, collectChains, refuseOtherSources } from './anti-spoofing.ts'
import { type BridgeConf, parseBridge, usesVlans } from './config.ts'
import { ensureBridge, ensureGateway, requireUsable } from './shared-bridge.ts'
import { checkPortVlans, ensureVlanGateway, setPortVlans } from './vlan.ts'

/** Fills in what isGateway and isDefaultGateway add to the lease: gateways and default routes. */
function withGateways(conf: BridgeConf, { ips, routes, dns }: IpamResult): Omit<Result, 'interfaces'> {
  const complete = ips.map((ip) => ({
    ...ip,
    gateway: ip.gateway ?? (conf.isGateway ? addToIp(networkOf(ip.address).address, 1n) : undefined),
    interface: 2,
  }))
  const isDefault = (dst: Cidr) => dst.prefix === 0
  const all = [...routes]
  for (const family of conf.isDefaultGateway ? ([4, 6] as const) : []) {
    const gw = complete.find((ip) => ip.address.family === family)?.gateway
    const given = routes.some((route) => isDefault(route.dst) && route.dst.family === family && route.gw)
    if (gw && !given) all.push({ dst: { address: family === 4 ? '0.0.0.0' : '::', prefix: 0, family }, gw })
  }
  return { ips: complete, routes: all, dns: mergeDns(conf.dns, dns) }
}

/**
 * Who spoke with an earlier owner of the address would go on sending to that one's MAC for a minute. The kernel tells the
 * neighbours when a MAC is set (arp_notify, ndisc_notify), be it the same one; what it tells when the link comes up is
 * lost, as the port passes nothing yet.
 */
function announce(container: Container, inner: Link, ips: readonly ResultIp[]): void {
  if (!isIpv4Only(ips)) container.sysctl.try(['ipv6', 'conf', inner.name, 'ndisc_notify'], '1')
  container.route.setLink(inner, { mac: inner.mac })
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

const isIpv4Only = (ips: readonly ResultIp[]): boolean =>
  ips.length > 0 && ips.every(({ address }) => address.family === 4)

/** Without it the container says nothing of IPv6, which all others on the bridge would have to hear. */
function giveNoLinkLocal(container: Container, inner: Link): void {
  try {
    container.route.setLink(inner, { linkLocal: false })
  } catch (error) {
    if (!isKernelError(error, 'EAFNOSUPPORT')) throw error // the kernel has no IPv6, or not for so small an MTU
  }
}

/** Addresses, routes and settings inside; without IPAM just up, and not even that with disableContainerInterface. */
function configureContainer(
  container: Container,
  conf: BridgeConf,
  inner: Link,
  { ips, routes }: Omit<Result, 'interfaces'>,
) {
  if (conf.disableContainerInterface) return
  const dad = conf.enabledad
  if (ips.length > 0) container.route.setLink(inner, { arpNotify: true })
  if (isIpv4Only(ips) && !conf.ipv6LinkLocal) giveNoLinkLocal(container, inner)
  else if (ips.length > 0) {
    if (dad) container.sysctl.try(['ipv6', 'conf', inner.name, 'enhanced_dad'], '1')
    container.sysctl.try(['ipv6', 'conf', inner.name, 'accept_dad'], dad ? '1' : '0')
  }
  addAddresses(container, inner, ips, { dad })
  addRoutes(container, inner, routes, ips)
}

/** The gateway's addresses, on the bridge or on the link of its VLAN, and forwarding. */
function ensureGateways(host: Host, conf: BridgeConf, bridge: Link, ips: readonly ResultIp[]): Link | undefined {
  if (!conf.isGateway || ips.length === 0) return undefined
  const vlanGateway = conf.vlan === 0 ? undefined : ensureVlanGateway(host, bridge, conf)
  const of = (family: 4 | 6) => ips.filter(({ address }) => address.family === family)
  // First: right behind a new address the kernel sometimes joins the link's anycast address twice.
  enableForwarding(host, of(6))
  for (const { address, gateway } of ips)
    ensureGateway(host, vlanGateway ?? bridge, { ...address, address: gateway! }, conf.forceAddress)
  enableForwarding(host, of(4))
  return vlanGateway
}

export const bridge: Plugin<BridgeConf> = {
  type: 'bridge',
  parse: parseBridge,

  add(conf, request, host): Result {
    using container = host.openContainer(request.netns)
    refuseExisting(container, request)
    using rollback = host.rollback()
    const bridge = ensureBridge(host, conf, request.network)

    const { mtu, mac } = conf
    const link = { mtu, mac, bridge, port: portSettings(conf) }
    const { outer, inner } = createLink(host, container, request, rollback, link)
    setPortVlans(host, outer, conf)
    if (conf.macspoofchk) {
      rollback.onFailure('allow any MAC', () => allowAnySource(host.netfilter, outer.name))
      refuseOtherSources(host.netfilter, outer.name, inner.mac!)
    }

    const lease = conf.ipam ? requireAddresses(conf.ipam.add()) : { ips: [], routes: [] }
    rollback.onFailure('release addresses', () => conf.ipam?.del())
    const addressing = withGateways(conf, lease)
    configureContainer(container, conf, inner, addressing)
    const vlanGateway = ensureGateways(host, conf, bridge, addressing.ips)

    addIpMasq(host, conf, request, addressing.ips, rollback)
    if (!conf.disableContainerInterface) awaitPort(host, outer)
    if (conf.ipam?.repeatsSoon) announce(container, inner, addressing.ips)
    const links = [host.route.getLink(bridge.index), outer].map(describeLink)
    const inside = { ...describeLink(inner), sandbox: request.netns }
    rollback.commit()
    return { interfaces: [...links, inside, ...(vlanGateway ? [describeLink(vlanGateway)] : [])], ...addressing }
  },

  del(conf, request, host): void {
    const name = hostLinkName(request)
    teardown(
      () => host.removeMasquerade(request, addressesToRelease(conf.ipam, request), conf.ipMasq),
      () => conf.macspoofchk && allowAnySource(host.netfilter, name),
      () => host.route.deleteLink(name),
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
    // Without the gateway's address, which VLANs have elsewhere, a bridge takes the lowest MAC of its ports.
    if (reported && conf.isGateway && conf.vlan === 0) checkReported(reported, bridge)

    using container = host.openContainer(request.netns)
    const inner = checkInterface(container, request)
    checkPort(host, request, conf, bridge, inner)
    if (conf.macspoofchk) checkSources(host.netfilter, hostLinkName(request))
    checkAddressing(container, inner, prevResult, request)
    checkIpMasq(host, conf, request)
  },

  reload: (conf, request, host) => reloadIpMasq(host, conf, request),

  gc(conf, request, host): void {
    teardown(
      () => host.masquerade(conf.ipMasqBackend).collect(request.network, request.validAttachments),
      () => collectLinks(host, request),
      () => collectChains(host.netfilter, (name) => host.route.findLink(name) !== undefined),
      () => conf.ipam?.gc(),
    )
  },

  status(conf, _request, host): void {
    conf.ipam?.status()
    if (conf.ipMasq) host.masquerade(conf.ipMasqBackend).requireUsable()
    const present = host.route.findLink(conf.bridge)
    if (present) requireUsable(present, conf)
  },
}

const portSettings = ({ hairpinMode, portIsolation }: BridgeConf) =>
  hairpinMode || portIsolation ? { hairpin: hairpinMode, isolated: portIsolation } : undefined

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
  for (const [key, actual, wanted] of [
    ['hairpinMode', outer.port?.hairpin, conf.hairpinMode],
    ['portIsolation', outer.port?.isolated, conf.portIsolation],
  ] as const)
    if (Boolean(actual) !== wanted) fail(`port "${name}" is ${actual ? 'on' : 'off'} where ${key} says otherwise`)
  if (usesVlans(conf)) checkPortVlans(host, outer, conf)
}
