import fs from 'node:fs'
import { KernelError } from './errors.ts'
import { checked, libc } from './libc.ts'
import type { LinkRef } from './route/link.ts'

/*
 * Packets as they pass a link: packet(7) with a receive ring of its third version (Documentation/networking/
 * packet_mmap.rst). The kernel fills block after block in memory that it shares with us, so a burst is not lost while we
 * do something else, and each packet comes with its time, its direction and the VLAN tag that the link took off.
 *
 * The ring is read and given back through /proc/self/mem: one call for a whole block, and no pointer in JavaScript.
 */

export type Reception = 'unicast' | 'broadcast' | 'multicast' | 'promiscuous'

export interface Packet {
  /** Nanoseconds since 1970. */
  readonly time: bigint
  readonly direction: 'in' | 'out'
  /** To whom it was addressed; undefined for what this namespace sent. */
  readonly reception?: Reception
  /** Bytes on the wire; `data` may have fewer. */
  readonly length: number
  readonly data: Buffer
}

const solPacket = 263 // SOL_PACKET
const options = { addMembership: 1, receiveRing: 5, statistics: 6, version: 10 } as const // PACKET_*
const allProtocols = 3 // ETH_P_ALL

/**
 * A block goes to us when it is full or after this time. A packet must fit into one: links carry up to 64 KiB at once
 * (segmentation offload). Blocks that hold little are given to us too, so there are many.
 */
export const retireMilliseconds = 20
const blockSize = 128 * 1024
const mostBlocks = 32

const ours = 1 // TP_STATUS_USER, in a block's status
const hasTag = 0x10 // TP_STATUS_VLAN_VALID
const hasTagProtocol = 0x40 // TP_STATUS_VLAN_TPID_VALID

const blockHeader = 48 // struct tpacket_block_desc
const statusOffset = 8
const packetHeader = 48 // struct tpacket3_hdr; struct sockaddr_ll follows

/** PACKET_HOST to PACKET_OTHERHOST, the rest of sll_pkttype is what leaves. */
const receptions: readonly Reception[] = ['unicast', 'broadcast', 'multicast', 'promiscuous']

/** The packets of one block of the ring. */
export function decodeBlock(block: Buffer): Packet[] {
  const packets: Packet[] = []
  const count = block.readUInt32LE(12) // num_pkts
  let at = block.readUInt32LE(16) // offset_to_first_pkt
  for (let i = 0; i < count; i++) {
    packets.push(decodePacket(block, at))
    at += block.readUInt32LE(at) // tp_next_offset
  }
  return packets
}

function decodePacket(block: Buffer, at: number): Packet {
  const u32 = (offset: number) => block.readUInt32LE(at + offset)
  const start = at + block.readUInt16LE(at + 24) // tp_mac
  const data = block.subarray(start, start + u32(12)) // tp_snaplen
  const type = block[at + packetHeader + 10]! // sll_pkttype
  const tag = u32(20) & hasTag ? tagOf(u32(20), u32(32), block.readUInt16LE(at + 36)) : undefined
  return {
    time: BigInt(u32(4)) * 1_000_000_000n + BigInt(u32(8)),
    direction: type < receptions.length ? 'in' : 'out',
    reception: receptions[type],
    length: u32(16) + (tag?.length ?? 0),
    data: tag ? Buffer.concat([data.subarray(0, 12), tag, data.subarray(12)]) : data,
  }
}

/** What stood between the addresses and the type of the frame, before the link took it off (802.1Q). */
function tagOf(status: number, control: number, protocol: number): Buffer {
  const tag = Buffer.alloc(4)
  tag.writeUInt16BE(status & hasTagProtocol ? protocol : 0x8100, 0)
  tag.writeUInt16BE(control & 0xffff, 2)
  return tag
}

const words = (...values: number[]): Buffer => Buffer.from(Uint32Array.from(values).buffer)

/** struct sockaddr_ll */
function linkAddress(link: LinkRef): Buffer {
  const bytes = Buffer.alloc(20)
  bytes.writeUInt16LE(17, 0) // AF_PACKET
  bytes.writeUInt16BE(allProtocols, 2)
  bytes.writeInt32LE(link.index, 4)
  return bytes
}

export interface PacketOptions {
  /** Also what is addressed to others; true unless told. */
  readonly promiscuous?: boolean
  /** Bytes to keep of each packet; as many as there are unless told. */
  readonly snapLength?: number
  /** Size of the ring, in blocks of 128 KiB; 32 unless told. */
  readonly blocks?: number
}

/** All packets of one link of the namespace that the calling thread is in; the socket stays there. */
export class PacketSocket implements Disposable {
  readonly #fd: number
  readonly #memory: number
  readonly #ring: number
  readonly #blocks: number
  #next = 0
  #received = 0
  #dropped = 0

