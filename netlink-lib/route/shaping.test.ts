import { expect, test } from 'vitest'
import { hex } from '../golden-bytes.ts'
import { createShaping, getChildQdisc, qdiscIn } from './shaping.ts'

// Bytes: tc of iproute2 6.1.0 on Linux 6.18, seen by strace; of tbf without TCA_TBF_RTAB, as in traffic-control.test.ts.
// v0 has index 4.
const v0 = { index: 4, name: 'v0' }
const reply = (body: Buffer) => ({ type: 0, flags: 0, sequence: 0, body })

test('tc qdisc add dev v0 root handle 6e73: netem delay 10ms 2ms', () => {
  const bytes = hex(`
    0000 0000 0400 0000 0000 736e ffff ffff 0000 0000   # struct tcmsg: index, handle 6e73:, TC_H_ROOT
    0a00 0100 6e65 7465 6d00 0000                       # TCA_KIND "netem"
    1c00 0200                                           # TCA_OPTIONS: struct tc_netem_qopt
      5a62 0200 e803 0000 0000 0000                     #   latency 156250 ticks, limit 1000, loss
      0000 0000 0000 0000 127a 0000                     #   gap, duplicate, jitter 31250 ticks
  `)
  const lateness = { delay: 10_000, jitter: 2000 }
  expect(createShaping(v0, { lateness }).map(({ body }) => body)).toEqual([bytes])
  expect(qdiscIn(reply(bytes))).toEqual({ kind: 'netem', owner: 'us', lateness })
})

test('tc qdisc add dev v0 parent 6e73:1 handle 6e74: tbf rate 10mbit burst 125000 limit 156250', () => {
  const bytes = hex(`
    0000 0000 0400 0000 0000 746e 0100 736e 0000 0000   # struct tcmsg: index, handle 6e74:, parent 6e73:1
    0800 0100 7462 6600                                 # TCA_KIND "tbf"
    3400 0200                                           # TCA_OPTIONS
      2800 0100                                         # TCA_TBF_PARMS
        0001 0000 ffff 0000 d012 1300                   # rate: ethernet, cell_align -1, 1250000 bytes/s
        0000 0000 0000 0000 0000 0000                   # peakrate
        5a62 0200 84d7 1700 0000 0000                   # limit 156250, buffer 1562500 ticks, mtu
      0800 0600 48e8 0100                               # TCA_TBF_BURST 125000
  `)
  const bucket = { rate: 1_250_000, burst: 125_000, limit: 156_250 }
  const both = createShaping(v0, { bucket, lateness: { delay: 1000, jitter: 0 } })
  expect(both).toHaveLength(2)
  expect(both[1]!.body).toEqual(bytes)
  expect(qdiscIn(reply(bytes))).toEqual({ kind: 'tbf', owner: 'us', bucket })
})

test('without delay the bucket is the root', () => {
  const [request, ...more] = createShaping(v0, { bucket: { rate: 1000, burst: 2000, limit: 3000 } })
  expect(more).toEqual([])
  expect(request!.body.subarray(8, 16)).toEqual(hex('0000 736e ffff ffff'))
})

test('what somebody else, or the system, put at the root is told apart', () => {
  const root = (handle: string, kind: string) => reply(hex(`0000 0000 0400 0000 ${handle} ffff ffff 0000 0000 ${kind}`))
  const tbf = '0800 0100 7462 6600'
  const noqueue = '0c00 0100 6e6f 7175 6575 6500'
  expect(qdiscIn(root('0000 0100', tbf)).owner).toBe('somebody')
  expect(qdiscIn(root('0000 0000', noqueue))).toEqual({ kind: 'noqueue', owner: 'system' })
})

test('the qdisc below is asked for by its parent', () => {
  expect(getChildQdisc(v0).body).toEqual(hex('0000 0000 0400 0000 0000 0000 0100 736e 0000 0000'))
})
