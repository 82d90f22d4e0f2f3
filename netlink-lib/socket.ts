import { attributes, cString, u32 } from './bytes.ts'
import { KernelError } from './errors.ts'
import { journal } from './journal.ts'
import { checked, lastErrno, libc } from './libc.ts'

/** Message flags (include/uapi/linux/netlink.h). */
export const flags = {
  request: 0x1, // NLM_F_REQUEST
  multi: 0x2, // NLM_F_MULTI
  ack: 0x4, // NLM_F_ACK
  dumpInterrupted: 0x10, // NLM_F_DUMP_INTR
  dump: 0x300, // NLM_F_ROOT | NLM_F_MATCH
  replace: 0x100, // NLM_F_REPLACE
  exclusive: 0x200, // NLM_F_EXCL
  create: 0x400, // NLM_F_CREATE
  append: 0x800, // NLM_F_APPEND
} as const

/** Protocols (socket(2) third argument). */
export const protocols = { route: 0, netfilter: 12 } as const

const errorType = 2 // NLMSG_ERROR
const doneType = 3 // NLMSG_DONE
const errorFlags = { capped: 0x100, tlvs: 0x200 } // NLM_F_CAPPED, NLM_F_ACK_TLVS
const headerSize = 16 // struct nlmsghdr

/** What to send, and how to call it when the kernel refuses. */
export interface Request {
  readonly type: number
  /** NLM_F_* besides NLM_F_REQUEST; {@link NetlinkSocket} adds NLM_F_ACK or NLM_F_DUMP. */
  readonly flags?: number
  readonly body: Buffer
  /** For the error text: `create veth`. */
  readonly operation: string
  /** For the error text: `eth0`. */
  readonly subject: string
}

export interface Reply {
  readonly type: number
  readonly flags: number
  readonly sequence: number
  readonly body: Buffer
}

/** struct nlmsghdr and the body, padded to 4. */
export function frame(type: number, messageFlags: number, sequence: number, body: Buffer): Buffer {
  const bytes = Buffer.alloc((headerSize + body.length + 3) & ~3)
  bytes.writeUInt32LE(headerSize + body.length, 0)
  bytes.writeUInt16LE(type, 4)
  bytes.writeUInt16LE(messageFlags, 6)
  bytes.writeUInt32LE(sequence, 8)
  body.copy(bytes, headerSize)
  return bytes
}

/** Splits one datagram into its messages. */
export function unframe(bytes: Buffer): Reply[] {
  const replies: Reply[] = []
  for (let at = 0; at + headerSize <= bytes.length; ) {
    const length = bytes.readUInt32LE(at)
    if (length < headerSize || at + length > bytes.length) throw new Error(`malformed netlink datagram at byte ${at}`)
    replies.push({
      type: bytes.readUInt16LE(at + 4),
      flags: bytes.readUInt16LE(at + 6),
      sequence: bytes.readUInt32LE(at + 8),
      body: bytes.subarray(at + headerSize, at + length),
    })
    at += (length + 3) & ~3
  }
  return replies
}

/** NLMSGERR_ATTR_*: the extended acknowledgement behind an error. */
const extendedAck = attributes({ message: [1, cString], offset: [2, u32] })

/**
 * errno and the kernel's explanation in an NLMSG_ERROR or NLMSG_DONE message; undefined for an acknowledgement.
 * Layout: i32 error, then (ERROR only) the request's header, its body unless NLM_F_CAPPED, then the attributes.
 */
export function errorIn(reply: Reply): { errno: number; message?: string; offset?: number } | undefined {
  if (reply.body.length < 4) return undefined
  const errno = -reply.body.readInt32LE(0)
  if (errno === 0) return undefined
  if (!(reply.flags & errorFlags.tlvs)) return { errno }
  let at = 4
  if (reply.type === errorType) {
    const capped = reply.flags & errorFlags.capped
    at += capped ? headerSize : (reply.body.readUInt32LE(4) + 3) & ~3
  }
  if (at > reply.body.length) return { errno }
  return { errno, ...extendedAck.decode(reply.body.subarray(at), at) }
}

function failure(request: Request, error: NonNullable<ReturnType<typeof errorIn>>): KernelError {
  return new KernelError(request.operation, request.subject, error.errno, error.message, error.offset)
}

const dumpAttempts = 8

/** The kernel's answers have at most 32 KiB (netlink_recvmsg); a longer one would be cut and is refused. */
const receiveSize = 64 * 1024
let receiveBuffer: Buffer | undefined

/**
 * Repeats a dump that the kernel marks as interrupted by a change of the table, at most 8 times; then EAGAIN is thrown:
 * a partial answer is never returned as a whole one.
 */
export function readWhole(request: Request, attempt: () => Reply[] | undefined): Reply[] {
  for (let i = 0; i < dumpAttempts; i++) {
    const replies = attempt()
    if (replies) return replies
  }
  throw new KernelError(request.operation, request.subject, 11, `table changed during each of ${dumpAttempts} reads`)
}

/** The parts of one dump up to NLMSG_DONE, undefined when it was interrupted. `receive` gives one datagram's messages. */
export function readDump(request: Request, sequence: number, receive: () => Reply[]): Reply[] | undefined {
  const replies: Reply[] = []
  let interrupted = false
  for (;;) {
    for (const reply of receive()) {
      if (reply.sequence !== sequence) continue
      if (reply.flags & flags.dumpInterrupted) interrupted = true
      if (reply.type === doneType || reply.type === errorType) {
        const error = errorIn(reply)
        if (error) throw failure(request, error)
        return interrupted ? undefined : replies
      }
      replies.push(reply)
    }
  }
}

