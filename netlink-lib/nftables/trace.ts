import {
  attributes,
  type Codec,
  cString,
  type Decoded,
  i32be,
  message,
  raw,
  struct,
  u8,
  u16be,
  u32be,
  u64be,
} from '../bytes.ts'
import { KernelError } from '../errors.ts'
import { checked, lastErrno, libc } from '../libc.ts'
import { protocols, unframe } from '../socket.ts'
import { type Command, nameOf, type TableRef } from './commands.ts'
import { type Expression, registers } from './expressions.ts'
import { families, messageTypes, tableMessage } from './messages.ts'

/*
 * What nf_tables tells of a traced packet (include/uapi/linux/netfilter/nf_tables.h, enum nft_trace_attributes): one
 * message for every rule that matched, and one for the end of every base chain. `nft monitor trace` prints them.
 */

const traceType = (10 << 8) | 17 // NFNL_SUBSYS_NFTABLES, NFT_MSG_TRACE
const traceGroup = 9 // NFNLGRP_NFTRACE

/** enum nft_trace_types: what has spoken. */
export const traceTypes = { policy: 1, return: 2, rule: 3 } as const

/** Without NLA_F_NESTED, as the kernel sends it here. */
const unmarked = <T>({ encode, decode }: Codec<T>): Codec<T> => ({ encode, decode })

/** struct nfgenmsg. */
const header = struct({ family: u8, version: u8, resource: u16be })

export const traceMessage = message(
  header,
  attributes({
    table: [1, cString], // NFTA_TRACE_TABLE
    chain: [2, cString], // NFTA_TRACE_CHAIN
    handle: [3, u64be], // NFTA_TRACE_RULE_HANDLE
    type: [4, u32be], // NFTA_TRACE_TYPE: enum nft_trace_types
    verdict: [
      5, // NFTA_TRACE_VERDICT
      unmarked(
        attributes({
          code: [1, i32be], // NFTA_VERDICT_CODE
          chain: [2, cString], // NFTA_VERDICT_CHAIN
        }),
      ),
    ],
    id: [6, u32be], // NFTA_TRACE_ID: of the packet
    linkHeader: [7, raw], // NFTA_TRACE_LL_HEADER
    networkHeader: [8, raw], // NFTA_TRACE_NETWORK_HEADER: once for each base chain
    transportHeader: [9, raw], // NFTA_TRACE_TRANSPORT_HEADER
    inLink: [10, u32be], // NFTA_TRACE_IIF
    inLinkType: [11, u16be], // NFTA_TRACE_IIFTYPE
    outLink: [12, u32be], // NFTA_TRACE_OIF
    outLinkType: [13, u16be], // NFTA_TRACE_OIFTYPE
    mark: [14, u32be], // NFTA_TRACE_MARK
    protocol: [15, u32be], // NFTA_TRACE_NFPROTO
    policy: [16, u32be], // NFTA_TRACE_POLICY
  }),
)
export type TraceMessage = Decoded<typeof traceMessage>

/** `meta nftrace set 1`: from here on the packet is traced, until it leaves the namespace. */
export const traced = (): Expression[] => [
  { immediate: { dreg: registers.r1, data: { value: Buffer.from([1]) } } },
  { meta: { key: 12, sreg: registers.r1 } }, // NFT_META_NFTRACE
]

/** A table that ends with the socket that made it, however the process ends (since Linux 5.12). */
export const createOwnedTable = (table: TableRef): Command => ({
  type: messageTypes.newTable,
  flags: 0x600, // NLM_F_CREATE | NLM_F_EXCL
  body: tableMessage.encode({ family: families[table.family], name: table.name, flags: 2 }), // NFT_TABLE_F_OWNER
  operation: 'create table',
  subject: nameOf(table),
})

/** Deletes the table with all that is in it. */
export const deleteTableWithContent = (table: TableRef): Command => ({
  type: messageTypes.deleteTable,
  body: tableMessage.encode({ family: families[table.family], name: table.name }),
  operation: 'delete table',
  subject: nameOf(table),
})

/** Listens to what happens to traced packets in the network namespace it was opened in. */
export class TraceSocket implements Disposable {
  readonly #fd: number
  readonly #buffer = Buffer.allocUnsafeSlow(64 * 1024)

  constructor() {
    const rawNonblocking = 3 | 0o2004000 // SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK
    this.#fd = checked(libc.socket(16, rawNonblocking, protocols.netfilter), 'open netlink socket', '(netfilter)')
    try {
      const address = Buffer.alloc(12) // struct sockaddr_nl: without a port of its own it would hear nothing
      address.writeUInt16LE(16, 0) // AF_NETLINK
      checked(libc.bind(this.#fd, address, address.length), 'bind netlink socket', '(netfilter)')
      const group = Buffer.from([traceGroup, 0, 0, 0])
      checked(libc.setsockopt(this.#fd, 270, 1, group, 4), 'listen to', 'traced packets') // NETLINK_ADD_MEMBERSHIP
      const size = Buffer.alloc(4)
      size.writeUInt32LE(4 * 1024 * 1024)
      libc.setsockopt(this.#fd, 1, 33, size, 4) // SOL_SOCKET, SO_RCVBUFFORCE: without it a burst would be cut
    } catch (error) {
      this[Symbol.dispose]()
      throw error
    }
  }

  [Symbol.dispose](): void {
    libc.close(this.#fd)
  }

  /** What has been told since the last call; never waits. ENOBUFS: something was lost, the rest is still told. */
  receive(): TraceMessage[] {
    const told: TraceMessage[] = []
    for (;;) {
      const size = Number(libc.recv(this.#fd, this.#buffer, this.#buffer.length, 0))
      if (size < 0) {
        const errno = lastErrno()
        if (errno === 11) return told // EAGAIN
        if (errno !== 4 && errno !== 105) throw new KernelError('receive', 'traced packets', errno) // EINTR, ENOBUFS
        continue
      }
      for (const { type, body } of unframe(Buffer.from(this.#buffer.subarray(0, size))))
        if (type === traceType) told.push(traceMessage.decode(body))
    }
  }
}
