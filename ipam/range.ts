import type { Section, Value } from '../config/reader.ts'
import {
  bitsOf,
  type Cidr,
  contains,
  type Family,
  familyOf,
  formatCidr,
  integerToIp,
  ipToInteger,
  lastInteger,
  networkInteger,
  networkOf,
  parseCidr,
} from '../netlink-lib/ip.ts'

/** Consecutive addresses of one subnet that may be given out. */
export interface Range {
  readonly subnet: Cidr
  /** Never given out. It need not lie in the subnet. */
  readonly gateway: string
  readonly first: bigint
  readonly last: bigint
}

/** Ranges of one family used as one pool: an attachment gets one address of every set. */
export type RangeSet = readonly Range[]

/** Addresses that are never given out unless asked for by name. */
export interface Interval {
  readonly family: Family
  readonly first: bigint
  readonly last: bigint
}

/** An address with the range that it belongs to. */
export interface Candidate {
  readonly address: string
  readonly range: Range
}

/** A `{subnet, rangeStart, rangeEnd, gateway}` object. */
export function parseRange(section: Section): Range {
  const subnet = section.require('subnet', 'a CIDR such as 10.1.0.0/16').cidr()
  const { family, prefix } = subnet
  if (prefix > bitsOf(family) - 2)
    section.fail('subnet', `Network ${formatCidr(subnet)} too small to allocate from, expected 4 addresses or more`)
  const network = networkInteger(subnet)
  if (ipToInteger(subnet.address) !== network)
    section.fail('subnet', `Network has host bits set, expected ${formatCidr(networkOf(subnet))}`)

  const bound = (key: string, label: string): bigint | undefined => {
    const address = optionalIp(section, key)
    if (address === undefined) return undefined
    if (!contains(subnet, address)) section.fail(key, `${label} ${address} not in network ${formatCidr(subnet)}`)
    return ipToInteger(address)
  }
  // The last address of an IPv4 subnet is its broadcast address; IPv6 has none.
  const first = bound('rangeStart', 'RangeStart') ?? network + 1n
  const last = bound('rangeEnd', 'RangeEnd') ?? lastInteger(subnet) - (family === 4 ? 1n : 0n)
  if (first > last)
    section.fail('rangeEnd', `${addressText(last, family)} is below rangeStart ${addressText(first, family)}`)
  return { subnet, first, last, gateway: optionalIp(section, 'gateway') ?? addressText(network + 1n, family) }
}

/** Templated configurations leave `""` where an address is optional; Go's decoder reads it as absent. */
export function optionalIp(section: Section, key: string): string | undefined {
  const value = section.get(key)
  return value?.json === '' ? undefined : value?.ip()
}

/** A list of ranges forming one set. */
export function parseRangeSet(value: Value): RangeSet {
  const set = value.list((element) => parseRange(element.object()))
  if (set.length === 0) value.fail('empty range set')
  for (const [i, range] of set.entries()) {
    if (range.subnet.family !== set[0]!.subnet.family) value.fail('mixed address families')
    const other = set.slice(0, i).find((earlier) => overlap(earlier, range))
    if (other) value.fail(`subnets ${rangeText(other)} and ${rangeText(range)} overlap`)
  }
  return set
}

export const overlap = (a: Range, b: Range): boolean =>
  a.subnet.family === b.subnet.family && a.first <= b.last && b.first <= a.last

/** An address, or all addresses of a CIDR. */
export function parseInterval(value: Value): Interval {
  const block = parseCidr(value.string())
  if (block) return { family: block.family, first: networkInteger(block), last: lastInteger(block) }
  const address = value.ip()
  const only = ipToInteger(address)
  return { family: familyOf(address), first: only, last: only }
}

/** The range of the set that has the address. */
export function rangeOf(set: RangeSet, address: string): Range | undefined {
  const family = familyOf(address)
  const value = ipToInteger(address)
  return set.find((range) => range.subnet.family === family && range.first <= value && value <= range.last)
}

export const isGateway = (set: RangeSet, address: string): boolean => set.some(({ gateway }) => gateway === address)

/** `10.1.0.1-10.1.0.254,10.2.0.1-10.2.0.254` */
export const rangeSetText = (set: RangeSet): string => set.map(rangeText).join(',')

function rangeText({ first, last, subnet }: Range): string {
  return `${addressText(first, subnet.family)}-${addressText(last, subnet.family)}`
}

/**
 * Every address of the set that may be given out, starting behind `after` and ending with it, so that a freed address
 * is used again as late as possible. Without `after`, or when it lies outside, from the first address on.
 */
export function* candidates(
  set: RangeSet,
  after: string | undefined,
  excluded: readonly Interval[],
): Generator<Candidate> {
  const family = set[0]!.subnet.family
  const gateways = set.filter(({ gateway }) => familyOf(gateway) === family).map(({ gateway }) => ipToInteger(gateway))
  const barred = [
    ...excluded.filter((interval) => interval.family === family),
    ...gateways.map((value) => ({ family, first: value, last: value })),
  ].sort((a, b) => (a.first < b.first ? -1 : 1))

  for (const { range, first, last } of walk(set, after)) {
    let value = first
    for (const bar of barred) {
      for (; value < bar.first && value <= last; value++) yield { address: addressText(value, family), range }
      if (bar.last >= value) value = bar.last + 1n // in one step: an excluded IPv6 block has no end to count to
    }
    for (; value <= last; value++) yield { address: addressText(value, family), range }
  }
}

/** The stretches of the set in the order of the walk. */
function walk(set: RangeSet, after: string | undefined): { range: Range; first: bigint; last: bigint }[] {
  const start = after === undefined ? undefined : rangeOf(set, after)
  if (after === undefined || start === undefined) return set.map((range) => ({ range, ...range }))
  const at = set.indexOf(start)
  const split = ipToInteger(after)
  const around = [...set.slice(at + 1), ...set.slice(0, at)].map((range) => ({ range, ...range }))
  return [
    { range: start, first: split + 1n, last: start.last },
    ...around,
    { range: start, first: start.first, last: split },
  ]
}

/** As `integerToIp`, with a short way for IPv4: a crowded range goes through tens of thousands. */
function addressText(value: bigint, family: Family): string {
  if (family === 6) return integerToIp(value, 6)
  const bits = Number(value)
  return `${bits >>> 24}.${(bits >>> 16) & 255}.${(bits >>> 8) & 255}.${bits & 255}`
}
