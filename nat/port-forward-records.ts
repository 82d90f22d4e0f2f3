import type { Family } from '../netlink-lib/ip.ts'
import { formatIp, ipBytes } from '../netlink-lib/ip.ts'

/*
 * The index of owned elements: the number n-th record of an attachment is in map `owned` under the hash of its mark and n.
 * So DEL, which knows nothing but network, container and interface, needs one lookup for each and one more.
 */

/** What an attachment owns: a host port, or with protocol 0 its address in the map of containers. */
export interface OwnedRecord {
  readonly family: Family
  /** Of the host, without it all; with protocol 0 the container's. */
  readonly address?: string
  /** IANA number. */
  readonly protocol: number
  /** With protocol 0: 1 says that the ports of this family have conditions. */
  readonly port: number
}

/** The key of the n-th record of the attachment whose mark has this hash. */
export function recordKey(hash: string, n: number): Buffer {
  const key = Buffer.alloc(12)
  Buffer.from(hash, 'hex').copy(key)
  key.writeUInt32LE(n, 8)
  return key
}

const mapped = Buffer.from('00000000000000000000ffff', 'hex') // ::ffff:0.0.0.0/96, IPv4 in IPv6 (RFC 4291, 2.5.5.2)

/** `ipv6_addr . inet_proto . inet_service`. No address is `::` or `::ffff:0.0.0.0`. */
export function encodeRecord({ family, address, protocol, port }: OwnedRecord): Buffer {
  const bytes = Buffer.alloc(24)
  if (family === 4) mapped.copy(bytes)
  if (address !== undefined) ipBytes(address).copy(bytes, family === 4 ? 12 : 0)
  bytes[16] = protocol
  bytes.writeUInt16BE(port, 20)
  return bytes
}

export function decodeRecord(bytes: Buffer): OwnedRecord {
  const family = bytes.subarray(0, 12).equals(mapped) ? 4 : 6
  const address = bytes.subarray(family === 4 ? 12 : 0, 16)
  const any = address.every((byte) => byte === 0)
  return {
    family,
    address: any ? undefined : formatIp(address),
    protocol: bytes[16]!,
    port: bytes.readUInt16BE(20),
  }
}
