import { expect, test } from 'vitest'
import { hex } from '../../netlink-lib/golden-bytes.ts'
import { synAnswer, synPacket } from './syn.ts'

/** Checksums as a few lines of Python compute them (RFC 1071). */

test('SYN over IPv4 and IPv6', () => {
  expect(synPacket('10.1.0.2', 21_000, '10.2.0.2', 80)).toEqual(
    hex('5208 0050 6e736e74 00000000 60 02 ffff 54e0 0000 0204 05b4'),
  )
  expect(synPacket('2001:db8:1::2', 21_000, '2001:db8:2::2', 80)).toEqual(
    hex('5208 0050 6e736e74 00000000 60 02 ffff 0d6e 0000 0204 05b4'),
  )
})

test('the answers of a server, of a host without one, and of nobody', () => {
  const answer = (flags: string) => hex(`0050 5208 00000001 6e736e75 50 ${flags} ffff 0000 0000`)
  expect(synAnswer(answer('12'))).toEqual({ state: 'open', port: 80, sourcePort: 21_000 })
  expect(synAnswer(answer('14'))).toEqual({ state: 'closed', port: 80, sourcePort: 21_000 })
  expect(synAnswer(answer('10'))).toBeUndefined() // an ACK of some other connection
  expect(synAnswer(Buffer.alloc(8))).toBeUndefined()
})
