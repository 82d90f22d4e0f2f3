import { type Decoded, struct, u32 } from '../bytes.ts'
import { flags, type Reply, type Request } from '../socket.ts'
import type { LinkRef } from './link.ts'
import { bucketIn, createBucket, deleteQdisc, getQdisc, type TokenBucket, trafficMessage } from './traffic-control.ts'

/**
 * What a link sends, made worse on purpose: late by netem, slow by a token bucket, the latter below the former when it is
 * both (tc-netem(8)). The root's handle tells that it is ours; the system's own choice has the handle 0.
 */
export interface Shaping {
  readonly bucket?: TokenBucket
  readonly lateness?: Lateness
}

/** In microseconds. */
export interface Lateness {
  readonly delay: number
  readonly jitter: number
}

/** `ns:`; what it is on other links than ours, nobody else chooses. */
export const shapingHandle = 0x6e730000
const child = { parent: shapingHandle + 1, handle: 0x6e740000 }
const root = 0xffffffff // TC_H_ROOT

const tick = 0.064 // microseconds; PSCHED_SHIFT, include/net/pkt_sched.h

/** struct tc_netem_qopt, TCA_OPTIONS of kind netem; attributes may follow. */
export const netemParameters = struct({
  latency: u32,
  limit: u32,
  loss: u32,
  gap: u32,
  duplicate: u32,
  jitter: u32,
})

/** The longest delay that the kernel counts in ticks: 274 seconds. */
export const longestDelay = Math.floor(0xffffffff * tick)

/** `tc qdisc add dev LINK root handle 6e73: netem delay … …`. ENOENT where the kernel has no netem. */
function createNetem(link: LinkRef, { delay, jitter }: Lateness): Request {
  const ticks = (microseconds: number) => Math.round(microseconds / tick)
  const options = netemParameters.encode({ latency: ticks(delay), limit: 1000, jitter: ticks(jitter) })
  return {
    type: 36, // RTM_NEWQDISC
    flags: flags.create | flags.exclusive,
    body: trafficMessage.encode({ index: link.index, handle: shapingHandle, parent: root, kind: 'netem', options }),
    operation: `delay by ${delay} µs what is sent by`,
    subject: link.name,
  }
}

/** What makes a link's traffic so, one request after the other. */
export function createShaping(link: LinkRef, { bucket, lateness }: Shaping): Request[] {
  const requests: Request[] = lateness ? [createNetem(link, lateness)] : []
  if (!bucket) return requests
  const request = createBucket(link, bucket)
  const place = lateness ? child : { parent: root, handle: shapingHandle }
  return [
    ...requests,
    { ...request, body: trafficMessage.encode({ ...trafficMessage.decode(request.body), ...place }) },
  ]
}

/** Takes all of it away. */
export const deleteShaping = (link: LinkRef): Request => deleteQdisc(link, 'root')

/** The qdisc below our own root, as {@link getQdisc} asks for the root itself. */
export function getChildQdisc(link: LinkRef): Request {
  const request = getQdisc(link, 'root')
  return {
    ...request,
    body: trafficMessage.encode({ index: link.index, parent: child.parent }),
    operation: 'get child qdisc of',
  }
}

/** A qdisc in an answer: its kind, whether it is ours or the system's choice, and what it does. */
export interface Qdisc {
  readonly kind: string
  readonly owner: 'us' | 'system' | 'somebody'
  readonly bucket?: TokenBucket
  readonly lateness?: Lateness
}

export function qdiscIn(reply: Reply): Qdisc {
  const { kind = '', handle = 0, options } = trafficMessage.decode(reply.body)
  const ours = handle === shapingHandle || handle === child.handle
  return {
    kind,
    owner: handle === 0 ? 'system' : ours ? 'us' : 'somebody',
    ...(kind === 'tbf' && { bucket: readBucket(reply) }),
    ...(kind === 'netem' && options && { lateness: readNetem(netemParameters.decode(options)) }),
  }
}

/** The kernel keeps the time that fills the bucket, rounded: whole bytes come out again. */
function readBucket(reply: Reply): TokenBucket | undefined {
  const state = bucketIn(reply)
  return (
    state && { rate: state.rate, limit: state.limit, burst: Math.round(state.fillTicks * tick * 1e-6 * state.rate) }
  )
}

function readNetem({ latency = 0, jitter = 0 }: Decoded<typeof netemParameters>): Lateness {
  return { delay: Math.round(latency * tick), jitter: Math.round(jitter * tick) }
}
