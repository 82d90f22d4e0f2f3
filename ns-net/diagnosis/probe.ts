import { isKernelError, KernelError } from '../../netlink-lib/errors.ts'
import { echoReplySequence, echoRequest, RawSocket, socketAddress } from '../../netlink-lib/icmp.ts'
import { type Family, ipBytes } from '../../netlink-lib/ip.ts'
import { checked, lastErrno, libc } from '../../netlink-lib/libc.ts'
import { type Protocol, protocolNumber } from './packet.ts'
import type { Place } from './places.ts'
import { synAnswer, synPacket } from './syn.ts'

/** Real packets: echo requests, half-open connections or datagrams, and whatever comes back because of them. */

export interface Target {
  readonly family: Family
  readonly protocol: Protocol
  readonly source: string
  readonly destination: string
  readonly port?: number
}

export type Answer =
  | { readonly kind: 'reply' }
  | { readonly kind: 'refused' }
  /** An ICMP error about the packet, from whoever could not or would not deliver it. */
  | { readonly kind: 'error'; readonly from: string | undefined; readonly text: string }

/** One after the other, from a port of its own, so that the packets can be told from all others. */
export interface Prober extends Disposable {
  /** TCP and UDP. */
  readonly sourcePort?: number
  /** Throws KernelError when it cannot leave. */
  send(): void
  /** What has come since the last call; never waits. */
  receive(): Answer[]
}

export function openProber(place: Place, target: Target): Prober {
  return place.inside<Prober>(() => {
    const errors = new RawSocket('icmp', target.family)
    const prober = { icmp: echoProber, tcp: synProber, udp: datagramProber }[target.protocol](target)
    return {
      sourcePort: prober.sourcePort,
      send: prober.send,
      receive: () => [
        ...prober.receive(),
        ...errors.receive().flatMap(({ from, packet }) => errorAbout(target, from, packet)),
      ],
      [Symbol.dispose]() {
        prober[Symbol.dispose]()
        errors[Symbol.dispose]()
      },
    }
  })
}

/** 1024 to 65535 without the ports that listen most; two probes at once must not have the same. */
const randomPort = (): number => 20_000 + Math.floor(Math.random() * 12_000)

function echoProber({ family, destination }: Target): Prober {
  const socket = new RawSocket('icmp', family)
  const identifier = randomPort()
  let sequence = 0
  return {
    send: () => socket.send(echoRequest(family, identifier, ++sequence), destination),
    receive: () =>
      socket.receive().flatMap(({ packet }) => {
        const found = echoReplySequence(family, packet, identifier)
        return found === undefined ? [] : [{ kind: 'reply' as const }]
      }),
    [Symbol.dispose]: () => socket[Symbol.dispose](),
  }
}

function synProber({ family, source, destination, port = 0 }: Target): Prober {
  const socket = new RawSocket('tcp', family)
  const sourcePort = randomPort()
  return {
    sourcePort,
    send: () => socket.send(synPacket(source, sourcePort, destination, port), destination),
    receive: () =>
      socket.receive().flatMap(({ packet }) => {
        const answer = synAnswer(packet)
        if (answer?.sourcePort !== sourcePort || answer.port !== port) return []
        return [{ kind: answer.state === 'open' ? ('reply' as const) : ('refused' as const) }]
      }),
    [Symbol.dispose]: () => socket[Symbol.dispose](),
  }
}

function datagramProber({ family, destination, port = 0 }: Target): Prober {
  const nonblocking = 2 | 0o2004000 // SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK
  const fd = checked(libc.socket(family === 4 ? 2 : 10, nonblocking, 17), 'open datagram socket for', destination)
  const sourcePort = bindToFreePort(fd, family)
  const buffer = Buffer.alloc(2048)
  const payload = Buffer.from('ns-net why\n')
  return {
    sourcePort,
    send() {
      const address = socketAddress(destination, port)
      checked(
        Number(libc.sendto(fd, payload, payload.length, 0, address, address.length)),
        'send datagram to',
        destination,
      )
    },
    receive: () => (Number(libc.recv(fd, buffer, buffer.length, 0)) >= 0 ? [{ kind: 'reply' }] : []),
    [Symbol.dispose]: () => void libc.close(fd),
  }
}

function bindToFreePort(fd: number, family: Family): number {
  for (;;) {
    const port = randomPort()
    const address = socketAddress(family === 4 ? '0.0.0.0' : '::', port)
    if (libc.bind(fd, address, address.length) === 0) return port
    const errno = lastErrno()
    if (errno !== 98) throw new KernelError('bind datagram socket to', String(port), errno) // EADDRINUSE
  }
}

/** RFC 792 and RFC 4443: destination unreachable and time exceeded. */
const errorTexts: Readonly<Record<string, string>> = {
  '4 3 0': 'network unreachable',
  '4 3 1': 'host unreachable',
  '4 3 3': 'port unreachable',
  '4 3 9': 'administratively prohibited',
  '4 3 10': 'administratively prohibited',
  '4 3 13': 'administratively prohibited',
  '4 11 0': 'time to live exceeded',
  '6 1 0': 'no route',
  '6 1 1': 'administratively prohibited',
  '6 1 3': 'address unreachable',
  '6 1 4': 'port unreachable',
  '6 1 5': 'refused by policy',
  '6 1 6': 'a route rejects it',
  '6 3 0': 'hop limit exceeded',
}

/** An ICMP error carries the packet that it is about; ours are known by destination and protocol. */
function errorAbout(target: Target, from: string | undefined, packet: Buffer): Answer[] {
  const { family, destination, port } = target
  const text = errorTexts[`${family} ${packet[0]} ${packet[1]}`]
  const inner = packet.subarray(8)
  const size = family === 4 ? ((inner[0] ?? 0) & 0xf) * 4 : 40
  if (text === undefined || inner.length < size + 4) return []
  const [protocol, to] = family === 4 ? [inner[9], inner.subarray(16, 20)] : [inner[6], inner.subarray(24, 40)]
  if (protocol !== protocolNumber(target) || !to.equals(ipBytes(destination))) return []
  if (port !== undefined && inner.readUInt16BE(size + 2) !== port) return []
  if (text === 'port unreachable' && target.protocol === 'udp') return [{ kind: 'refused' }]
  return [{ kind: 'error', from, text }]
}

/** Why a packet could not be sent at all. */
export function sendingFailure(error: unknown): string | undefined {
  if (isKernelError(error, 'ENETUNREACH', 'EHOSTUNREACH', 'EADDRNOTAVAIL', 'ENETDOWN', 'EINVAL', 'EACCES'))
    return error.message
  if (isKernelError(error, 'EPERM')) return 'a rule in the output of the sender refused it'
  return undefined
}
