import {
  attribute,
  attributes,
  type Codec,
  cString,
  type Decoded,
  i32be,
  raw,
  splitAttributes,
  u8,
  u32be,
  u64be,
} from '../bytes.ts'

/*
 * The expressions rules are made of, one table each (include/uapi/linux/netfilter/nf_tables.h). Registers: 0 is the
 * verdict, 1 to 4 are 16 bytes wide. `nft --debug=netlink` prints any rule in these terms.
 */

/** enum nft_registers. */
export const registers = { verdict: 0, r1: 1, r2: 2, r3: 3, r4: 4 } as const

/** NF_DROP and NF_ACCEPT (netfilter.h), the rest are enum nft_verdicts. */
export const verdicts = { drop: 0, accept: 1, continue: -1, break: -2, jump: -3, goto: -4, return: -5 } as const

/** enum nft_payload_bases. */
export const payloadBases = { link: 0, network: 1, transport: 2 } as const

/** enum nft_meta_keys. */
export const metaKeys = {
  protocol: 1,
  mark: 3,
  iif: 4,
  oif: 5,
  iifname: 6,
  oifname: 7,
  iiftype: 8,
  nfproto: 15,
  l4proto: 16,
} as const

/** enum nft_cmp_ops. */
export const cmpOps = { eq: 0, neq: 1, lt: 2, lte: 3, gt: 4, gte: 5 } as const

/** NFTA_VERDICT_* inside NFTA_DATA_*: what registers, set keys and set data hold. */
export const dataAttributes = attributes({
  value: [1, raw], // NFTA_DATA_VALUE
  verdict: [
    2, // NFTA_DATA_VERDICT
    attributes({
      code: [1, i32be], // NFTA_VERDICT_CODE
      chain: [2, cString], // NFTA_VERDICT_CHAIN
    }),
  ],
})
export type Data = Decoded<typeof dataAttributes>

