import { bitsOf, type Cidr, type Family, familyOf, ipBytes, networkOf } from '../ip.ts'
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

/** A rule of several matches asks for the family once, as nft(8) has it, and so still equals itself after a save and load. */
export function joined(...matches: readonly (readonly Expression[])[]): Expression[] {
  const all = matches.flat()
  const asks = (one: Expression | undefined) => one !== undefined && 'meta' in one && one.meta.key === metaKeys.nfproto
  const first = all.findIndex(asks)
  return all.filter((one, i) => i <= first + 1 || !(asks(one) || asks(all[i - 1])))
}

/** Offset of an address in struct iphdr or ipv6hdr. */
const addressOffset = { 4: { saddr: 12, daddr: 16 }, 6: { saddr: 8, daddr: 24 } } as const

const loadAddress = (which: 'saddr' | 'daddr', family: Family, length: number): Expression => ({
  payload: { dreg: r1, base: payloadBases.network, offset: addressOffset[family][which], length },
})

/** `==` or `!=`. */
export type Comparison = 'eq' | 'neq'

const compare = (value: Buffer, op: Comparison = 'eq'): Expression => ({
  cmp: { sreg: r1, op: cmpOps[op], data: { value } },
})

/** `ip daddr 10.7.0.0/24`. A prefix of whole bytes loads only those; another one is masked. */
export function addressIn(which: 'saddr' | 'daddr', range: Cidr, op: Comparison = 'eq'): Expression[] {
  const { family, prefix } = range
  const network = ipBytes(networkOf(range).address)
  if (prefix === 0) return isFamily(family)
  if (prefix % 8 === 0) {
    const length = prefix / 8
    return [...isFamily(family), loadAddress(which, family, length), compare(network.subarray(0, length), op)]
  }
  const length = bitsOf(family) / 8
  const mask = { value: maskOf(prefix, length) }
  const xor = { value: Buffer.alloc(length) }
  return [
    ...isFamily(family),
    loadAddress(which, family, length),
    { bitwise: { sreg: r1, dreg: r1, length, mask, xor } },
    compare(network, op),
  ]
}

function maskOf(prefix: number, length: number): Buffer {
  const mask = Buffer.alloc(length)
  for (let bit = 0; bit < prefix; bit++) mask[bit >> 3]! |= 0x80 >> (bit & 7)
  return mask
}

/** `ip saddr vmap @map`. */
export const lookupAddress = (which: 'saddr' | 'daddr', family: Family, map: string): Expression[] => [
  ...isFamily(family),
  loadAddress(which, family, bitsOf(family) / 8),
  { lookup: { sreg: r1, dreg: verdictRegister, set: map } },
]

/** A number in the byte order of the host, which is little-endian everywhere that Node runs. */
function inHostOrder(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

/** `fib daddr type local`: the packet is for this host. */
export const isForThisHost = (): Expression[] => [
  { fib: { flags: 2, result: 3, dreg: r1 } }, // NFTA_FIB_F_DADDR, NFT_FIB_RESULT_ADDRTYPE
  compare(inHostOrder(2)), // RTN_LOCAL
]

/** One of the 128 labels of a connection, which lie in machine words: the byte order of the host. */
function labelBits(label: number): Buffer {
  const bytes = Buffer.alloc(16)
  bytes[label >> 3] = 1 << (label & 7)
  return bytes
}

/** `ct label 126`. */
export const hasLabel = (label: number): Expression[] => [
  { ct: { key: 13, dreg: r1 } }, // NFT_CT_LABELS
  { bitwise: { sreg: r1, dreg: r1, length: 16, mask: { value: labelBits(label) }, xor: { value: Buffer.alloc(16) } } },
  compare(Buffer.alloc(16), 'neq'),
]

/** `ct label set 126`: the connection gets it besides those that it has. */
export const setLabel = (label: number): Expression[] => [
  { immediate: { dreg: r1, data: { value: labelBits(label) } } },
  { ct: { key: 13, sreg: r1 } },
]

/** `iifname "eth0"`; a name that ends in `*` stands for all that begin so. */
export function linkNamed(which: 'iifname' | 'oifname', name: string, op: Comparison = 'eq'): Expression[] {
  const exact = Buffer.alloc(16) // IFNAMSIZ
  Buffer.from(name).copy(exact)
  const value = name.endsWith('*') ? Buffer.from(name.slice(0, -1)) : exact
  return [{ meta: { key: metaKeys[which], dreg: r1 } }, compare(value, op)]
}

/**
 * The register that is `words` times 4 bytes behind the first one. They are numbered from 8; every fourth goes by the
 * number of the 16 bytes that begin there, and so the kernel prints it.
 */
const registerAt = (words: number): number => (words % 4 === 0 ? r1 + words / 4 : 8 + words)

/** `[ip daddr .] meta l4proto . th dport` into the registers from the first one on. */
function loadDestination(family: Family, withAddress: boolean): Expression[] {
  const words = withAddress ? bitsOf(family) / 32 : 0
  const address = withAddress ? [...isFamily(family), loadAddress('daddr', family, words * 4)] : []
  return [
    ...address,
    { meta: { key: metaKeys.l4proto, dreg: registerAt(words) } },
    { payload: { dreg: registerAt(words + 1), base: payloadBases.transport, offset: 2, length: 2 } },
  ]
}

/** `dnat ip to [ip daddr .] meta l4proto . th dport map @map`, whose data are an address and a port. */
export const destinationByMap = (family: Family, map: string, withAddress: boolean): Expression[] => [
  ...loadDestination(family, withAddress),
  { lookup: { sreg: r1, dreg: r1, set: map } },
  {
    nat: {
      type: 1, // NFT_NAT_DNAT
      family: family === 4 ? families.ip : families.ip6,
      addrMin: r1,
      protoMin: registerAt(bitsOf(family) / 32),
    },
  },
]

/** `[ip daddr .] meta l4proto . th dport vmap @map`; without the address the family is asked for. */
export const lookupDestination = (family: Family, map: string, withAddress: boolean): Expression[] => [
  ...(withAddress ? [] : isFamily(family)),
  ...loadDestination(family, withAddress),
  { lookup: { sreg: r1, dreg: verdictRegister, set: map } },
]

/** `accept`, `return`, `goto chain`. */
export const verdict = (name: keyof typeof verdicts, chain?: string): Expression => ({
  immediate: { dreg: verdictRegister, data: { verdict: { code: verdicts[name], chain } } },
})

/** `numgen random mod 1000 < 50`: by chance, so many of a thousand packets. */
export function byChance(perThousand: number): Expression[] {
  const limit = Buffer.alloc(4)
  limit.writeUInt32BE(perThousand)
  return [
    { numgen: { dreg: r1, modulus: 1000, type: 1, offset: 0 } },
    { byteorder: { sreg: r1, dreg: r1, op: 1, length: 4, size: 4 } }, // cmp compares bytes
    { cmp: { sreg: r1, op: cmpOps.lt, data: { value: limit } } },
  ]
}

/** `masquerade`. */
export const masquerade = (): Expression[] => [{ masq: {} }]

/** `snat ip to 192.0.2.10`. */
export const newSource = (address: string): Expression[] => [
  { immediate: { dreg: r1, data: { value: ipBytes(address) } } },
  {
    nat: {
      type: 0, // NFT_NAT_SNAT
      family: familyOf(address) === 4 ? families.ip : families.ip6,
      addrMin: r1,
    },
  },
]

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
