import { attributes, cString } from '../../netlink-lib/bytes.ts'
import {
  chainMessage,
  type Element,
  elementsMessage,
  messageTypes,
  type RuleMessage,
  ruleMessage,
  type SetMessage,
  setMessage,
  tableMessage,
} from '../../netlink-lib/nftables/messages.ts'
import type { Request } from '../../netlink-lib/socket.ts'
import { addRule, chainText, elementsText, type FindSet, nftCommand, setText, tableText } from './nft.ts'
import type { Named, Tables } from './tables.ts'

/*
 * The transaction that takes back another one. Rules have no names, so a chain that loses or gains one is emptied and
 * filled again with what it had.
 */

const keyOf = ({ family, table }: Named, name: string | undefined): string => `${family} ${table} ${name}`

/** In the message of a table and in those of all that is in one, the table's name is the first attribute. */
const tableName = attributes({ name: [1, cString] }) // NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, …

/** `FAMILY TABLE` of a command, with the number of the family. */
export const tableOf = ({ body }: Request): string => `${body[0]} ${tableName.decode(body.subarray(4)).name}`

/** The tables that a transaction makes: to delete one is to delete all that is in it. */
export const tablesMadeBy = (commands: readonly Request[]): string[] =>
  commands.filter(({ type }) => type === messageTypes.newTable).map(tableOf)

/** Commands in the order in which the kernel takes them: what is led to must be there, what leads to something goes first. */
export function undoTransaction(commands: readonly Request[], before: Tables): string[] {
  const made = tablesMadeBy(commands)
  const plan = new Plan(before, commands)
  for (const command of commands)
    if (command.type === messageTypes.newTable || !made.includes(tableOf(command))) plan.takeBack(command)
  return plan.commands()
}

class Plan {
  readonly #deletedElements: string[] = []
  readonly #flushed = new Map<string, string>()
  readonly #deletedObjects: string[] = []
  readonly #tables: string[] = []
  readonly #sets: string[] = []
  readonly #chains: string[] = []
  readonly #rules: string[] = []
  readonly #elements: string[] = []
  /** What the transaction makes and so is not there before. */
  readonly #made = new Map<string, SetMessage | undefined>()

  /** Chains that are not there afterwards, and need not be emptied before they are filled. */
  readonly #gone: ReadonlySet<string>

  constructor(
    readonly before: Tables,
    commands: readonly Request[],
  ) {
    const deleted = commands.filter(({ type }) => type === messageTypes.deleteChain)
    this.#gone = new Set(deleted.map(({ body }) => chainMessage.decode(body)).map((chain) => keyOf(chain, chain.name)))
  }

  commands(): string[] {
    return [
      ...this.#deletedElements.reverse(),
      ...this.#flushed.values(),
      ...this.#deletedObjects.reverse(),
      ...this.#tables,
      ...this.#sets,
      ...this.#chains,
      ...this.#rules,
      ...this.#elements,
    ]
  }

  takeBack({ type, body }: Request): void {
    switch (type) {
      case messageTypes.newTable:
        this.#deletedObjects.push(told(messageTypes.deleteTable, body))
        break
      case messageTypes.newChain: {
        const chain = chainMessage.decode(body)
        this.#made.set(keyOf(chain, chain.name), undefined)
        this.#deletedObjects.push(told(messageTypes.deleteChain, body))
        break
      }
      case messageTypes.newSet: {
        const set = setMessage.decode(body)
        this.#made.set(keyOf(set, set.name), set)
        this.#deletedObjects.push(told(messageTypes.deleteSet, body))
        break
      }
      case messageTypes.newRule:
      case messageTypes.deleteRule:
        this.#refill(ruleMessage.decode(body))
        break
      case messageTypes.newElements:
        this.#deleteElements(body)
        break
      case messageTypes.deleteElements:
        this.#restoreElements(body)
        break
      default:
        this.#restoreObject(type, body)
    }
  }

  #restoreObject(type: number, body: Buffer): void {
    if (type === messageTypes.deleteTable) {
      const table = this.before.table(tableMessage.decode(body))
      if (table) this.#tables.push(tableText('add', table))
    } else if (type === messageTypes.deleteSet) {
      const set = this.before.set(setMessage.decode(body))
      if (!set) return
      this.#sets.push(setText('add', set))
      this.#putBack(set, this.before.elements(set, set.name))
    } else if (type === messageTypes.deleteChain) {
      const chain = this.before.chain(chainMessage.decode(body))
      if (!chain) return
      this.#chains.push(chainText('add', chain))
      this.#fill(chain, chain.name)
    }
  }

  /** A chain that this transaction makes goes with its rules; one that it deletes is filled when that is taken back. */
  #refill({ family, table, chain }: RuleMessage): void {
    const key = keyOf({ family, table }, chain)
    if (this.#gone.has(key)) return
    const emptying = ruleMessage.encode({ family, table, chain })
    this.#flushed.set(key, told(messageTypes.deleteRule, emptying))
    if (!this.#made.has(key)) this.#fill({ family, table }, chain)
  }

  #fill(named: Named, chain: string | undefined): void {
    const key = `filled ${keyOf(named, chain)}`
    if (this.#made.has(key)) return
    this.#made.set(key, undefined)
    this.#rules.push(...this.before.rules(named, chain).map((rule) => addRule('add', rule)))
  }

  #deleteElements(body: Buffer): void {
    const { family, table = '', set = '', elements = [] } = elementsMessage.decode(body)
    const definition = this.#made.get(keyOf({ family, table }, set)) ?? this.before.set({ family, table, name: set })
    const keys = elements.map(({ key }) => ({ key }))
    this.#deletedElements.push(elementsText('delete', definition, { family, table, set }, keys))
  }

  #restoreElements(body: Buffer): void {
    const { family, table = '', set = '', elements = [] } = elementsMessage.decode(body)
    const definition = this.before.set({ family, table, name: set })
    const gone = new Set(elements.map(({ key }) => key?.value?.toString('hex')))
    const old = this.before.elements({ family, table }, set).filter(({ key }) => gone.has(key?.value?.toString('hex')))
    if (definition) this.#putBack(definition, old)
  }

  #putBack(set: SetMessage, elements: readonly Element[]): void {
    const key = (element: Element) => `element ${keyOf(set, set.name)} ${element.key?.value?.toString('hex')}`
    const missing = elements.filter((element) => !this.#made.has(key(element)))
    for (const element of missing) this.#made.set(key(element), undefined)
    if (missing.length > 0) this.#elements.push(elementsText('add', set, nameOf(set), missing))
  }
}

const noSet: FindSet = () => undefined
const told = (type: number, body: Buffer): string =>
  nftCommand({ type, body, operation: 'take back', subject: 'nftables' }, noSet)

/** All that is in a place, as the commands that make it anew. */
export function allOf(tables: Tables): string[] {
  const [sets, chains] = [tables.listSets(), tables.listChains()]
  return [
    ...tables.listTables().map((table) => tableText('add', table)),
    ...sets.map((set) => setText('add', set)),
    ...chains.map((chain) => chainText('add', chain)),
    ...chains.flatMap((chain) => tables.rules(chain, chain.name).map((rule) => addRule('add', rule))),
    ...sets.flatMap((set) => {
      const elements = tables.elements(set, set.name)
      return elements.length === 0 ? [] : [elementsText('add', set, nameOf(set), elements)]
    }),
  ]
}

const nameOf = ({ family, table = '', name = '' }: SetMessage) => ({ family, table, set: name })
