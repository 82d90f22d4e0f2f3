import { expect, test } from 'vitest'
import { hex } from '../../netlink-lib/golden-bytes.ts'
import { lineOf, tell } from './lines.ts'

const packet = {
  interface: 0,
  time: 1795358299_460771648n,
  direction: 'out',
  length: 60,
  data: hex(`
    d27129ecfb92 2a368c960d23 8100 000a 0800 45 00 0028 87ac 4000 40 06 9e48 0a580003 0a580002
    b26e 0050 00000001 00000000 50 02 faf0 0000 0000`),
} as const

test('a packet as a line, and as JSON with all digits of its time', () => {
  const told = tell(packet, { name: 'web:eth0', linkType: 'ethernet' })
  expect(lineOf(told, packet.time, 10)).toMatch(
    /^\d\d:\d\d:\d\d\.460771 {2}web:eth0 {4}out {2}10\.88\.0\.3:45678 > 10\.88\.0\.2:80 {2}vlan 10 TCP SYN, 60 bytes\n$/,
  )
  expect(told).toMatchObject({ time: '2026-11-22T14:38:19.460771648Z', interface: 'web:eth0', vlans: [10], length: 60 })
})

test('an IPv6 address with a port stands in brackets', () => {
  const told = { ...tell(packet, { name: 'a:b', linkType: 'ethernet' }), source: '2001:db8::1', vlans: undefined }
  expect(lineOf(told, packet.time, 3)).toContain('  [2001:db8::1]:45678 > ')
})
