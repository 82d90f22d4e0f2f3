import { bitsOf, type Cidr, type Family, ipBytes, networkOf } from '../ip.ts'
import { cmpOps, type Expression, metaKeys, payloadBases, registers, verdicts } from './expressions.ts'
import { families } from './messages.ts'

/*
 * The statements of nft(8) as lists of expressions, the same as that tool compiles them to (nft --debug=netlink), so
 * that it recognizes them and prints them as they are named here.
 */

export type { Expression } from './expressions.ts'

const { r1, verdict: verdictRegister } = registers

/** In a table of family inet, an address match first asks for the family of the packet. */
const isFamily = (family: Family): Expression[] => [
  { meta: { key: metaKeys.nfproto, dreg: r1 } },
  { cmp: { sreg: r1, op: cmpOps.eq, data: { value: Buffer.from([family === 4 ? families.ip : families.ip6]) } } },
]

/** Offset of an address in struct iphdr or ipv6hdr. */
const addressOffset = { 4: { saddr: 12, daddr: 16 }, 6: { saddr: 8, daddr: 24 } } as const

const loadAddress = (which: 'saddr' | 'daddr', family: Family, length: number): Expression => ({
  payload: { dreg: r1, base: payloadBases.network, offset: addressOffset[family][which], length },
})

const equals = (value: Buffer): Expression => ({ cmp: { sreg: r1, op: cmpOps.eq, data: { value } } })

/** `ip daddr 10.7.0.0/24`. A prefix of whole bytes loads only those; another one is masked. */
export function addressIn(which: 'saddr' | 'daddr', range: Cidr): Expression[] {
  const { family, prefix } = range
  const network = ipBytes(networkOf(range).address)
  if (prefix === 0) return isFamily(family)
  if (prefix % 8 === 0) {
    const length = prefix / 8
    return [...isFamily(family), loadAddress(which, family, length), equals(network.subarray(0, length))]
  }
  const length = bitsOf(family) / 8
  const mask = { value: maskOf(prefix, length) }
  const xor = { value: Buffer.alloc(length) }
  return [
    ...isFamily(family),
    loadAddress(which, family, length),
    { bitwise: { sreg: r1, dreg: r1, length, mask, xor } },
    equals(network),
  ]
}

function maskOf(prefix: number, length: number): Buffer {
  const mask = Buffer.alloc(length)
  for (let bit = 0; bit < prefix; bit++) mask[bit >> 3]! |= 0x80 >> (bit & 7)
  return mask
}

/** `ip saddr vmap @map`. */
export const lookupSource = (family: Family, map: string): Expression[] => [
  ...isFamily(family),
  loadAddress('saddr', family, bitsOf(family) / 8),
  { lookup: { sreg: r1, dreg: verdictRegister, set: map } },
]

/** `accept`, `return`, `goto chain`. */
export const verdict = (name: keyof typeof verdicts, chain?: string): Expression => ({
  immediate: { dreg: verdictRegister, data: { verdict: { code: verdicts[name], chain } } },
})

/** `masquerade`. */
export const masquerade = (): Expression[] => [{ masq: {} }]

/**
 * True when the kernel's `actual` says what `wanted` says. The kernel fills in defaults (NFTA_BITWISE_OP) and chooses
 * its own order, so bytes cannot be compared.
 */
export function saysTheSame(wanted: unknown, actual: unknown): boolean {
  if (typeof wanted !== 'object' || wanted === null) return wanted === actual
  if (typeof actual !== 'object' || actual === null) return false
  if (Buffer.isBuffer(wanted)) return Buffer.isBuffer(actual) && wanted.equals(actual)
  if (Array.isArray(wanted) && wanted.length !== (actual as readonly unknown[]).length) return false
  return Object.entries(wanted).every(
    ([key, value]) => value === undefined || saysTheSame(value, (actual as Readonly<Record<string, unknown>>)[key]),
  )
}
