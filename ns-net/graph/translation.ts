import { isKernelError } from '../../netlink-lib/errors.ts'
import { familyOf, ipBytes } from '../../netlink-lib/ip.ts'
import type { TableRef } from '../../netlink-lib/nftables/commands.ts'
import { cmpOps, type Expression, metaKeys, payloadBases, verdicts } from '../../netlink-lib/nftables/expressions.ts'
import { chainMessage, type Element, families, messageTypes } from '../../netlink-lib/nftables/messages.ts'
import { NetfilterSocket } from '../../netlink-lib/nftables/netfilter-socket.ts'
import { NetlinkSocket, protocols } from '../../netlink-lib/socket.ts'

/*
 * Whose packets get another source address on their way out, as the rules of nf_tables say it, whoever made them:
 * ours, hand-made ones, those of iptables-nft. Matches on anything but the source address are taken as "perhaps": the
 * answer is whether an address is translated towards somewhere. Rules of iptables-legacy are not seen.
 */

type Outcome = 'translated' | 'ended' | 'returned' | 'next'

interface Source {
  readonly family: 4 | 6
  readonly bytes: Buffer
}

/** Of these addresses those that are translated; asked in the namespace that the calling thread is in. */
export function translatedOf(addresses: readonly string[]): Set<string> {
  using netlink = new NetlinkSocket(protocols.netfilter)
  try {
    const rules = new Rules(netlink)
    return new Set(addresses.filter((address) => rules.translate(address)))
  } catch (error) {
    // This kernel has no nf_tables, or this user may not read them.
    if (isKernelError(error, 'EINVAL', 'EOPNOTSUPP', 'EPROTONOSUPPORT', 'EPERM')) return new Set()
    throw error
  }
}

const postrouting = 4 // NF_INET_POST_ROUTING
const deepest = 16 // chains that jump to one another; the kernel has the same limit

class Rules {
  readonly #socket: NetfilterSocket
  readonly #bases: readonly { readonly table: TableRef; readonly chain: string }[]
  readonly #rules = new Map<string, readonly (readonly Expression[])[]>()
  readonly #elements = new Map<string, readonly Element[]>()

  constructor(netlink: NetlinkSocket) {
    this.#socket = new NetfilterSocket(netlink)
    const request = { type: messageTypes.getChain, body: chainMessage.encode({}), operation: 'list', subject: 'chains' }
    this.#bases = netlink
      .dump(request)
      .map((reply) => chainMessage.decode(reply.body))
      .filter(({ type, hook }) => type === 'nat' && hook?.number === postrouting)
      .flatMap(({ family, table, name }) => {
        const familyName = (Object.keys(families) as (keyof typeof families)[]).find((key) => families[key] === family)
        return familyName && table && name ? { table: { family: familyName, name: table }, chain: name } : []
      })
  }

