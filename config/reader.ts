import { type Cidr, canonicalIp, type Family, familyOf, parseCidr } from '../netlink-lib/ip.ts'

/** A configuration that cannot be used. The message has the path, the expectation and the value. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
  constructor(
    /** Where: `ipam.ranges[0][0].subnet`. */
    readonly path: string,
    /** What is wrong with it: `expected a CIDR, got "10.1"`. */
    readonly problem: string,
  ) {
    super(`${path}: ${problem}`)
  }
}

/** A JSON value as a person would recognise it, cut to a readable length. */
function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing'
  return text.length > 60 ? `${text.slice(0, 57)}...` : text
}

/** One JSON value and where it stands. Every method throws {@link ConfigError} when the value is not of the kind. */
export class Value {
  constructor(
    readonly json: unknown,
    readonly path: string,
  ) {}

  fail(problem: string): never {
    throw new ConfigError(this.path, problem)
  }

  #expected(what: string): never {
    return this.fail(`expected ${what}, got ${shown(this.json)}`)
  }

  string(): string {
    return typeof this.json === 'string' ? this.json : this.#expected('a string')
  }

  boolean(): boolean {
    return typeof this.json === 'boolean' ? this.json : this.#expected('true or false')
  }

  integer(min: number, max: number): number {
    const { json } = this
    if (typeof json === 'number' && Number.isInteger(json) && json >= min && json <= max) return json
    return this.#expected(`an integer from ${min} to ${max}`)
  }

  /** One of the given words. */
  oneOf<T extends string>(...words: readonly T[]): T {
    return words.find((word) => word === this.json) ?? this.#expected(words.map((word) => `"${word}"`).join(' or '))
  }

  /** An address in canonical text. */
  ip(family?: Family): string {
    const address = typeof this.json === 'string' ? canonicalIp(this.json) : undefined
    if (address === undefined || (family && familyOf(address) !== family))
      return this.#expected(family ? `an IPv${family} address` : 'an IP address')
    return address
  }

  /** An address with its prefix length; host bits are kept. */
  cidr(): Cidr {
    return (
      (typeof this.json === 'string' ? parseCidr(this.json) : undefined) ?? this.#expected('a CIDR such as 10.1.0.0/16')
    )
  }

  /** A hardware address in lower-case colon form, not multicast and not zero. */
  mac(): string {
    const text = typeof this.json === 'string' ? this.json.toLowerCase().replaceAll('-', ':') : ''
    if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(text)) return this.#expected('a MAC address such as 02:00:00:00:00:01')
    if (Number.parseInt(text.slice(0, 2), 16) & 1 || text === '00:00:00:00:00:00')
      return this.#expected('a unicast MAC address')
    return text
  }

  #section: Section | undefined

  /** The object under this value; the same one each time, so that it knows all that was asked of it. */
  object(): Section {
    this.#section ??= this.#toSection()
    return this.#section
  }

  #toSection(): Section {
    const { json } = this
    if (typeof json !== 'object' || json === null || Array.isArray(json)) return this.#expected('an object')
    return new Section(json as Record<string, unknown>, this.path)
  }

  list<T>(read: (element: Value) => T): T[] {
    const { json } = this
    if (!Array.isArray(json)) return this.#expected('a list')
    return json.map((element, i) => read(new Value(element, `${this.path}[${i}]`)))
  }
}

/**
 * A JSON object being read. Keys match without regard to case, as Go's decoder has it, and null counts as absent.
 * It remembers which keys were asked for, so that what nobody asked for can be reported.
 */
export class Section {
  readonly #asked = new Set<string>()
  readonly #values = new Map<string, Value>()
  readonly #keys: ReadonlyMap<string, string>

  constructor(
    private readonly json: Readonly<Record<string, unknown>>,
    readonly path = '',
  ) {
    this.#keys = new Map(Object.keys(json).map((key) => [key.toLowerCase(), key]))
  }

  /** The value under a key, undefined when absent or null. */
  get(key: string): Value | undefined {
    this.#asked.add(key)
    const written = Object.hasOwn(this.json, key) ? key : this.#keys.get(key.toLowerCase())
    const json = written === undefined ? undefined : this.json[written]
    if (written === undefined || json === undefined || json === null) return undefined
    const value = this.#values.get(written) ?? new Value(json, this.at(key))
    this.#values.set(written, value)
    return value
  }

  /** The value under a key that must be there. */
  require(key: string, expectation: string): Value {
    return this.get(key) ?? this.fail(key, `missing; expected ${expectation}`)
  }

  /** The elements of a list, none when it is absent. */
  list<T>(key: string, read: (element: Value) => T): T[] {
    return this.get(key)?.list(read) ?? []
  }

  at(key: string): string {
    return this.path === '' ? key : `${this.path}.${key}`
  }

  fail(key: string, problem: string): never {
    throw new ConfigError(this.at(key), problem)
  }

  /** Keys that stand in the JSON and were never asked for. */
  unread(): string[] {
    const asked = new Set([...this.#asked].map((key) => key.toLowerCase()))
    return [...this.#keys].filter(([lower]) => !asked.has(lower)).map(([, key]) => key)
  }

  /** Every key this section was asked for: the ones it knows. */
  known(): string[] {
    return [...this.#asked]
  }
}
