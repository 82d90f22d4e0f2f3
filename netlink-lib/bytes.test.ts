import { expect, test } from 'vitest'
import {
  attributes,
  type Codec,
  cString,
  flag,
  i32,
  i32be,
  later,
  list,
  MalformedMessage,
  mac,
  message,
  raw,
  struct,
  u8,
  u16,
  u16be,
  u32,
  u32be,
  u64be,
} from './bytes.ts'
import { hex } from './golden-bytes.ts'

// Bytes by hand from struct nlattr (include/uapi/linux/netlink.h): u16 length, u16 type, data, zeroes up to 4.

const child = attributes({ kind: [1, cString] }) // as IFLA_LINKINFO holds IFLA_INFO_KIND
const set = attributes({
  name: [3, cString], // IFLA_IFNAME
  mtu: [4, u32], // IFLA_MTU
  mac: [1, mac], // IFLA_ADDRESS
  group: [27, u32], // IFLA_GROUP
  info: [18, child], // IFLA_LINKINFO
  names: [52, list(53, cString)], // IFLA_PROP_LIST of IFLA_ALT_IFNAME
  children: [60, list(1, child)],
  up: [61, flag],
})

function malformed(work: () => unknown): MalformedMessage {
  try {
    work()
  } catch (error) {
    if (error instanceof MalformedMessage) return error
    throw error
  }
  throw new Error('expected MalformedMessage')
}

function bothWays<T>(name: string, codec: Codec<T>, value: T, bytes: string): void {
  test(`${name}: the same bytes in both directions`, () => {
    expect(codec.encode(value)).toEqual(hex(bytes))
    expect(codec.decode(hex(bytes))).toEqual(value)
  })
}
bothWays('u8', u8, 0xfe, 'fe')
bothWays('u16', u16, 0x1234, '3412')
bothWays('u32', u32, 0xfedcba98, '98badcfe')
bothWays('i32', i32, -17, 'efffffff')
bothWays('u16be', u16be, 0x1234, '1234')
bothWays('u32be', u32be, 0xfedcba98, 'fedcba98')
bothWays('i32be', i32be, -300, 'fffffed4')
bothWays('u64be', u64be, 0x0123456789abcdefn, '0123456789abcdef')
bothWays('mac', mac, '02:42:0a:58:00:05', '02420a580005')
bothWays('cString', cString, 'eth0', '6574683000')
bothWays('cString with a letter of two bytes', cString, 'é', 'c3a900')
bothWays('raw', raw, hex('010203'), '010203')

test('a string that the kernel did not terminate is taken whole', () => {
  expect(cString.decode(hex('65746830'))).toBe('eth0')
})

test('attributes: the same bytes in both directions, in the order of the keys', () => {
  const bytes = hex(`
    0a00 0300 7665746830 00 0000      # IFLA_IFNAME "veth0": 4 + 6 bytes, padded to 12
    0800 0400 dc050000                # IFLA_MTU 1500
    0a00 0100 02420a580005 0000       # IFLA_ADDRESS, 6 bytes padded to 8
    0800 1b00 07000000                # IFLA_GROUP 7
  `)
  const value = { name: 'veth0', mtu: 1500, mac: '02:42:0a:58:00:05', group: 7 }
  expect(set.encode(value)).toEqual(bytes)
  expect(set.decode(bytes)).toEqual(value)
})

test('nested attributes carry NLA_F_NESTED, and are read with or without it', () => {
  const bytes = hex(`
    1000 1280                         # IFLA_LINKINFO | NLA_F_NESTED (0x8000), 4 + 12 with the padding inside
      0900 0100 76657468 00 000000    #   IFLA_INFO_KIND "veth"
  `)
  expect(set.encode({ info: { kind: 'veth' } })).toEqual(bytes)
  expect(set.decode(bytes)).toEqual({ info: { kind: 'veth' } })

  bytes.writeUInt16LE(18, 2) // IFLA_LINKINFO, as kernels before 5.2 and many dumps still write it
  expect(set.decode(bytes)).toEqual({ info: { kind: 'veth' } })
})

test('a list holds attributes of one type, nested ones marked as such', () => {
  const bytes = hex(`
    1800 3480                         # IFLA_PROP_LIST | NLA_F_NESTED, 4 + 8 + 12
      0700 3500 613100 00             #   IFLA_ALT_IFNAME "a1", 7 bytes padded to 8
      0900 3500 6c6f6e67 00 000000    #   IFLA_ALT_IFNAME "long", 9 bytes padded to 12
    1800 3c80                         # 4 + 20
      1400 0180                       #   element 1 | NLA_F_NESTED
        0b00 0100 627269646765 00 00  #     IFLA_INFO_KIND "bridge", 11 bytes padded to 12
        0400 0200                     #     type 2: a flag that this table does not know
  `)
  const value = {
    names: ['a1', 'long'],
    children: [{ kind: 'bridge', unknown: [{ type: 2, data: Buffer.alloc(0) }] }],
  }
  expect(set.encode(value)).toEqual(bytes)
  expect(set.decode(bytes)).toEqual(value)
})

