import { formatIp } from '../../netlink-lib/ip.ts'
import {
  type ChainMessage,
  chainMessage,
  dataTypes,
  type Element,
  elementsMessage,
  families,
  messageTypes,
  type RuleMessage,
  ruleMessage,
  type SetMessage,
  setFlags,
  setMessage,
  type TableMessage,
  tableMessage,
} from '../../netlink-lib/nftables/messages.ts'
import { flags, type Request } from '../../netlink-lib/socket.ts'
import { ruleText, verdictText } from './nft-expressions.ts'
import { protocolName } from './nft-values.ts'
import { phrase } from './words.ts'

/* A command of an nf_tables transaction as nft(8) writes it. */

/** The definition of a set that elements are put into or taken from. */
export type FindSet = (family: number, table: string, set: string) => SetMessage | undefined

const familyName = (family: number | undefined): string =>
  Object.keys(families).find((name) => families[name as keyof typeof families] === family) ?? String(family)

const place = (family: number | undefined, ...names: readonly (string | undefined)[]): string =>
  phrase(familyName(family), ...names)

const commentText = (comment: string | undefined): string | undefined =>
  comment === undefined ? undefined : `comment "${comment}"`

/** `add`, or `create` where it must be new. */
const adding = ({ flags: sent = 0 }: Pick<Request, 'flags'>): string => (sent & flags.exclusive ? 'create' : 'add')

export function nftCommand(request: Request, findSet: FindSet): string {
  const { type, body } = request
  switch (type) {
    case messageTypes.newTable:
      return tableText(adding(request), tableMessage.decode(body))
    case messageTypes.newChain:
      return chainText(adding(request), chainMessage.decode(body))
    case messageTypes.newSet:
      return setText(adding(request), setMessage.decode(body))
    case messageTypes.newRule:
      return addRule((request.flags ?? 0) & flags.append ? 'add' : 'insert', ruleMessage.decode(body))
    case messageTypes.newElements:
    case messageTypes.deleteElements: {
      const { family, table = '', set = '', elements = [] } = elementsMessage.decode(body)
      const verb = type === messageTypes.deleteElements ? 'delete' : adding(request)
      return elementsText(verb, findSet(family!, table, set), { family, table, set }, elements)
    }
    case messageTypes.deleteTable: {
      const { family, name } = tableMessage.decode(body)
      return `delete table ${place(family, name)}`
    }
    case messageTypes.deleteChain: {
      const { family, table, name } = chainMessage.decode(body)
      return `delete chain ${place(family, table, name)}`
    }
    case messageTypes.deleteRule: {
      const { family, table, chain, handle } = ruleMessage.decode(body)
      return handle === undefined
        ? `flush chain ${place(family, table, chain)}`
        : `delete rule ${place(family, table, chain)} handle ${handle}`
    }
    case messageTypes.deleteSet: {
      const { family, table, name } = setMessage.decode(body)
      return `delete set ${place(family, table, name)}`
    }
    default:
      throw new Error(`no command is known for message type ${type} of nf_tables`)
  }
}

const block = (parts: readonly (string | undefined | false)[]): string => {
  const inside = parts.filter(Boolean).map((part) => `${part};`)
  return inside.length === 0 ? '' : `{ ${inside.join(' ')} }`
}

export const tableText = (verb: string, { family, name, userdata }: TableMessage): string =>
  phrase(`${verb} table ${place(family, name)}`, block([commentText(userdata?.comment)]))

/** enum nf_inet_hooks; of family netdev the only one is ingress, and egress since Linux 5.16. */
const hookNames = ['prerouting', 'input', 'forward', 'output', 'postrouting', 'ingress']
const netdevHookNames = ['ingress', 'egress']

/** The names of priorities that mean the same in every hook where they may be used. */
const priorityNames: Readonly<Record<number, string>> = { [-300]: 'raw', [-150]: 'mangle', 0: 'filter', 50: 'security' }

