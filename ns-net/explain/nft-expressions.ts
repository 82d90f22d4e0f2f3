import { formatIp } from '../../netlink-lib/ip.ts'
import { cmpOps, type Data, type Expression, payloadBases, verdicts } from '../../netlink-lib/nftables/expressions.ts'
import { families } from '../../netlink-lib/nftables/messages.ts'
import {
  decimal,
  hostNumber,
  type Loaded,
  labelsKey,
  labelText,
  metas,
  NoWords,
  payloadLoaded,
  routeTypes,
  tracking,
} from './nft-values.ts'

/*
 * A rule's expressions as nft(8) writes them. They load something into registers and then use it; here the registers
 * hold the words for what was loaded.
 */

const opText: Readonly<Record<number, string>> = {
  [cmpOps.eq]: '',
  [cmpOps.neq]: '!= ',
  [cmpOps.lt]: '< ',
  [cmpOps.lte]: '<= ',
  [cmpOps.gt]: '> ',
  [cmpOps.gte]: '>= ',
}

/** `accept`, `goto CHAIN`. */
export function verdictText({ code, chain }: NonNullable<Data['verdict']>): string {
  const name = Object.keys(verdicts).find((key) => verdicts[key as keyof typeof verdicts] === code)
  if (name === undefined) throw new NoWords(`verdict ${code}`)
  return chain === undefined ? name : `${name} ${chain}`
}

/** The prefix length that a mask of ones is, undefined when it is none. */
function prefixOf(mask: Buffer): number | undefined {
  const bits = [...mask].map((byte) => byte.toString(2).padStart(8, '0')).join('')
  return /^1*0*$/.test(bits) ? bits.replace(/0+$/, '').length : undefined
}

function flagsText(value: number, names: Readonly<Record<number, string>>): string {
  const words = Object.entries(names).flatMap(([bit, name]) => (value & Number(bit) ? [name] : []))
  if (words.length === 0) throw new NoWords(`flags ${value}`)
  return words.join(',')
}

/** The text of a whole rule, without its comment. */
export function ruleText(expressions: readonly Expression[]): string {
  return new Reading(expressions).text()
}

/** The arguments of one kind of expression. */
type Arguments<K extends string> = Extract<Expression, Readonly<Record<K, unknown>>>[K]

/** Matches that nft leaves out before one that says the same: of the family, of the kind of link. By payload's base. */
const questions: ReadonlyMap<string, number> = new Map([
  ['meta nfproto', payloadBases.network],
  ['iiftype', payloadBases.link],
])

class Reading {
  readonly #words: string[] = []
  readonly #registers = new Map<number, Loaded>()
  /** Registers that were loaded and not used yet: together they are the key of a lookup. */
  #key: number[] = []
  /** A question that is only asked so that the next match makes sense: nft does not write it then. */
  #asked: { readonly text: string; readonly base: number } | undefined

  constructor(readonly expressions: readonly Expression[]) {}

  text(): string {
    for (const expression of this.expressions) this.#read(expression)
    this.#sayAsked()
    return this.#words.join(' ')
  }

  #sayAsked(): void {
    if (this.#asked) this.#words.push(this.#asked.text)
    this.#asked = undefined
  }

