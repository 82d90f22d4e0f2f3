import { type Section, Value } from '../../config/reader.ts'
import { type Cidr, contains, familyOf } from '../../netlink-lib/ip.ts'
import { drivers } from '../networks.ts'
import type { NetworkEntry } from './document.ts'
import type { Mistakes } from './mistakes.ts'
import { linkName, rangeOf, texts, withoutUndefined } from './values.ts'

export function readNetwork(name: string, value: Value, mistakes: Mistakes): NetworkEntry {
  const section = value.object()
  const external = section.get('external')?.boolean() ?? false
  const conflist = section.get('conflist')?.object() && (section.get('conflist')!.json as Record<string, unknown>)
  const subnets = [...texts(section.get('subnet')), ...texts(section.get('subnets'))].map(rangeOf)
  const auto = section.get('ipv6')
  const entry: NetworkEntry = {
    name,
    driver: section.get('driver')?.oneOf(...drivers) ?? 'bridge',
    subnets,
    ipv6: auto === undefined ? false : auto.json === 'auto' || auto.boolean(),
    internal: section.get('internal')?.boolean() ?? false,
    isolated: section.get('isolated')?.boolean() ?? false,
    gateway: section.get('gateway')?.ip(),
    mtu: section.get('mtu')?.integer(68, 65535),
    bridge: linkName(section.get('bridge')),
    parent: linkName(section.get('parent')),
  }
  mistakes.refuseUnknown(value, section)
  const given = Object.keys(value.json as object)
  const [only] = [conflist && 'conflist', external && 'external'].filter(Boolean)
  if (only && given.length > 1)
    section.fail(only as string, `excludes ${given.filter((key) => key !== only).join(' and ')}`)
  refuseContradictions(entry, section)
  return { ...withoutUndefined(entry), ...(external && { external }), ...(conflist && { conflist }) }
}

function refuseContradictions(entry: NetworkEntry, section: Section): void {
  const { driver, subnets, gateway, internal, isolated, bridge, parent, ipv6 } = entry
  const refuse = (key: string) => section.fail(key, `a network with driver ${driver} has none`)
  if (driver === 'l2') {
    if (subnets.length > 0) refuse('subnet')
    if (gateway) refuse('gateway')
    if (ipv6) refuse('ipv6')
    if (internal) refuse('internal')
  }
  if (driver === 'ptp' || driver === 'macvlan') {
    if (bridge) refuse('bridge')
    if (isolated) refuse('isolated')
  }
  if (driver !== 'macvlan' && parent) refuse('parent')
  const families = subnets.map(familyOf)
  if (new Set(families).size < families.length) section.fail('subnet', 'expected one range of each family at most')
  const own = subnets.find((subnet) => gateway && familyOf(subnet) === familyOf(gateway))
  if (gateway && subnets.length > 0 && !(own && contains(rangeIn(own), gateway)))
    section.fail('gateway', `${gateway} lies in no subnet of the network (${subnets.join(', ')})`)
}

const rangeIn = (text: string): Cidr => new Value(text, '').cidr()
