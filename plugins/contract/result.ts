import { Section, type Value } from '../../config/reader.ts'
import type { Dns, Route } from '../../ipam/result.ts'
import { type Cidr, formatCidr } from '../../netlink-lib/ip.ts'
import { CniError, codes } from './errors.ts'
import { atLeast, gateVersion, type SpecVersion } from './versions.ts'

/** A success result, in the shape of the newest version whatever the caller speaks (CNI spec 1.1.0, section 5). */
export interface Result {
  readonly interfaces: readonly Interface[]
  readonly ips: readonly ResultIp[]
  readonly routes: readonly Route[]
  readonly dns?: Dns
  /** Told in place of the configuration's version: the plugin chaos lies on request. */
  readonly cniVersion?: string
}

export interface Interface {
  readonly name: string
  readonly mac?: string
  readonly mtu?: number
  /** The namespace as the runtime wrote it; absent on the host's side. */
  readonly sandbox?: string
  readonly socketPath?: string
  readonly pciID?: string
}

export interface ResultIp {
  readonly address: Cidr
  readonly gateway?: string
  /** Index into `interfaces`. */
  readonly interface?: number
}

type Json = Record<string, unknown>

const someOf = <T>(items: readonly T[]) => (items.length > 0 ? items : undefined)

/** The result as JSON of the given version. Fields that the version does not have are left out. */
export function formatResult(result: Result, version: SpecVersion): Json {
  if (!atLeast(version, '0.3.0')) return formatAncient(result, version)
  const since11 = atLeast(version, '1.1.0')
  const before1 = !atLeast(version, '1.0.0')
  return {
    cniVersion: result.cniVersion ?? version,
    interfaces: someOf(
      result.interfaces.map(({ name, mac, sandbox, mtu, socketPath, pciID }) =>
        since11 ? { name, mac, mtu, sandbox, socketPath, pciID } : { name, mac, sandbox },
      ),
    ),
    ips: someOf(
      result.ips.map((ip) => ({
        version: before1 ? String(ip.address.family) : undefined,
        interface: ip.interface,
        address: formatCidr(ip.address),
        gateway: ip.gateway,
      })),
    ),
    routes: someOf(result.routes.map((route) => formatRoute(route, since11))),
    dns: formatDns(result.dns, before1),
  }
}

function formatRoute({ dst, gw, ...attributes }: Route, withAttributes: boolean): Json {
  return { dst: formatCidr(dst), gw, ...(withAttributes ? attributes : {}) }
}

/** Results before 1.0.0 always carry dns, even an empty one. */
function formatDns(dns: Dns | undefined, always: boolean): Json | undefined {
  const { nameservers = [], domain, search = [], options = [] } = dns ?? {}
  const json = {
    nameservers: someOf(nameservers),
    domain: domain || undefined,
    search: someOf(search),
    options: someOf(options),
  }
  return always || Object.values(json).some((value) => value !== undefined) ? json : undefined
}

/** 0.1.0 and 0.2.0 know one address per family; routes go with their family. */
function formatAncient(result: Result, version: SpecVersion): Json {
  const family = (wanted: 4 | 6) => {
    const ip = result.ips.find(({ address }) => address.family === wanted)
    if (!ip) return undefined
    const routes = result.routes.filter(({ dst }) => dst.family === wanted).map((route) => formatRoute(route, false))
    return { ip: formatCidr(ip.address), gateway: ip.gateway, routes: someOf(routes) }
  }
  const [ip4, ip6] = [family(4), family(6)]
  if (!ip4 && !ip6)
    throw new CniError(
      codes.incompatibleVersion,
      'cannot convert: no valid IP addresses',
      `a result without addresses cannot be told in cniVersion ${version}; use 0.3.0 or later`,
    )
  return { cniVersion: version, ip4, ip6, dns: formatDns(result.dns, true) }
}

/** Reads a result of any version: a prevResult, a cached result, or what a delegated plugin printed. */
export function parseResult(section: Section, configVersion: SpecVersion): Result {
  const version = gateVersion(section.get('cniVersion')?.string() || configVersion)
  const dns = parseDns(section.get('dns')?.object())
  if (!atLeast(version, '0.3.0')) return parseAncient(section, dns)
  return {
    interfaces: section.list('interfaces', parseInterface),
    ips: section.list('ips', (value) => {
      const ip = value.object()
      return {
        address: ip.require('address', 'a CIDR').cidr(),
        gateway: ip.get('gateway')?.ip(),
        interface: ip.get('interface')?.integer(0, 0x7fffffff),
      }
    }),
    routes: section.list('routes', parseRoute),
    dns,
  }
}

/** Two versions belong together when their results have the same shape. */
const shapeOf = (version: SpecVersion) => (atLeast(version, '1.0.0') ? 3 : atLeast(version, '0.3.0') ? 2 : 1)

/** Reads `prevResult`; one labelled with a version of another shape than the configuration's is refused. */
export function parsePrevResult(json: unknown, configVersion: SpecVersion): Result {
  const section = new Section(json as Record<string, unknown>, 'prevResult')
  const label = section.get('cniVersion')?.string()
  const version = gateVersion(label || configVersion)
  if (shapeOf(version) !== shapeOf(configVersion))
    throw new CniError(
      codes.decode,
      `could not parse prevResult: it has cniVersion ${version}, the configuration ${configVersion}`,
    )
  return parseResult(section, configVersion)
}

function parseInterface(value: Value): Interface {
  const link = value.object()
  return {
    name: link.require('name', 'an interface name').string(),
    mac: link.get('mac')?.string() || undefined,
    mtu: link.get('mtu')?.integer(0, 0xffffffff) || undefined,
    sandbox: link.get('sandbox')?.string() || undefined,
    socketPath: link.get('socketPath')?.string() || undefined,
    pciID: link.get('pciID')?.string() || undefined,
  }
}

export function parseRoute(value: Value): Route {
  const route = value.object()
  const max = 0xffffffff
  return {
    dst: route.require('dst', 'a CIDR').cidr(),
    gw: route.get('gw')?.ip(),
    mtu: route.get('mtu')?.integer(0, max),
    advmss: route.get('advmss')?.integer(0, max),
    priority: route.get('priority')?.integer(0, max),
    table: route.get('table')?.integer(0, max),
    scope: route.get('scope')?.integer(0, 255),
  }
}

function parseAncient(section: Section, dns: Dns | undefined): Result {
  const ips: ResultIp[] = []
  const routes: Route[] = []
  for (const key of ['ip4', 'ip6']) {
    const family = section.get(key)?.object()
    if (!family) continue
    ips.push({ address: family.require('ip', 'a CIDR').cidr(), gateway: family.get('gateway')?.ip() })
    routes.push(...family.list('routes', parseRoute))
  }
  return { interfaces: [], ips, routes, dns }
}

export function parseDns(section: Section | undefined): Dns | undefined {
  if (!section) return undefined
  const strings = (key: string) => section.get(key)?.list((value) => value.string())
  return {
    nameservers: strings('nameservers'),
    domain: section.get('domain')?.string(),
    search: strings('search'),
    options: strings('options'),
  }
}

/** A configuration's `dns` replaces the IPAM's as soon as one of its fields is set, be it an empty list. */
export function mergeDns(configured: Dns | undefined, fromIpam: Dns | undefined): Dns | undefined {
  const isSet = configured && Object.values(configured).some((value) => value !== undefined)
  return isSet ? configured : fromIpam
}
