import fs from 'node:fs'
import { Section } from '../config/reader.ts'
import { fnv1a } from '../nat/mark.ts'
import { cidr, formatCidr, networkOf } from '../netlink-lib/ip.ts'
import { type Host, isOurBridge } from '../plugins/contract/host.ts'
import { type ConfList, type PluginConf, parseConfList } from './conflist.ts'
import { CliError } from './errors.ts'
import { checkLabName, type Lab, listLabs, networkDirectory, removeIfEmpty } from './labs.ts'
import { chooseSubnet, refuseOverlap, routedRanges, type Taken } from './subnets.ts'

/**
 * Networks that labs are attached to. Each is a conflist in /run/ns-net/networks and nothing else: what `net show` tells
 * is read from it. `default` comes with the first lab that needs it and goes with the last; the others are made and
 * removed by hand.
 */

export const defaultNetwork = 'default'

export const drivers = ['bridge', 'ptp', 'l2', 'macvlan'] as const
export type Driver = (typeof drivers)[number]

/** What a network is asked to be. */
export interface NetworkSpec {
  readonly name: string
  readonly driver?: Driver
  /** CIDRs, one for each family; chosen when there is none. */
  readonly subnets?: readonly string[]
  /** First address of the subnet unless told. */
  readonly gateway?: string
  /** Also an IPv6 range, chosen unless `subnets` has one. */
  readonly ipv6?: boolean
  /** No way out and none in: neither default route nor translation, and nothing is forwarded. */
  readonly internal?: boolean
  /** Its labs reach outside and the host, but not each other. */
  readonly isolated?: boolean
  readonly mtu?: number
  /** Name of the bridge; derived from the network's unless told. */
  readonly bridge?: string
  /** Link of the host that macvlan's links lie on. */
  readonly parent?: string
}

const fileOf = (name: string) => `${networkDirectory}/${name}.conflist`

/** 10.88.0.0/16 and the fifteen after it. */
const defaultCandidates = Array.from({ length: 16 }, (_, i) => `10.${88 + i}.0.0/16`)

function* candidates(): Generator<string> {
  for (let second = 104; second < 112; second++)
    for (let third = 0; third < 256; third++) yield `10.${second}.${third}.0/24`
}

/** Unique local addresses (RFC 4193); the network's name takes the place of the random number. */
function* candidates6(name: string): Generator<string> {
  const id = fnv1a(name)
  for (let n = 0; n < 64; n++) yield `fd${id.slice(0, 2)}:${id.slice(2, 6)}:${id.slice(6, 10)}:${n.toString(16)}::/64`
}

export function findNetwork(name: string): ConfList | undefined {
  try {
    return parseConfList(JSON.parse(fs.readFileSync(fileOf(name), 'utf8')))
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return undefined
    throw error
  }
}

export function listNetworks(): ConfList[] {
  if (!fs.existsSync(networkDirectory)) return []
  return fs
    .readdirSync(networkDirectory)
    .filter((file) => file.endsWith('.conflist'))
    .sort()
    .flatMap((file) => findNetwork(file.slice(0, -'.conflist'.length)) ?? [])
}

/** The network of that name; `default` is made when it is not there. */
export function requireNetwork(name: string, host: Host): ConfList {
  checkLabName(name)
  const found = findNetwork(name)
  if (found) return found
  if (name === defaultNetwork) return createDefault(host)
  throw new CliError('notFound', `no network "${name}"`, `ns-net net create ${name}; ns-net net ls shows all`)
}

const takenRanges = (host: Host): Taken[] => [
  ...routedRanges(host),
  ...listNetworks().flatMap((list) => subnetsOf(list).map((range) => ({ range, by: `network "${list.name}"` }))),
]

/** Its range is chosen when the first lab needs it and kept until the last is gone. */
function createDefault(host: Host): ConfList {
  const subnets = [chooseSubnet(defaultCandidates, takenRanges(host))]
  return write(conflistOf({ name: defaultNetwork, bridge: 'nsbr0', subnets }))
}

/** Makes a network; nothing of it is in the kernel before its first lab. */
export function createNetwork(spec: NetworkSpec, host: Host): ConfList {
  checkLabName(spec.name)
  if (findNetwork(spec.name))
    throw new CliError('conflict', `network "${spec.name}" already exists`, `ns-net net show ${spec.name}`)
  return write(conflistOf({ ...spec, subnets: subnetsFor(spec, host) }))
}

/** Takes a whole conflist for a network. */
export function importNetwork(list: ConfList): ConfList {
  checkLabName(list.name)
  if (findNetwork(list.name))
    throw new CliError('conflict', `network "${list.name}" already exists`, `ns-net net show ${list.name}`)
  const { disableCheck, ...rest } = list
  return write({ ...rest, ...(disableCheck && { disableCheck }) })
}

