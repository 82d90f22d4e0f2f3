import type { Codec } from '../../netlink-lib/bytes.ts'
import { isKernelError } from '../../netlink-lib/errors.ts'
import {
  type ChainMessage,
  chainMessage,
  type Element,
  elementsMessage,
  messageTypes,
  type RuleMessage,
  ruleMessage,
  type SetMessage,
  setMessage,
  type TableMessage,
  tableMessage,
} from '../../netlink-lib/nftables/messages.ts'
import type { NetlinkSocket, Reply } from '../../netlink-lib/socket.ts'

/** A table with what is in it. */
export interface Named {
  readonly family?: number
  readonly table?: string
}

/** What nf_tables holds in one place. */
export class Tables {
  constructor(readonly netlink: NetlinkSocket) {}

  #ask(type: number, body: Buffer, whole: boolean): Reply[] {
    const request = { type, body, operation: 'read', subject: 'nftables' }
    try {
      return whole ? this.netlink.dump(request) : this.netlink.request(request)
    } catch (error) {
      if (isKernelError(error, 'ENOENT')) return []
      throw error
    }
  }

  table({ family, name }: TableMessage): TableMessage | undefined {
    const [reply] = this.#ask(messageTypes.getTable, tableMessage.encode({ family, name }), false)
    return reply && tableMessage.decode(reply.body)
  }

  chain({ family, table, name }: ChainMessage): ChainMessage | undefined {
    const [reply] = this.#ask(messageTypes.getChain, chainMessage.encode({ family, table, name }), false)
    return reply && chainMessage.decode(reply.body)
  }

  set({ family, table, name }: SetMessage): SetMessage | undefined {
    const [reply] = this.#ask(messageTypes.getSet, setMessage.encode({ family, table, name }), false)
    return reply && setMessage.decode(reply.body)
  }

  rules({ family, table }: Named, chain: string | undefined): RuleMessage[] {
    return this.#ask(messageTypes.getRule, ruleMessage.encode({ family, table, chain }), true)
      .map(({ body }) => ruleMessage.decode(body))
      .filter((rule) => rule.table === table && rule.chain === chain)
  }

  elements({ family, table }: Named, set: string | undefined): Element[] {
    const body = elementsMessage.encode({ family, table, set })
    const key = (element: Element) => element.key?.value?.toString('hex') ?? ''
    return this.#ask(messageTypes.getElements, body, true)
      .flatMap((reply) => elementsMessage.decode(reply.body).elements ?? [])
      .sort((a, b) => (key(a) < key(b) ? -1 : 1)) // the kernel tells them in the order of a hash
  }

  listTables(): TableMessage[] {
    return this.#list(messageTypes.getTable, tableMessage)
  }

  listSets(): SetMessage[] {
    return this.#list(messageTypes.getSet, setMessage)
  }

  listChains(): ChainMessage[] {
    return this.#list(messageTypes.getChain, chainMessage)
  }

  /** Of all families. */
  #list<T extends { readonly family?: number }>(type: number, codec: Codec<T>): T[] {
    return this.#ask(type, codec.encode({ family: 0 } as T), true).map(({ body }) => codec.decode(body))
  }
}
