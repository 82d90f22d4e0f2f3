/**
 * Wire formats as tables: a message is declared once, and its encoder, decoder and static type come from that.
 * Nothing here opens a socket.
 */

/** A value of type T as bytes, both ways. `at` is the offset of `bytes` in the whole message, for error texts. */
export interface Codec<T> {
  /** Sets NLA_F_NESTED on the attribute that carries it. */
  readonly nested?: boolean
  encode(value: T): Buffer
  decode(bytes: Buffer, at?: number): T
}

/** What a codec decodes to. */
export type Decoded<C> = C extends Codec<infer T> ? T : never

/** An attribute that no table names: kept whole, so newer kernels lose nothing on a round trip. */
export interface UnknownAttribute {
  /** Type with its flag bits. */
  readonly type: number
  readonly data: Buffer
}

/** Bytes that contradict their own lengths. The offset counts from the start of the message body. */
export class MalformedMessage extends Error {
  override readonly name = 'MalformedMessage'
  constructor(
    what: string,
    readonly offset: number,
  ) {
    super(`malformed netlink message at byte ${offset}: ${what}`)
  }
}

/** A value of always the same size, put into and got out of the bytes of something larger. */
interface FixedCodec<T> extends Codec<T> {
  readonly size: number
  put(bytes: Buffer, value: T, at: number): void
  get(bytes: Buffer, at: number): T
}

function fixed<T>(size: number, put: FixedCodec<T>['put'], get: FixedCodec<T>['get']): FixedCodec<T> {
  return {
    size,
    put,
    get,
    encode(value) {
      const bytes = Buffer.alloc(size)
      put(bytes, value, 0)
      return bytes
    },
    decode(bytes, at = 0) {
      if (bytes.length < size) throw new MalformedMessage(`expected ${size} bytes, got ${bytes.length}`, at)
      return get(bytes, 0)
    },
  }
}

export const u8 = fixed<number>(
  1,
  (b, v, at) => b.writeUInt8(v, at),
  (b, at) => b[at]!,
)
export const u16 = fixed<number>(
  2,
  (b, v, at) => b.writeUInt16LE(v, at),
  (b, at) => b.readUInt16LE(at),
)
export const u32 = fixed<number>(
  4,
  (b, v, at) => b.writeUInt32LE(v, at),
  (b, at) => b.readUInt32LE(at),
)
export const i32 = fixed<number>(
  4,
  (b, v, at) => b.writeInt32LE(v, at),
  (b, at) => b.readInt32LE(at),
)
export const u16be = fixed<number>(
  2,
  (b, v, at) => b.writeUInt16BE(v, at),
  (b, at) => b.readUInt16BE(at),
)
export const u32be = fixed<number>(
  4,
  (b, v, at) => b.writeUInt32BE(v, at),
  (b, at) => b.readUInt32BE(at),
)
export const i32be = fixed<number>(
  4,
  (b, v, at) => b.writeInt32BE(v, at),
  (b, at) => b.readInt32BE(at),
)
export const u64be = fixed<bigint>(
  8,
  (b, v, at) => b.writeBigUInt64BE(v, at),
  (b, at) => b.readBigUInt64BE(at),
)

/** Bytes as they are. */
export const raw: Codec<Buffer> = { encode: (value) => value, decode: (bytes) => Buffer.from(bytes) }

/** NUL-terminated UTF-8. */
export const cString: Codec<string> = {
  encode: (value) => Buffer.from(`${value}\0`),
  decode(bytes) {
    const end = bytes.indexOf(0)
    return bytes.toString('utf8', 0, end < 0 ? bytes.length : end)
  },
}

/** An attribute that says something by being there. */
export const flag: Codec<true> = { encode: () => Buffer.alloc(0), decode: () => true }

/** Hardware address as lower-case colon-separated hex. */
export const mac: Codec<string> = {
  encode: (value) => Buffer.from(value.replaceAll(':', ''), 'hex'),
  decode: (bytes) => bytes.toString('hex').replace(/..(?=.)/g, '$&:'),
}

/** A codec that is made when it is first used, in modules that most load for something else: tables cost their making. */
export function later<T>(make: () => Codec<T>): Codec<T> {
  let made: Codec<T> | undefined
  const codec = () => {
    made ??= make()
    return made
  }
  return {
    get nested() {
      return codec().nested
    },
    encode: (value) => codec().encode(value),
    decode: (bytes, at) => codec().decode(bytes, at),
  }
}

type Fields = Readonly<Record<string, FixedCodec<number>>>
type Struct<F extends Fields> = { -readonly [K in keyof F]: number }

interface StructCodec<V> extends Codec<V> {
  readonly size: number
  readonly fields: Fields
}

/** A fixed C struct: fields in order, omitted ones are 0. Padding is a field of its own. */
export function struct<F extends Fields>(fields: F): StructCodec<Partial<Struct<F>>> {
  let size = 0
  for (const name in fields) size += fields[name]!.size
  return {
    size,
    fields,
    encode(value) {
      const bytes = Buffer.alloc(size)
      let at = 0
      for (const name in fields) {
        const field = fields[name]!
        field.put(bytes, value[name] ?? 0, at)
        at += field.size
      }
      return bytes
    },
    decode(bytes, at = 0) {
      if (bytes.length < size) throw new MalformedMessage(`expected a header of ${size} bytes, got ${bytes.length}`, at)
      const value: Record<string, number> = {}
      let offset = 0
      for (const name in fields) {
        const field = fields[name]!
        value[name] = field.get(bytes, offset)
        offset += field.size
      }
      return value as Struct<F>
    },
  }
}

