import { isKernelError } from '../../netlink-lib/errors.ts'
import { type Cidr, type Family, familyOf, formatIp } from '../../netlink-lib/ip.ts'
import {
  appendRule,
  type Command,
  createChain,
  createTable,
  type Hook,
  hooks,
  type TableRef,
} from '../../netlink-lib/nftables/commands.ts'
import { cmpOps, type Expression, metaKeys, registers } from '../../netlink-lib/nftables/expressions.ts'
import { NetfilterSocket } from '../../netlink-lib/nftables/netfilter-socket.ts'
import { addressIn, joined } from '../../netlink-lib/nftables/statements.ts'
import {
  createOwnedTable,
  deleteTableWithContent,
  type TraceMessage,
  TraceSocket,
  traced,
  traceTypes,
} from '../../netlink-lib/nftables/trace.ts'
import { type Protocol, protocolNumber } from './packet.ts'
import type { Place } from './places.ts'

/** What tells the packets of one connection from all others; a part that is undefined is not asked for. */
export interface Pattern {
  readonly direction: 'there' | 'back'
  readonly protocol: Protocol
  readonly source?: string
  readonly destination?: string
  readonly sourcePort?: number
  readonly destinationPort?: number
}

/** A rule or a policy that dropped packets. */
export interface Drop {
  readonly direction: 'there' | 'back'
  /** `inet t`. */
  readonly table: string
  readonly chain: string
  /** As `nft -a` prints it; undefined when it was the policy. */
  readonly handle?: number
  readonly packets: number
}

/** What became of the packets in one place. */
export interface Traced {
  /** Packets that came by, or were sent from there. */
  readonly there: number
  readonly back: number
  readonly drops: readonly Drop[]
}

const families = { 1: 'inet', 2: 'ip', 5: 'netdev', 7: 'bridge', 10: 'ip6' } as const

/**
 * Traces a connection in one place by a table of its own: two chains before all others, in which its packets get nftrace
 * set. The table is bound to our socket, so that the kernel removes it however we end.
 */
export class Tracer implements Disposable {
  readonly #table: TableRef = { family: 'inet', name: `ns-net-why-${process.pid}` }
  readonly #netfilter: NetfilterSocket
  readonly #messages: TraceMessage[] = []
  #listener: TraceSocket | undefined
  #installed = false

  constructor(
    readonly place: Place,
    readonly patterns: readonly Pattern[],
  ) {
    this.#netfilter = place.inside(() => new NetfilterSocket())
    try {
      this.#listener = place.inside(() => new TraceSocket())
      this.#install()
    } catch (error) {
      this[Symbol.dispose]()
      throw error
    }
  }

  [Symbol.dispose](): void {
    try {
      if (this.#installed) this.#netfilter.transaction([deleteTableWithContent(this.#table)])
    } finally {
      this.#installed = false
      this.#listener?.[Symbol.dispose]()
      this.#netfilter[Symbol.dispose]()
    }
  }

  #install(): void {
    const chains = (['prerouting', 'output'] as const).flatMap((name) => [
      createChain(this.#table, name, firstAt(hooks[name])),
      ...this.patterns.map((pattern) =>
        appendRule(this.#table, name, [...matching(pattern), ...traced()], pattern.direction),
      ),
    ])
    const withTable = (table: Command) => this.#netfilter.transaction([table, ...chains])
    try {
      withTable(createOwnedTable(this.#table))
    } catch (error) {
      // Before Linux 5.12 a table cannot be bound to a socket.
      if (!isKernelError(error, 'EINVAL', 'EOPNOTSUPP')) throw error
      withTable(createTable(this.#table))
    }
    this.#installed = true
  }

  /** Reads what has been told so far; true when something was dropped. */
  listen(): boolean {
    this.#messages.push(...(this.#listener?.receive() ?? []))
    return this.#messages.some(isDrop)
  }

  result(): Traced {
    this.listen()
    const directionOf = new Map<number | undefined, 'there' | 'back'>()
    const count = { there: 0, back: 0 }
    const drops = new Map<string, Drop>()
    for (const message of this.#messages) {
      const own = this.#patternOf(message)
      if (own) {
        count[own]++
        directionOf.set(message.id, own)
      } else if (isDrop(message)) {
        const direction = directionOf.get(message.id) ?? 'there'
        const { chain = '', handle } = message
        const table = `${families[message.family as keyof typeof families] ?? message.family} ${message.table}`
        const key = [direction, table, chain, handle].join(' ')
        const packets = (drops.get(key)?.packets ?? 0) + 1
        drops.set(key, { direction, table, chain, ...(handle !== undefined && { handle: Number(handle) }), packets })
      }
    }
    return { ...count, drops: [...drops.values()] }
  }

  /** The direction of a packet that has just got nftrace set. */
  #patternOf({ table, type, handle, networkHeader }: TraceMessage): 'there' | 'back' | undefined {
    if (table !== this.#table.name || type !== traceTypes.rule || handle === undefined || !networkHeader)
      return undefined
    const { source, destination } = addressesIn(networkHeader)
    return this.patterns.find(
      (pattern) => (pattern.source ?? source) === source && (pattern.destination ?? destination) === destination,
    )?.direction
  }
}

/** NF_DROP, by a rule (reject is one too) or by the policy. */
function isDrop({ type, verdict, policy }: TraceMessage): boolean {
  return type === traceTypes.rule ? verdict?.code === 0 : type === traceTypes.policy && policy === 0
}

/** Before raw (-300) and before fragments are put together (-400) would be too early. */
const firstAt = (number: number): Hook => ({ type: 'filter', number, priority: -350 })

function addressesIn(header: Buffer): { source: string; destination: string } {
  const at = header[0]! >> 4 === 4 ? { source: 12, destination: 16, size: 4 } : { source: 8, destination: 24, size: 16 }
  const address = (from: number) => formatIp(header.subarray(from, from + at.size))
  return { source: address(at.source), destination: address(at.destination) }
}

const single = (address: string): Cidr => {
  const family = familyOf(address)
  return { address, prefix: family === 4 ? 32 : 128, family }
}

function matching({ source, destination, protocol, sourcePort, destinationPort }: Pattern): Expression[] {
  const family: Family = familyOf(source ?? destination ?? '')
  const isProtocol: Expression[] = [
    { meta: { key: metaKeys.l4proto, dreg: registers.r1 } },
    {
      cmp: { sreg: registers.r1, op: cmpOps.eq, data: { value: Buffer.from([protocolNumber({ protocol, family })]) } },
    },
  ]
  return [
    ...joined(
      ...(source === undefined ? [] : [addressIn('saddr', single(source))]),
      ...(destination === undefined ? [] : [addressIn('daddr', single(destination))]),
    ),
    ...isProtocol,
    ...portIs(0, sourcePort),
    ...portIs(2, destinationPort),
  ]
}

function portIs(offset: number, port: number | undefined): Expression[] {
  if (port === undefined) return []
  const value = Buffer.alloc(2)
  value.writeUInt16BE(port)
  return [
    { payload: { dreg: registers.r1, base: 2, offset, length: 2 } },
    { cmp: { sreg: registers.r1, op: cmpOps.eq, data: { value } } },
  ]
}
