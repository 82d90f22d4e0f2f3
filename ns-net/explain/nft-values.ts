import { bitsOf, formatIp } from '../../netlink-lib/ip.ts'
import { metaKeys, payloadBases } from '../../netlink-lib/nftables/expressions.ts'
import { families } from '../../netlink-lib/nftables/messages.ts'

/* What expressions of nf_tables load into registers, in the words of nft(8), and how the values of it are written. */

/** Thrown for what there are no words for here. */
export class NoWords extends Error {
  override readonly name = 'NoWords'
}

/** What a register holds, and how a value that is compared with it is written. */
export interface Loaded {
  readonly text: string
  value(bytes: Buffer): string
  /** A mask that the value was put through. */
  readonly mask?: Buffer
  /** What an immediate holds. */
  readonly bytes?: Buffer
}

export const hostNumber = (bytes: Buffer): number => bytes.readUIntLE(0, Math.min(bytes.length, 4))
const bigNumber = (bytes: Buffer): number => bytes.readUIntBE(0, Math.min(bytes.length, 6))
export const decimal = (bytes: Buffer): string => String(bigNumber(bytes))
const hexMark = (bytes: Buffer): string => `0x${hostNumber(bytes).toString(16).padStart(8, '0')}`

const protocolNames = new Map([
  [1, 'icmp'],
  [6, 'tcp'],
  [17, 'udp'],
  [58, 'ipv6-icmp'],
  [132, 'sctp'],
])
export const protocolName = (number: number): string => protocolNames.get(number) ?? String(number)

/** A name without its padding; one that is not padded stands for all that begin so. */
const linkName = (bytes: Buffer): string => {
  const end = bytes.indexOf(0)
  return `"${bytes.toString('utf8', 0, end < 0 ? bytes.length : end)}${end < 0 ? '*' : ''}"`
}

const familyName = (number: number): string =>
  number === families.ip ? 'ipv4' : number === families.ip6 ? 'ipv6' : String(number)
const macText = (bytes: Buffer): string => bytes.toString('hex').replace(/..(?=.)/g, '$&:')

export const metas: Readonly<Record<number, Loaded>> = {
  [metaKeys.mark]: { text: 'meta mark', value: hexMark },
  [metaKeys.iif]: { text: 'iif', value: (bytes) => String(hostNumber(bytes)) },
  [metaKeys.oif]: { text: 'oif', value: (bytes) => String(hostNumber(bytes)) },
  [metaKeys.iifname]: { text: 'iifname', value: linkName },
  [metaKeys.oifname]: { text: 'oifname', value: linkName },
  [metaKeys.iiftype]: {
    text: 'iiftype',
    value: (bytes) => (hostNumber(bytes) === 1 ? 'ether' : String(hostNumber(bytes))),
  },
  [metaKeys.nfproto]: { text: 'meta nfproto', value: (bytes) => familyName(bytes[0]!) },
  [metaKeys.l4proto]: { text: 'meta l4proto', value: (bytes) => protocolName(bytes[0]!) },
  12: { text: 'meta nftrace', value: (bytes) => String(bytes[0]!) }, // NFT_META_NFTRACE
}

/** The numbers of the labels that are set, in machine words. */
export const labelText = (bytes: Buffer): string =>
  Array.from({ length: bytes.length * 8 }, (_, bit) => bit)
    .filter((bit) => (bytes[bit >> 3]! >> (bit & 7)) & 1)
    .join(',')

export const labelsKey = 13 // NFT_CT_LABELS

export const tracking: Readonly<Record<number, readonly [text: string, names: Readonly<Record<number, string>>]>> = {
  0: ['ct state', { 1: 'invalid', 2: 'established', 4: 'related', 8: 'new', 64: 'untracked' }],
  2: ['ct status', { 1: 'expected', 2: 'seen-reply', 4: 'assured', 8: 'confirmed', 16: 'snat', 32: 'dnat' }],
}

export const routeTypes: Readonly<Record<number, string>> = { 1: 'unicast', 2: 'local', 3: 'broadcast', 5: 'multicast' }

/** An address, or the whole bytes of one that a prefix covers. */
const addressLoaded = (text: string, length: number, bits: number): Loaded => ({
  text,
  value: (bytes) => {
    const whole = Buffer.alloc(bits / 8)
    bytes.copy(whole)
    return `${formatIp(whole)}${length * 8 < bits ? `/${length * 8}` : ''}`
  },
})

export function payloadLoaded(base: number, offset: number, length: number): Loaded {
  const at = `${base} ${offset}`
  const ip4: Readonly<Record<string, string>> = { '1 12': 'ip saddr', '1 16': 'ip daddr' }
  const ip6: Readonly<Record<string, string>> = { '1 8': 'ip6 saddr', '1 24': 'ip6 daddr' }
  if (ip4[at] && length <= 4) return addressLoaded(ip4[at], length, bitsOf(4))
  if (ip6[at] && length <= 16) return addressLoaded(ip6[at], length, bitsOf(6))
  if (base === payloadBases.link && length === 6)
    return { text: offset === 6 ? 'ether saddr' : 'ether daddr', value: macText }
  if (base === payloadBases.transport && length === 2 && offset <= 2)
    return { text: offset === 0 ? 'th sport' : 'th dport', value: decimal }
  const name = Object.keys(payloadBases).find((key) => payloadBases[key as keyof typeof payloadBases] === base)
  return { text: `@${name?.[0]}h,${offset * 8},${length * 8}`, value: (bytes) => `0x${bytes.toString('hex')}` }
}