// biome-ignore lint/suspicious/noExplicitAny: the value type of each entry is recovered by AttributeValues
type Table = Readonly<Record<string, readonly [type: number, codec: Codec<any>]>>
export type AttributeValues<T extends Table> = { [K in keyof T]?: Decoded<T[K][1]> } & {
  unknown?: readonly UnknownAttribute[]
}

const nestedFlag = 0x8000 // NLA_F_NESTED
const typeMask = 0x3fff // NLA_TYPE_MASK: without NLA_F_NESTED and NLA_F_NET_BYTEORDER

/** One attribute: length, type, data, padding to 4 (include/uapi/linux/netlink.h, struct nlattr). */
export function attribute(type: number, data: Buffer): Buffer {
  const bytes = Buffer.alloc((4 + data.length + 3) & ~3)
  bytes.writeUInt16LE(4 + data.length, 0)
  bytes.writeUInt16LE(type, 2)
  data.copy(bytes, 4)
  return bytes
}

/** Length of the attribute at `offset`, header included; one that lies throws. `at` is where `bytes` lies in the message. */
function lengthAt(bytes: Buffer, offset: number, at: number): number {
  const length = bytes.readUInt16LE(offset)
  if (length >= 4 && offset + length <= bytes.length) return length
  throw new MalformedMessage(`attribute length ${length}, ${bytes.length - offset} bytes left`, at + offset)
}

/** Splits a run of attributes; a length that lies throws. */
export function splitAttributes(bytes: Buffer, at = 0): (UnknownAttribute & { at: number })[] {
  const found: (UnknownAttribute & { at: number })[] = []
  let offset = 0
  while (offset + 4 <= bytes.length) {
    const length = lengthAt(bytes, offset, at)
    found.push({
      type: bytes.readUInt16LE(offset + 2),
      data: bytes.subarray(offset + 4, offset + length),
      at: at + offset + 4,
    })
    offset += (length + 3) & ~3
  }
  return found
}

/**
 * A set of attributes by name. They are written in the order of the value's own keys; undefined ones are left out.
 * Unknown types survive under `unknown`, or are skipped where there are many and nobody writes them back.
 */
export function attributes<T extends Table>(
  table: T,
  { unknown: treatment = 'kept' }: { readonly unknown?: 'kept' | 'skipped' } = {},
): Codec<AttributeValues<T>> & { readonly nested: true } {
  let names: string[] | undefined // by type; made when something is read, as many tables are only written
  return {
    nested: true,
    encode(value) {
      const parts: Buffer[] = []
      for (const name in value) {
        const content = value[name]
        if (content === undefined || name === 'unknown') continue
        const [type, codec] = table[name]!
        parts.push(attribute(codec.nested ? type | nestedFlag : type, codec.encode(content)))
      }
      for (const { type, data } of value.unknown ?? []) parts.push(attribute(type, data))
      return Buffer.concat(parts)
    },
    decode(bytes, at = 0) {
      names ??= namesByType(table)
      const value: Record<string, unknown> = {}
      const unknown: UnknownAttribute[] = []
      let offset = 0
      while (offset + 4 <= bytes.length) {
        const length = lengthAt(bytes, offset, at)
        const type = bytes.readUInt16LE(offset + 2)
        const name = names[type & typeMask]
        if (name !== undefined || treatment === 'kept') {
          const data = bytes.subarray(offset + 4, offset + length)
          if (name === undefined) unknown.push({ type, data: Buffer.from(data) })
          else value[name] = table[name]![1].decode(data, at + offset + 4)
        }
        offset += (length + 3) & ~3
      }
      if (unknown.length > 0) value.unknown = unknown
      return value as AttributeValues<T>
    },
  }
}

function namesByType(table: Table): string[] {
  const names: string[] = []
  for (const name in table) names[table[name]![0]] = name
  return names
}

/** Several attributes of one type inside a nested one (NFTA_LIST_ELEM, IFLA_ALT_IFNAME in IFLA_PROP_LIST). */
export function list<T>(type: number, codec: Codec<T>): Codec<readonly T[]> & { readonly nested: true } {
  const written = codec.nested ? type | nestedFlag : type
  return {
    nested: true,
    encode: (values) => Buffer.concat(values.map((value) => attribute(written, codec.encode(value)))),
    decode: (bytes, at = 0) => splitAttributes(bytes, at).map((part) => codec.decode(part.data, part.at)),
  }
}

/** A struct and the attributes behind it, in one flat value: the body of most messages. */
export function message<H extends object, A extends object>(header: StructCodec<H>, body: Codec<A>): Codec<H & A> {
  return {
    encode(value) {
      const rest: Record<string, unknown> = {}
      for (const name in value)
        if (header.fields[name] === undefined) rest[name] = (value as Record<string, unknown>)[name]
      return Buffer.concat([header.encode(value), body.encode(rest as A)])
    },
    decode: (bytes, at = 0) => ({
      ...header.decode(bytes, at),
      ...body.decode(bytes.subarray(header.size), at + header.size),
    }),
  }
}
