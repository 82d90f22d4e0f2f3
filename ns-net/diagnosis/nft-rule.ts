import { attributes, cString, raw, u32be } from '../../netlink-lib/bytes.ts'
import { bitsOf, formatIp } from '../../netlink-lib/ip.ts'
import { nameOf, type TableRef } from '../../netlink-lib/nftables/commands.ts'
import { cmpOps, type Data, dataAttributes, type Expression, verdicts } from '../../netlink-lib/nftables/expressions.ts'
import type { Element, RuleMessage } from '../../netlink-lib/nftables/messages.ts'
import { equals, isKnown, masked, Registers } from './nft-registers.ts'
import { elementFor, type Ruleset } from './nft-ruleset.ts'
import { describeRule } from './nft-text.ts'
import { connectionValue, metaValue, payloadValue, routeValue } from './nft-values.ts'
import { type Moment, type PartlyKnown, wholly } from './packet.ts'
import type { Place } from './places.ts'
import type { Action, Match, Rule, Translation } from './rules.ts'
import { judgeMatch, targetAction } from './xtables.ts'

/** A rule of nf_tables, carried out on paper: the same expressions over the same registers as in the kernel. */
export function toRule(place: Place, ruleset: Ruleset, table: TableRef, message: RuleMessage): Rule {
  const { expressions = [] } = message
  return {
    text: describeRule(expressions),
    place: `chain ${message.chain} of table ${nameOf(table)}`,
    handle: message.handle,
    judge: (moment) => judge(expressions, { place, ruleset, table, moment, registers: new Registers() }),
  }
}

interface Run {
  readonly place: Place
  readonly ruleset: Ruleset
  readonly table: TableRef
  readonly moment: Moment
  readonly registers: Registers
}

function judge(expressions: readonly Expression[], run: Run): { match: Match; action: Action } {
  let match: Match = 'yes'
  let action: Action = { kind: 'continue' }
  for (const expression of expressions) {
    const step = carryOut(expression, run)
    if (step.match === 'no') return { match: 'no', action }
    if (step.match === 'maybe') match = 'maybe'
    if (step.action) action = step.action
  }
  return { match, action }
}

interface Step {
  readonly match: Match
  readonly action?: Action
}

const goOn: Step = { match: 'yes' }

function carryOut(expression: Expression, run: Run): Step {
  const { registers, moment, place } = run
  const load = (register: number | undefined, value: PartlyKnown): Step => {
    registers.load(register, value)
    return goOn
  }
  if ('meta' in expression) {
    const { key, dreg } = expression.meta
    return dreg === undefined ? goOn : load(dreg, metaValue(key, moment, place))
  }
  if ('ct' in expression) {
    const { key, dreg } = expression.ct
    return dreg === undefined ? goOn : load(dreg, connectionValue(key, moment))
  }
  if ('payload' in expression) {
    const { dreg, base, offset = 0, length = 0 } = expression.payload
    return dreg === undefined ? goOn : load(dreg, payloadValue(base, offset, length, moment))
  }
  if ('fib' in expression) {
    const { dreg, flags = 0, result } = expression.fib
    return load(dreg, routeValue(flags, result, moment, place))
  }
  if ('bitwise' in expression) return mask(expression.bitwise, registers)
  if ('cmp' in expression) return { match: compare(expression.cmp, registers) }
  if ('lookup' in expression) return lookUp(expression.lookup, run)
  if ('immediate' in expression) {
    const { dreg = 0, data } = expression.immediate
    if (data?.verdict) return verdictStep(data.verdict)
    return load(dreg, wholly(data?.value ?? Buffer.alloc(0)))
  }
  if ('masq' in expression) return translate({ kind: 'masquerade' })
  if ('nat' in expression) return translate(newEndpoint(expression.nat, run))
  if ('counter' in expression) return goOn
  if ('other' in expression) return carryOutOther(expression.other, run)
  return cannotTell(run)
}

function cannotTell({ registers }: Run): Step {
  registers.forget()
  return { match: 'maybe' }
}

const translate = (translation: Translation): Step => ({ match: 'yes', action: { kind: 'translate', translation } })

function mask({ sreg, dreg, length = 0, mask, xor, op = 0 }: BitwiseArguments, registers: Registers): Step {
  const value = registers.read(sreg, length)
  if (op === 0) registers.load(dreg, masked(value, mask?.value ?? Buffer.alloc(length), xor?.value ?? Buffer.alloc(0)))
  else registers.load(dreg, { bytes: value.bytes, known: new Uint8Array(length) }) // shifts
  return goOn
}
type BitwiseArguments = Extract<Expression, { bitwise: unknown }>['bitwise']

function compare({ sreg, op, data }: Extract<Expression, { cmp: unknown }>['cmp'], registers: Registers): Match {
  const wanted = data?.value ?? Buffer.alloc(0)
  const value = registers.read(sreg, wanted.length)
  if (op === cmpOps.eq) return equals(value, wanted)
  if (op === cmpOps.neq) return opposite(equals(value, wanted))
  if (!isKnown(value)) return 'maybe'
  const order = Buffer.compare(value.bytes, wanted)
  const holds =
    op === cmpOps.lt ? order < 0 : op === cmpOps.lte ? order <= 0 : op === cmpOps.gt ? order > 0 : order >= 0
  return holds ? 'yes' : 'no'
}

const opposite = (match: Match): Match => (match === 'yes' ? 'no' : match === 'no' ? 'yes' : 'maybe')

const invert = 1 // NFT_LOOKUP_F_INV

