import { expect, test } from 'vitest'
import { type Codec, list } from '../bytes.ts'
import { cidr } from '../ip.ts'
import { appendRule } from './commands.ts'
import { type Expression, expression } from './expressions.ts'
import {
  addressIn,
  byChance,
  destinationByMap,
  hasLabel,
  isForThisHost,
  joined,
  linkNamed,
  lookupAddress,
  lookupDestination,
  masquerade,
  newSource,
  saysTheSame,
  setLabel,
  verdict,
} from './statements.ts'

/* Bytes: nft 1.0.6, `nft --debug=mnl -f` with the rule in the test's name: what that tool sends, we send. */

const hex = (text: string) => Buffer.from(text.replaceAll(/#.*|\s/g, ''), 'hex')

const expressions = list(1, expression)

function expectBothWays<T>(codec: Codec<T>, value: T, text: string) {
  const bytes = hex(text)
  expect(codec.encode(value).toString('hex')).toBe(bytes.toString('hex'))
  expect(codec.decode(bytes)).toEqual(value)
}

const isIpv4 = `
  2400 0180 0900 0100 6d65 7461 0000 0000 1400 0280 # "meta"
    0800 0200 0000 000f                             #   NFTA_META_KEY: NFT_META_NFPROTO
    0800 0100 0000 0001                             #   NFTA_META_DREG
  2c00 0180 0800 0100 636d 7000 2000 0280           # "cmp"
    0800 0100 0000 0001                             #   NFTA_CMP_SREG
    0800 0200 0000 0000                             #   NFTA_CMP_OP: NFT_CMP_EQ
    0c00 0380 0500 0100 0200 0000                   #   NFTA_CMP_DATA: NFPROTO_IPV4
`

const load = (offset: string, length: string) => `
  3400 0180 0c00 0100 7061 796c 6f61 6400 2400 0280 # "payload"
    0800 0100 0000 0001                             #   NFTA_PAYLOAD_DREG
    0800 0200 0000 0001                             #   NFTA_PAYLOAD_BASE: NFT_PAYLOAD_NETWORK_HEADER
    0800 0300 0000 ${offset}                        #   NFTA_PAYLOAD_OFFSET
    0800 0400 0000 ${length}                        #   NFTA_PAYLOAD_LEN
`

const returns = `
  3000 0180 0e00 0100 696d 6d65 6469 6174 6500 0000 1c00 0280 # "immediate"
    0800 0100 0000 0000                             #   NFTA_IMMEDIATE_DREG: NFT_REG_VERDICT
    1000 0280 0c00 0280 0800 0100 ffff fffb         #   NFTA_IMMEDIATE_DATA: NFT_RETURN
`

test('ip daddr 10.7.0.0/24 return comment "foo"', () => {
  const rule = [...addressIn('daddr', cidr('10.7.0.9/24')), verdict('return')]
  expect(appendRule({ family: 'inet', name: 'ns-net' }, 'masq-a', rule, 'foo').body.toString('hex')).toBe(
    hex(`
      0100 0000
      0b00 0100 6e73 2d6e 6574 0000 # NFTA_RULE_TABLE
      0b00 0200 6d61 7371 2d61 0000 # NFTA_RULE_CHAIN
      e400 0480                     # NFTA_RULE_EXPRESSIONS
      ${isIpv4} ${load('0010', '0003')}
        2c00 0180 0800 0100 636d 7000 2000 0280
          0800 0100 0000 0001
          0800 0200 0000 0000
          0c00 0380 0700 0100 0a07 0000 # 3 bytes 10.7.0
      ${returns}
      0a00 0700 0004 666f 6f00 0000 # NFTA_RULE_USERDATA
    `).toString('hex'),
  )
})

test('ip daddr 10.64.0.0/12 return: a prefix inside a byte is masked', () => {
  expectBothWays(
    expressions,
    [...addressIn('daddr', cidr('10.64.0.0/12')), verdict('return')],
    `${isIpv4} ${load('0010', '0004')}
     4400 0180 0c00 0100 6269 7477 6973 6500 3400 0280 # "bitwise"
       0800 0100 0000 0001           #   NFTA_BITWISE_SREG
       0800 0200 0000 0001           #   NFTA_BITWISE_DREG
       0800 0300 0000 0004           #   NFTA_BITWISE_LEN
       0c00 0480 0800 0100 fff0 0000 #   NFTA_BITWISE_MASK
       0c00 0580 0800 0100 0000 0000 #   NFTA_BITWISE_XOR
     2c00 0180 0800 0100 636d 7000 2000 0280
       0800 0100 0000 0001
       0800 0200 0000 0000
       0c00 0380 0800 0100 0a40 0000
     ${returns}`,
  )
})

test('ip daddr 10.7.0.1 return: no mask for a single address', () => {
  expectBothWays(
    expressions,
    [...addressIn('daddr', cidr('10.7.0.1/32')), verdict('return')],
    `${isIpv4} ${load('0010', '0004')}
     2c00 0180 0800 0100 636d 7000 2000 0280
       0800 0100 0000 0001
       0800 0200 0000 0000
       0c00 0380 0800 0100 0a07 0001
     ${returns}`,
  )
})

test('every address of a family is matched by the family alone', () => {
  expect(addressIn('daddr', cidr('0.0.0.0/0'))).toEqual(lookupAddress('saddr', 4, 'm').slice(0, 2))
})

test('ip saddr vmap @sources4 (without the id that nft adds to the name)', () => {
  expectBothWays(
    expressions,
    lookupAddress('saddr', 4, 'sources4'),
    `${isIpv4} ${load('000c', '0004')}
     3400 0180 0b00 0100 6c6f 6f6b 7570 0000 2400 0280 # "lookup"
       0800 0200 0000 0001                     #   NFTA_LOOKUP_SREG
       0800 0300 0000 0000                     #   NFTA_LOOKUP_DREG: NFT_REG_VERDICT
       0d00 0100 736f 7572 6365 7334 0000 0000 #   NFTA_LOOKUP_SET`,
  )
})

test('numgen random mod 1000 < 50 drop', () => {
  expectBothWays(
    expressions,
    [...byChance(50), verdict('drop')],
    `3400 0180 0b00 0100 6e75 6d67 656e 0000 2400 0280 # "numgen"
       0800 0100 0000 0001                             #   NFTA_NG_DREG
       0800 0200 0000 03e8                             #   NFTA_NG_MODULUS
       0800 0300 0000 0001                             #   NFTA_NG_TYPE: NFT_NG_RANDOM
       0800 0400 0000 0000                             #   NFTA_NG_OFFSET
     4000 0180 0e00 0100 6279 7465 6f72 6465 7200 0000 2c00 0280 # "byteorder"
       0800 0100 0000 0001                             #   NFTA_BYTEORDER_SREG
       0800 0200 0000 0001                             #   NFTA_BYTEORDER_DREG
       0800 0300 0000 0001                             #   NFTA_BYTEORDER_OP: NFT_BYTEORDER_HTON
       0800 0400 0000 0004                             #   NFTA_BYTEORDER_LEN
       0800 0500 0000 0004                             #   NFTA_BYTEORDER_SIZE
     2c00 0180 0800 0100 636d 7000 2000 0280           # "cmp"
       0800 0100 0000 0001                             #   NFTA_CMP_SREG
       0800 0200 0000 0002                             #   NFTA_CMP_OP: NFT_CMP_LT
       0c00 0380 0800 0100 0000 0032                   #   NFTA_CMP_DATA
     3000 0180 0e00 0100 696d 6d65 6469 6174 6500 0000 1c00 0280 # "immediate"
       0800 0100 0000 0000                             #   NFTA_IMMEDIATE_DREG: NFT_REG_VERDICT
       1000 0280 0c00 0280 0800 0100 0000 0000         #   NFTA_IMMEDIATE_DATA: NF_DROP
    `,
  )
})

test('masquerade', () => {
  expectBothWays(expressions, masquerade(), '1400 0180 0900 0100 6d61 7371 0000 0000 0400 0280')
})

test('snat ip to 192.0.2.10, snat ip6 to 2001:db8::10', () => {
  const nat = (family: string) =>
    `2800 0180 0800 0100 6e61 7400 1c00 0280 # "nat"
       0800 0100 0000 0000                     #   NFTA_NAT_TYPE: NFT_NAT_SNAT
       0800 0200 0000 00${family}                     #   NFTA_NAT_FAMILY
       0800 0300 0000 0001                     #   NFTA_NAT_REG_ADDR_MIN`
  expectBothWays(
    expressions,
    newSource('192.0.2.10'),
    `2c00 0180 0e00 0100 696d 6d65 6469 6174 6500 0000 1800 0280 # "immediate"
       0800 0100 0000 0001 0c00 0280 0800 0100 c000 020a
     ${nat('02')}`,
  )
  expectBothWays(
    expressions,
    newSource('2001:db8::10'),
    `3800 0180 0e00 0100 696d 6d65 6469 6174 6500 0000 2400 0280 # "immediate"
       0800 0100 0000 0001 1800 0280 1400 0100 2001 0db8 0000 0000 0000 0000 0000 0010
     ${nat('0a')}`,
  )
})

test('fib daddr type local tcp dport 8080 dnat to 10.7.0.2:80', () => {
  const rule: Expression[] = [
    { fib: { flags: 2, result: 3, dreg: 1 } },
    { cmp: { sreg: 1, op: 0, data: { value: hex('02000000') } } }, // RTN_LOCAL in host order
    { meta: { key: 16, dreg: 1 } },
    { cmp: { sreg: 1, op: 0, data: { value: hex('06') } } },
    { payload: { dreg: 1, base: 2, offset: 2, length: 2 } },
    { cmp: { sreg: 1, op: 0, data: { value: hex('1f90') } } },
    { immediate: { dreg: 1, data: { value: hex('0a070002') } } },
    { immediate: { dreg: 2, data: { value: hex('0050') } } },
    { nat: { type: 1, family: 2, addrMin: 1, protoMin: 2, flags: 2 } },
  ]
  expectBothWays(
    expressions,
    rule,
    `2800 0180 0800 0100 6669 6200 1c00 0280 # "fib"
       0800 0300 0000 0002 0800 0200 0000 0003 0800 0100 0000 0001
     2c00 0180 0800 0100 636d 7000 2000 0280 # "cmp"
       0800 0100 0000 0001 0800 0200 0000 0000 0c00 0380 0800 0100 0200 0000
     2400 0180 0900 0100 6d65 7461 0000 0000 1400 0280 # "meta"
       0800 0200 0000 0010 0800 0100 0000 0001
     2c00 0180 0800 0100 636d 7000 2000 0280 # "cmp"
       0800 0100 0000 0001 0800 0200 0000 0000 0c00 0380 0500 0100 0600 0000
     3400 0180 0c00 0100 7061 796c 6f61 6400 2400 0280 # "payload"
       0800 0100 0000 0001 0800 0200 0000 0002 0800 0300 0000 0002 0800 0400 0000 0002
     2c00 0180 0800 0100 636d 7000 2000 0280 # "cmp"
       0800 0100 0000 0001 0800 0200 0000 0000 0c00 0380 0600 0100 1f90 0000
     2c00 0180 0e00 0100 696d 6d65 6469 6174 6500 0000 1800 0280 # "immediate"
       0800 0100 0000 0001 0c00 0280 0800 0100 0a07 0002
     2c00 0180 0e00 0100 696d 6d65 6469 6174 6500 0000 1800 0280 # "immediate"
       0800 0100 0000 0002 0c00 0280 0600 0100 0050 0000
     3800 0180 0800 0100 6e61 7400 2c00 0280 # "nat"
       0800 0100 0000 0001 0800 0200 0000 0002 0800 0300 0000 0001 0800 0500 0000 0002
       0800 0700 0000 0002`,
  )
})

test('ct state new iifname "br0" counter accept', () => {
  const interfaceName = hex('62723000 00000000 00000000 00000000')
  const rule: Expression[] = [
    { ct: { key: 0, dreg: 1 } },
    { bitwise: { sreg: 1, dreg: 1, length: 4, mask: { value: hex('08000000') }, xor: { value: hex('00000000') } } },
    { cmp: { sreg: 1, op: 1, data: { value: hex('00000000') } } },
    { meta: { key: 6, dreg: 1 } },
    { cmp: { sreg: 1, op: 0, data: { value: interfaceName } } },
    { counter: {} },
    verdict('accept'),
  ]
  expectBothWays(
    expressions,
    rule,
    `2000 0180 0700 0100 6374 0000 1400 0280 # "ct"
       0800 0200 0000 0000 0800 0100 0000 0001
     4400 0180 0c00 0100 6269 7477 6973 6500 3400 0280 # "bitwise"
       0800 0100 0000 0001 0800 0200 0000 0001 0800 0300 0000 0004 0c00 0480 0800 0100 0800 0000
       0c00 0580 0800 0100 0000 0000
     2c00 0180 0800 0100 636d 7000 2000 0280 # "cmp"
       0800 0100 0000 0001 0800 0200 0000 0001 0c00 0380 0800 0100 0000 0000
     2400 0180 0900 0100 6d65 7461 0000 0000 1400 0280 # "meta"
       0800 0200 0000 0006 0800 0100 0000 0001
     3800 0180 0800 0100 636d 7000 2c00 0280 # "cmp"
       0800 0100 0000 0001 0800 0200 0000 0000 1800 0380
       1400 0100 6272 3000 0000 0000 0000 0000 0000 0000
     1400 0180 0c00 0100 636f 756e 7465 7200 0400 0280 # "counter"
     3000 0180 0e00 0100 696d 6d65 6469 6174 6500 0000 1c00 0280 # "immediate"
       0800 0100 0000 0000 1000 0280 0c00 0280 0800 0100 0000 0001`,
  )
})

test('dnat ip to meta l4proto . th dport map @ports4 (without the id that nft adds to the name)', () => {
  expectBothWays(
    expressions,
    destinationByMap(4, 'ports4', false),
    `2400 0180 0900 0100 6d65 7461 0000 0000 1400 0280 # "meta"
       0800 0200 0000 0010 0800 0100 0000 0001         #   NFT_META_L4PROTO
     3400 0180 0c00 0100 7061 796c 6f61 6400 2400 0280 # "payload"
       0800 0100 0000 0009                             #   NFTA_PAYLOAD_DREG: 4 bytes behind the first
       0800 0200 0000 0002 0800 0300 0000 0002 0800 0400 0000 0002
     3000 0180 0b00 0100 6c6f 6f6b 7570 0000 2000 0280 # "lookup"
       0800 0200 0000 0001 0800 0300 0000 0001         #   NFTA_LOOKUP_SREG, NFTA_LOOKUP_DREG
       0b00 0100 706f 7274 7334 0000
     3000 0180 0800 0100 6e61 7400 2400 0280           # "nat"
       0800 0100 0000 0001                             #   NFTA_NAT_TYPE: NFT_NAT_DNAT
       0800 0200 0000 0002                             #   NFTA_NAT_FAMILY
       0800 0300 0000 0001 0800 0500 0000 0009         #   NFTA_NAT_REG_ADDR_MIN, NFTA_NAT_REG_PROTO_MIN`,
  )
})

test('registers behind an IPv6 address go by their short numbers, as nft and the kernel print them', () => {
  // nft --debug=netlink: dnat ip6 to ip6 daddr . meta l4proto . th dport map @bound6
  const registers = destinationByMap(6, 'bound6', true).flatMap((one) =>
    Object.values(one).map(({ dreg, sreg, protoMin }: Record<string, number>) => [sreg, dreg, protoMin]),
  )
  expect(registers).toEqual([
    [undefined, 1, undefined], // meta nfproto
    [1, undefined, undefined],
    [undefined, 1, undefined], // ip6 daddr
    [undefined, 2, undefined], // meta l4proto
    [undefined, 13, undefined], // th dport
    [1, 1, undefined], // lookup
    [undefined, undefined, 2], // nat
  ])
})

test('meta nfproto ipv4 meta l4proto . th dport vmap @conditions4', () => {
  expect(lookupDestination(4, 'conditions4', false)).toEqual([
    { meta: { key: 15, dreg: 1 } },
    { cmp: { sreg: 1, op: 0, data: { value: hex('02') } } },
    { meta: { key: 16, dreg: 1 } },
    { payload: { dreg: 9, base: 2, offset: 2, length: 2 } },
    { lookup: { sreg: 1, dreg: 0, set: 'conditions4' } },
  ])
})

test('fib daddr type local jump ports', () => {
  expectBothWays(
    expressions,
    [...isForThisHost(), verdict('jump', 'ports')],
    `2800 0180 0800 0100 6669 6200 1c00 0280 # "fib"
       0800 0300 0000 0002 0800 0200 0000 0003 0800 0100 0000 0001
     2c00 0180 0800 0100 636d 7000 2000 0280 # "cmp"
       0800 0100 0000 0001 0800 0200 0000 0000 0c00 0380 0800 0100 0200 0000
     3c00 0180 0e00 0100 696d 6d65 6469 6174 6500 0000 2800 0280 # "immediate"
       0800 0100 0000 0000 1c00 0280 1800 0280 0800 0100 ffff fffd 0a00 0200 706f 7274 7300 0000`,
  )
})

test('ct label 126 return', () => {
  expectBothWays(
    expressions,
    [...hasLabel(126), verdict('return')],
    `2000 0180 0700 0100 6374 0000 1400 0280 # "ct"
       0800 0200 0000 000d                   #   NFTA_CT_KEY: NFT_CT_LABELS
       0800 0100 0000 0001                   #   NFTA_CT_DREG
     5c00 0180 0c00 0100 6269 7477 6973 6500 4c00 0280    # "bitwise"
       0800 0100 0000 0001                                #   NFTA_BITWISE_SREG
       0800 0200 0000 0001                                #   NFTA_BITWISE_DREG
       0800 0300 0000 0010                                #   NFTA_BITWISE_LEN
       1800 0480 1400 0100 00000000 00000000 00000000 00000040 # NFTA_BITWISE_MASK
       1800 0580 1400 0100 00000000 00000000 00000000 00000000 # NFTA_BITWISE_XOR
     3800 0180 0800 0100 636d 7000 2c00 0280 # "cmp"
       0800 0100 0000 0001                   #   NFTA_CMP_SREG
       0800 0200 0000 0001                   #   NFTA_CMP_OP: NFT_CMP_NEQ
       1800 0380 1400 0100 00000000 00000000 00000000 00000000 # NFTA_CMP_DATA
     ${returns}`,
  )
})

test('ct label set 126', () => {
  expectBothWays(
    expressions,
    setLabel(126),
    `3800 0180 0e00 0100 696d 6d65 6469 6174 6500 0000 2400 0280 # "immediate"
       0800 0100 0000 0001                   #   NFTA_IMMEDIATE_DREG
       1800 0280 1400 0100 00000000 00000000 00000000 00000040 # NFTA_IMMEDIATE_DATA
     2000 0180 0700 0100 6374 0000 1400 0280 # "ct"
       0800 0200 0000 000d                   #   NFTA_CT_KEY: NFT_CT_LABELS
       0800 0400 0000 0001                   #   NFTA_CT_SREG`,
  )
})

test('iifname != "eth0", and a pattern compares only its beginning', () => {
  expectBothWays(
    expressions,
    linkNamed('iifname', 'eth0', 'neq'),
    `2400 0180 0900 0100 6d65 7461 0000 0000 1400 0280 # "meta"
       0800 0200 0000 0006 0800 0100 0000 0001
     3800 0180 0800 0100 636d 7000 2c00 0280 # "cmp"
       0800 0100 0000 0001 0800 0200 0000 0001 1800 0380
       1400 0100 6574 6830 0000 0000 0000 0000 0000 0000`,
  )
  expect(linkNamed('oifname', 'wg*')[1]).toEqual({ cmp: { sreg: 1, op: 0, data: { value: Buffer.from('wg') } } })
})

test('several matches ask for the family once', () => {
  const [one, two] = [addressIn('saddr', cidr('10.0.0.0/8')), addressIn('daddr', cidr('10.1.0.0/16'), 'neq')]
  expect(joined(linkNamed('iifname', 'eth0'), one, two)).toEqual([
    ...linkNamed('iifname', 'eth0'),
    ...one,
    ...two.slice(2),
  ])
  expect(joined(linkNamed('iifname', 'eth0'))).toEqual(linkNamed('iifname', 'eth0'))
})

test('a rule as the kernel returns it says the same with its defaults and its order', () => {
  const wanted: Expression[] = [
    { bitwise: { sreg: 1, length: 4, mask: { value: hex('fff00000') } } },
    verdict('return'),
  ]
  const actual: Expression[] = [
    { bitwise: { mask: { value: hex('fff00000') }, length: 4, sreg: 1, op: 0 } },
    { immediate: { data: { verdict: { code: -5 } }, dreg: 0 } },
  ]
  expect(saysTheSame(wanted, actual)).toBe(true)
  expect(saysTheSame(wanted, actual.slice(0, 1))).toBe(false)
  expect(saysTheSame(wanted, [...actual, { counter: {} }])).toBe(false)
  expect(saysTheSame(wanted, [{ bitwise: { mask: { value: hex('ff000000') }, length: 4, sreg: 1 } }, actual[1]])).toBe(
    false,
  )
  expect(saysTheSame(wanted, undefined)).toBe(false)
})

test('attributes that a newer kernel adds to an expression survive', () => {
  const bytes = hex('2000 0180 0900 0100 6d61 7371 0000 0000 1000 0280 0800 0100 0000 0010 0400 1f00')
  expect(expressions.decode(bytes)).toEqual([{ masq: { flags: 16, unknown: [{ type: 31, data: Buffer.alloc(0) }] } }])
  expect(expressions.encode(expressions.decode(bytes))).toEqual(
    hex(`
    2000 0180 0900 0100 6d61 7371 0000 0000 1000 0280 0800 0100 0000 0010 0400 1f00`),
  )
})
