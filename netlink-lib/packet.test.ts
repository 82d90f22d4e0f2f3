import { expect, test } from 'vitest'
import { hex } from './golden-bytes.ts'
import { decodeBlock } from './packet.ts'

// Read from the ring of one end of a veth pair, Linux 6.18; the other end had sent an ARP request in VLAN 10, priority 1.
const block = () =>
  hex(`
    02000000 30000000                     # struct tpacket_block_desc: version 2, private area at 48
      21000000 01000000 30000000          #   status TP_STATUS_USER | BLK_TMO, one packet, at 48
      b0000000 0100000000000000           #   176 bytes, block number 1
      5bfe026b bd9c530d 5bfe026b 40d1761b #   times of its first and last packet
    00000000 5bfe026b 40d1761b            # struct tpacket3_hdr: no next one; 1795358299.460771648
      2a000000 2a000000                   #   42 bytes kept of 42
      51000000 5200 6000                  #   status USER | VLAN_VALID | VLAN_TPID_VALID; frame at 82, its data at 96
      00000000 0a200000 0081 0000         #   VLAN 10 with priority 1, 802.1Q
      0000000000000000
    1100 0806 02000000 0100 01 06         # struct sockaddr_ll: ARP, link 2, Ethernet, PACKET_BROADCAST
      0200000000010000 0000000000000000 000000000000
    ffffffffffff 020000000001 0806        # the frame, without its tag
      0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000002
    00000000
  `)

test('a packet of the ring: its time, its direction, and its VLAN tag put back', () => {
  expect(decodeBlock(block())).toEqual([
    {
      time: 1795358299_460771648n,
      direction: 'in',
      reception: 'broadcast',
      length: 46,
      data: hex(`ffffffffffff 020000000001 8100 200a 0806
                 0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000002`),
    },
  ])
})

test('without a tag the frame stays as it is, and what this namespace sent goes out', () => {
  const bytes = block()
  bytes.writeUInt32LE(0x01, 48 + 20) // TP_STATUS_USER
  bytes.writeUInt8(4, 48 + 48 + 10) // PACKET_OUTGOING
  const [packet] = decodeBlock(bytes)
  expect(packet).toMatchObject({ direction: 'out', reception: undefined, length: 42 })
  expect(packet!.data).toEqual(bytes.subarray(130, 172))
})

test('packets behind one another, each with what was cut off', () => {
  const one = block()
  const second = Buffer.from(one.subarray(48))
  second.writeUInt32LE(40, 12) // tp_snaplen
  one.writeUInt32LE(2, 12) // num_pkts
  one.writeUInt32LE(one.length - 48, 48) // tp_next_offset
  const [, cut] = decodeBlock(Buffer.concat([one, second]))
  expect(cut).toMatchObject({ length: 46 })
  expect(cut!.data).toHaveLength(44)
})