/**
 * A synchronous netlink socket. It stays in the network namespace it was opened in, whatever the thread does later.
 * The kernel answers within send(2), so nothing here ever waits for a message that may not come.
 */
export class NetlinkSocket implements Disposable {
  readonly #fd: number
  #sequence = 1

  constructor(protocol: number) {
    const rawCloexec = 3 | 0o2000000 // SOCK_RAW | SOCK_CLOEXEC
    this.#fd = checked(libc.socket(16, rawCloexec, protocol), 'open netlink socket', `(protocol ${protocol})`) // AF_NETLINK
    const one = Buffer.from([1, 0, 0, 0])
    // Older kernels lack one or the other; without them errors are only less talkative.
    libc.setsockopt(this.#fd, 270, 11, one, 4) // SOL_NETLINK, NETLINK_EXT_ACK
    libc.setsockopt(this.#fd, 270, 10, one, 4) // SOL_NETLINK, NETLINK_CAP_ACK
    libc.setsockopt(this.#fd, 270, 12, one, 4) // SOL_NETLINK, NETLINK_GET_STRICT_CHK: dumps honour their filters
    journal?.opened(this)
  }

  [Symbol.dispose](): void {
    libc.close(this.#fd)
  }

  /** Sends one request and returns its replies without the acknowledgement. */
  request(request: Request): Reply[] {
    return this.batch([request])
  }

  /**
   * Asks for one thing. It is its own acknowledgement, or an error is thrown; undefined when the kernel says neither, as
   * it does where it tells only a multicast group.
   */
  get(request: Request): Reply | undefined {
    journal?.before({ kind: 'request', socket: this, request })
    const sequence = this.#sequence++
    this.#send(frame(request.type, (request.flags ?? 0) | flags.request, sequence, request.body), request)
    for (;;) {
      const datagram = this.#receive(0x40, request) // MSG_DONTWAIT
      if (!datagram) return undefined
      const reply = unframe(datagram).find((each) => each.sequence === sequence)
      const error = reply?.type === errorType ? errorIn(reply) : undefined
      if (error) throw failure(request, error)
      if (reply) return reply
    }
  }

  /**
   * Sends several requests in one datagram. rtnetlink carries them out in order and does not stop at a failing one;
   * the first failure is thrown after all answers are read.
   */
  batch(requests: readonly Request[]): Reply[] {
    const obeyed = journal && requests.map((request) => journal?.before({ kind: 'request', socket: this, request }))
    const first = this.#sequence
    const frames: Buffer[] = []
    for (const { type, flags: own = 0, body } of requests)
      frames.push(frame(type, own | flags.request | flags.ack, this.#sequence++, body))
    this.#send(frames.length === 1 ? frames[0]! : Buffer.concat(frames), requests[0]!)
    const replies: Reply[] = []
    let failed: KernelError | undefined
    // Each request ends with its acknowledgement or its error, and the last one's is the end of all answers.
    for (let unanswered = requests.length; unanswered > 0; ) {
      const datagram = this.#receive(0x40, requests[0]!) // MSG_DONTWAIT
      if (!datagram) break
      for (const reply of unframe(datagram)) {
        const request = requests[reply.sequence - first]
        if (!request) continue
        if (reply.type !== errorType) replies.push(reply)
        else {
          unanswered--
          const error = errorIn(reply)
          if (error) failed ??= failure(request, error)
          else obeyed?.[reply.sequence - first]?.()
        }
      }
    }
    if (failed) throw failed
    return replies
  }

  /** Sends framed bytes as they are and returns everything the kernel answered. Used for netfilter transactions. */
  exchange(bytes: Buffer, request: Request): Reply[] {
    this.#send(bytes, request)
    return this.#drain(request)
  }

  /** The next `count` sequence numbers, the first of which is returned. */
  reserveSequence(count: number): number {
    const first = this.#sequence
    this.#sequence += count
    return first
  }

  /** Reads a whole table, as {@link readWhole} has it. */
  dump(request: Request): Reply[] {
    return readWhole(request, () => {
      const sequence = this.#sequence++
      const dumpFlags = (request.flags ?? 0) | flags.request | flags.dump
      this.#send(frame(request.type, dumpFlags, sequence, request.body), request)
      return readDump(request, sequence, () => unframe(this.#receive(0, request)!))
    })
  }

  #send(bytes: Buffer, request: Request): void {
    checked(Number(libc.send(this.#fd, bytes, bytes.length, 0)), request.operation, request.subject)
  }

  #drain(request: Request): Reply[] {
    const replies: Reply[] = []
    for (;;) {
      const datagram = this.#receive(0x40, request) // MSG_DONTWAIT
      if (!datagram) return replies
      replies.push(...unframe(datagram))
    }
  }

  /** One datagram; undefined when none is queued and `receiveFlags` says not to wait. */
  #receive(receiveFlags: number, request: Request): Buffer | undefined {
    receiveBuffer ??= Buffer.allocUnsafeSlow(receiveSize)
    for (;;) {
      const size = Number(libc.recv(this.#fd, receiveBuffer, receiveSize, receiveFlags | 0x20)) // MSG_TRUNC
      if (size > receiveSize) throw new KernelError(request.operation, request.subject, 90, `reply of ${size} bytes`) // EMSGSIZE
      if (size >= 0) return Buffer.from(receiveBuffer.subarray(0, size))
      const errno = lastErrno()
      if (errno === 11) return undefined // EAGAIN
      if (errno !== 4) throw new KernelError(request.operation, request.subject, errno) // EINTR
    }
  }
}
