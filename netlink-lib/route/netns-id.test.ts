import { expect, test } from 'vitest'
import { hex } from '../golden-bytes.ts'
import { netnsIdMessage } from './netns-id.ts'

/* `strace ip netns list` of iproute2 6.1 on Linux 6.18, after `ip netns set b 7`. */

test('the question for the id of a namespace, by its descriptor', () => {
  const bytes = hex(`
    00000000                # struct rtgenmsg: AF_UNSPEC
    0800 0300 06000000      # NETNSA_FD 6
  `)
  expect(netnsIdMessage.encode({ fd: 6 })).toEqual(bytes)
  expect(netnsIdMessage.decode(bytes)).toMatchObject({ family: 0, fd: 6 })
})

test.each([
  [7, '07000000'],
  [-1, 'ffffffff'], // no id: no link leads there
])('the answer %i', (id, digits) => {
  const bytes = hex(`00000000 0800 0100 ${digits} # NETNSA_NSID`)
  expect(netnsIdMessage.decode(bytes)).toMatchObject({ id })
  expect(netnsIdMessage.encode({ id })).toEqual(bytes)
})