  constructor(
    readonly link: LinkRef,
    { promiscuous = true, snapLength, blocks = mostBlocks }: PacketOptions = {},
  ) {
    const subject = link.name
    this.#blocks = blocks
    // Protocol 0: nothing arrives before bind(2) has said from which link.
    this.#fd = checked(libc.socket(17, 3 | 0o2000000, 0), 'open packet socket on', subject) // SOCK_RAW | SOCK_CLOEXEC
    this.#memory = fs.openSync('/proc/self/mem', 'r+')
    try {
      this.#set(options.version, words(2)) // TPACKET_V3
      const frameSize = 2048 // says nothing in this version, but must divide the block
      const frames = (blockSize / frameSize) * blocks
      this.#set(options.receiveRing, words(blockSize, blocks, frameSize, frames, retireMilliseconds, 0, 0))
      const [protection, shared] = [3, 1] // PROT_READ | PROT_WRITE, MAP_SHARED
      const address = Number(libc.mmap(null, blockSize * blocks, protection, shared, this.#fd, 0))
      this.#ring = checked(address, 'map packet ring of', subject)
    } catch (error) {
      this.#closeFiles()
      throw error
    }
    try {
      if (snapLength !== undefined) this.#keepOnly(snapLength)
      if (promiscuous) this.#set(options.addMembership, words(link.index, 1, 0, 0)) // PACKET_MR_PROMISC
      const to = linkAddress(link)
      checked(libc.bind(this.#fd, to, to.length), 'bind packet socket to', subject)
    } catch (error) {
      this[Symbol.dispose]()
      throw error
    }
  }

  [Symbol.dispose](): void {
    // As long as it is mapped, the socket lives, and with it the namespace.
    libc.munmap(this.#ring, blockSize * this.#blocks)
    this.#closeFiles()
  }

  /**
   * A filter program of one instruction, `ret #N`. The kernel wants its address, and the ring is memory whose address we
   * know: nothing arrives in there before bind(2).
   */
  #keepOnly(bytes: number): void {
    const address = this.#ring + blockSize / 2
    fs.writeSync(this.#memory, words(0x06, bytes), 0, 8, address) // struct sock_filter: BPF_RET | BPF_K
    const program = Buffer.alloc(16) // struct sock_fprog
    program.writeUInt16LE(1, 0)
    program.writeBigUInt64LE(BigInt(address), 8)
    const returned = libc.setsockopt(this.#fd, 1, 26, program, program.length) // SOL_SOCKET, SO_ATTACH_FILTER
    checked(returned, 'limit the packets of', this.link.name)
  }

  #closeFiles(): void {
    fs.closeSync(this.#memory)
    libc.close(this.#fd)
  }

  #set(option: number, value: Buffer): void {
    const returned = libc.setsockopt(this.#fd, solPacket, option, value, value.length)
    checked(returned, 'set up packet socket on', this.link.name)
  }

  /** What has come since the last call, in order. Never waits; a packet may be {@link retireMilliseconds} late. */
  receive(): Packet[] {
    const packets: Packet[] = []
    // One round at most: who only reads never comes to write.
    for (let i = 0; i < this.#blocks; i++) {
      const address = this.#ring + this.#next * blockSize
      const header = Buffer.allocUnsafe(blockHeader)
      fs.readSync(this.#memory, header, 0, blockHeader, address)
      if (!(header.readUInt32LE(statusOffset) & ours)) break
      const block = Buffer.allocUnsafeSlow(header.readUInt32LE(20)) // blk_len
      fs.readSync(this.#memory, block, 0, block.length, address)
      packets.push(...decodeBlock(block))
      fs.writeSync(this.#memory, words(0), 0, 4, address + statusOffset) // TP_STATUS_KERNEL: the kernel's again
      this.#next = (this.#next + 1) % this.#blocks
    }
    return packets
  }

  /** Packets since the socket was opened; those dropped found the ring full. */
  statistics(): { readonly received: number; readonly dropped: number } {
    const value = Buffer.alloc(12) // struct tpacket_stats_v3; reading sets the kernel's counters to 0
    checked(
      libc.getsockopt(this.#fd, solPacket, options.statistics, value, words(value.length)),
      'count packets of',
      this.link.name,
    )
    this.#received += value.readUInt32LE(0)
    this.#dropped += value.readUInt32LE(4)
    return { received: this.#received, dropped: this.#dropped }
  }

  /** True once after the link went down or away. It comes back to life with the link, unless that was deleted. */
  wentDown(): boolean {
    const value = Buffer.alloc(4)
    checked(libc.getsockopt(this.#fd, 1, 4, value, words(4)), 'ask state of', this.link.name) // SOL_SOCKET, SO_ERROR
    const errno = value.readInt32LE(0)
    if (errno === 0) return false
    if (errno === 100) return true // ENETDOWN
    throw new KernelError('receive packets of', this.link.name, errno)
  }
}
