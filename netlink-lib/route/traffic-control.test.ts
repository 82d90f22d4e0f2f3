import { expect, test } from 'vitest'
import { hex } from '../golden-bytes.ts'
import {
  bucketIn,
  bucketOptions,
  createBucket,
  createIngress,
  createRedirect,
  deleteQdisc,
  isBucket,
  redirectIn,
  trafficMessage,
  u32Options,
} from './traffic-control.ts'

// Bytes: tc of iproute2 6.1.0 on Linux 6.18, seen by strace. v0 has index 4, ifb0 index 2.
const v0 = { index: 4, name: 'v0' }
const ifb0 = { index: 2, name: 'ifb0' }
const reply = (body: Buffer) => ({ type: 0, flags: 0, sequence: 0, body })

test('tc qdisc add dev v0 root handle 1: tbf rate 10mbit burst 125000 limit 156250', () => {
  // Without TCA_TBF_RTAB, 1,028 bytes that the kernel reads only when linkLayer is 0; so cellLog says nothing.
  const bytes = hex(`
    0000 0000 0400 0000 0000 0100 ffff ffff 0000 0000   # struct tcmsg: index, handle 1:, TC_H_ROOT
    0800 0100 7462 6600                                 # TCA_KIND "tbf"
    3400 0200                                           # TCA_OPTIONS
      2800 0100                                         # TCA_TBF_PARMS
        0001 0000 ffff 0000 d012 1300                   # rate: ethernet, cell_align -1, 1250000 bytes/s
        0000 0000 0000 0000 0000 0000                   # peakrate
        5a62 0200 84d7 1700 0000 0000                   # limit 156250, buffer 1562500 ticks, mtu
      0800 0600 48e8 0100                               # TCA_TBF_BURST 125000
  `)
  const bucket = { rate: 1_250_000, burst: 125_000, limit: 156_250 }
  expect(createBucket(v0, bucket).body).toEqual(bytes)
  expect(bucketIn(reply(bytes))).toEqual({ rate: 1_250_000, limit: 156_250, fillTicks: 1_562_500 })
  const { options, ...rest } = trafficMessage.decode(bytes)
  expect(trafficMessage.encode({ ...rest, options: bucketOptions.encode(bucketOptions.decode(options!)) })).toEqual(
    bytes,
  )
})

test('a rate of 34 Gbit/s and more has an attribute of its own', () => {
  const bucket = { rate: 6_250_000_000, burst: 6_250_000, limit: 16_250_000 }
  const bytes = createBucket(ifb0, bucket).body
  const { parameters, rate64 } = bucketOptions.decode(trafficMessage.decode(bytes).options!)
  expect(parameters).toMatchObject({ rate: 0xffffffff, limit: 16_250_000 })
  expect(rate64).toBe(6_250_000_000n)
  expect(bucketIn(reply(bytes))?.rate).toBe(6_250_000_000)
})

test('tc qdisc add dev v0 ingress', () => {
  expect(createIngress(v0).body).toEqual(
    hex(`
      0000 0000 0400 0000 0000 ffff f1ff ffff 0000 0000   # struct tcmsg: index, handle ffff:, TC_H_INGRESS
      0c00 0100 696e 6772 6573 7300                       # TCA_KIND "ingress"
    `),
  )
})

test('tc filter add dev v0 parent ffff: protocol all prio 1 u32 match u32 0 0 action mirred egress redirect …', () => {
  const bytes = hex(`
    0000 0000 0400 0000 0000 0000 0000 ffff 0003 0100   # struct tcmsg: index, parent ffff:, prio 1, ETH_P_ALL
    0800 0100 7533 3200                                 # TCA_KIND "u32"
    6000 0200                                           # TCA_OPTIONS
      3800 0700                                         # TCA_U32_ACT
        3400 0100                                       # the first action
          0b00 0100 6d69 7272 6564 0000                 # TCA_ACT_KIND "mirred"
          2400 0280                                     # TCA_ACT_OPTIONS, nested
            2000 0200                                   # TCA_MIRRED_PARMS
              0000 0000 0000 0000 0400 0000             # index, capab, TC_ACT_STOLEN
              0000 0000 0000 0000 0100 0000 0200 0000   # refcnt, bindcnt, TCA_EGRESS_REDIR, ifb0
      2400 0500                                         # TCA_U32_SEL
        0100 0100 0000 0000 0000 0000 0000 0000         # TC_U32_TERMINAL, one key
        0000 0000 0000 0000 0000 0000 0000 0000         # mask 0, value 0: everything
  `)
  expect(createRedirect(v0, ifb0).body).toEqual(bytes)
  expect(redirectIn([reply(bytes)])).toBe(2)
  const { options, ...rest } = trafficMessage.decode(bytes)
  expect(trafficMessage.encode({ ...rest, options: u32Options.encode(u32Options.decode(options!)) })).toEqual(bytes)
})

test('tc qdisc del dev v0 root', () => {
  expect(deleteQdisc(v0, 'root').body).toEqual(hex('0000 0000 0400 0000 0000 0000 ffff ffff 0000 0000'))
})

test('an answer of another kind is no bucket and no redirect', () => {
  const other = reply(trafficMessage.encode({ index: 4, kind: 'fq_codel', options: Buffer.alloc(0) }))
  expect(bucketIn(other)).toBeUndefined()
  expect(bucketIn(undefined)).toBeUndefined()
  expect(redirectIn([other])).toBeUndefined()
  const narrower = u32Options.encode({
    actions: [{ kind: 'mirred', options: { parameters: { direction: 1, target: 7 } } }],
    selector: { flags: 1, keys: 1, mask: 0xff },
  })
  expect(redirectIn([reply(trafficMessage.encode({ kind: 'u32', options: narrower }))])).toBeUndefined()
})

test('a bucket is known again by the time to fill it, of which the kernel tells 32 bits', () => {
  const wanted = { rate: 1_250_000, burst: 536_870_911, limit: 536_902_161 } // 429.5 s; 2^32 ticks are 275 s
  const fillTicks = Math.round((wanted.burst / wanted.rate / 64e-9) % 2 ** 32)
  const state = { rate: wanted.rate, limit: wanted.limit, fillTicks }
  expect(isBucket(state, wanted)).toBe(true)
  expect(isBucket({ ...state, fillTicks: fillTicks + 4 }, wanted)).toBe(true) // rounded
  for (const change of [{ rate: 1_250_001 }, { limit: 1 }, { fillTicks: fillTicks + 5000 }])
    expect(isBucket({ ...state, ...change }, wanted)).toBe(false)
})
