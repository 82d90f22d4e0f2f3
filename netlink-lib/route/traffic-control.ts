import {
  attributes,
  type Codec,
  cString,
  type Decoded,
  i32,
  later,
  list,
  message,
  raw,
  struct,
  u8,
  u16,
  u16be,
  u32,
  u32be,
} from '../bytes.ts'
import { flags, type Reply, type Request } from '../socket.ts'
import type { LinkRef } from './link.ts'

/*
 * Queueing disciplines and filters (include/uapi/linux/rtnetlink.h, pkt_sched.h, pkt_cls.h, tc_act/tc_mirred.h): what
 * `tc qdisc` and `tc filter` send. Two things are made of them here: a token bucket limits what leaves through a link,
 * and a redirect lets another link have what comes in, where it can leave through a bucket.
 */

const messageTypes = {
  newQdisc: 36, // RTM_NEWQDISC
  deleteQdisc: 37, // RTM_DELQDISC
  getQdisc: 38, // RTM_GETQDISC
  newFilter: 44, // RTM_NEWTFILTER
  getFilter: 46, // RTM_GETTFILTER
} as const

/** Like tc, without NLA_F_NESTED, which came to the kernel after these attributes. */
const unmarked = <T>({ encode, decode }: Codec<T>): Codec<T> => ({ encode, decode })

const u64: Codec<bigint> = {
  encode(value) {
    const bytes = Buffer.alloc(8)
    bytes.writeBigUInt64LE(value)
    return bytes
  },
  decode: (bytes) => bytes.readBigUInt64LE(),
}

/** struct tcmsg and its attributes. */
export const trafficMessage = later(() =>
  message(
    struct({ family: u8, pad1: u8, pad2: u16, index: i32, handle: u32, parent: u32, info: u32 }),
    attributes({
      kind: [1, cString], // TCA_KIND
      options: [2, raw], // TCA_OPTIONS: its table depends on kind
    }),
  ),
)

/** struct tc_tbf_qopt with its two struct tc_ratespec. */
const bucketParameters = later(() =>
  struct({
    cellLog: u8,
    linkLayer: u8,
    overhead: u16,
    cellAlign: u16,
    mpu: u16,
    rate: u32,
    peakCellLog: u8,
    peakLinkLayer: u8,
    peakOverhead: u16,
    peakCellAlign: u16,
    peakMpu: u16,
    peakRate: u32,
    limit: u32,
    buffer: u32,
    mtu: u32,
  }),
)

/** TCA_OPTIONS of kind tbf. */
export const bucketOptions = later(() =>
  attributes({
    parameters: [1, bucketParameters], // TCA_TBF_PARMS
    rate64: [4, u64], // TCA_TBF_RATE64: bytes per second, when they do not fit the parameters
    burst: [6, u32], // TCA_TBF_BURST: bytes; replaces buffer
  }),
)

/** struct tc_u32_sel with one struct tc_u32_key. */
const selector = later(() =>
  struct({
    flags: u8,
    offsetShift: u8,
    keys: u8,
    pad: u8,
    offsetMask: u16be,
    offset: u16,
    offsetOffset: u16,
    hashOffset: u16,
    hashMask: u32be,
    mask: u32be,
    value: u32be,
    keyOffset: i32,
    keyOffsetMask: i32,
  }),
)

/** struct tc_mirred. */
const mirredParameters = later(() =>
  struct({
    actionIndex: u32,
    capabilities: u32,
    verdict: i32,
    references: i32,
    bindings: i32,
    direction: i32,
    target: u32,
  }),
)

const action = later(() =>
  attributes({
    kind: [1, cString], // TCA_ACT_KIND
    options: [2, attributes({ parameters: [2, mirredParameters] })], // TCA_ACT_OPTIONS, TCA_MIRRED_PARMS
  }),
)

/** TCA_OPTIONS of kind u32. */
export const u32Options = later(() =>
  attributes({
    actions: [7, unmarked(list(1, unmarked(action)))], // TCA_U32_ACT: the first of TCA_ACT_MAX_PRIO
    selector: [5, selector], // TCA_U32_SEL
  }),
)

/** Where a queueing discipline hangs: TC_H_ROOT, TC_H_INGRESS. */
const places = { root: 0xffffffff, ingress: 0xfffffff1 } as const
const ingressHandle = 0xffff0000
const allProtocols = 0x0300 // htons(ETH_P_ALL)
const ethernet = 1 // TC_LINKLAYER_ETHERNET
const terminal = 1 // TC_U32_TERMINAL
const stolen = 4 // TC_ACT_STOLEN
const redirect = 1 // TCA_EGRESS_REDIR
const echo = 0x8 // NLM_F_ECHO: older kernels answer a get only to the multicast group without it

/** A token bucket: what may leave through a link. */
export interface TokenBucket {
  /** Bytes per second. */
  readonly rate: number
  /** Bytes that may leave at once. */
  readonly burst: number
  /** Bytes that may wait; what comes after is dropped. */
  readonly limit: number
}

