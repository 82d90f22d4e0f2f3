import { internetChecksum } from '../../netlink-lib/icmp.ts'
import { type Family, familyOf, ipBytes } from '../../netlink-lib/ip.ts'

/**
 * A half-open connection: SYN, and the answer to it. The kernel, which knows of no such connection, answers SYN and ACK
 * with RST, so that no server notices anything, not even one that takes a single connection and ends.
 */

const flagAt = 13
export const tcpFlags = { syn: 0x02, rst: 0x04, ack: 0x10 } as const

/** A TCP header (RFC 9293) with SYN and a maximum segment size. */
export function synPacket(source: string, sourcePort: number, destination: string, port: number): Buffer {
  const header = Buffer.alloc(24)
  header.writeUInt16BE(sourcePort, 0)
  header.writeUInt16BE(port, 2)
  header.writeUInt32BE(0x6e73_6e74, 4) // sequence number
  header[12] = 6 << 4 // 24 bytes
  header[flagAt] = tcpFlags.syn
  header.writeUInt16BE(0xffff, 14) // window
  header.set([2, 4, 0x05, 0xb4], 20) // maximum segment size 1460
  header.writeUInt16BE(internetChecksum(Buffer.concat([pseudoHeader(source, destination, header.length), header])), 16)
  return header
}

/** What the checksum covers besides: RFC 9293 for IPv4, RFC 8200 for IPv6. */
function pseudoHeader(source: string, destination: string, length: number): Buffer {
  const addresses = Buffer.concat([ipBytes(source), ipBytes(destination)])
  const family: Family = familyOf(source)
  const rest = Buffer.alloc(family === 4 ? 4 : 8)
  rest[family === 4 ? 1 : 7] = 6 // IPPROTO_TCP
  rest.writeUInt16BE(length, 2)
  return Buffer.concat([addresses, rest])
}

/** `open`: somebody listens; `closed`: nobody does, or a rule answers with RST. */
export interface SynAnswer {
  readonly state: 'open' | 'closed'
  readonly sourcePort: number
  readonly port: number
}

/** Ports and meaning of an answer; undefined for what is none. */
export function synAnswer(packet: Buffer): SynAnswer | undefined {
  if (packet.length < 20) return undefined
  const flags = packet[flagAt]!
  const isOpen = (flags & tcpFlags.syn) !== 0 && (flags & tcpFlags.ack) !== 0
  if (!isOpen && !(flags & tcpFlags.rst)) return undefined
  return { state: isOpen ? 'open' : 'closed', sourcePort: packet.readUInt16BE(2), port: packet.readUInt16BE(0) }
}
