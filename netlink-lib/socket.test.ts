import { expect, test } from 'vitest'
import { hex } from './golden-bytes.ts'
import { errorIn, frame, readDump, readWhole, unframe } from './socket.ts'

// Bytes by hand from struct nlmsghdr and struct nlmsgerr (include/uapi/linux/netlink.h).

test('a frame is a header and a body, padded to 4', () => {
  const bytes = hex(`
    16000000          # length 22: header and body without padding
    1000              # RTM_NEWLINK
    0506              # NLM_F_REQUEST | NLM_F_ACK | NLM_F_EXCL | NLM_F_CREATE
    07000000          # sequence 7
    00000000          # port: 0 is the kernel, which fills in ours
    010203040506 0000 # body
  `)
  expect(frame(16, 0x605, 7, hex('010203040506'))).toEqual(bytes)
  expect(unframe(bytes)).toEqual([{ type: 16, flags: 0x605, sequence: 7, body: hex('010203040506') }])
})

test('a datagram holds several messages', () => {
  const bytes = hex(`
    11000000 1800 0200 05000000 39300000  # RTM_NEWROUTE, NLM_F_MULTI, sequence 5, port 12345
      ff 000000                           #   one byte of body, padding
    14000000 0300 0200 05000000 39300000  # NLMSG_DONE
      00000000                            #   0
  `)
  expect(unframe(bytes)).toEqual([
    { type: 24, flags: 2, sequence: 5, body: hex('ff') },
    { type: 3, flags: 2, sequence: 5, body: hex('00000000') },
  ])
})

test('a last message without its padding is whole', () => {
  expect(unframe(hex('11000000 1800 0000 05000000 00000000 ff'))).toEqual([
    { type: 24, flags: 0, sequence: 5, body: hex('ff') },
  ])
})

test.each([
  ['longer than the datagram', '14000000 0300 0000 01000000 00000000 0000', 0],
  ['shorter than the header', '10000000 0300 0000 01000000 00000000 0f000000 0300 0000 01000000 00000000', 16],
])('a message %s throws with its offset', (_, bytes, offset) => {
  expect(() => unframe(hex(bytes))).toThrow(`at byte ${offset}`)
})

const [error, done] = [2, 3] // NLMSG_ERROR, NLMSG_DONE
const [capped, tlvs] = [0x100, 0x200] // NLM_F_CAPPED, NLM_F_ACK_TLVS
const reply = (type: number, flags: number, bytes: string) => ({ type, flags, sequence: 1, body: hex(bytes) })

/** The header of the refused request, as the kernel sends it back: 28 bytes long, RTM_NEWADDR. */
const requestHeader = '1c000000 1400 0506 01000000 00000000'
const requestBody = '02180000 07000000 ffffffff'
const extendedAck = `
  1300 0100 4e6f7420 61207661 6c696420 4950 00 00  # NLMSGERR_ATTR_MSG "Not a valid IP", 4 + 15, padded to 20
  0800 0200 18000000                               # NLMSGERR_ATTR_OFFS 24
`
const explained = { errno: 22, message: 'Not a valid IP', offset: 24 }

test('an acknowledgement is no error', () => {
  expect(errorIn(reply(error, capped, `00000000 ${requestHeader}`))).toBeUndefined()
  expect(errorIn(reply(done, 2, '00000000'))).toBeUndefined()
})

test('an error alone is an errno', () => {
  expect(errorIn(reply(error, capped, `efffffff ${requestHeader}`))).toEqual({ errno: 17 })
  expect(errorIn(reply(error, 0, `efffffff ${requestHeader} ${requestBody}`))).toEqual({ errno: 17 })
})

test('an extended acknowledgement behind a capped error follows the header of the request', () => {
  expect(errorIn(reply(error, capped | tlvs, `eaffffff ${requestHeader} ${extendedAck}`))).toEqual(explained)
})

test('an extended acknowledgement behind an error that is not capped follows the whole request', () => {
  expect(errorIn(reply(error, tlvs, `eaffffff ${requestHeader} ${requestBody} ${extendedAck}`))).toEqual(explained)
})