  translate(address: string): boolean {
    const source = { family: familyOf(address), bytes: ipBytes(address) }
    const other = source.family === 4 ? 'ip6' : 'ip'
    return this.#bases.some(
      ({ table, chain }) => table.family !== other && this.#walk(table, chain, source, 0) === 'translated',
    )
  }

  #walk(table: TableRef, chain: string, source: Source, depth: number): Outcome {
    if (depth > deepest) return 'next'
    for (const rule of this.#rulesOf(table, chain)) {
      const outcome = this.#apply(table, rule, source, depth)
      if (outcome !== 'next') return outcome
    }
    return 'returned'
  }

  #apply(table: TableRef, rule: readonly Expression[], source: Source, depth: number): Outcome {
    const registers = new Map<number | undefined, Buffer | undefined>()
    let certain = true
    for (const expression of rule) {
      if (translates(expression)) return 'translated'
      const verdict = this.#verdictOf(table, expression, registers)
      if (verdict) {
        const outcome = this.#follow(table, verdict, source, depth)
        return outcome === 'translated' || certain ? outcome : 'next'
      }
      const matches = this.#match(table, expression, registers, source)
      if (matches === false) return 'next'
      if (matches === 'perhaps') certain = false
    }
    return 'next'
  }

  #follow(table: TableRef, { code, chain }: Verdict, source: Source, depth: number): Outcome {
    if (code === verdicts.accept || code === verdicts.drop) return 'ended'
    if (code === verdicts.return) return 'returned'
    if (chain === undefined || (code !== verdicts.jump && code !== verdicts.goto)) return 'next'
    const outcome = this.#walk(table, chain, source, depth + 1)
    return outcome === 'returned' && code === verdicts.jump ? 'next' : outcome
  }

  /** Of an immediate verdict, or of the element that a verdict map has for what is in the register. */
  #verdictOf(table: TableRef, expression: Expression, registers: Registers): Verdict | undefined {
    if ('immediate' in expression) return expression.immediate.data?.verdict
    if (!('lookup' in expression) || expression.lookup.dreg !== 0) return undefined
    const value = registers.get(expression.lookup.sreg)
    return value && this.#find(table, expression.lookup.set, value)?.data?.verdict
  }

  /** Follows what a register holds, as far as it comes from the source address. */
  #match(table: TableRef, expression: Expression, registers: Registers, source: Source): boolean | 'perhaps' {
    if ('payload' in expression) {
      const { base, offset, length = 0, dreg } = expression.payload
      const isSource = base === payloadBases.network && offset === (source.family === 4 ? 12 : 8)
      registers.set(dreg, isSource && length <= source.bytes.length ? source.bytes.subarray(0, length) : undefined)
    } else if ('meta' in expression) {
      const family = Buffer.from([source.family === 4 ? families.ip : families.ip6])
      registers.set(expression.meta.dreg, expression.meta.key === metaKeys.nfproto ? family : undefined)
    } else if ('bitwise' in expression) {
      const { sreg, dreg, mask, xor } = expression.bitwise
      const value = registers.get(sreg)
      const masked = value?.map((byte, i) => (byte & (mask?.value?.[i] ?? 0xff)) ^ (xor?.value?.[i] ?? 0))
      registers.set(dreg, masked && Buffer.from(masked))
    } else if ('cmp' in expression) {
      const { sreg, op = cmpOps.eq, data } = expression.cmp
      const value = registers.get(sreg)
      if (!value || !data?.value) return 'perhaps'
      return comparisons[op]?.(Buffer.compare(value, data.value.subarray(0, value.length))) ?? 'perhaps'
    } else if ('lookup' in expression) {
      const { sreg, set, dreg, flags = 0 } = expression.lookup
      const value = registers.get(sreg)
      if (!value) return dreg === 0 ? false : 'perhaps'
      const found = this.#find(table, set, value) !== undefined
      return flags & 1 ? !found : found // NFT_LOOKUP_F_INV
    } else if ('other' in expression) {
      return expression.other.name === 'match' || expression.other.name === 'range' ? 'perhaps' : true
    } else if ('ct' in expression) registers.set(expression.ct.dreg, undefined)
    else if ('fib' in expression) registers.set(expression.fib.dreg, undefined)
    return true
  }

  #rulesOf(table: TableRef, chain: string): readonly (readonly Expression[])[] {
    const key = `${table.family} ${table.name} ${chain}`
    const known = this.#rules.get(key)
    if (known) return known
    const read = this.#socket.listRules(table, chain).map(({ expressions = [] }) => expressions)
    this.#rules.set(key, read)
    return read
  }

  /** The element with that key, or the one whose interval it is in. */
  #find(table: TableRef, set: string | undefined, value: Buffer): Element | undefined {
    const key = `${table.family} ${table.name} ${set}`
    let elements = this.#elements.get(key)
    if (!elements) {
      elements = set === undefined ? [] : this.#socket.listElements(table, set)
      this.#elements.set(key, elements)
    }
    const keyOf = (element: Element) => element.key?.value ?? Buffer.alloc(0)
    const isEnd = (element: Element) => ((element.flags ?? 0) & 1) !== 0 // NFT_SET_ELEM_INTERVAL_END
    if (!elements.some(isEnd)) return elements.find((element) => keyOf(element).equals(value))
    const below = elements
      .filter((element) => Buffer.compare(keyOf(element), value) <= 0)
      .sort((a, b) => Buffer.compare(keyOf(a), keyOf(b)) || Number(isEnd(b)) - Number(isEnd(a)))
      .at(-1)
    return below && !isEnd(below) ? below : undefined
  }
}

type Registers = Map<number | undefined, Buffer | undefined>
type Verdict = { readonly code?: number; readonly chain?: string }

const comparisons: Readonly<Record<number, (order: number) => boolean>> = {
  [cmpOps.eq]: (order) => order === 0,
  [cmpOps.neq]: (order) => order !== 0,
  [cmpOps.lt]: (order) => order < 0,
  [cmpOps.lte]: (order) => order <= 0,
  [cmpOps.gt]: (order) => order > 0,
  [cmpOps.gte]: (order) => order >= 0,
}

/** `masquerade`, `snat`, and the targets of iptables-nft with these names. */
function translates(expression: Expression): boolean {
  if ('masq' in expression) return true
  if ('nat' in expression) return expression.nat.type === 0 // NFT_NAT_SNAT
  if (!('other' in expression) || expression.other.name !== 'target') return false
  const { data } = expression.other
  return data.includes('MASQUERADE\0') || data.includes('SNAT\0')
}
