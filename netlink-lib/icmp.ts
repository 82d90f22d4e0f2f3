import { type Family, familyOf, formatIp, ipBytes } from './ip.ts'
import { checked, lastErrno, libc } from './libc.ts'

/**
 * One ICMP echo request and its reply (RFC 792, RFC 4443), from the network namespace that the calling thread is in.
 * Returns the round trip in milliseconds, or undefined when no reply came within `timeoutMs`.
 * Throws KernelError when the request cannot leave: ENETUNREACH without a route, EPERM without CAP_NET_RAW.
 */
export function echo(address: string, sequence: number, timeoutMs: number): number | undefined {
  const family = familyOf(address)
  const domain = family === 4 ? 2 : 10 // AF_INET, AF_INET6
  const protocol = family === 4 ? 1 : 58 // IPPROTO_ICMP, IPPROTO_ICMPV6
  const fd = checked(libc.socket(domain, 3 | 0o2000000, protocol), 'open raw socket for', address) // SOCK_RAW | SOCK_CLOEXEC
  try {
    const timeout = Buffer.alloc(16) // struct timeval
    timeout.writeBigInt64LE(BigInt(Math.floor(timeoutMs / 1000)), 0)
    timeout.writeBigInt64LE(BigInt((timeoutMs % 1000) * 1000), 8)
    libc.setsockopt(fd, 1, 20, timeout, 16) // SOL_SOCKET, SO_RCVTIMEO
    const identifier = process.pid & 0xffff
    const request = echoRequest(family, identifier, sequence)
    const target = socketAddress(address)
    const sent = performance.now()
    checked(Number(libc.sendto(fd, request, request.length, 0, target, target.length)), 'send echo request to', address)
    const reply = Buffer.alloc(2048)
    while (performance.now() - sent < timeoutMs) {
      const size = Number(libc.recv(fd, reply, reply.length, 0))
      if (size < 0) {
        const errno = lastErrno()
        if (errno === 11) return undefined // EAGAIN: SO_RCVTIMEO ran out
        if (errno === 4) continue // EINTR
        checked(size, 'receive echo reply from', address)
      }
      if (isReply(family, reply.subarray(0, size), identifier, sequence)) return performance.now() - sent
    }
    return undefined
  } finally {
    libc.close(fd)
  }
}

/** Type, code, checksum, identifier, sequence and 8 bytes of data. The kernel fills in ICMPv6's checksum. */
export function echoRequest(family: 4 | 6, identifier: number, sequence: number): Buffer {
  const bytes = Buffer.alloc(16)
  bytes.writeUInt8(family === 4 ? 8 : 128, 0)
  bytes.writeUInt16BE(identifier, 4)
  bytes.writeUInt16BE(sequence, 6)
  if (family === 4) bytes.writeUInt16BE(internetChecksum(bytes), 2)
  return bytes
}

/** RFC 1071 */
export function internetChecksum(bytes: Buffer): number {
  let sum = 0
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

/** Raw IPv4 sockets deliver the IP header too, IPv6 ones don't. */
function isReply(family: 4 | 6, packet: Buffer, identifier: number, sequence: number): boolean {
  const at = family === 4 ? (packet[0]! & 0xf) * 4 : 0
  if (packet.length < at + 8) return false
  const replyType = family === 4 ? 0 : 129
  return (
    packet[at] === replyType && packet.readUInt16BE(at + 4) === identifier && packet.readUInt16BE(at + 6) === sequence
  )
}

/** struct sockaddr_in or sockaddr_in6. */
export function socketAddress(address: string, port = 0): Buffer {
  const bytes = ipBytes(address)
  const result = Buffer.alloc(bytes.length === 4 ? 16 : 28)
  result.writeUInt16LE(bytes.length === 4 ? 2 : 10, 0)
  result.writeUInt16BE(port, 2)
  bytes.copy(result, bytes.length === 4 ? 4 : 8)
  return result
}

const rawProtocols = { icmp: { 4: 1, 6: 58 }, tcp: { 4: 6, 6: 6 } } as const

/**
 * A raw socket in the network namespace that the calling thread is in: it sends what it is given and hears all packets
 * of its protocol. It never waits.
 */
export class RawSocket implements Disposable {
  readonly #fd: number
  readonly #buffer = Buffer.allocUnsafeSlow(64 * 1024)

  constructor(
    readonly protocol: keyof typeof rawProtocols,
    readonly family: Family,
  ) {
    const nonblocking = 3 | 0o2004000 // SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK
    const domain = family === 4 ? 2 : 10 // AF_INET, AF_INET6
    this.#fd = checked(
      libc.socket(domain, nonblocking, rawProtocols[protocol][family]),
      'open raw socket for',
      protocol,
    )
    const size = Buffer.alloc(4)
    size.writeUInt32LE(4 * 1024 * 1024)
    libc.setsockopt(this.#fd, 1, 33, size, 4) // SOL_SOCKET, SO_RCVBUFFORCE: answers to many requests come at once
  }

  [Symbol.dispose](): void {
    libc.close(this.#fd)
  }

  /** Throws KernelError when it cannot leave: ENETUNREACH, EHOSTUNREACH, EPERM by a rule of the sender. */
  send(packet: Buffer, address: string): void {
    const target = socketAddress(address)
    checked(
      Number(libc.sendto(this.#fd, packet, packet.length, 0, target, target.length)),
      `send ${this.protocol} packet to`,
      address,
    )
  }

  /** What has come in since the last call, without its IP header, and from whom: IPv6 does not tell. */
  receive(): { readonly from: string | undefined; readonly packet: Buffer }[] {
    const received: { from: string | undefined; packet: Buffer }[] = []
    for (;;) {
      const size = Number(libc.recv(this.#fd, this.#buffer, this.#buffer.length, 0))
      if (size < 0) {
        const errno = lastErrno()
        if (errno === 11) return received // EAGAIN
        if (errno !== 4) checked(size, 'receive', `${this.protocol} packets`) // EINTR
        continue
      }
      const bytes = Buffer.from(this.#buffer.subarray(0, size))
      if (this.family === 6) received.push({ from: undefined, packet: bytes })
      else if (size >= 20)
        received.push({ from: formatIp(bytes.subarray(12, 16)), packet: bytes.subarray((bytes[0]! & 0xf) * 4) })
    }
  }
}

/** Sequence number of an echo reply to this identifier; undefined for every other packet. */
export function echoReplySequence(family: Family, packet: Buffer, identifier: number): number | undefined {
  if (packet.length < 8 || packet[0] !== (family === 4 ? 0 : 129)) return undefined
  return packet.readUInt16BE(4) === identifier ? packet.readUInt16BE(6) : undefined
}
