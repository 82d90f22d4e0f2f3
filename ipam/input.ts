import { ConfigError, type Section, Value } from '../config/reader.ts'
import { canonicalIp, type Family } from '../netlink-lib/ip.ts'
import { optionalIp } from './range.ts'
import type { Route } from './result.ts'

/** Everything that an IPAM configuration can come from. */
export interface IpamInput {
  readonly network: string
  /** The `ipam` object. */
  readonly ipam: Section
  /** The `args.cni` object. */
  readonly args?: Section
  readonly runtimeConfig?: Section
  /** CNI_ARGS, split into pairs. */
  readonly cniArgs: ReadonlyMap<string, string>
  readonly cniVersion: string
}

const uint32 = 0xffff_ffff

export function parseRoutes(ipam: Section): Route[] {
  return ipam.list('routes', (element) => parseRoute(element.object()))
}

function parseRoute(section: Section): Route {
  const gw = optionalIp(section, 'gw')
  // For these three 0 means unset, as for Go's omitempty; for table and scope it is a value.
  const [mtu, advmss, priority] = ['mtu', 'advmss', 'priority'].map((key) => section.get(key)?.integer(0, uint32))
  const table = section.get('table')?.integer(0, uint32)
  const scope = section.get('scope')?.integer(0, 255)
  return {
    dst: section.require('dst', 'a CIDR such as 0.0.0.0/0').cidr(),
    ...(gw !== undefined && { gw }),
    ...(mtu && { mtu }),
    ...(advmss && { advmss }),
    ...(priority && { priority }),
    ...(table !== undefined && { table }),
    ...(scope !== undefined && { scope }),
  }
}

/** A comma list in CNI_ARGS as values with a path to blame; none when absent or empty. */
export function cniArgsList(args: ReadonlyMap<string, string>, name: string): Value[] {
  const text = args.get(name)?.trim()
  return text ? text.split(',').map((item) => new Value(item.trim(), `CNI_ARGS ${name}`)) : []
}

/** An address with or without a prefix length; the length is dropped. */
export function addressOf(value: Value): string {
  const text = value.string()
  const slash = text.indexOf('/')
  const address = slash < 0 ? canonicalIp(text) : new Value(text, value.path).cidr().address
  return address ?? value.fail(`expected an IP address or a CIDR, got ${JSON.stringify(text)}`)
}

/** Results before 0.3.0 have room for one address of each family. */
export function refuseCrowdedFamilies(cniVersion: string, families: readonly Family[], path: string): void {
  const crowded = new Set(families).size < families.length
  if (crowded && /^(0\.[012]\.\d+)?$/.test(cniVersion))
    throw new ConfigError(
      path,
      `CNI version ${cniVersion || '0.1.0'} does not support more than 1 address per family; set cniVersion to 0.3.0 or later`,
    )
}
