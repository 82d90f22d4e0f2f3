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

function fixed<T>(size: number, write: (b: Buffer, v: T) => void, read: (b: Buffer) => T): Codec<T> & { size: number } {
  return {
    size,
    encode(value) {
      const bytes = Buffer.alloc(size)
      write(bytes, value)
      return bytes
    },
    decode(bytes, at = 0) {
      if (bytes.length < size) throw new MalformedMessage(`expected ${size} bytes, got ${bytes.length}`, at)
      return read(bytes)
    },
  }
}

export const u8 = fixed<number>(
  1,
  (b, v) => b.writeUInt8(v),
  (b) => b.readUInt8(),
)
export const u16 = fixed<number>(
  2,
  (b, v) => b.writeUInt16LE(v),
  (b) => b.readUInt16LE(),
)
export const u32 = fixed<number>(
  4,
  (b, v) => b.writeUInt32LE(v),
  (b) => b.readUInt32LE(),
)
export const i32 = fixed<number>(
  4,
  (b, v) => b.writeInt32LE(v),
  (b) => b.readInt32LE(),
)
export const u16be = fixed<number>(
  2,
  (b, v) => b.writeUInt16BE(v),
  (b) => b.readUInt16BE(),
)
export const u32be = fixed<number>(
  4,
  (b, v) => b.writeUInt32BE(v),
  (b) => b.readUInt32BE(),
)
export const i32be = fixed<number>(
  4,
  (b, v) => b.writeInt32BE(v),
  (b) => b.readInt32BE(),
)
export const u64be = fixed<bigint>(
  8,
  (b, v) => b.writeBigUInt64BE(v),
  (b) => b.readBigUInt64BE(),
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

type Fields = Readonly<Record<string, Codec<number> & { size: number }>>
type Struct<F extends Fields> = { -readonly [K in keyof F]: number }

interface StructCodec<V> extends Codec<V> {
  readonly size: number
  readonly names: ReadonlySet<string>
}

/** A fixed C struct: fields in order, omitted ones are 0. Padding is a field of its own. */
export function struct<F extends Fields>(fields: F): StructCodec<Partial<Struct<F>>> {
  const entries = Object.entries(fields)
  const size = entries.reduce((sum, [, codec]) => sum + codec.size, 0)
  return {
    size,
    names: new Set(Object.keys(fields)),
    encode: (value) => Buffer.concat(entries.map(([name, codec]) => codec.encode(value[name] ?? 0))),
    decode(bytes, at = 0) {
      if (bytes.length < size) throw new MalformedMessage(`expected a header of ${size} bytes, got ${bytes.length}`, at)
      const value: Record<string, number> = {}
      let offset = 0
      for (const [name, codec] of entries) {
        value[name] = codec.decode(bytes.subarray(offset), at + offset)
        offset += codec.size
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

/** Splits a run of attributes; a length that lies throws. */
export function splitAttributes(bytes: Buffer, at = 0): (UnknownAttribute & { at: number })[] {
  const found: (UnknownAttribute & { at: number })[] = []
  let offset = 0
  while (offset + 4 <= bytes.length) {
    const length = bytes.readUInt16LE(offset)
    if (length < 4 || offset + length > bytes.length)
      throw new MalformedMessage(`attribute length ${length}, ${bytes.length - offset} bytes left`, at + offset)
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
 * Unknown types survive under `unknown`.
 */
export function attributes<T extends Table>(table: T): Codec<AttributeValues<T>> & { readonly nested: true } {
  const names = new Map<number, string>()
  for (const name in table) names.set(table[name]![0], name)
  return {
    nested: true,
    encode(value) {
      const parts: Buffer[] = []
      for (const [name, content] of Object.entries(value)) {
        if (content === undefined || name === 'unknown') continue
        const [type, codec] = table[name]!
        parts.push(attribute(codec.nested ? type | nestedFlag : type, codec.encode(content)))
      }
      for (const { type, data } of value.unknown ?? []) parts.push(attribute(type, data))
      return Buffer.concat(parts)
    },
    decode(bytes, at = 0) {
      const value: Record<string, unknown> = {}
      const unknown: UnknownAttribute[] = []
      for (const part of splitAttributes(bytes, at)) {
        const name = names.get(part.type & typeMask)
        if (name === undefined) unknown.push({ type: part.type, data: Buffer.from(part.data) })
        else value[name] = table[name]![1].decode(part.data, part.at)
      }
      if (unknown.length > 0) value.unknown = unknown
      return value as AttributeValues<T>
    },
  }
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
      const rest = Object.fromEntries(Object.entries(value).filter(([name]) => !header.names.has(name)))
      return Buffer.concat([header.encode(value), body.encode(rest as A)])
    },
    decode: (bytes, at = 0) => ({
      ...header.decode(bytes, at),
      ...body.decode(bytes.subarray(header.size), at + header.size),
    }),
  }
}
