import { attributes, type Decoded, message, struct, u8, u32 } from '../bytes.ts'
import { isKernelError, KernelError } from '../errors.ts'
import { bitsOf, type Cidr, familyOf } from '../ip.ts'
import type { NetlinkSocket } from '../socket.ts'
import { familyNumber, ip, messageTypes } from './wire.ts'

/** Where the kernel would send a packet, asked of it: `ip route get`. */

/** struct rtmsg. */
const header = struct({
  family: u8,
  dstPrefix: u8,
  srcPrefix: u8,
  tos: u8,
  shortTable: u8,
  protocol: u8,
  scope: u8,
  type: u8,
  flags: u32,
})

/** A question, or its answer; the messages of {@link routeMessage} are about routes, this one about a packet. */
export const decisionMessage = message(
  header,
  attributes({
    dst: [1, ip], // RTA_DST
    src: [2, ip], // RTA_SRC
    inLink: [3, u32], // RTA_IIF: makes it a packet that comes in
    outLink: [4, u32], // RTA_OIF
    gateway: [5, ip], // RTA_GATEWAY
    preferredSource: [7, ip], // RTA_PREFSRC
    table: [15, u32], // RTA_TABLE
    mark: [16, u32], // RTA_MARK
  }),
)
export type DecisionMessage = Decoded<typeof decisionMessage>

const matchedRoute = 0x2000 // RTM_F_FIB_MATCH: answer with the route that matched, not with a copy for this destination

/** RTN_*: what becomes of the packet. */
const kinds = {
  1: 'unicast',
  2: 'local',
  3: 'broadcast',
  5: 'multicast',
  6: 'blackhole',
  7: 'unreachable',
  8: 'prohibit',
} as const
export type RouteKind = (typeof kinds)[keyof typeof kinds] | 'other'

export interface Decision {
  readonly kind: RouteKind
  /** Index of the link it leaves by. */
  readonly link: number
  readonly gateway?: string
  /** The address it leaves from, when it has none yet. */
  readonly source?: string
  /** The route that matched; undefined where the kernel does not tell (before Linux 4.16). */
  readonly route?: Cidr
}

/** A packet to route. With `inLink`, one that has come in by this link; it needs a source then. */
export interface RouteQuery {
  readonly destination: string
  readonly source?: string
  readonly inLink?: number
  readonly mark?: number
}

/** No route: which way the kernel says it. */
export interface NoRoute {
  /** ENETUNREACH: none matches. EHOSTUNREACH, EACCES, EINVAL: one that refuses. EXDEV: from there only to be sent elsewhere. */
  readonly refused: string
}

/** Asks in the namespace of the socket. */
export function decide(netlink: NetlinkSocket, query: RouteQuery): Decision | NoRoute {
  const { destination } = query
  const family = familyOf(destination)
  try {
    const answer = ask(netlink, query, 0)
    const kind = kinds[answer.type as keyof typeof kinds] ?? 'other'
    const { outLink: link = 0, gateway, preferredSource: source } = answer
    return { kind, link, gateway, source, route: matched(netlink, query, family) }
  } catch (error) {
    if (isKernelError(error, 'ENETUNREACH', 'EHOSTUNREACH', 'EACCES', 'EINVAL', 'EXDEV', 'ENETDOWN'))
      return { refused: error.code }
    throw error
  }
}

function matched(netlink: NetlinkSocket, query: RouteQuery, family: 4 | 6): Cidr | undefined {
  try {
    const { dst, dstPrefix = 0 } = ask(netlink, query, matchedRoute)
    return { address: dst ?? (family === 4 ? '0.0.0.0' : '::'), prefix: dstPrefix, family }
  } catch (error) {
    if (error instanceof KernelError) return undefined // it is for a text only
    throw error
  }
}

function ask(
  netlink: NetlinkSocket,
  { destination, source, inLink, mark }: RouteQuery,
  flags: number,
): DecisionMessage {
  const bits = bitsOf(familyOf(destination))
  const [reply] = netlink.request({
    type: messageTypes.getRoute,
    body: decisionMessage.encode({
      family: familyNumber(destination),
      dstPrefix: bits,
      srcPrefix: source ? bits : 0,
      flags,
      dst: destination,
      src: source,
      inLink,
      mark,
    }),
    operation: 'find route to',
    subject: destination,
  })
  return decisionMessage.decode(reply!.body)
}
