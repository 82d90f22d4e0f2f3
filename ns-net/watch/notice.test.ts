import { expect, test } from 'vitest'
import { hex } from '../../netlink-lib/golden-bytes.ts'
import { bridgeMessage } from '../../netlink-lib/route/link.ts'
import { addressMessage, linkMessage, neighbourMessage, routeMessage } from '../../netlink-lib/route/wire.ts'
import { readNotice } from './notice.ts'

/* The messages are written by our tables and read by those of the package `netlink`. */

const nameOf = (index: number | undefined) => ({ 1: 'lo', 2: 'eth0', 7: 'nsbr0' })[index ?? 0] ?? `link ${index}`
const read = (type: number, body: Buffer) => readNotice({ type, body }, nameOf)

test('a link that is a port of a bridge', () => {
  const body = linkMessage.encode({
    index: 9,
    flags: 0x10001, // IFF_UP, IFF_LOWER_UP
    name: 'veth1',
    mtu: 1400,
    master: 7,
    mac: '02:00:00:00:00:01',
    alias: 'ns-net:default:web:eth0',
    info: { kind: 'veth' },
  })
  expect(read(16, body)).toEqual({
    kind: 'link',
    key: 'link 9',
    isDeleted: false,
    what: 'veth1',
    state: ['veth', 'up', 'port of nsbr0', 'mtu 1400', '02:00:00:00:00:01', 'alias ns-net:default:web:eth0'],
    details: {
      link: 'veth1',
      index: 9,
      linkKind: 'veth',
      state: 'up',
      mtu: 1400,
      master: 'nsbr0',
      mac: '02:00:00:00:00:01',
      alias: 'ns-net:default:web:eth0',
    },
    link: { index: 9, name: 'veth1' },
  })
  expect(read(17, body)).toMatchObject({ key: 'link 9', isDeleted: true })
})

test('what a bridge tells of its port says nothing of the link', () => {
  expect(read(17, linkMessage.encode({ family: 7, index: 9, name: 'veth1' }))).toBeUndefined()
})

test('a link without carrier, and one that is down', () => {
  const state = (flags: number) => read(16, linkMessage.encode({ index: 2, flags, name: 'eth0' }))?.details.state
  expect([state(1), state(0x10001), state(0)]).toEqual(['no-carrier', 'up', 'down'])
  expect(read(16, bridgeMessage({ name: 'br0' }))).toMatchObject({
    what: 'br0',
    state: ['bridge', 'down', 'mtu undefined'],
  })
})

test('addresses', () => {
  const body = addressMessage.encode({ family: 10, prefix: 64, index: 2, address: 'fe80::1', flags: 0x40 })
  expect(read(20, body)).toMatchObject({
    what: 'fe80::1/64 on eth0',
    state: ['tentative'],
    details: { address: 'fe80::1/64', link: 'eth0', state: 'tentative' },
  })
})

test('routes; those of the table local are left out', () => {
  const route = (more: object) => read(24, routeMessage.encode({ family: 2, shortTable: 254, type: 1, ...more }))
  expect(route({ gateway: '10.88.0.1', outLink: 2 })).toMatchObject({ what: 'default via 10.88.0.1 on eth0' })
  expect(route({ dstPrefix: 16, dst: '10.9.0.0', outLink: 2, preferredSource: '10.9.0.2' })).toMatchObject({
    what: '10.9.0.0/16 on eth0',
    state: ['from 10.9.0.2'],
  })
  expect(route({ type: 7, dstPrefix: 8, dst: '10.0.0.0', priority: 9, table: 300 })).toMatchObject({
    what: 'unreachable 10.0.0.0/8 metric 9 table 300',
    details: { type: 'unreachable', table: 300, metric: 9 },
  })
  expect(route({ shortTable: 255, dst: '10.9.0.2', dstPrefix: 32 })).toBeUndefined()
})

test('neighbours of a host and of a bridge; those for multicast are left out', () => {
  const neighbour = (more: object) => read(28, neighbourMessage.encode({ family: 2, index: 2, ...more }))
  expect(neighbour({ state: 2, dst: '10.88.0.1', mac: '02:00:00:00:00:01' })).toMatchObject({
    kind: 'neighbour',
    what: '10.88.0.1 on eth0',
    state: ['reachable', '02:00:00:00:00:01'],
  })
  expect(neighbour({ state: 0x40, dst: '224.0.0.22' })).toBeUndefined()
  expect(neighbour({ family: 7, mac: '02:00:00:00:00:01' })).toMatchObject({
    kind: 'fdb',
    what: '02:00:00:00:00:01 at eth0',
  })
})

test('a rule: ip rule add from 10.1.0.0/16 lookup 100 priority 77', () => {
  const body = hex(`
    02 00 10 00 64 00 00 01 00000000   # struct fib_rule_hdr: AF_INET, source /16, table 100, FR_ACT_TO_TBL
    0800 0200 0a010000                 # FRA_SRC 10.1.0.0
    0800 0600 4d000000                 # FRA_PRIORITY 77
  `)
  expect(read(32, body)).toMatchObject({
    kind: 'rule',
    what: 'priority 77 from 10.1.0.0/16 table 100',
  })
})

test('what cannot be understood is left out', () => {
  expect(read(16, Buffer.alloc(3))).toBeUndefined()
  expect(read(999, Buffer.alloc(32))).toBeUndefined()
})