function priorityText(hook: string | undefined, priority = 0): string {
  if (priority === -100 && hook === 'prerouting') return 'dstnat'
  if (priority === 100 && hook === 'postrouting') return 'srcnat'
  return priorityNames[priority] ?? String(priority)
}

export function chainText(verb: string, { family, table, name, hook, type, policy, userdata }: ChainMessage): string {
  const number = hook?.number ?? 0
  const hookName = hook && (family === families.netdev ? netdevHookNames : hookNames)[number]
  const device = hook?.device === undefined ? '' : `device "${hook.device}" `
  const base = hook && `type ${type} hook ${hookName} ${device}priority ${priorityText(hookName, hook.priority)}`
  const verdict = policy === undefined ? undefined : `policy ${policy === 0 ? 'drop' : 'accept'}`
  return phrase(`${verb} chain ${place(family, table, name)}`, block([base, verdict, commentText(userdata?.comment)]))
}

export const addRule = (verb: string, { family, table, chain, expressions = [], userdata }: RuleMessage): string =>
  phrase(`${verb} rule ${place(family, table, chain)}`, ruleText(expressions), commentText(userdata?.comment))

type Field = keyof typeof dataTypes

/** nft packs the types of a concatenation into one number, 6 bits each. */
function fieldsOf(type = 0): Field[] {
  if (type === dataTypes.verdict) return ['verdict']
  const fields: Field[] = []
  for (let rest = type; rest > 0; rest = Math.floor(rest / 64)) {
    const field = (Object.keys(dataTypes) as Field[]).find((name) => dataTypes[name] === rest % 64)
    if (!field) throw new Error(`no name is known for type ${rest % 64} of nft`)
    fields.unshift(field)
  }
  return fields
}

export function setText(
  verb: string,
  { family, table, name, flags: set = 0, keyType, dataType, userdata }: SetMessage,
): string {
  const isMap = (set & setFlags.map) !== 0
  const key = fieldsOf(keyType).join(' . ')
  const data = isMap ? ` : ${fieldsOf(dataType).join(' . ')}` : ''
  const interval = (set & setFlags.interval) !== 0 && 'flags interval'
  return phrase(
    `${verb} ${isMap ? 'map' : 'set'} ${place(family, table, name)}`,
    block([`type ${key}${data}`, interval, commentText(userdata?.comment)]),
  )
}

const sizes: Readonly<Record<Field, number>> = {
  ipv4_addr: 4,
  ipv6_addr: 16,
  inet_proto: 1,
  inet_service: 2,
  mark: 4,
  verdict: 0,
}

function fieldText(field: Field, bytes: Buffer): string {
  switch (field) {
    case 'ipv4_addr':
    case 'ipv6_addr':
      return formatIp(bytes.subarray(0, sizes[field]))
    case 'inet_proto':
      return protocolName(bytes[0]!)
    case 'inet_service':
      return String(bytes.readUInt16BE())
    default:
      return `0x${bytes.readUInt32LE().toString(16).padStart(8, '0')}`
  }
}

/** A field by itself, or several, each padded to 4 bytes. */
function valueText(type: number | undefined, bytes: Buffer): string {
  let at = 0
  return fieldsOf(type)
    .map((field) => {
      const text = fieldText(field, bytes.subarray(at))
      at += (sizes[field] + 3) & ~3
      return text
    })
    .join(' . ')
}

function elementText({ keyType, dataType }: SetMessage, { key, data, userdata }: Element): string {
  const value = data?.verdict ? verdictText(data.verdict) : data?.value && valueText(dataType, data.value)
  const owner = commentText(userdata?.comment)
  return phrase(valueText(keyType, key?.value ?? Buffer.alloc(0)), owner, value !== undefined && `: ${value}`)
}

export function elementsText(
  verb: string,
  definition: SetMessage | undefined,
  { family, table, set }: { readonly family?: number; readonly table: string; readonly set: string },
  elements: readonly Element[],
): string {
  if (!definition) throw new Error(`set ${set} of table ${table} is not known`)
  const inside = elements.map((element) => elementText(definition, element)).join(', ')
  return `${verb} element ${place(family, table, set)} { ${inside} }`
}