/** The ranges asked for, or chosen ones. */
export function subnetsFor(spec: NetworkSpec, host: Host): string[] {
  if (spec.driver === 'l2') return []
  const taken = takenRanges(host)
  const asked = spec.subnets ?? []
  for (const subnet of asked) refuseOverlap(requireRange(subnet), taken)
  const has6 = asked.some((subnet) => subnet.includes(':'))
  const chosen = asked.length > 0 ? asked : [chooseSubnet(candidates(), taken)]
  const all = spec.ipv6 && !has6 ? [...chosen, chooseSubnet(candidates6(spec.name), taken)] : chosen
  return all.map(requireRange)
}

/** Canonical text of a range of addresses. */
export function requireRange(text: string): string {
  try {
    return formatCidr(networkOf(cidr(text)))
  } catch {
    throw new CliError('usage', `"${text}" is no range of addresses`, 'expected a CIDR, as 10.10.0.0/24')
  }
}

function write(list: object & { readonly name: string }): ConfList {
  const parsed = parseConfList(list)
  fs.mkdirSync(networkDirectory, { recursive: true })
  fs.writeFileSync(fileOf(list.name), `${JSON.stringify(list, undefined, 2)}\n`)
  return parsed
}

/** A bridge's name has at most 15 characters (IFNAMSIZ). */
const bridgeNameOf = (network: string): string =>
  network.length <= 12 ? `ns-${network}` : `ns-${fnv1a(network).slice(0, 12)}`

/** The conflist that carries out a network. */
export function conflistOf(spec: NetworkSpec): { cniVersion: string; name: string; plugins: object[] } {
  const { name, subnets = [], gateway } = spec
  const ranges = subnets.map((subnet) => {
    const own = gateway !== undefined && gateway.includes(':') === subnet.includes(':')
    return [own ? { subnet, gateway } : { subnet }]
  })
  // The macvlan of Debian's reference plugins speaks no later version.
  const cniVersion = spec.driver === 'macvlan' ? '1.0.0' : '1.1.0'
  return { cniVersion, name, plugins: pluginsOf(spec, ranges) }
}

function pluginsOf(spec: NetworkSpec, ranges: readonly object[]): object[] {
  const { name, driver = 'bridge', internal = false, isolated = false, mtu, parent } = spec
  const bridge = spec.bridge ?? bridgeNameOf(name)
  const routes = internal
    ? []
    : (spec.subnets ?? []).map((each) => ({ dst: each.includes(':') ? '::/0' : '0.0.0.0/0' }))
  const ipam = { type: 'host-local', ranges }
  const published = { type: 'portmap', capabilities: { portMappings: true } }
  // Docker sets a FORWARD policy of DROP. With this backend nothing is accepted where nobody drops anything.
  const firewall = {
    type: 'firewall',
    backend: 'nftables',
    ...(isolated && { ingressPolicy: 'isolated' }),
    ...(internal && { internal }),
  }
  const lo = { type: 'loopback' }
  switch (driver) {
    case 'bridge':
      return [
        lo,
        {
          type: 'bridge',
          bridge,
          ...(internal ? { isGateway: true } : { isDefaultGateway: true, ipMasq: true }),
          hairpinMode: true,
          ipv6LinkLocal: false, // else a new lab is heard by all others, and a thousand take more than ten times a hundred
          ...(mtu && { mtu }),
          ...(isolated && { portIsolation: true }),
          ipam,
        },
        published,
        firewall,
      ]
    case 'ptp':
      return [
        lo,
        { type: 'ptp', ipMasq: !internal, ...(mtu && { mtu }), ipam: { ...ipam, routes } },
        published,
        firewall,
      ]
    case 'l2':
      return [lo, { type: 'bridge', bridge, ...(mtu && { mtu }), ...(isolated && { portIsolation: true }), ipam: {} }]
    case 'macvlan':
      return [
        lo,
        { type: 'macvlan', ...(parent && { master: parent }), ...(mtu && { mtu }), ipam: { ...ipam, routes } },
      ]
  }
}

/** The plugin that chaos stands in for, where it does. */
const behindChaos = (plugin: PluginConf): PluginConf =>
  plugin.type === 'chaos' && plugin.plugin ? (plugin.plugin as PluginConf) : plugin

/** The plugin that makes the interface: the first but loopback. */
export const interfacePlugin = (list: ConfList): PluginConf =>
  list.plugins.find(({ type }) => type !== 'loopback') ?? list.plugins[0]!

export const isDefaultRoute = ({ dst }: { readonly dst?: string }): boolean => dst?.endsWith('/0') ?? false

export const givesDefaultRoute = ({ isDefaultGateway, ipam }: PluginConf): boolean =>
  isDefaultGateway === true ||
  ((ipam as { routes?: { dst?: string }[] } | undefined)?.routes ?? []).some(isDefaultRoute)

