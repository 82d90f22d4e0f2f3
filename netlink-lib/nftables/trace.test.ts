import { expect, test } from 'vitest'
import { list } from '../bytes.ts'
import { hex } from '../golden-bytes.ts'
import { expression } from './expressions.ts'
import { createOwnedTable, traced, traceMessage, traceTypes } from './trace.ts'

/** Bytes: strace of nft 1.0.6 (`nft monitor trace`, `nft add rule`), Linux 6.18. */

test('a rule that dropped a packet', () => {
  const bytes = hex(`
    01 00 0000                            # nfgenmsg: NFPROTO_INET
    0800 0f00 00000002                    # NFTA_TRACE_NFPROTO ipv4
    0800 0400 00000003                    # NFTA_TRACE_TYPE rule
    0800 0600 f8ec986b                    # NFTA_TRACE_ID
    0700 0200 696e0000                    # NFTA_TRACE_CHAIN "in"
    0600 0100 74000000                    # NFTA_TRACE_TABLE "t"
    0c00 0300 0000000000000003            # NFTA_TRACE_RULE_HANDLE 3
    0c00 0500 0800 0100 00000000          # NFTA_TRACE_VERDICT: NF_DROP
  `)
  const value = traceMessage.decode(bytes)
  expect(value).toEqual({
    family: 1,
    version: 0,
    resource: 0,
    protocol: 2,
    type: traceTypes.rule,
    id: 0xf8ec986b,
    chain: 'in',
    table: 't',
    handle: 3n,
    verdict: { code: 0 },
  })
  expect(traceMessage.encode(value)).toEqual(bytes)
})

test('meta nftrace set 1', () => {
  const bytes = hex(`
    2c00 0180 0e00 0100 696d6d656469617465000000 1800 0280 # "immediate"
      0800 0100 00000001 0c00 0280 0500 0100 01000000      #   NFTA_IMMEDIATE_DREG, NFTA_DATA_VALUE 1
    2400 0180 0900 0100 6d65746100000000 1400 0280         # "meta"
      0800 0200 0000000c 0800 0300 00000001                #   NFT_META_NFTRACE, NFTA_META_SREG
  `)
  expect(list(1, expression).encode([...traced()])).toEqual(bytes)
})

test('a table that ends with its socket', () => {
  expect(createOwnedTable({ family: 'inet', name: 't' }).body).toEqual(
    hex(`
      01 00 0000
      0600 0100 74000000 # NFTA_TABLE_NAME "t"
      0800 0200 00000002 # NFTA_TABLE_FLAGS: NFT_TABLE_F_OWNER
    `),
  )
})
