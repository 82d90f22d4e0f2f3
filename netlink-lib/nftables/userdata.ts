import { type Codec, cString, type Decoded, MalformedMessage, u32 } from '../bytes.ts'

/*
 * The kernel stores user data without looking at it. nft(8) keeps comments there, in a TLV of its own (libnftnl,
 * include/libnftnl/udata.h): one byte type, one byte length, data without padding. Written in the same form, our
 * comments show up in `nft list ruleset` and survive a save and restore by that tool.
 */

// biome-ignore lint/suspicious/noExplicitAny: the value type of each entry is recovered below
type Table = Readonly<Record<string, readonly [type: number, codec: Codec<any>]>>
type Values<T extends Table> = { [K in keyof T]?: Decoded<T[K][1]> } & {
  unknown?: readonly { readonly type: number; readonly data: Buffer }[]
}

function userdata<T extends Table>(table: T): Codec<Values<T>> {
  const names = new Map(Object.entries(table).map(([name, [type]]) => [type, name]))
  return {
    encode(value) {
      const parts: Buffer[] = []
      const put = (type: number, data: Buffer) => parts.push(Buffer.from([type, data.length]), data)
      for (const [name, content] of Object.entries(value)) {
        if (content === undefined || name === 'unknown') continue
        const [type, codec] = table[name]!
        put(type, codec.encode(content))
      }
      for (const { type, data } of value.unknown ?? []) put(type, data)
      return Buffer.concat(parts)
    },
    decode(bytes, at = 0) {
      const value: Record<string, unknown> = {}
      const unknown: { type: number; data: Buffer }[] = []
      for (let offset = 0; offset + 2 <= bytes.length; ) {
        const [type, length] = [bytes[offset]!, bytes[offset + 1]!]
        const data = bytes.subarray(offset + 2, offset + 2 + length)
        if (data.length < length) throw new MalformedMessage(`user data length ${length}`, at + offset)
        const name = names.get(type)
        if (name === undefined) unknown.push({ type, data: Buffer.from(data) })
        else value[name] = table[name]![1].decode(data, at + offset + 2)
        offset += 2 + length
      }
      if (unknown.length > 0) value.unknown = unknown
      return value as Values<T>
    },
  }
}

/** NFTNL_UDATA_TABLE_COMMENT, _CHAIN_COMMENT, _RULE_COMMENT and _SET_ELEM_COMMENT share type 0. */
export const commentUserdata = userdata({ comment: [0, cString] })

export const setUserdata = userdata({
  keyByteOrder: [0, u32], // NFTNL_UDATA_SET_KEYBYTEORDER: 2 = big endian; without it nft prints addresses reversed
  dataByteOrder: [1, u32], // NFTNL_UDATA_SET_DATABYTEORDER: 0 = none (a verdict)
  dataInterval: [6, u32], // NFTNL_UDATA_SET_DATA_INTERVAL
  comment: [7, cString], // NFTNL_UDATA_SET_COMMENT
})

/** Longest comment that nft(8) accepts when a saved ruleset is loaded again (NFTNL_UDATA_COMMENT_MAXLEN). */
export const longestComment = 128
