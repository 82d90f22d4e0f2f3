import { formatCidr, formatIp } from '../../netlink-lib/ip.ts'
import { type Data, type Expression, verdicts } from '../../netlink-lib/nftables/expressions.ts'
import { connectionState } from './nft-values.ts'

/** Rules of nf_tables as nft(8) prints them, as far as we know the expressions; another one is `[name]`. */

/** What a register holds: the name of it, and how its values are written. */
interface Term {
  readonly name: string
  readonly format: (value: Buffer) => string
  /** Part of an address: the bits that the comparison leaves out. */
  readonly mask?: Buffer
}

const quoted = (value: Buffer) => {
  const end = value.indexOf(0)
  return end < 0 ? `"${value.toString()}*"` : `"${value.toString('utf8', 0, end)}"`
}
const hex = (value: Buffer) => `0x${value.toString('hex')}`
const littleEndian = (value: Buffer) => String(value.length === 4 ? value.readUInt32LE() : value.readUInt16LE())
const bigEndian = (value: Buffer) => String(value.readUIntBE(0, Math.min(value.length, 6)))
const named =
  (names: Readonly<Record<number, string>>) =>
  (value: Buffer): string =>
    names[value[0]!] ?? String(value[0])

const protocols = { 1: 'icmp', 6: 'tcp', 17: 'udp', 58: 'ipv6-icmp', 132: 'sctp' }
const addressTypes = { 1: 'unicast', 2: 'local', 3: 'broadcast', 5: 'multicast' }

const metaTerms: Readonly<Record<number, Term>> = {
  1: { name: 'meta protocol', format: hex },
  3: { name: 'meta mark', format: littleEndian },
  4: { name: 'meta iif', format: littleEndian },
  5: { name: 'meta oif', format: littleEndian },
  6: { name: 'iifname', format: quoted },
  7: { name: 'oifname', format: quoted },
  8: { name: 'iiftype', format: (value) => (value[0] === 1 ? 'ether' : littleEndian(value)) },
  10: { name: 'meta skuid', format: littleEndian },
  15: { name: 'meta nfproto', format: named({ 2: 'ipv4', 10: 'ipv6' }) },
  16: { name: 'meta l4proto', format: named(protocols) },
  17: { name: 'meta ibrname', format: quoted },
  18: { name: 'meta obrname', format: quoted },
}

function states(value: Buffer): string {
  const bits = value.readUInt32LE()
  return Object.entries(connectionState)
    .filter(([, bit]) => bits & bit)
    .map(([name]) => name)
    .join(',')
}

const connectionTerms: Readonly<Record<number, Term>> = {
  0: { name: 'ct state', format: states },
  1: { name: 'ct direction', format: named({ 0: 'original', 1: 'reply' }) },
  3: { name: 'ct mark', format: littleEndian },
}

/** An address, or the first bytes of one. */
const address = (size: number) => (value: Buffer) => {
  const whole = Buffer.alloc(size)
  value.copy(whole)
  if (value.length === size) return formatIp(whole)
  return formatCidr({ address: formatIp(whole), prefix: value.length * 8, family: size === 4 ? 4 : 6 })
}

const mac = (value: Buffer) => value.toString('hex').replace(/..(?=.)/g, '$&:')

function payloadTerm(base: number | undefined, offset: number, length: number, protocol: string): Term {
  if (base === 0 && length === 6 && offset < 12)
    return { name: offset === 0 ? 'ether daddr' : 'ether saddr', format: mac }
  if (base === 1) {
    if (offset === 9 && length === 1) return { name: 'ip protocol', format: named(protocols) }
    if (offset === 12 && length <= 4) return { name: 'ip saddr', format: address(4) }
    if (offset === 16 && length <= 4) return { name: 'ip daddr', format: address(4) }
    if (offset === 8) return { name: 'ip6 saddr', format: address(16) }
    if (offset === 24) return { name: 'ip6 daddr', format: address(16) }
  }
  if (base === 2) {
    if (offset === 0 && length === 2) return { name: `${protocol} sport`, format: bigEndian }
    if (offset === 2 && length === 2) return { name: `${protocol} dport`, format: bigEndian }
    if (offset === 0 && length === 1)
      return { name: 'icmp type', format: named({ 0: 'echo-reply', 8: 'echo-request' }) }
  }
  return { name: `@${['ll', 'nh', 'th'][base ?? 1]},${offset * 8},${length * 8}`, format: hex }
}

const signs = ['', '!= ', '< ', '<= ', '> ', '>= ']

