/**
 * Capture files in the format pcapng (draft-ietf-opsawg-pcapng), block by block. Nothing is opened or written here.
 *
 * Integers are little-endian, as the section header says; times are nanoseconds since 1970.
 */

/** LINKTYPE_*: what a packet begins with. */
export const linkTypes = { ethernet: 1, raw: 101 } as const
export type LinkType = keyof typeof linkTypes

const blockTypes = { section: 0x0a0d0d0a, interface: 1, statistics: 5, packet: 6 } as const
const byteOrderMagic = 0x1a2b3c4d

type Option = readonly [code: number, value: Buffer | undefined]

const text = (value: string | undefined): Buffer | undefined => (value === undefined ? undefined : Buffer.from(value))

function u32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4)
  for (const [i, value] of values.entries()) bytes.writeUInt32LE(value >>> 0, i * 4)
  return bytes
}

function u64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}

/** A time as the upper and the lower half. */
const halves = (time: bigint): Buffer => u32(Number(time >> 32n), Number(time & 0xffffffffn))

const padded = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)])

/** Code, length and value of each; opt_endofopt after the last. Without any there is nothing. */
function optionList(options: readonly Option[]): Buffer {
  const parts = options.flatMap(([code, value]) => {
    if (value === undefined) return []
    const header = Buffer.alloc(4)
    header.writeUInt16LE(code, 0)
    header.writeUInt16LE(value.length, 2)
    return [header, padded(value)]
  })
  return parts.length === 0 ? Buffer.alloc(0) : Buffer.concat([...parts, u32(0)])
}

function block(type: number, body: readonly Buffer[], options: readonly Option[]): Buffer {
  const content = Buffer.concat([...body, optionList(options)])
  const length = content.length + 12
  return Buffer.concat([u32(type, length), content, u32(length)])
}

/** The beginning of a file; `application` is who wrote it. */
export function sectionHeader({ application, os }: { application: string; os: string }): Buffer {
  const version = u32(1) // major 1, minor 0
  const unknownLength = u32(0xffffffff, 0xffffffff)
  return block(
    blockTypes.section,
    [u32(byteOrderMagic), version, unknownLength],
    [
      [3, text(os)], // shb_os
      [4, text(application)], // shb_userappl
    ],
  )
}

export interface InterfaceDescription {
  readonly name: string
  readonly linkType: LinkType
  readonly snapLength: number
  /** What was asked for, as the user wrote it. */
  readonly filter?: string
}

/** An interface; the packets after it name it by its number, the first one is 0. */
export function interfaceDescription({ name, linkType, snapLength, filter }: InterfaceDescription): Buffer {
  const type = Buffer.alloc(4)
  type.writeUInt16LE(linkTypes[linkType], 0)
  const filterText = text(filter)
  return block(
    blockTypes.interface,
    [type, u32(snapLength)],
    [
      [2, text(name)], // if_name
      [9, Buffer.from([9])], // if_tsresol: 10^-9 s
      [11, filterText && Buffer.concat([Buffer.from([0]), filterText])], // if_filter: 0 = text
    ],
  )
}

export interface CapturedPacket {
  readonly interface: number
  readonly time: bigint
  readonly direction: 'in' | 'out'
  readonly reception?: 'unicast' | 'multicast' | 'broadcast' | 'promiscuous'
  /** Bytes on the wire. */
  readonly length: number
  /** What was kept of them. */
  readonly data: Buffer
}

const directions = { in: 1, out: 2 } as const
const receptions = { unicast: 1, multicast: 2, broadcast: 3, promiscuous: 4 } as const

/** Written field by field into one buffer: there may be hundreds of thousands in a second. */
export function packetBlock(packet: CapturedPacket): Buffer {
  const { interface: number, time, direction, reception, length, data } = packet
  const flagsAt = 28 + ((data.length + 3) & ~3)
  const bytes = Buffer.alloc(flagsAt + 16)
  bytes.writeUInt32LE(blockTypes.packet, 0)
  bytes.writeUInt32LE(bytes.length, 4)
  bytes.writeUInt32LE(number, 8)
  bytes.writeUInt32LE(Number(time >> 32n), 12)
  bytes.writeUInt32LE(Number(time & 0xffffffffn), 16)
  bytes.writeUInt32LE(data.length, 20)
  bytes.writeUInt32LE(length, 24)
  data.copy(bytes, 28)
  bytes.writeUInt16LE(2, flagsAt) // epb_flags
  bytes.writeUInt16LE(4, flagsAt + 2)
  bytes.writeUInt32LE(directions[direction] | ((reception ? receptions[reception] : 0) << 2), flagsAt + 4)
  bytes.writeUInt32LE(bytes.length, flagsAt + 12) // after opt_endofopt
  return bytes
}

export interface InterfaceStatistics {
  readonly interface: number
  readonly start: bigint
  readonly end: bigint
  readonly received: number
  readonly dropped: number
}

/** What there is to say of an interface at the end. */
export function statisticsBlock({ interface: number, start, end, received, dropped }: InterfaceStatistics): Buffer {
  return block(
    blockTypes.statistics,
    [u32(number), halves(end)],
    [
      [2, halves(start)], // isb_starttime
      [3, halves(end)], // isb_endtime
      [4, u64(received)], // isb_ifrecv
      [5, u64(dropped)], // isb_ifdrop
    ],
  )
}

/** True when a file begins like a capture: pcapng, or pcap in either byte order and resolution. */
export function isCapture(beginning: Buffer): boolean {
  const magics = [blockTypes.section, 0xa1b2c3d4, 0xa1b23c4d, 0xd4c3b2a1, 0x4d3cb2a1]
  return beginning.length >= 4 && magics.includes(beginning.readUInt32LE(0))
}
