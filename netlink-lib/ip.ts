/**
 * IP addresses as text, bytes and integers. Text is canonical (RFC 5952 for IPv6), because it is also the name of
 * host-local's lease files. `ip-cidr` does the same sums; it is not used here because its import costs 2.6 ms of a
 * start that takes 4 (see docs/architecture.md). The unit tests compare the two.
 */

export type Family = 4 | 6

/** Address bytes in network order, 4 or 16 of them; undefined when the text is no address. IPv4-mapped IPv6 is IPv4. */
export function parseIp(text: string): Buffer | undefined {
  return text.includes(':') ? parseIpv6(text) : parseIpv4(text)
}

function parseIpv4(text: string): Buffer | undefined {
  const parts = text.split('.')
  if (parts.length !== 4) return undefined
  for (const part of parts) if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined
  return Buffer.from(parts.map(Number))
}

function parseIpv6(text: string): Buffer | undefined {
  const halves = text.split('::')
  if (halves.length > 2) return undefined
  const head = groups(halves[0]!, halves.length === 1)
  const tail = halves.length === 2 ? groups(halves[1]!, true) : []
  if (!head || !tail) return undefined
  const missing = 8 - head.length - tail.length
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined
  const bytes = Buffer.alloc(16)
  for (const [i, group] of head.entries()) bytes.writeUInt16BE(group, i * 2)
  for (const [i, group] of tail.entries()) bytes.writeUInt16BE(group, (8 - tail.length + i) * 2)
  const mapped = bytes.readBigUInt64BE(0) === 0n && bytes.readUInt32BE(8) === 0xffff
  return mapped ? bytes.subarray(12) : bytes
}

/** 16-bit groups of one side of `::`; the last may be a dotted quad. */
function groups(text: string, mayEndInIpv4: boolean): number[] | undefined {
  if (text === '') return []
  const found: number[] = []
  const parts = text.split(':')
  for (const [i, part] of parts.entries()) {
    if (/^[0-9a-fA-F]{1,4}$/.test(part)) found.push(Number.parseInt(part, 16))
    else if (mayEndInIpv4 && i === parts.length - 1) {
      const quad = parseIpv4(part)
      if (!quad) return undefined
      found.push(quad.readUInt16BE(0), quad.readUInt16BE(2))
    } else return undefined
  }
  return found
}

/** Canonical text of 4 or 16 address bytes. */
export function formatIp(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.')
  const group: number[] = []
  for (let i = 0; i < 16; i += 2) group.push((bytes[i]! << 8) | bytes[i + 1]!)
  let start = -1
  let length = 1 // a single zero group is not compressed (RFC 5952, 4.2.2)
  for (let i = 0; i < 8; i++) {
    let run = 0
    while (i + run < 8 && group[i + run] === 0) run++
    if (run > length) [start, length] = [i, run]
  }
  const hex = (from: number, to?: number) =>
    group
      .slice(from, to)
      .map((value) => value.toString(16))
      .join(':')
  return start < 0 ? hex(0) : `${hex(0, start)}::${hex(start + length)}`
}

/** The canonical text of an address, or undefined when it is none. */
export function canonicalIp(text: string): string | undefined {
  const bytes = parseIp(text)
  return bytes && formatIp(bytes)
}

/** Bytes of an address already known to be valid. */
export function ipBytes(text: string): Buffer {
  const bytes = parseIp(text)
  if (!bytes) throw new TypeError(`not an IP address: ${text}`)
  return bytes
}

export const familyOf = (address: string): Family => (address.includes(':') ? 6 : 4)

/** The number of bits in an address of the family. */
export const bitsOf = (family: Family): 32 | 128 => (family === 4 ? 32 : 128)

export const ipToInteger = (address: string): bigint => BigInt(`0x${ipBytes(address).toString('hex')}`)

export function integerToIp(value: bigint, family: Family): string {
  const digits = bitsOf(family) / 4
  return formatIp(Buffer.from(value.toString(16).padStart(digits, '0'), 'hex'))
}

/** An address with its prefix length: `10.1.2.3/24`. Host bits are kept. */
export interface Cidr {
  readonly address: string
  readonly prefix: number
  readonly family: Family
}

/** Parses `address/prefix`; undefined when it is not one. The address becomes canonical text. */
export function parseCidr(text: string): Cidr | undefined {
  const slash = text.indexOf('/')
  if (slash < 0) return undefined
  const address = canonicalIp(text.slice(0, slash))
  const digits = text.slice(slash + 1)
  if (address === undefined || !/^\d{1,3}$/.test(digits)) return undefined
  const family = familyOf(address)
  const prefix = Number(digits)
  return prefix <= bitsOf(family) ? { address, prefix, family } : undefined
}

/** A CIDR already known to be valid. */
export function cidr(text: string): Cidr {
  const parsed = parseCidr(text)
  if (!parsed) throw new TypeError(`not a CIDR: ${text}`)
  return parsed
}

export const formatCidr = ({ address, prefix }: Cidr): string => `${address}/${prefix}`

/** First address of the prefix as an integer: the host bits cleared. */
export function networkInteger({ address, prefix, family }: Cidr): bigint {
  const hostBits = BigInt(bitsOf(family) - prefix)
  return (ipToInteger(address) >> hostBits) << hostBits
}

/** Last address of the prefix as an integer: the host bits set. */
export function lastInteger(range: Cidr): bigint {
  return networkInteger(range) | ((1n << BigInt(bitsOf(range.family) - range.prefix)) - 1n)
}

/** The prefix with its host bits cleared: 10.1.2.3/24 gives 10.1.2.0/24. */
export function networkOf(range: Cidr): Cidr {
  return { ...range, address: integerToIp(networkInteger(range), range.family) }
}

export function contains(range: Cidr, address: string): boolean {
  if (familyOf(address) !== range.family) return false
  const value = ipToInteger(address)
  return value >= networkInteger(range) && value <= lastInteger(range)
}

/** The address `offset` above (or below) another; undefined past either end of the family. */
export function addToIp(address: string, offset: bigint): string | undefined {
  const family = familyOf(address)
  const value = ipToInteger(address) + offset
  return value < 0n || value >> BigInt(bitsOf(family)) !== 0n ? undefined : integerToIp(value, family)
}
