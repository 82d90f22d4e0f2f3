import { isDeepStrictEqual } from 'node:util'
import { familyOf } from '../../netlink-lib/ip.ts'
import { type ConfList, parseConfList } from '../conflist.ts'
import { conflistOf, defaultNetwork, type NetworkSpec, specOf } from '../networks.ts'
import type { NetworkEntry } from './document.ts'

/** The networks of a lab file, compared with those that are there. */

/** As `net create` would be asked. The default network's bridge has a name of its own. */
export function specFor({ name, bridge, ...entry }: NetworkEntry): NetworkSpec {
  const own = bridge ?? (name === defaultNetwork && entry.driver === 'bridge' ? 'nsbr0' : undefined)
  const { driver, subnets, ipv6, gateway, internal, isolated, mtu, parent } = entry
  return { name, driver, subnets, ipv6, gateway, internal, isolated, mtu, parent, ...(own && { bridge: own }) }
}

/** What an entry without any keys stands for: the default network, which needs none. */
export const plainEntry = (name: string): NetworkEntry => ({
  name,
  driver: 'bridge',
  subnets: [],
  ipv6: false,
  internal: false,
  isolated: false,
})

/** A network that is not there yet, as far as it is known: its ranges may still have to be chosen. */
export function preview(entry: NetworkEntry): ConfList {
  if (entry.conflist) return parseConfList({ ...entry.conflist, name: entry.name })
  const spec = specFor(entry)
  const isEmpty = entry.driver !== 'l2' && entry.subnets.length === 0
  return parseConfList(conflistOf({ ...spec, subnets: isEmpty ? ['192.0.2.0/24'] : entry.subnets }))
}

/** Equal whatever the order of keys, and whether what is absent is said to be. */
export const isSame = (a: unknown, b: unknown): boolean =>
  isDeepStrictEqual(JSON.parse(JSON.stringify(a)), JSON.parse(JSON.stringify(b)))

/** What is different about a network that is there, in words; undefined when nothing is. */
export function networkDifference(entry: NetworkEntry, list: ConfList): string | undefined {
  if (entry.external) return undefined
  if (entry.conflist) return isSame(preview(entry).plugins, list.plugins) ? undefined : 'its conflist is another one'
  const live = specOf(list)
  const wanted = specFor(entry)
  const differs = (what: string, there: unknown, asked: unknown) => `${what} is ${there}, wanted ${asked}`
  for (const key of ['driver', 'internal', 'isolated', 'mtu'] as const)
    if ((wanted[key] ?? undefined) !== (live[key] ?? undefined))
      return differs(key, live[key] ?? 'the usual one', wanted[key] ?? 'the usual one')
  for (const key of ['gateway', 'bridge', 'parent'] as const)
    if (wanted[key] !== undefined && wanted[key] !== live[key])
      return differs(key, live[key] ?? 'another one', wanted[key])
  return subnetDifference(entry, live.subnets)
}

function subnetDifference({ subnets, ipv6, driver }: NetworkEntry, live: readonly string[]): string | undefined {
  if (driver === 'l2') return undefined
  const other = subnets.find((subnet) => !live.includes(subnet))
  if (other) {
    const there = live.find((subnet) => familyOf(subnet) === familyOf(other))
    return `subnet is ${there ?? 'none of this family'}, wanted ${other}`
  }
  const has6 = live.some((subnet) => familyOf(subnet) === 6)
  const wants6 = ipv6 || subnets.some((subnet) => familyOf(subnet) === 6)
  if (has6 !== wants6) return has6 ? 'it has an IPv6 range, wanted none' : 'it has no IPv6 range'
  return undefined
}