const flag = (plugin: PluginConf, key: string): boolean => plugin[key] === true

/** What a conflist made by {@link conflistOf}, or by somebody else, amounts to. */
export function specOf(list: ConfList): NetworkSpec & { readonly driver: Driver; readonly subnets: readonly string[] } {
  const plugin = interfacePlugin(list)
  const subnets = subnetsOf(list)
  const onBridge = plugin.type === 'bridge'
  const driver: Driver = onBridge
    ? subnets.length > 0
      ? 'bridge'
      : 'l2'
    : plugin.type === 'macvlan'
      ? 'macvlan'
      : 'ptp'
  return {
    name: list.name,
    driver,
    subnets,
    gateway: rangesOf(list).find((range) => typeof range.gateway === 'string')?.gateway as string | undefined,
    internal: driver === 'macvlan' ? !givesDefaultRoute(plugin) : list.plugins.some((each) => flag(each, 'internal')),
    isolated: flag(plugin, 'portIsolation'),
    mtu: typeof plugin.mtu === 'number' ? plugin.mtu : undefined,
    bridge: onBridge ? bridgeOf(plugin) : undefined,
    parent: typeof plugin.master === 'string' ? plugin.master : undefined,
  }
}

/** Keys match in any letter case, as in Go. */
const bridgeOf = (plugin: PluginConf): string => new Section(plugin).get('bridge')?.string() || 'cni0'

function rangesOf(list: ConfList): Readonly<Record<string, unknown>>[] {
  const ipam = (interfacePlugin(list).ipam ?? {}) as { ranges?: unknown; subnet?: unknown }
  const sets = Array.isArray(ipam.ranges) ? ipam.ranges.flat() : []
  return typeof ipam.subnet === 'string' ? [ipam as Record<string, unknown>, ...sets] : sets
}

export const subnetsOf = (list: ConfList): string[] =>
  rangesOf(list).flatMap(({ subnet }) => (typeof subnet === 'string' ? [subnet] : []))

/** Names of the labs that are attached to a network. */
export const usersOf = (network: string, labs: readonly Lab[] = listLabs()): string[] =>
  labs
    .filter(({ attachments }) => attachments.some((attachment) => attachment.network === network))
    .map(({ name }) => name)

/** Removes a network that nobody is attached to. */
export function removeNetwork(name: string, host: Host): void {
  const list = requireExisting(name)
  const users = usersOf(name)
  if (users.length > 0)
    throw new CliError(
      'conflict',
      `network "${name}" is used by ${users.length === 1 ? 'lab' : 'labs'} ${users.slice(0, 10).join(', ')}`,
      `ns-net detach ${users[0]} ${name}, or ns-net del ${users[0]}`,
    )
  dismantle(list, host)
  fs.rmSync(fileOf(name), { force: true })
}

export function requireExisting(name: string): ConfList {
  checkLabName(name)
  const found = findNetwork(name)
  if (!found) throw new CliError('notFound', `no network "${name}"`, 'ns-net net ls shows all')
  return found
}

/**
 * After a lab is gone: when it was the last of its network, the network's bridge goes too if it is ours and has no
 * port left, and so do the empty lease directory and, of the default network, the choice of its range.
 */
export function releaseNetwork(list: ConfList, host: Host, labs: readonly Lab[] = listLabs()): void {
  if (usersOf(list.name, labs).length > 0) return
  dismantle(list, host)
  if (list.name === defaultNetwork) fs.rmSync(fileOf(defaultNetwork), { force: true })
}

function dismantle(list: ConfList, host: Host): void {
  for (const plugin of list.plugins.map(behindChaos)) {
    if (plugin.type === 'bridge') removeBridge(bridgeOf(plugin), list.name, host)
    removeLeaseDirectory(list.name, new Section(plugin).get('ipam')?.object().get('dataDir')?.string())
  }
}

function removeBridge(name: string, network: string, host: Host): void {
  const bridge = host.route.findLink(name)
  if (!bridge || !isOurBridge(bridge, network)) return
  if (host.route.listLinks({ master: bridge.index }).length === 0) host.route.deleteLink(bridge.index)
}

/** Only bookkeeping may be left in there; a lease of another runtime on the same network keeps the directory. */
function removeLeaseDirectory(network: string, dataDir = '/var/lib/cni/networks'): void {
  const directory = `${dataDir}/${network}`
  if (!fs.existsSync(directory)) return
  const isBookkeeping = (name: string) => name === 'lock' || name.startsWith('last_reserved_ip.')
  if (!fs.readdirSync(directory).every(isBookkeeping)) return
  fs.rmSync(directory, { recursive: true })
  fs.rmSync(`${dataDir}/.ns-net/${network}`, { recursive: true, force: true })
  removeIfEmpty(`${dataDir}/.ns-net`)
}
