import { expect, test } from 'vitest'
import { hex } from '../../netlink-lib/golden-bytes.ts'
import { readFrame } from './frame.ts'

/* The first one is a frame of a lab (tcpdump -xx); the others are written after the RFCs, without checksums. */

const ethernet = 'd27129ecfb92 2a368c960d23'
const ipv4 = (protocol: string, length = '0054') => `45 00 ${length} 87ac 4000 40 ${protocol} 9e48 0a580003 0a580002`

test.each([
  [
    'an echo request',
    `${ethernet} 0800 ${ipv4('01')} 08 00 ebf1 1ab1 0001 ${'00'.repeat(56)}`,
    { source: '10.88.0.3', destination: '10.88.0.2', family: 4, protocol: 'ICMP', info: 'echo request id 6833 seq 1' },
  ],
  [
    'an unreachable port',
    `${ethernet} 0800 ${ipv4('01')} 03 03 0000 00000000`,
    { protocol: 'ICMP', info: 'unreachable: port' },
  ],
  [
    'an ARP request',
    'ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000002',
    { source: '10.0.0.1', destination: '10.0.0.2', protocol: 'ARP', info: 'who has 10.0.0.2?' },
  ],
  [
    'an ARP reply',
    '020000000001 020000000002 0806 0001 0800 06 04 0002 020000000002 0a000002 020000000001 0a000001',
    { source: '10.0.0.2', destination: '10.0.0.1', protocol: 'ARP', info: '10.0.0.2 is at 02:00:00:00:00:02' },
  ],
  [
    'the beginning of a TCP connection',
    `${ethernet} 0800 ${ipv4('06', '003c')} b26e 0050 00000001 00000000 a0 02 faf0 0000 0000 ${'00'.repeat(20)}`,
    { protocol: 'TCP', sourcePort: 45678, destinationPort: 80, info: 'SYN' },
  ],
  [
    'TCP with 3 bytes, and padding of the link behind',
    `${ethernet} 0800 ${ipv4('06', '002b')} b26e 0050 00000001 00000001 50 18 faf0 0000 0000 616263 000000`,
    { protocol: 'TCP', info: 'ACK PSH 3 bytes' },
  ],
  [
    'UDP over IPv6',
    `${ethernet} 86dd 60000000 000a 11 40 ${'00'.repeat(15)}01 20010db8${'00'.repeat(11)}02 1388 0035 000a 0000 6869`,
    { source: '::1', destination: '2001:db8::2', family: 6, protocol: 'UDP', sourcePort: 5000, destinationPort: 53 },
  ],
  [
    'a question for a neighbour, in two VLANs',
    `3333ff000002 2a368c960d23 88a8 0064 8100 200a 86dd 60000000 0020 3a ff fe80${'00'.repeat(13)}01 ff02${'00'.repeat(9)}01ff000002
     87 00 0000 00000000 fe80${'00'.repeat(13)}02 0101 2a368c960d23`,
    { source: 'fe80::1', protocol: 'ICMPv6', info: 'who has fe80::2?', vlans: [100, 10] },
  ],
  [
    'multicast listeners, behind a hop-by-hop header',
    `333300000016 2a368c960d23 86dd 60000000 0024 00 01 fe80${'00'.repeat(13)}01 ff02${'00'.repeat(13)}16
     3a 00 05020000 0100 8f 00 0000 0000 0001 ${'00'.repeat(20)}`,
    { destination: 'ff02::16', protocol: 'ICMPv6', info: 'multicast listener' },
  ],
  [
    'a later fragment',
    `${ethernet} 0800 45 00 0054 0001 00b9 40 11 0000 0a580003 0a580002 ${'00'.repeat(64)}`,
    { protocol: 'UDP', info: 'fragment at byte 1480' },
  ],
  ['spanning tree', '0180c2000000 2a368c960d23 0026 424203 0000', { protocol: 'STP', source: '2a:36:8c:96:0d:23' }],
  ['LLDP', '0180c200000e 2a368c960d23 88cc 0000', { protocol: 'LLDP', destination: '01:80:c2:00:00:0e' }],
  ['a type without a name', `${ethernet} 9999`, { protocol: '0x9999' }],
])('%s', (_, bytes, expected) => {
  expect(readFrame(hex(bytes), 'ethernet')).toMatchObject(expected)
})

test('a tunnel has no Ethernet header', () => {
  expect(readFrame(hex(`${ipv4('84')} 0016 0017`), 'raw')).toMatchObject({ protocol: 'SCTP', destinationPort: 23 })
})

test('wherever a frame is cut off, what is left is read and nothing is thrown', () => {
  const frames = [
    `${ethernet} 0800 ${ipv4('06', '003c')} b26e 0050 00000001 00000000 a0 02 faf0 0000 0000`,
    `${ethernet} 86dd 60000000 0018 00 01 ${'00'.repeat(32)} 2c 00 05020000 0100 3a 00 0000 00000000 87 00 0000 00000000`,
    'ffffffffffff 020000000001 8100 200a 0806 0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000002',
  ]
  for (const frame of frames)
    for (let length = 0; length <= hex(frame).length; length++)
      for (const type of ['ethernet', 'raw'] as const)
        expect(readFrame(hex(frame).subarray(0, length), type).protocol).toBeTruthy()
})