test('a flag is an attribute without data', () => {
  expect(set.encode({ up: true })).toEqual(hex('0400 3d00'))
  expect(set.decode(hex('0400 3d00'))).toEqual({ up: true })
})

test('an undefined value is left out', () => {
  expect(set.encode({ name: undefined, mtu: 1500, unknown: undefined })).toEqual(hex('0800 0400 dc050000'))
})

test('unknown attributes survive a round trip with their flag bits', () => {
  const bytes = hex(`
    0800 0400 dc050000                # IFLA_MTU 1500
    0600 ff41 beef 0000               # type 0x1ff | NLA_F_NET_BYTEORDER (0x4000)
    0c00 2c80 0800 0100 01000000      # type 44 | NLA_F_NESTED
  `)
  const value = set.decode(bytes)
  expect(value).toEqual({
    mtu: 1500,
    unknown: [
      { type: 0x41ff, data: hex('beef') },
      { type: 0x802c, data: hex('0800 0100 01000000') },
    ],
  })
  expect(set.encode(value)).toEqual(bytes)
})

test('unknown attributes are skipped where nobody writes them back, and their lengths still checked', () => {
  const known = attributes({ mtu: [4, u32] }, { unknown: 'skipped' })
  expect(known.decode(hex('0600 6300 beef 0000 0800 0400 dc050000'))).toEqual({ mtu: 1500 })
  expect(malformed(() => known.decode(hex('0600 6300 beef 0000 0a00 0400 dc050000')))).toMatchObject({ offset: 8 })
})

test('a codec made later is made once, at its first use, and says then whether it is nested', () => {
  let made = 0
  const codec = later(() => {
    made++
    return child
  })
  const outer = attributes({ info: [18, codec] })
  expect(made).toBe(0)
  expect(outer.encode({ info: { kind: 'veth' } })).toEqual(set.encode({ info: { kind: 'veth' } }))
  expect(outer.decode(outer.encode({ info: { kind: 'veth' } }))).toEqual({ info: { kind: 'veth' } })
  expect(made).toBe(1)
})

test('unknown data is a copy: the receive buffer may be used again', () => {
  const bytes = hex('0600 ff01 beef 0000')
  const value = set.decode(bytes)
  bytes.fill(0)
  expect(value.unknown?.[0]?.data).toEqual(hex('beef'))
})

test.each([
  ['longer than what is left', '0800 0400 dc050000 0900 0300 76657468', 8, 'attribute length 9, 8 bytes left'],
  ['shorter than its own header', '0800 0400 dc050000 0300 0300 00000000', 8, 'attribute length 3'],
  ['zero, which would never end', '0000 0300', 0, 'attribute length 0'],
  ['inside a nested attribute', '1000 1280 0800 0200 01000000 0500 0100', 12, 'attribute length 5, 4 bytes left'],
  ['inside a list', '0c00 3480 ff00 3500 00000000', 4, 'attribute length 255, 8 bytes left'],
  ['too short for its value', '0800 1b00 07000000 0600 0400 dc05 0000', 12, 'expected 4 bytes, got 2'],
])('a length that lies throws with its offset: %s', (_, bytes, offset, text) => {
  const error = malformed(() => set.decode(hex(bytes)))
  expect(error.offset).toBe(offset)
  expect(error.message).toContain(text)
  expect(error.message).toContain(`at byte ${offset}`)
})

// struct ifaddrmsg (include/uapi/linux/if_addr.h)
const header = struct({ family: u8, prefix: u8, flags: u8, scope: u8, index: u32 })

test('a struct: fields in order, omitted ones are 0', () => {
  expect(header.size).toBe(8)
  expect(header.encode({ family: 2, prefix: 24, index: 7 })).toEqual(hex('02 18 00 00 07000000'))
  expect(header.decode(hex('0a 40 80 fd 01000000'))).toEqual({
    family: 10,
    prefix: 64,
    flags: 0x80,
    scope: 0xfd,
    index: 1,
  })
})

test('a message is a struct and the attributes behind it', () => {
  const address = message(header, attributes({ address: [1, u32be], label: [3, cString] }))
  const bytes = hex(`
    02 10 00 00 03000000              # AF_INET, /16, index 3
    0800 0100 0a580005                # IFA_ADDRESS 10.88.0.5
    0900 0300 65746830 00 000000      # IFA_LABEL "eth0"
  `)
  const value = { family: 2, prefix: 16, flags: 0, scope: 0, index: 3, address: 0x0a580005, label: 'eth0' }
  expect(address.encode(value)).toEqual(bytes)
  expect(address.decode(bytes)).toEqual(value)
})

test('offsets in a message count from its first byte', () => {
  const address = message(header, attributes({ label: [3, cString] }))
  expect(malformed(() => address.decode(hex('02 10 00 00 03000000 0900 0300 65746830'))).offset).toBe(8)
  expect(malformed(() => address.decode(hex('02 10 00 00'))).message).toContain('a header of 8 bytes, got 4')
})
