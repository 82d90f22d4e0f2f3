import { flags, type Request } from '../socket.ts'
import type { Expression } from './expressions.ts'
import {
  chainMessage,
  type DataType,
  dataTypes,
  type Element,
  elementsMessage,
  families,
  messageTypes,
  ruleMessage,
  setFlags,
  setMessage,
  tableMessage,
} from './messages.ts'

/*
 * The verbs of nft(8), each as one command of a transaction. `create…` is exclusive: it is refused with EEXIST when the
 * object is there already.
 */

/** One message of a transaction, with the words for the error text. */
export type Command = Request

export interface TableRef {
  readonly family: keyof typeof families
  readonly name: string
}

const exclusive = flags.create | flags.exclusive
const nonRecursive = 0x100 // NLM_F_NONREC: refuse with EBUSY what still has content

export const nameOf = (table: TableRef): string => `${table.family} ${table.name}`

const within = (table: TableRef, name: string) => `${name} in table ${nameOf(table)}`

const userdata = (comment?: string) => (comment === undefined ? undefined : { comment })

export const createTable = (table: TableRef, comment?: string): Command => ({
  type: messageTypes.newTable,
  flags: exclusive,
  body: tableMessage.encode({
    family: families[table.family],
    name: table.name,
    flags: 0,
    userdata: userdata(comment),
  }),
  operation: 'create table',
  subject: nameOf(table),
})

/** Refused with EBUSY unless it is empty. */
export const deleteTable = (table: TableRef): Command => ({
  type: messageTypes.deleteTable,
  flags: nonRecursive,
  body: tableMessage.encode({ family: families[table.family], name: table.name }),
  operation: 'delete table',
  subject: nameOf(table),
})

/** Where a base chain is attached. */
export interface Hook {
  readonly type: 'nat' | 'filter' | 'route'
  /** enum nf_inet_hooks. */
  readonly number: number
  readonly priority: number
  /** The link, for chains of family netdev. */
  readonly device?: string
}

/** enum nf_inet_hooks. */
export const hooks = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4 } as const

export const createChain = (table: TableRef, name: string, hook?: Hook): Command => ({
  type: messageTypes.newChain,
  flags: exclusive,
  body: chainMessage.encode({
    family: families[table.family],
    table: table.name,
    name,
    type: hook?.type,
    hook: hook && { number: hook.number, priority: hook.priority, device: hook.device },
  }),
  operation: 'create chain',
  subject: within(table, name),
})

/** Deletes the chain with its rules; refused with EBUSY while anything jumps to it. */
export const deleteChain = (table: TableRef, name: string): Command => ({
  type: messageTypes.deleteChain,
  body: chainMessage.encode({ family: families[table.family], table: table.name, name }),
  operation: 'delete chain',
  subject: within(table, name),
})

export const appendRule = (
  table: TableRef,
  chain: string,
  expressions: readonly Expression[],
  comment?: string,
): Command => ({
  type: messageTypes.newRule,
  flags: flags.create | flags.append,
  body: ruleMessage.encode({
    family: families[table.family],
    table: table.name,
    chain,
    expressions,
    userdata: userdata(comment),
  }),
  operation: 'append rule to chain',
  subject: within(table, chain),
})

/** Deletes all rules of the chain. */
export const deleteRule = (table: TableRef, chain: string, handle: bigint): Command => ({
  type: messageTypes.deleteRule,
  body: ruleMessage.encode({ family: families[table.family], table: table.name, chain, handle }),
  operation: 'delete rule of chain',
  subject: within(table, chain),
})

export const flushChain = (table: TableRef, chain: string): Command => ({
  type: messageTypes.deleteRule,
  body: ruleMessage.encode({ family: families[table.family], table: table.name, chain }),
  operation: 'flush chain',
  subject: within(table, chain),
})

/** The fields of a map's keys and values, as `type ipv4_addr . inet_service : verdict` has them in nft(8). */
export interface MapShape {
  readonly key: readonly DataType[]
  readonly data: readonly DataType[]
}

/** Bytes of a field by itself. In a concatenation each is padded to a whole number of registers of 4 bytes. */
const fieldSize = { ipv4_addr: 4, ipv6_addr: 16, inet_proto: 1, inet_service: 2, mark: 4, verdict: 0 } as const

const sizeOf = (fields: readonly DataType[]): number =>
  fields.length === 1 ? fieldSize[fields[0]!] : fields.reduce((sum, field) => sum + ((fieldSize[field] + 3) & ~3), 0)

/** nft packs the types of a concatenation into one number, 6 bits each. */
const typeOf = (fields: readonly DataType[]): number =>
  fields.reduce((packed, field) => (fields.length === 1 ? dataTypes[field] : packed * 64 + dataTypes[field]), 0)

/** BYTEORDER_BIG_ENDIAN for an address by itself; concatenations and verdicts have none. */
const byteOrderOf = (fields: readonly DataType[]): number =>
  fields.length === 1 && fields[0] !== 'verdict' && fields[0] !== 'mark' ? 2 : 0

/** `id` is unique among the sets created in one transaction. */
export const createMap = (
  table: TableRef,
  name: string,
  { key, data }: MapShape,
  id: number,
  comment: string,
): Command => ({
  type: messageTypes.newSet,
  flags: exclusive,
  body: setMessage.encode({
    family: families[table.family],
    table: table.name,
    name,
    flags: setFlags.map,
    keyType: typeOf(key),
    keyLength: sizeOf(key),
    dataType: typeOf(data),
    dataLength: sizeOf(data),
    id,
    userdata: { keyByteOrder: byteOrderOf(key), dataByteOrder: byteOrderOf(data), dataInterval: 0, comment },
  }),
  operation: 'create map',
  subject: within(table, name),
})

/** Refused with EBUSY while it has elements or a rule uses it. */
export const deleteSet = (table: TableRef, name: string): Command => ({
  type: messageTypes.deleteSet,
  flags: nonRecursive,
  body: setMessage.encode({ family: families[table.family], table: table.name, name }),
  operation: 'delete set',
  subject: within(table, name),
})

/** `subject` says whose elements they are. EEXIST: the same one is there; EBUSY: one with other data is there. */
export const createElements = (
  table: TableRef,
  set: string,
  elements: readonly Element[],
  subject: string,
): Command => ({
  type: messageTypes.newElements,
  flags: exclusive,
  body: elementsMessage.encode({ family: families[table.family], table: table.name, set, elements }),
  operation: `add to ${within(table, set)}`,
  subject,
})

export const deleteElements = (
  table: TableRef,
  set: string,
  elements: readonly Element[],
  subject: string,
): Command => ({
  type: messageTypes.deleteElements,
  body: elementsMessage.encode({ family: families[table.family], table: table.name, set, elements }),
  operation: `delete from ${within(table, set)}`,
  subject,
})