/** A token bucket as the kernel tells it: its size is only known by the time that the rate needs to fill it. */
export interface BucketState {
  readonly rate: number
  readonly limit: number
  /** In ticks of 64 ns, modulo 2^32. */
  readonly fillTicks: number
}

const tick = 64e-9 // PSCHED_SHIFT, include/net/pkt_sched.h

const ticksOf = ({ rate, burst }: TokenBucket): number => burst / rate / tick

/** True when `state` is what the kernel makes of `wanted`; it rounds the time to its precision. */
export function isBucket(state: BucketState, wanted: TokenBucket): boolean {
  const ticks = ticksOf(wanted)
  const distance = Math.abs(state.fillTicks - (ticks % 2 ** 32))
  const tolerance = 2 + ticks / 2 ** 30
  const isSameTime = Math.min(distance, 2 ** 32 - distance) <= tolerance
  return state.rate === wanted.rate && state.limit === wanted.limit && isSameTime
}

/** `tc qdisc add dev LINK root handle 1: tbf rate … burst … limit …`. EEXIST when the link has one already. */
export function createBucket(link: LinkRef, bucket: TokenBucket): Request {
  const { rate, burst, limit } = bucket
  const buffer = Math.min(Math.round(ticksOf(bucket)), 0xffffffff)
  const options = bucketOptions.encode({
    parameters: { linkLayer: ethernet, cellAlign: 0xffff, rate: Math.min(rate, 0xffffffff), limit, buffer },
    rate64: rate > 0xffffffff ? BigInt(rate) : undefined,
    burst,
  })
  return {
    type: messageTypes.newQdisc,
    flags: flags.create | flags.exclusive,
    body: trafficMessage.encode({ index: link.index, handle: 0x10000, parent: places.root, kind: 'tbf', options }),
    operation: `limit to ${rate} bytes/s, burst ${burst} bytes,`,
    subject: link.name,
  }
}

export const getQdisc = (link: LinkRef, place: keyof typeof places): Request => ({
  type: messageTypes.getQdisc,
  flags: echo,
  body: trafficMessage.encode({ index: link.index, parent: places[place] }),
  operation: `get ${place} qdisc of`,
  subject: link.name,
})

export const deleteQdisc = (link: LinkRef, place: keyof typeof places): Request => ({
  type: messageTypes.deleteQdisc,
  body: trafficMessage.encode({ index: link.index, parent: places[place] }),
  operation: `delete ${place} qdisc of`,
  subject: link.name,
})

/** `tc qdisc add dev LINK ingress`: where filters for what comes in hang. */
export const createIngress = (link: LinkRef): Request => ({
  type: messageTypes.newQdisc,
  flags: flags.create | flags.exclusive,
  body: trafficMessage.encode({
    index: link.index,
    handle: ingressHandle,
    parent: places.ingress,
    kind: 'ingress',
  }),
  operation: 'create ingress qdisc of',
  subject: link.name,
})

/** `tc filter add dev LINK parent ffff: protocol all prio 1 u32 match u32 0 0 action mirred egress redirect dev …`. */
export function createRedirect(link: LinkRef, target: LinkRef): Request {
  const parameters = { verdict: stolen, direction: redirect, target: target.index }
  const options = u32Options.encode({
    actions: [{ kind: 'mirred', options: { parameters } }],
    selector: { flags: terminal, keys: 1 },
  })
  return {
    type: messageTypes.newFilter,
    flags: flags.create | flags.exclusive,
    body: trafficMessage.encode({
      index: link.index,
      parent: ingressHandle,
      info: (1 << 16) | allProtocols,
      kind: 'u32',
      options,
    }),
    operation: `redirect to ${target.name} what comes in from`,
    subject: link.name,
  }
}

/** A dump: all filters for what comes in. */
export const listFilters = (link: LinkRef): Request => ({
  type: messageTypes.getFilter,
  body: trafficMessage.encode({ index: link.index, parent: ingressHandle }),
  operation: 'list filters of',
  subject: link.name,
})

/** The token bucket in the answer to {@link getQdisc}; undefined when the qdisc is another one. */
export function bucketIn(reply: Reply | undefined): BucketState | undefined {
  const { kind, options } = reply ? trafficMessage.decode(reply.body) : {}
  if (kind !== 'tbf' || !options) return undefined
  const { parameters, rate64 } = bucketOptions.decode(options)
  const { rate, limit, buffer } = parameters as Decoded<typeof bucketParameters>
  return { rate: Number(rate64 ?? rate), limit: limit!, fillTicks: buffer! }
}

/** Index of the link that gets everything, among the answers to {@link listFilters}. */
export function redirectIn(replies: readonly Reply[]): number | undefined {
  for (const reply of replies) {
    const { kind, options } = trafficMessage.decode(reply.body)
    if (kind !== 'u32' || !options) continue
    const { actions, selector } = u32Options.decode(options)
    const [first] = actions ?? []
    const parameters = first?.kind === 'mirred' ? first.options?.parameters : undefined
    if (parameters?.direction === redirect && selector?.mask === 0) return parameters.target
  }
  return undefined
}
