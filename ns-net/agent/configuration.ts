import { addToIp, bitsOf, type Cidr, formatCidr, integerToIp, networkInteger } from '../../netlink-lib/ip.ts'
import { routeScopes } from '../../netlink-lib/route/wire.ts'

/** The conflist that the runtime of this node is to use. */

export const networkName = 'ns-net'
/** In /run, which ends with the node: after a restart all pods are new, and so are their leases. */
export const leaseDirectory = '/run/ns-net/ipam'
const tuningDirectory = '/run/ns-net/tuning'
const bridgeName = 'ns-net0'

export interface ConfigurationSettings {
  readonly mode: 'veth' | 'bridge'
  /** Of the pods' links; the kernel's default when undefined. */
  readonly mtu?: number
  /** Puts the chaos plugin in the place of the one that makes the link. */
  readonly chaos?: boolean
}

/**
 * The bytes of the file. `cniVersion` is what runtimes take that do not know `cniVersions` (libcni before 1.2, as in
 * containerd 1.6); the others take the highest that they speak.
 */
export function configurationFor(podRanges: readonly Cidr[], settings: ConfigurationSettings): string {
  const { mode, mtu, chaos } = settings
  const ipam = {
    type: 'host-local',
    dataDir: leaseDirectory,
    ranges: podRanges.map((range) => [{ subnet: formatCidr(range) }]),
    routes: podRanges.flatMap((range) => [
      { dst: range.family === 4 ? '0.0.0.0/0' : '::/0' },
      ...(mode === 'bridge' ? routesThroughGateway(range) : []),
    ]),
  }
  const link =
    mode === 'veth'
      ? { type: 'veth', ...(mtu && { mtu }), ipam }
      : { type: 'bridge', bridge: bridgeName, isGateway: true, hairpinMode: true, ...(mtu && { mtu }), ipam }
  const list = {
    cniVersion: '1.0.0',
    cniVersions: ['0.3.1', '0.4.0', '1.0.0', '1.1.0'],
    name: networkName,
    plugins: [
      chaos ? { type: 'chaos', plugin: link } : link,
      ...(mode === 'bridge' ? [{ type: 'tuning', dataDir: tuningDirectory, sysctl: withoutRedirects(podRanges) }] : []),
      { type: 'portmap', capabilities: { portMappings: true } },
    ],
  }
  return `${JSON.stringify(list, undefined, 2)}\n`
}

/**
 * On a bridge two pods are neighbours, and the second one's answer would go past the host: when the first one has asked a
 * service's address, that the host translated, it does not recognize it. So pods send everything through the gateway, by
 * two routes that are more specific than the kernel's own one to the subnet. Rejected: isolated ports with
 * proxy_arp_pvlan, since IPv6 has no such thing, and with bridge-nf-call-iptables 1 the kernel bridges a packet that it
 * has translated, which isolation then drops.
 */
function routesThroughGateway(range: Cidr): object[] {
  const { family } = range
  const prefix = range.prefix + 1
  const gateway = addToIp(range.address, 1n)!
  const upper = integerToIp(networkInteger(range) + (1n << BigInt(bitsOf(family) - prefix)), family)
  return [
    { dst: `${gateway}/${bitsOf(family)}`, scope: routeScopes.link },
    ...[range.address, upper].map((address) => ({ dst: `${address}/${prefix}`, gw: gateway })),
  ]
}

/** The host sees packets leave by the link they came in, and tells the pod of a shorter way, which is the wrong one here. */
function withoutRedirects(podRanges: readonly Cidr[]): Record<string, string> {
  const has = (family: 4 | 6) => podRanges.some((range) => range.family === family)
  return {
    ...(has(4) && { 'net.ipv4.conf.all.accept_redirects': '0', 'net.ipv4.conf.IFNAME.accept_redirects': '0' }),
    ...(has(6) && { 'net.ipv6.conf.IFNAME.accept_redirects': '0' }),
  }
}