function lookUp({ set, sreg, dreg, flags = 0 }: LookupArguments, { ruleset, table, registers }: Run): Step {
  const elements = ruleset.setOf(table, set!)
  const size = elements.elements.find(({ key }) => key?.value)?.key?.value?.length ?? 0
  const key = registers.read(sreg, size)
  // A range of several fields has its other end in NFTA_SET_ELEM_KEY_END, which is not decoded.
  const isRangeOfFields = elements.elements.some((element) => element.unknown?.some(({ type }) => type === 10))
  if (isRangeOfFields || !isKnown(key)) {
    registers.forget()
    const possible = isRangeOfFields || elements.isInterval || elements.elements.some(mayBe(key))
    if (!possible) return { match: flags & invert ? 'yes' : 'no' }
    return { match: 'maybe', action: worst(elements.elements) }
  }
  const found = elementFor(elements, key.bytes)
  if (dreg === undefined) return { match: (found === undefined) === ((flags & invert) !== 0) ? 'yes' : 'no' }
  if (!found) return { match: 'no' }
  if (found.data?.verdict) return verdictStep(found.data.verdict)
  registers.load(dreg, wholly(found.data?.value ?? Buffer.alloc(0)))
  return goOn
}
type LookupArguments = Extract<Expression, { lookup: unknown }>['lookup']

const mayBe = (key: PartlyKnown) => (element: { readonly key?: Data }) =>
  element.key?.value ? equals(key, element.key.value) !== 'no' : true

/** What a map may do to a packet whose key is not known. */
function worst(elements: readonly Element[]): Action | undefined {
  const verdicts = elements.flatMap(({ data }) => (data?.verdict ? [verdictStep(data.verdict).action] : []))
  return verdicts.find((action) => action?.kind === 'drop') ?? verdicts[0]
}

function verdictStep({ code = verdicts.continue, chain = '' }: NonNullable<Data['verdict']>): Step {
  const action = (kind: 'accept' | 'drop' | 'return' | 'continue'): Step => ({
    match: 'yes',
    action: { kind } as Action,
  })
  if (code === verdicts.jump) return { match: 'yes', action: { kind: 'jump', chain } }
  if (code === verdicts.goto) return { match: 'yes', action: { kind: 'goto', chain } }
  if (code === verdicts.return) return action('return')
  if (code < 0) return action('continue')
  if (code === verdicts.accept) return action('accept')
  if (code === verdicts.drop) return action('drop')
  return { match: 'maybe', action: { kind: 'drop' } } // NF_QUEUE: whoever reads the queue decides
}

function newEndpoint({ type, addrMin, protoMin }: NatArguments, { registers, moment }: Run): Translation {
  const address = addrMin === undefined ? undefined : registers.read(addrMin, bitsOf(moment.packet.family) / 8)
  const port = protoMin === undefined ? undefined : registers.read(protoMin, 2)
  return {
    kind: type === 0 ? 'source' : 'destination', // NFT_NAT_SNAT
    ...(address && isKnown(address) && { address: formatIp(address.bytes) }),
    ...(port && isKnown(port) && { port: port.bytes.readUInt16BE() }),
  }
}
type NatArguments = Extract<Expression, { nat: unknown }>['nat']

/** NFTA_RANGE_*. */
const range = attributes({
  sreg: [1, u32be],
  op: [2, u32be], // NFT_RANGE_EQ, NFT_RANGE_NEQ
  from: [3, dataAttributes],
  to: [4, dataAttributes],
})

/** NFTA_LIMIT_*. */
const limit = attributes({ flags: [5, u32be] })

/** NFTA_REDIR_*. */
const redirect = attributes({ port: [1, u32be] })

/** NFTA_MATCH_*, NFTA_TARGET_*: extensions of xtables, which iptables' nft variant uses. */
const extension = attributes({ name: [1, cString], revision: [2, u32be], info: [3, raw] })

/** Expressions that change nothing about what happens to the packet. */
const harmless = new Set(['counter', 'log', 'notrack', 'objref', 'dup', 'last', 'dynset', 'flow_offload'])

function carryOutOther({ name, data }: { readonly name: string; readonly data: Buffer }, run: Run): Step {
  const { registers, moment } = run
  switch (name) {
    case 'reject':
      return { match: 'yes', action: { kind: 'reject' } }
    case 'range':
      return { match: inRange(range.decode(data), registers) }
    case 'limit': // `limit rate over` matches nobody who sends little
      return { match: (limit.decode(data).flags ?? 0) & 1 ? 'no' : 'yes' }
    case 'redir': {
      const { port } = redirect.decode(data)
      const value = port === undefined ? undefined : registers.read(port, 2)
      return translate({ kind: 'redirect', ...(value && isKnown(value) && { port: value.bytes.readUInt16BE() }) })
    }
    case 'match': {
      const { name: which = '', info = Buffer.alloc(0) } = extension.decode(data)
      return { match: judgeMatch(which, info, moment) }
    }
    case 'target':
      return { match: 'yes', action: targetAction(extension.decode(data).name ?? '') }
    default:
      return harmless.has(name) ? goOn : cannotTell(run)
  }
}

function inRange({ sreg, op, from, to }: ReturnType<typeof range.decode>, registers: Registers): Match {
  const [first, last] = [from?.value ?? Buffer.alloc(0), to?.value ?? Buffer.alloc(0)]
  const value = registers.read(sreg, first.length)
  if (!isKnown(value)) return 'maybe'
  const inside = Buffer.compare(value.bytes, first) >= 0 && Buffer.compare(value.bytes, last) <= 0
  return inside === (op !== 1) ? 'yes' : 'no'
}
