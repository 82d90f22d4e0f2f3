import { isKernelError, KernelError } from '../errors.ts'
import { journal } from '../journal.ts'
import { errorIn, flags, frame, NetlinkSocket, protocols, type Reply, type Request } from '../socket.ts'
import { type Command, nameOf, type TableRef } from './commands.ts'
import {
  batchMessage,
  type ChainMessage,
  chainMessage,
  type Element,
  elementsMessage,
  families,
  generationMessage,
  messageTypes,
  type RuleMessage,
  ruleMessage,
  type TableMessage,
  tableMessage,
} from './messages.ts'

/** The kernel refused a transaction and changed nothing. The text and `code` are those of the first refused command. */
export class TransactionRefused extends KernelError {
  constructor(
    request: Request,
    error: { errno: number; message?: string; offset?: number },
    /** The command that was refused; undefined when it was the transaction as a whole. */
    readonly command: Command | undefined,
  ) {
    super(request.operation, request.subject, error.errno, error.message, error.offset)
  }
}

const errorType = 2 // NLMSG_ERROR

/** What a lookup asks for: an element by its key. */
export interface Wanted {
  readonly set: string
  readonly key: Buffer
}

/** Lookups per datagram: their answers must fit into the receive buffer together. */
const lookupsAtOnce = 64

/** nf_tables over a netlink socket: transactions and lists. It stays in the network namespace it was opened in. */
export class NetfilterSocket implements Disposable {
  readonly #socket: NetlinkSocket

  /** `netlink` is of the netfilter protocol and may serve its other subsystems as well; it is closed with this one. */
  constructor(netlink = new NetlinkSocket(protocols.netfilter)) {
    this.#socket = netlink
  }

