import { expect, test } from 'vitest'
import type { Codec } from '../bytes.ts'
import { createMap } from './commands.ts'
import {
  batchMessage,
  chainMessage,
  dataTypes,
  elementsMessage,
  families,
  generationMessage,
  ruleMessage,
  setFlags,
  setMessage,
  tableMessage,
} from './messages.ts'

/*
 * Bytes: nft 1.0.6 (libnftnl 1.2.4), `nft --debug=mnl -f`, Linux 6.18, little endian; those marked "kernel" are replies
 * of that kernel seen with strace. Message bodies, without struct nlmsghdr.
 */

const hex = (text: string) => Buffer.from(text.replaceAll(/#.*|\s/g, ''), 'hex')

function expectBothWays<T>(codec: Codec<T>, value: T, text: string) {
  const bytes = hex(text)
  expect(codec.encode(value).toString('hex')).toBe(bytes.toString('hex'))
  expect(codec.decode(bytes)).toEqual(value)
}

test('begin of a transaction, with and without the generation it is for', () => {
  const plain = { family: 0, version: 0, resource: 10 }
  expectBothWays(batchMessage, plain, '0000 000a # nfgenmsg: res_id NFNL_SUBSYS_NFTABLES')
  expectBothWays(
    batchMessage,
    { ...plain, generation: 7 },
    `0000 000a
     0800 0100 0000 0007 # NFNL_BATCH_GENID`,
  )
})

test('generation (kernel)', () => {
  const bytes = hex(`
    0000 0001
    0800 0100 0000 0001 # NFTA_GEN_ID
    0800 0200 0000 4c6d # NFTA_GEN_PROC_PID
    0800 0300 6275 6e00 # NFTA_GEN_PROC_NAME
  `)
  const value = generationMessage.decode(bytes)
  expect(value).toMatchObject({ generation: 1, pid: 0x4c6d, process: 'bun' })
  expect(generationMessage.encode(value)).toEqual(bytes)
})

test('table with a comment', () => {
  expectBothWays(
    tableMessage,
    { family: families.inet, version: 0, resource: 0, name: 'ns-net', flags: 0, userdata: { comment: 'hello' } },
    `0100 0000
     0b00 0100 6e73 2d6e 6574 0000 # NFTA_TABLE_NAME
     0800 0200 0000 0000           # NFTA_TABLE_FLAGS
     0c00 0600 0006 6865 6c6c 6f00 # NFTA_TABLE_USERDATA: type 0, 6 bytes`,
  )
})

test('base chain', () => {
  expectBothWays(
    chainMessage,
    {
      family: families.inet,
      version: 0,
      resource: 0,
      table: 'ns-net',
      name: 'postrouting',
      type: 'nat',
      hook: { number: 4, priority: 100 },
    },
    `0100 0000
     0b00 0100 6e73 2d6e 6574 0000           # NFTA_CHAIN_TABLE
     1000 0300 706f 7374 726f 7574 696e 6700 # NFTA_CHAIN_NAME
     0800 0700 6e61 7400                     # NFTA_CHAIN_TYPE
     1400 0480                               # NFTA_CHAIN_HOOK
       0800 0100 0000 0004                   #   NFTA_HOOK_HOOKNUM
       0800 0200 0000 0064                   #   NFTA_HOOK_PRIORITY`,
  )
})

test('verdict map', () => {
  expectBothWays(
    setMessage,
    {
      family: families.inet,
      version: 0,
      resource: 0,
      table: 'ns-net',
      name: 'sources4',
      flags: setFlags.map,
      keyType: dataTypes.ipv4_addr,
      keyLength: 4,
      dataType: dataTypes.verdict,
      dataLength: 0,
      id: 1,
      userdata: { keyByteOrder: 2, dataByteOrder: 0, dataInterval: 0, comment: 'x' },
    },
    `0100 0000
     0b00 0100 6e73 2d6e 6574 0000                # NFTA_SET_TABLE
     0d00 0200 736f 7572 6365 7334 0000 0000      # NFTA_SET_NAME
     0800 0300 0000 0008                          # NFTA_SET_FLAGS: NFT_SET_MAP
     0800 0400 0000 0007                          # NFTA_SET_KEY_TYPE
     0800 0500 0000 0004                          # NFTA_SET_KEY_LEN
     0800 0600 ffff ff00                          # NFTA_SET_DATA_TYPE: NFT_DATA_VERDICT
     0800 0700 0000 0000                          # NFTA_SET_DATA_LEN
     0800 0a00 0000 0001                          # NFTA_SET_ID
     1a00 0d00 0004 0200 0000 0104 0000 0000 0604 0000 0000 0702 7800 0000 # NFTA_SET_USERDATA`,
  )
})

test('map from protocol and port to address and port', () => {
  // nft also writes what its types are called (NFTNL_UDATA_SET_KEY_TYPEOF); it prints the same without.
  const shape = { key: ['inet_proto', 'inet_service'], data: ['ipv4_addr', 'inet_service'] } as const
  expect(createMap({ family: 'inet', name: 't' }, 'ports4', shape, 1, 'x').body.toString('hex')).toBe(
    hex(`0100 0000
      0600 0100 7400 0000           # NFTA_SET_TABLE
      0b00 0200 706f 7274 7334 0000 # NFTA_SET_NAME
      0800 0300 0000 0008           # NFTA_SET_FLAGS: NFT_SET_MAP
      0800 0400 0000 030d           # NFTA_SET_KEY_TYPE: 12 and 13, 6 bits each
      0800 0500 0000 0008           # NFTA_SET_KEY_LEN
      0800 0600 0000 01cd           # NFTA_SET_DATA_TYPE: 7 and 13
      0800 0700 0000 0008           # NFTA_SET_DATA_LEN
      0800 0a00 0000 0001           # NFTA_SET_ID
      1a00 0d00 0004 0000 0000 0104 0000 0000 0604 0000 0000 0702 7800 0000`).toString('hex'),
  )
})

test('map element with a comment', () => {
  expectBothWays(
    elementsMessage,
    {
      family: families.inet,
      version: 0,
      resource: 0,
      table: 'ns-net',
      set: 'sources4',
      setId: 1,
      elements: [
        {
          key: { value: hex('0a070002') },
          data: { verdict: { code: -4, chain: 'masq-a' } },
          userdata: { comment: 'net c1 eth0' },
        },
      ],
    },
    `0100 0000
     0b00 0100 6e73 2d6e 6574 0000           # NFTA_SET_ELEM_LIST_TABLE
     0d00 0200 736f 7572 6365 7334 0000 0000 # NFTA_SET_ELEM_LIST_SET
     0800 0400 0000 0001                     # NFTA_SET_ELEM_LIST_SET_ID
     4400 0380 4000 0180                     # NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_LIST_ELEM
       0c00 0180 0800 0100 0a07 0002         #   NFTA_SET_ELEM_KEY, NFTA_DATA_VALUE
       1c00 0280 1800 0280                   #   NFTA_SET_ELEM_DATA, NFTA_DATA_VERDICT
         0800 0100 ffff fffc                 #     NFTA_VERDICT_CODE: NFT_GOTO
         0b00 0200 6d61 7371 2d61 0000       #     NFTA_VERDICT_CHAIN
       1200 0600 000c 6e65 7420 6331 2065 7468 3000 0000 # NFTA_SET_ELEM_USERDATA`,
  )
})

test('a rule with an expression that no table names keeps it', () => {
  const bytes = hex(`
    0100 0000
    0b00 0100 6e73 2d6e 6574 0000 # NFTA_RULE_TABLE
    0a00 0200 696e 7075 7400 0000 # NFTA_RULE_CHAIN "input"
    2000 0480 1c00 0180           # NFTA_RULE_EXPRESSIONS, NFTA_LIST_ELEM
      0a00 0100 6c69 6d69 7400 0000 # NFTA_EXPR_NAME "limit"
      0c00 0280 0800 0400 0000 0001 # NFTA_EXPR_DATA
  `)
  const value = ruleMessage.decode(bytes)
  expect(value.expressions).toEqual([{ other: { name: 'limit', data: hex('0800 0400 0000 0001') } }])
  expect(ruleMessage.encode(value).toString('hex')).toBe(bytes.toString('hex'))
})
