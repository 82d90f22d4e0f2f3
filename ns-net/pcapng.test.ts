import { expect, test } from 'vitest'
import { hex } from '../netlink-lib/golden-bytes.ts'
import { interfaceDescription, isCapture, packetBlock, sectionHeader, statisticsBlock } from './pcapng.ts'

/* Field by field as the draft has them (draft-ietf-opsawg-pcapng-03); integration-tests/seeing.test.ts lets tcpdump read. */

test('the section header', () => {
  expect(sectionHeader({ application: 'ns-net 1', os: 'Linux' })).toEqual(
    hex(`
      0a0d0d0a 38000000               # Block Type, Block Total Length 56
      4d3c2b1a 0100 0000              # Byte-Order Magic, version 1.0
      ffffffffffffffff                # Section Length: not known
      0300 0500 4c696e7578 000000     # shb_os "Linux"
      0400 0800 6e732d6e65742031      # shb_userappl "ns-net 1"
      0000 0000                       # opt_endofopt
      38000000
    `),
  )
})

test('an interface with a filter', () => {
  const bytes = interfaceDescription({ name: 'web:eth0', linkType: 'ethernet', snapLength: 262144, filter: 'icmp' })
  expect(bytes).toEqual(
    hex(`
      01000000 38000000
      0100 0000 00000400              # LINKTYPE_ETHERNET, reserved, SnapLen
      0200 0800 7765623a65746830      # if_name "web:eth0"
      0900 0100 09 000000             # if_tsresol: nanoseconds
      0b00 0500 00 69636d70 000000    # if_filter: text "icmp"
      0000 0000
      38000000
    `),
  )
})

test('a packet that was cut to 5 of 98 bytes', () => {
  const packet = { interface: 1, time: 0x18ea_7aa1_0203_0405n, direction: 'in', reception: 'broadcast' } as const
  expect(packetBlock({ ...packet, length: 98, data: hex('0102030405') })).toEqual(
    hex(`
      06000000 34000000
      01000000                        # Interface ID
      a17aea18 05040302               # Timestamp: upper, lower half
      05000000 62000000               # captured and original length
      0102030405 000000
      0200 0400 0d000000              # epb_flags: inbound, broadcast
      0000 0000
      34000000
    `),
  )
})

test('what left has no reception', () => {
  const sent = packetBlock({ interface: 0, time: 0n, direction: 'out', length: 0, data: Buffer.alloc(0) })
  expect(sent.subarray(28)).toEqual(hex('0200 0400 02000000 0000 0000 2c000000'))
})

test('the statistics of an interface', () => {
  const statistics = { interface: 1, start: 0x1_0000_0002n, end: 0x3_0000_0004n, received: 7, dropped: 0 }
  expect(statisticsBlock(statistics)).toEqual(
    hex(`
      05000000 4c000000
      01000000 03000000 04000000      # Interface ID, Timestamp
      0200 0800 01000000 02000000     # isb_starttime
      0300 0800 03000000 04000000     # isb_endtime
      0400 0800 0700000000000000      # isb_ifrecv
      0500 0800 0000000000000000      # isb_ifdrop
      0000 0000
      4c000000
    `),
  )
})

test.each([
  ['0a0d0d0a', true],
  ['d4c3b2a1', true],
  ['4d3cb2a1', true],
  ['23212f62', false],
  ['0a0d', false],
])('a file that begins with %s is a capture: %s', (bytes, expected) => {
  expect(isCapture(hex(bytes))).toBe(expected)
})