const tables = {
  meta: attributes({
    dreg: [1, u32be], // NFTA_META_DREG
    key: [2, u32be], // NFTA_META_KEY
    sreg: [3, u32be], // NFTA_META_SREG
  }),
  payload: attributes({
    dreg: [1, u32be], // NFTA_PAYLOAD_DREG
    base: [2, u32be], // NFTA_PAYLOAD_BASE
    offset: [3, u32be], // NFTA_PAYLOAD_OFFSET
    length: [4, u32be], // NFTA_PAYLOAD_LEN
  }),
  bitwise: attributes({
    sreg: [1, u32be], // NFTA_BITWISE_SREG
    dreg: [2, u32be], // NFTA_BITWISE_DREG
    length: [3, u32be], // NFTA_BITWISE_LEN
    mask: [4, dataAttributes], // NFTA_BITWISE_MASK
    xor: [5, dataAttributes], // NFTA_BITWISE_XOR
    op: [6, u32be], // NFTA_BITWISE_OP: absent on older kernels, 0 = NFT_BITWISE_MASK_XOR
  }),
  cmp: attributes({
    sreg: [1, u32be], // NFTA_CMP_SREG
    op: [2, u32be], // NFTA_CMP_OP
    data: [3, dataAttributes], // NFTA_CMP_DATA
  }),
  lookup: attributes({
    set: [1, cString], // NFTA_LOOKUP_SET
    sreg: [2, u32be], // NFTA_LOOKUP_SREG
    dreg: [3, u32be], // NFTA_LOOKUP_DREG: of a map; 0 makes the element's verdict the rule's
    setId: [4, u32be], // NFTA_LOOKUP_SET_ID: a set of the same transaction
    flags: [5, u32be], // NFTA_LOOKUP_FLAGS: 1 = NFT_LOOKUP_F_INV
  }),
  immediate: attributes({
    dreg: [1, u32be], // NFTA_IMMEDIATE_DREG
    data: [2, dataAttributes], // NFTA_IMMEDIATE_DATA
  }),
  counter: attributes({
    bytes: [1, u64be], // NFTA_COUNTER_BYTES
    packets: [2, u64be], // NFTA_COUNTER_PACKETS
  }),
  masq: attributes({
    flags: [1, u32be], // NFTA_MASQ_FLAGS: NF_NAT_RANGE_*
    protoMin: [2, u32be], // NFTA_MASQ_REG_PROTO_MIN
    protoMax: [3, u32be], // NFTA_MASQ_REG_PROTO_MAX
  }),
  nat: attributes({
    type: [1, u32be], // NFTA_NAT_TYPE: 0 = NFT_NAT_SNAT, 1 = NFT_NAT_DNAT
    family: [2, u32be], // NFTA_NAT_FAMILY
    addrMin: [3, u32be], // NFTA_NAT_REG_ADDR_MIN
    addrMax: [4, u32be], // NFTA_NAT_REG_ADDR_MAX
    protoMin: [5, u32be], // NFTA_NAT_REG_PROTO_MIN
    protoMax: [6, u32be], // NFTA_NAT_REG_PROTO_MAX
    flags: [7, u32be], // NFTA_NAT_FLAGS: NF_NAT_RANGE_*
  }),
  fib: attributes({
    dreg: [1, u32be], // NFTA_FIB_DREG
    result: [2, u32be], // NFTA_FIB_RESULT: 3 = NFT_FIB_RESULT_ADDRTYPE
    flags: [3, u32be], // NFTA_FIB_FLAGS: 1 = saddr, 2 = daddr
  }),
  ct: attributes({
    dreg: [1, u32be], // NFTA_CT_DREG
    key: [2, u32be], // NFTA_CT_KEY: 0 = NFT_CT_STATE
    direction: [3, u8], // NFTA_CT_DIRECTION
    sreg: [4, u32be], // NFTA_CT_SREG
  }),
  numgen: attributes({
    dreg: [1, u32be], // NFTA_NG_DREG
    modulus: [2, u32be], // NFTA_NG_MODULUS
    type: [3, u32be], // NFTA_NG_TYPE: 0 = NFT_NG_INCREMENTAL, 1 = NFT_NG_RANDOM
    offset: [4, u32be], // NFTA_NG_OFFSET
  }),
  byteorder: attributes({
    sreg: [1, u32be], // NFTA_BYTEORDER_SREG
    dreg: [2, u32be], // NFTA_BYTEORDER_DREG
    op: [3, u32be], // NFTA_BYTEORDER_OP: 0 = NFT_BYTEORDER_NTOH, 1 = NFT_BYTEORDER_HTON
    length: [4, u32be], // NFTA_BYTEORDER_LEN
    size: [5, u32be], // NFTA_BYTEORDER_SIZE
  }),
} as const

type Known = { [N in keyof typeof tables]: { readonly [K in N]: Decoded<(typeof tables)[N]> } }[keyof typeof tables]

/** One expression under its kernel name, as in `nft -j`: `{ cmp: { sreg: 1, … } }`. Others are kept as they came. */
export type Expression = Known | { readonly other: { readonly name: string; readonly data: Buffer } }

const isKnown = (name: string): name is keyof typeof tables => Object.hasOwn(tables, name)

/** NFTA_EXPR_NAME and NFTA_EXPR_DATA: the name decides what the data are. */
export const expression: Codec<Expression> = {
  nested: true,
  encode(value) {
    const [key, content] = Object.entries(value)[0]!
    const [name, data] = isKnown(key)
      ? [key, (tables[key] as Codec<object>).encode(content as object)]
      : [(content as { name: string }).name, (content as { data: Buffer }).data]
    return Buffer.concat([attribute(1, cString.encode(name)), attribute(2 | 0x8000, data)]) // NLA_F_NESTED
  },
  decode(bytes, at = 0) {
    const parts = splitAttributes(bytes, at)
    const name = cString.decode(parts[0]?.data ?? Buffer.alloc(0))
    const data = parts[1]?.data ?? Buffer.alloc(0)
    if (!isKnown(name)) return { other: { name, data: Buffer.from(data) } }
    return { [name]: (tables[name] as Codec<unknown>).decode(data, parts[1]?.at) } as Known
  },
}
