import { type Family, ipBytes } from '../../netlink-lib/ip.ts'
import type { Link } from '../../netlink-lib/route/link.ts'

export type Protocol = 'icmp' | 'tcp' | 'udp'

/** A packet on its way, with what rules and routes can ask about. */
export interface Packet {
  readonly family: Family
  readonly protocol: Protocol
  readonly source: string
  readonly destination: string
  /** Of a client one of those that it may be given when it connects: rules about services do not match it. */
  readonly sourcePort?: number
  readonly destinationPort?: number
  /** An answer: its connection is established. */
  readonly reply: boolean
  /** What was changed of its connection, in the place that it is in. */
  readonly translated?: { readonly source: boolean; readonly destination: boolean }
}

/** IPPROTO_*, as they stand in the packet. */
export const protocolNumber = ({ protocol, family }: Pick<Packet, 'protocol' | 'family'>): number =>
  protocol === 'tcp' ? 6 : protocol === 'udp' ? 17 : family === 4 ? 1 : 58

/** Bytes, each of which may be unknown. */
export interface PartlyKnown {
  readonly bytes: Buffer
  /** 1 where the byte is known. */
  readonly known: Uint8Array
}

export const wholly = (bytes: Buffer): PartlyKnown => ({ bytes, known: new Uint8Array(bytes.length).fill(1) })

function pattern(size: number, ...parts: readonly (readonly [at: number, bytes: Buffer | undefined])[]): PartlyKnown {
  const bytes = Buffer.alloc(size)
  const known = new Uint8Array(size)
  for (const [at, part] of parts) {
    if (!part) continue
    part.copy(bytes, at)
    known.fill(1, at, at + part.length)
  }
  return { bytes, known }
}

const u16 = (value: number | undefined): Buffer | undefined =>
  value === undefined ? undefined : Buffer.from([value >> 8, value & 0xff])

/** The packet from its network header on: lengths, checksums and counters are unknown. */
export function networkHeader(packet: Packet): PartlyKnown {
  const [source, destination] = [ipBytes(packet.source), ipBytes(packet.destination)]
  const protocol = Buffer.from([protocolNumber(packet)])
  if (packet.family === 4)
    return pattern(20, [0, Buffer.from([0x45, 0])], [9, protocol], [12, source], [16, destination])
  return pattern(40, [0, Buffer.from([0x60])], [6, protocol], [8, source], [24, destination])
}

/** From its transport header on. TCP: the flags are those of SYN, or of the answer to it. */
export function transportHeader(packet: Packet): PartlyKnown {
  const { protocol, family, reply, sourcePort, destinationPort } = packet
  const ports = [
    [0, u16(sourcePort)],
    [2, u16(destinationPort)],
  ] as const
  if (protocol === 'tcp') return pattern(20, ...ports, [13, Buffer.from([reply ? 0x12 : 0x02])])
  if (protocol === 'udp') return pattern(8, ...ports)
  const type = family === 4 ? (reply ? 0 : 8) : reply ? 129 : 128
  return pattern(8, [0, Buffer.from([type, 0])])
}

/** Where a packet is when a rule is asked about it. */
export interface Moment {
  readonly packet: Packet
  readonly inLink?: Link
  readonly outLink?: Link
  /** Of the frame, where it is known. */
  readonly sourceMac?: string
  readonly destinationMac?: string
}

/** Its Ethernet header. */
export function linkHeader({ packet, sourceMac, destinationMac }: Moment): PartlyKnown {
  const mac = (text: string | undefined) => (text ? Buffer.from(text.replaceAll(':', ''), 'hex') : undefined)
  const type = u16(packet.family === 4 ? 0x0800 : 0x86dd)
  return pattern(14, [0, mac(destinationMac)], [6, mac(sourceMac)], [12, type])
}
