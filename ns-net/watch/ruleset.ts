import { MalformedMessage } from '../../netlink-lib/bytes.ts'
import {
  chainMessage,
  elementsMessage,
  families,
  generationMessage,
  messageTypes,
  ruleMessage,
  setMessage,
  tableMessage,
} from '../../netlink-lib/nftables/messages.ts'
import type { Reply } from '../../netlink-lib/socket.ts'
import type { WatchEvent } from './event.ts'

/** Several objects of one kind in one place that a transaction adds or deletes. */
interface Change {
  readonly action: 'added' | 'deleted'
  readonly object: 'table' | 'chain' | 'rule' | 'set' | 'elements'
  /** `inet ns-net`, with the chain or set behind. */
  readonly of: string
  count: number
}

const readers = {
  table: tableMessage,
  chain: chainMessage,
  rule: ruleMessage,
  set: setMessage,
  elements: elementsMessage,
} as const

const subjects: Readonly<Record<number, Pick<Change, 'action' | 'object'>>> = {
  [messageTypes.newTable]: { action: 'added', object: 'table' },
  [messageTypes.deleteTable]: { action: 'deleted', object: 'table' },
  [messageTypes.newChain]: { action: 'added', object: 'chain' },
  [messageTypes.deleteChain]: { action: 'deleted', object: 'chain' },
  [messageTypes.newRule]: { action: 'added', object: 'rule' },
  [messageTypes.deleteRule]: { action: 'deleted', object: 'rule' },
  [messageTypes.newSet]: { action: 'added', object: 'set' },
  [messageTypes.deleteSet]: { action: 'deleted', object: 'set' },
  [messageTypes.newElements]: { action: 'added', object: 'elements' },
  [messageTypes.deleteElements]: { action: 'deleted', object: 'elements' },
}

const familyNames = new Map<number | undefined, string>(
  Object.entries(families).map(([name, number]) => [number, name]),
)

const mostShown = 4

/**
 * Transactions of nf_tables. The kernel tells of each object that one touches and at the end of the new generation, and
 * who made it; that makes one event.
 */
export class RulesetChanges {
  #changes: Change[] = []

  /** Takes a message; an event when it was the last of a transaction. */
  add({ type, body }: Pick<Reply, 'type' | 'body'>): Pick<WatchEvent, 'what' | 'remark' | 'details'> | undefined {
    if (type === messageTypes.newGeneration) return this.#end(body)
    const subject = subjects[type]
    if (subject) this.#count(subject, body)
    return undefined
  }

  /** What was heard of the beginning of a transaction whose end is lost. */
  forget(): void {
    this.#changes = []
  }

  #count(subject: Pick<Change, 'action' | 'object'>, body: Buffer): void {
    const read = names(subject.object, body)
    if (!read) return
    const { of, count } = read
    const known = this.#changes.find(
      (one) => one.of === of && one.object === subject.object && one.action === subject.action,
    )
    if (known) known.count += count
    else this.#changes.push({ ...subject, of, count })
  }

  #end(body: Buffer) {
    const { generation, pid, process: name } = generationMessage.decode(body)
    const changes = this.#changes.splice(0)
    const shown = changes.slice(0, mostShown).map(describe)
    const more = changes.length > mostShown ? [`${changes.length - mostShown} more`] : []
    const who = name ? `by ${name} (pid ${pid})` : undefined
    return {
      what: `ruleset${who ? ` ${who}` : ''}`,
      remark: [...shown, ...more].join(', ') || undefined,
      details: { generation, pid, process: name, changes },
    }
  }
}

/** Where the object is. `count` is more than 1 for elements, of which a message has many. */
function names(object: Change['object'], body: Buffer): { of: string; count: number } | undefined {
  try {
    const message: {
      family?: number
      table?: string
      chain?: string
      set?: string
      name?: string
      elements?: readonly object[]
    } = readers[object].decode(body)
    const { family, table, chain, set, name, elements } = message
    const of = [familyNames.get(family), table, chain ?? set, name].filter((word) => word !== undefined).join(' ')
    return { of, count: elements?.length ?? 1 }
  } catch (error) {
    if (error instanceof MalformedMessage) return undefined // of a newer kernel
    throw error
  }
}

const plurals = { table: 'tables', chain: 'chains', rule: 'rules', set: 'sets', elements: 'elements' } as const

/** `+ chain inet ns-net postrouting`, `- 3 rules in inet ns-net forward`. */
function describe({ action, object, of, count }: Change): string {
  const sign = action === 'added' ? '+' : '-'
  if (object === 'rule' || object === 'elements') {
    const noun = count === 1 ? (object === 'rule' ? 'rule' : 'element') : plurals[object]
    return `${sign} ${count} ${noun} in ${of}`
  }
  return `${sign} ${object} ${of}`
}