  /**
   * Carries out all commands or none. With `generation` it is refused with ERESTART when any table of the namespace has
   * changed since {@link generation} returned that number.
   */
  transaction(commands: readonly Command[], generation?: number): void {
    if (commands.length === 0) return
    const obeyed = journal?.before({ kind: 'transaction', socket: this.#socket, commands })
    const whole = {
      operation: `begin nftables transaction (${commands.length} commands, first:`,
      subject: `${commands[0]!.operation} ${commands[0]!.subject})`,
      body: batchMessage.encode({ resource: 10, generation }), // NFNL_SUBSYS_NFTABLES
    }
    const begin = { ...whole, type: messageTypes.batchBegin }
    const end = { ...whole, type: messageTypes.batchEnd, body: batchMessage.encode({ resource: 10 }) }
    // Refused commands are answered in any case; the acknowledgement of the last one confirms that all were seen.
    const last = commands.length
    const messages = [begin, ...commands, end]
    const first = this.#socket.reserveSequence(messages.length)
    const bytes = messages.map((message: Request, i) =>
      frame(message.type, (message.flags ?? 0) | flags.request | (i === last ? flags.ack : 0), first + i, message.body),
    )
    let confirmed = false
    for (const reply of this.#socket.exchange(Buffer.concat(bytes), begin)) {
      const index = reply.sequence - first
      const error = reply.type === errorType ? errorIn(reply) : undefined
      if (error) throw new TransactionRefused(messages[index] ?? begin, error, commands[index - 1])
      if (reply.type === errorType && index === last) confirmed = true
    }
    if (!confirmed) throw new KernelError(begin.operation, begin.subject, 105, 'no acknowledgement') // ENOBUFS
    obeyed?.()
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]()
  }

  /** Number of the current ruleset; every committed transaction of the namespace changes it. */
  generation(): number {
    const request = {
      type: messageTypes.getGeneration,
      body: generationMessage.encode({}),
      operation: 'read generation of',
      subject: 'nftables',
    }
    return generationMessage.decode(this.#socket.get(request)!.body).generation ?? 0
  }

  findTable(table: TableRef): TableMessage | undefined {
    const body = tableMessage.encode({ family: families[table.family], name: table.name })
    const reply = this.#find(messageTypes.getTable, 'read', `table ${nameOf(table)}`, body)
    return reply && tableMessage.decode(reply.body)
  }

  findChain(table: TableRef, name: string): ChainMessage | undefined {
    const body = chainMessage.encode({ family: families[table.family], table: table.name, name })
    const reply = this.#find(messageTypes.getChain, 'read chain', `${name} in table ${nameOf(table)}`, body)
    return reply && chainMessage.decode(reply.body)
  }

  /** All chains of the table; none when it does not exist. */
  listChains(table: TableRef): ChainMessage[] {
    return this.#dump(messageTypes.getChain, 'chains', table, chainMessage.encode({ family: families[table.family] }))
      .map((reply) => chainMessage.decode(reply.body))
      .filter((chain) => chain.table === table.name) // the kernel filters by family only
  }

  /** All rules of one chain in order; none when it does not exist. */
  listRules(table: TableRef, chain: string): RuleMessage[] {
    const body = ruleMessage.encode({ family: families[table.family], table: table.name, chain })
    return this.#dump(messageTypes.getRule, `rules of ${chain}`, table, body)
      .map((reply) => ruleMessage.decode(reply.body))
      .filter((rule) => rule.table === table.name && rule.chain === chain) // kernels before 4.15 don't filter
  }

  /** All elements of a set or map; none when it does not exist. */
  listElements(table: TableRef, set: string): Element[] {
    return this.#dumpElements(table, set).flatMap(elementsOf)
  }

  /** Of all elements those whose key ends in one of these. The others are not decoded, which is what takes time. */
  listElementsEnding(table: TableRef, set: string, endings: readonly Buffer[]): Element[] {
    return this.#dumpElements(table, set)
      .filter((reply) => endings.some((ending) => isIn(reply.body, ending)))
      .flatMap(elementsOf)
      .filter(({ key }) => endings.some((ending) => key?.value?.subarray(-ending.length).equals(ending)))
  }

  #dumpElements(table: TableRef, set: string): Reply[] {
    const body = elementsMessage.encode({ family: families[table.family], table: table.name, set })
    return this.#dump(messageTypes.getElements, `elements of ${set}`, table, body)
  }

  /** The element with that key: one lookup, whatever the size of the set. */
  findElement(table: TableRef, set: string, key: Buffer): Element | undefined {
    const elements = [{ key: { value: key } }]
    const body = elementsMessage.encode({ family: families[table.family], table: table.name, set, elements })
    const subject = `${set} in table ${nameOf(table)}`
    const reply = this.#find(messageTypes.getElements, 'read element of', subject, body)
    return reply && elementsOf(reply)[0]
  }

  /** The elements with those keys, in that order: one lookup each, whatever the size of the sets. */
  findElements(table: TableRef, wanted: readonly Wanted[]): (Element | undefined)[] {
    const found: (Element | undefined)[] = []
    for (let at = 0; at < wanted.length; at += lookupsAtOnce)
      found.push(...this.#lookup(table, wanted.slice(at, at + lookupsAtOnce)))
    return found
  }

  #lookup(table: TableRef, wanted: readonly Wanted[]): (Element | undefined)[] {
    const request = { operation: 'read elements of table', subject: nameOf(table), body: Buffer.alloc(0), type: 0 }
    const first = this.#socket.reserveSequence(wanted.length)
    const messages = wanted.map(({ set, key }, i) => {
      const elements = [{ key: { value: key } }]
      const body = elementsMessage.encode({ family: families[table.family], table: table.name, set, elements })
      return frame(messageTypes.getElements, flags.request, first + i, body)
    })
    const found: (Element | undefined)[] = wanted.map(() => undefined)
    for (const reply of this.#socket.exchange(Buffer.concat(messages), request)) {
      const error = reply.type === errorType ? errorIn(reply) : undefined
      if (error && error.errno !== 2) throw new KernelError(request.operation, request.subject, error.errno) // ENOENT
      if (reply.type !== errorType) found[reply.sequence - first] = elementsOf(reply)[0]
    }
    return found
  }

  #find(type: number, operation: string, subject: string, body: Buffer): Reply | undefined {
    return undefinedIfAbsent(() => this.#socket.get({ type, body, operation, subject }))
  }

  #dump(type: number, what: string, table: TableRef, body: Buffer): Reply[] {
    const request = { type, body, operation: `list ${what} in table`, subject: nameOf(table) }
    return undefinedIfAbsent(() => this.#socket.dump(request)) ?? []
  }
}

function undefinedIfAbsent<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    if (isKernelError(error, 'ENOENT')) return undefined
    throw error
  }
}

const elementsOf = (reply: Reply): readonly Element[] => elementsMessage.decode(reply.body).elements ?? []

/** Whether the part is somewhere in there. Not Buffer.includes: what the plugins' engine has searches for numbers only. */
function isIn(bytes: Buffer, part: Buffer): boolean {
  for (let at = bytes.indexOf(part[0]!); at >= 0; at = bytes.indexOf(part[0]!, at + 1)) {
    let same = 1
    while (same < part.length && bytes[at + same] === part[same]) same++
    if (same === part.length) return true
  }
  return false
}
