import { expect, test } from 'vitest'
import { hex } from '../golden-bytes.ts'
import { decisionMessage } from './decision.ts'
import { netnsIdMessage } from './netns-id.ts'

/** Bytes: strace of iproute2 6.1 on Linux 6.18, without struct nlmsghdr. */

test('ip route get 10.2.0.2 from 10.1.0.2 iif v1', () => {
  const bytes = hex(`
    02 20 20 00 00 00 00 00 00100000   # rtmsg: AF_INET, /32, /32, RTM_F_LOOKUP_TABLE
    0800 0100 0a020002                 # RTA_DST 10.2.0.2
    0800 0200 0a010002                 # RTA_SRC 10.1.0.2
    0800 0300 02000000                 # RTA_IIF 2
  `)
  const value = decisionMessage.decode(bytes)
  expect(value).toEqual({
    family: 2,
    dstPrefix: 32,
    srcPrefix: 32,
    tos: 0,
    shortTable: 0,
    protocol: 0,
    scope: 0,
    type: 0,
    flags: 0x1000,
    dst: '10.2.0.2',
    src: '10.1.0.2',
    inLink: 2,
  })
  expect(decisionMessage.encode(value)).toEqual(bytes)
})

test('the answer to ip route get fibmatch 10.2.0.2', () => {
  const bytes = hex(`
    02 18 00 00 fe 02 fd 01 00000000   # rtmsg: AF_INET, /24, table main, RTPROT_KERNEL, RT_SCOPE_LINK, RTN_UNICAST
    0800 0f00 fe000000                 # RTA_TABLE main
    0800 0100 0a020000                 # RTA_DST 10.2.0.0
    0800 0700 0a020001                 # RTA_PREFSRC 10.2.0.1
    0800 0400 03000000                 # RTA_OIF 3
  `)
  const value = decisionMessage.decode(bytes)
  expect(value).toMatchObject({
    dstPrefix: 24,
    type: 1,
    table: 254,
    dst: '10.2.0.0',
    preferredSource: '10.2.0.1',
    outLink: 3,
  })
  expect(decisionMessage.encode(value)).toEqual(bytes)
})

test('ip netns list-id: the number of a namespace, asked for and told', () => {
  const question = hex('00 000000 0800 0300 06000000') // NETNSA_FD 6
  expect(netnsIdMessage.decode(question)).toMatchObject({ fd: 6 })
  expect(netnsIdMessage.encode({ fd: 6 })).toEqual(question)
  const answer = hex('00 000000 0800 0100 00000000') // NETNSA_NSID 0
  expect(netnsIdMessage.decode(answer)).toMatchObject({ id: 0 })
  expect(netnsIdMessage.encode({ id: 0 })).toEqual(answer)
})
