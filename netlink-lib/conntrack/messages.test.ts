import { expect, test } from 'vitest'
import { hex } from '../golden-bytes.ts'
import { addressFamilies, filterFlags, flowMessage } from './messages.ts'

/* Bytes: a reply of Linux 6.18, seen with strace under conntrack(8) 1.4.7; message bodies, without struct nlmsghdr. */

test('a UDP flow without an answer: the same bytes in both directions', () => {
  const bytes = hex(`
    0200 0000
    3400 0180                     # CTA_TUPLE_ORIG
      1400 0180                   #   CTA_TUPLE_IP
        0800 0100 c000 0202       #     CTA_IP_V4_SRC
        0800 0200 c000 0201       #     CTA_IP_V4_DST
      1c00 0280                   #   CTA_TUPLE_PROTO
        0500 0100 1100 0000       #     CTA_PROTO_NUM
        0600 0200 14e9 0000       #     CTA_PROTO_SRC_PORT
        0600 0300 1f75 0000       #     CTA_PROTO_DST_PORT
    3400 0280                     # CTA_TUPLE_REPLY
      1400 0180 0800 0100 c000 0201 0800 0200 c000 0202
      1c00 0280 0500 0100 1100 0000 0600 0200 1f75 0000 0600 0300 14e9 0000
    0800 0300 0000 0008           # CTA_STATUS: IPS_CONFIRMED
    0800 0c00 27e2 f34e           # CTA_ID
    0800 0700 0000 012b           # CTA_TIMEOUT, not in our table
  `)
  const value = flowMessage.decode(bytes)
  expect(value).toMatchObject({
    family: addressFamilies[4],
    original: {
      ip: { source4: Buffer.from([192, 0, 2, 2]), destination4: Buffer.from([192, 0, 2, 1]) },
      protocol: { number: 17, sourcePort: 5353, destinationPort: 8053 },
    },
    reply: { protocol: { sourcePort: 8053, destinationPort: 5353 } },
    status: 8,
    id: 0x27e2f34e,
    unknown: [{ type: 7 }],
  })
  expect(flowMessage.encode(value).toString('hex')).toBe(bytes.toString('hex'))
})

test('a dump of the flows to one UDP port', () => {
  // By include/uapi/linux/netfilter/nfnetlink_conntrack.h: conntrack(8) 1.4.7 does not filter in the kernel.
  const value = {
    family: addressFamilies[6],
    original: { protocol: { number: 17, destinationPort: 53 } },
    filter: { original: filterFlags.protocolNumber | filterFlags.destinationPort },
  }
  expect(flowMessage.encode(value).toString('hex')).toBe(
    hex(`
      0a00 0000
      1800 0180                 # CTA_TUPLE_ORIG
        1400 0280               #   CTA_TUPLE_PROTO
          0500 0100 1100 0000   #     CTA_PROTO_NUM
          0600 0300 0035 0000   #     CTA_PROTO_DST_PORT
      0c00 1980                 # CTA_FILTER
        0800 0100 2800 0000     #   CTA_FILTER_ORIG_FLAGS, host order
    `).toString('hex'),
  )
})