test('an error inside NLMSG_DONE has no request in it', () => {
  expect(errorIn(reply(done, 2 | tlvs, `eaffffff ${extendedAck}`))).toEqual(explained)
  expect(errorIn(reply(done, 2, 'ffffffff'))).toEqual({ errno: 1 })
})

// Received by a raw socket in an empty namespace on Linux 6.18.
test.each([
  [
    'refused address 10.0.0.1/33, NETLINK_EXT_ACK',
    `54000000 0200 0002 01000000 5e4e0000                 # NLMSG_ERROR, NLM_F_ACK_TLVS
     eaffffff                                            # -EINVAL
     20000000 1400 0506 01000000 00000000                # the request: RTM_NEWADDR, 32 bytes
     02210000 01000000 0800 0200 0a000001                #   its body, since nothing was capped
     2000 0100 697076343a20496e76616c696420707265666978206c656e67746800`,
    { errno: 22, message: 'ipv4: Invalid prefix length' },
  ],
  [
    'the same with NETLINK_CAP_ACK',
    `44000000 0200 0003 01000000 5e4e0000                 # NLMSG_ERROR, NLM_F_ACK_TLVS | NLM_F_CAPPED
     eaffffff
     20000000 1400 0506 01000000 00000000                # the request's header, which still says 32 bytes
     2000 0100 697076343a20496e76616c696420707265666978206c656e67746800`,
    { errno: 22, message: 'ipv4: Invalid prefix length' },
  ],
  [
    'refused dump of links by IFLA_TXQLEN, NETLINK_GET_STRICT_CHK',
    `44000000 0300 0202 01000000 5e4e0000                 # NLMSG_DONE, NLM_F_MULTI | NLM_F_ACK_TLVS
     eaffffff
     2f00 0100 556e737570706f727465642061747472696275746520696e206c696e6b2064756d7020726571756573740000`,
    { errno: 22, message: 'Unsupported attribute in link dump request' },
  ],
])('captured: %s', (_, bytes, expected) => {
  expect(unframe(hex(bytes)).map(errorIn)).toEqual([expected])
})

test('attributes of the acknowledgement that are newer than this library do no harm', () => {
  const policy = '0800 0400 00000000' // NLMSGERR_ATTR_POLICY
  expect(errorIn(reply(error, capped | tlvs, `eaffffff ${requestHeader} ${policy} ${extendedAck}`))).toMatchObject(
    explained,
  )
})

test('an error whose request says it is longer than the message is still an errno', () => {
  expect(errorIn(reply(error, tlvs, 'eaffffff ff000000 1400 0506 01000000 00000000'))).toEqual({ errno: 22 })
})

test('a message too short for an errno is none', () => {
  expect(errorIn(reply(done, 0, '0000'))).toBeUndefined()
})

const request = { type: 18, body: Buffer.alloc(0), operation: 'list', subject: 'links' }
const part = (interrupted: boolean) => ({ type: 16, flags: interrupted ? 0x12 : 0x2, sequence: 1, body: hex('01') })
const end = { type: 3, flags: 0x2, sequence: 1, body: hex('00000000') }

test('a dump ends with NLMSG_DONE, and NLM_F_DUMP_INTR in any part makes it worthless', () => {
  const read = (...datagrams: (typeof end)[][]) => readDump(request, 1, () => datagrams.shift()!)
  expect(read([part(false)], [part(false), end])).toHaveLength(2)
  expect(read([part(false)], [part(true)], [end])).toBeUndefined()
  expect(read([{ ...part(true), sequence: 0 }, part(false), end])).toHaveLength(1) // the answer to an older request
  expect(() => read([{ ...end, body: hex('edffffff') }])).toThrow('list links: ENODEV')
})

test('an interrupted dump is repeated, and given up in the end', () => {
  let attempts = 0
  expect(readWhole(request, () => (++attempts < 4 ? undefined : []))).toEqual([])
  expect(attempts).toBe(4)
  attempts = 0
  const never = () => {
    attempts++
    return undefined
  }
  expect(() => readWhole(request, never)).toThrow(/^list links: EAGAIN .*changed during each of 8 reads/)
  expect(attempts).toBe(8)
})