  #load(register: number | undefined, loaded: Loaded): void {
    this.#registers.set(register!, loaded)
    this.#key.push(register!)
  }

  #used(register: number | undefined): Loaded {
    const loaded = this.#registers.get(register!)
    if (!loaded) throw new NoWords(`register ${register}`)
    return loaded
  }

  #read(expression: Expression): void {
    if ('payload' in expression) {
      const { dreg, base = 0, offset = 0, length = 0 } = expression.payload
      if (this.#asked?.base === base) this.#asked = undefined
      this.#load(dreg, payloadLoaded(base, offset, length))
    } else if ('meta' in expression) this.#readMeta(expression.meta)
    else if ('cmp' in expression) this.#readComparison(expression.cmp)
    else if ('bitwise' in expression) {
      const { sreg, dreg, mask } = expression.bitwise
      this.#registers.set(dreg!, { ...this.#used(sreg), mask: mask?.value })
    } else if ('lookup' in expression) this.#readLookup(expression.lookup)
    else if ('immediate' in expression) this.#readImmediate(expression.immediate)
    else if ('nat' in expression) this.#readTranslation(expression.nat)
    else if ('masq' in expression) this.#say('masquerade')
    else if ('counter' in expression) this.#say('counter')
    else if ('byteorder' in expression) {
      const { sreg, dreg } = expression.byteorder
      this.#registers.set(dreg!, { ...this.#used(sreg), value: decimal })
    } else this.#readSource(expression)
  }

  /** What is neither in the packet nor about its links. */
  #readSource(expression: Expression): void {
    if ('fib' in expression) {
      const { dreg, flags = 0, result } = expression.fib
      if (result !== 3) throw new NoWords('fib') // NFT_FIB_RESULT_ADDRTYPE
      const text = `fib ${flags & 1 ? 'saddr' : 'daddr'} type`
      this.#load(dreg, { text, value: (bytes) => routeTypes[hostNumber(bytes)] ?? String(hostNumber(bytes)) })
    } else if ('ct' in expression) this.#readTracking(expression.ct)
    else if ('numgen' in expression) {
      const { dreg, modulus, type } = expression.numgen
      const text = `numgen ${type === 0 ? 'inc' : 'random'} mod ${modulus}`
      this.#load(dreg, { text, value: (bytes) => String(hostNumber(bytes)) })
    } else
      throw new NoWords(`expression "${'other' in expression ? expression.other.name : Object.keys(expression)[0]}"`)
  }

  #readTracking({ dreg, sreg, key = -1 }: Arguments<'ct'>): void {
    const [text, names] = tracking[key] ?? []
    if (key === labelsKey && sreg !== undefined) this.#say(`ct label set ${labelText(this.#used(sreg).bytes!)}`)
    else if (key === labelsKey) this.#load(dreg, { text: 'ct label', value: labelText })
    else if (text === undefined || sreg !== undefined) throw new NoWords(`ct key ${key}`)
    else this.#load(dreg, { text, value: (bytes) => flagsText(hostNumber(bytes), names!) })
  }

  #say(...words: string[]): void {
    this.#sayAsked()
    this.#words.push(...words)
    this.#key = []
  }

  #readMeta({ dreg, sreg, key = 0 }: Arguments<'meta'>): void {
    const meta = metas[key]
    if (!meta) throw new NoWords(`meta key ${key}`)
    if (sreg === undefined) this.#load(dreg, meta)
    else this.#say(`${meta.text} set ${this.#used(sreg).value(Buffer.alloc(0))}`)
  }

  #readComparison({ sreg, op = 0, data }: Arguments<'cmp'>): void {
    const loaded = this.#used(sreg)
    const bytes = data?.value ?? Buffer.alloc(0)
    this.#key = []
    const words = loaded.mask
      ? maskedText(loaded, loaded.mask, op, bytes)
      : `${loaded.text} ${opText[op]}${loaded.value(bytes)}`
    const base = op === cmpOps.eq ? questions.get(loaded.text) : undefined
    if (base === undefined) this.#say(words)
    else {
      this.#sayAsked()
      this.#asked = { text: words, base }
    }
  }

  #readLookup({ set, dreg, flags = 0 }: Arguments<'lookup'>): void {
    const key = this.#key.map((register) => this.#used(register).text).join(' . ')
    if (dreg === undefined) this.#say(`${key} ${flags & 1 ? '!= ' : ''}@${set}`)
    else if (dreg === 0) this.#say(`${key} vmap @${set}`)
    else {
      this.#sayAsked()
      this.#key = []
      this.#registers.set(dreg, { text: `${key} map @${set}`, value: () => '' })
    }
  }

  #readImmediate({ dreg, data }: Arguments<'immediate'>): void {
    if (data?.verdict) {
      this.#say(verdictText(data.verdict))
      return
    }
    const bytes = data?.value ?? Buffer.alloc(0)
    const isAddress = bytes.length === 4 || bytes.length === 16
    const text = isAddress ? formatIp(bytes) : decimal(bytes)
    this.#registers.set(dreg!, { text, value: () => String(hostNumber(bytes)), bytes })
  }

  #readTranslation({ type, family, addrMin }: Arguments<'nat'>): void {
    const verb = type === 0 ? 'snat' : 'dnat' // NFT_NAT_SNAT
    this.#say(`${verb} ${family === families.ip ? 'ip' : 'ip6'} to ${this.#used(addrMin).text}`)
  }
}

/** A comparison of some bits: of flags, of a prefix, or as numbers. */
function maskedText({ text, value }: Loaded, mask: Buffer, op: number, bytes: Buffer): string {
  const prefix = prefixOf(mask)
  if (op === cmpOps.neq && bytes.every((byte) => byte === 0)) return `${text} ${value(mask)}`
  if (prefix !== undefined) return `${text} ${opText[op]}${value(bytes)}/${prefix}`
  return `${text} & 0x${mask.toString('hex')} ${op === cmpOps.eq ? '== ' : opText[op]}0x${bytes.toString('hex')}`
}