export function describeRule(expressions: readonly Expression[]): string {
  const registers = new Map<number, Term>()
  const words: string[] = []
  let protocol = 'th'
  for (const expression of expressions) {
    if ('meta' in expression && expression.meta.dreg !== undefined)
      registers.set(expression.meta.dreg, metaTerms[expression.meta.key ?? -1] ?? { name: '[meta]', format: hex })
    else if ('ct' in expression && expression.ct.dreg !== undefined)
      registers.set(expression.ct.dreg, connectionTerms[expression.ct.key ?? -1] ?? { name: '[ct]', format: hex })
    else if ('payload' in expression && expression.payload.dreg !== undefined) {
      const { dreg, base, offset = 0, length = 0 } = expression.payload
      registers.set(dreg, payloadTerm(base, offset, length, protocol))
    } else if ('fib' in expression) {
      const of = (expression.fib.flags ?? 0) & 1 ? 'saddr' : 'daddr'
      registers.set(expression.fib.dreg ?? 1, { name: `fib ${of} type`, format: named(addressTypes) })
    } else if ('bitwise' in expression) {
      const { sreg = 1, dreg = 1, mask } = expression.bitwise
      const term = registers.get(sreg)
      if (term) registers.set(dreg, { ...term, mask: mask?.value })
    } else if ('cmp' in expression) {
      const { sreg = 1, op = 0, data } = expression.cmp
      const said = comparison(registers.get(sreg), op, data?.value ?? Buffer.alloc(0))
      const asked = /^meta l4proto (\w+)$/.exec(said)?.[1]
      if (asked) protocol = asked
      words.push(said)
    } else words.push(statement(expression, registers))
  }
  return withoutImplied(words).join(' ')
}

function comparison(term: Term | undefined, op: number, value: Buffer): string {
  if (!term) return '[cmp]'
  if (!term.mask) return `${term.name} ${signs[op] ?? ''}${term.format(value)}`
  // A set of bits: `ct state established,related` is "one of them is not missing".
  if (value.every((byte) => byte === 0)) return `${term.name} ${op === 1 ? '' : '!= '}${term.format(term.mask)}`
  const prefix = prefixOf(term.mask)
  return `${term.name} ${signs[op] ?? ''}${term.format(value)}${prefix === undefined ? ` & ${hex(term.mask)}` : `/${prefix}`}`
}

function prefixOf(mask: Buffer): number | undefined {
  const bits = [...mask].map((byte) => byte.toString(2).padStart(8, '0')).join('')
  return /^1*0*$/.test(bits) ? bits.lastIndexOf('1') + 1 : undefined
}

function statement(expression: Expression, registers: ReadonlyMap<number, Term>): string {
  if ('lookup' in expression) {
    const { set = '', sreg = 1, dreg, flags = 0 } = expression.lookup
    const by = registers.get(sreg)?.name ?? '[…]'
    const name = set.startsWith('__') ? '{ … }' : `@${set}`
    return `${by} ${dreg === undefined ? '' : 'vmap '}${flags & 1 ? '!= ' : ''}${name}`
  }
  if ('immediate' in expression)
    return expression.immediate.data?.verdict ? verdictText(expression.immediate.data.verdict) : ''
  if ('masq' in expression) return 'masquerade'
  if ('nat' in expression) return expression.nat.type === 0 ? 'snat' : 'dnat'
  if ('counter' in expression) return 'counter'
  if ('meta' in expression) return expression.meta.key === 12 ? 'meta nftrace set 1' : 'meta set'
  if ('other' in expression) return otherText(expression.other)
  return `[${Object.keys(expression)[0]}]`
}

function otherText({ name, data }: { readonly name: string; readonly data: Buffer }): string {
  if (['reject', 'log', 'notrack'].includes(name)) return name
  if (name === 'redir') return 'redirect'
  // Of xtables: NFTA_MATCH_NAME and NFTA_TARGET_NAME come first.
  if (name === 'match' || name === 'target') return `xt ${name} ${data.toString('utf8', 4, data.readUInt16LE(0) - 1)}`
  return `[${name}]`
}

function verdictText({ code, chain }: NonNullable<Data['verdict']>): string {
  const name = Object.entries(verdicts).find(([, number]) => number === code)?.[0] ?? 'queue'
  return chain ? `${name} ${chain}` : name
}

/** nft(8) leaves out what the next match implies: the family before an address, the protocol before a port. */
function withoutImplied(words: readonly string[]): string[] {
  const said = words.filter((word) => word !== '')
  const asksLater = (at: number, pattern: RegExp) => said.slice(at + 1).some((word) => pattern.test(word))
  return said.filter((word, at) => {
    if (/^meta nfproto ipv[46]$/.test(word)) return !asksLater(at, /^ip6? /)
    if (word === 'iiftype ether') return !asksLater(at, /^ether /)
    if (/^meta l4proto \w+$/.test(word)) return !asksLater(at, /^(tcp|udp|sctp|icmp) (sport|dport|type) /)
    return true
  })
}
