import { expect, test } from 'vitest'
import { cidr, ipBytes } from '../../netlink-lib/ip.ts'
import {
  appendRule,
  type Command,
  createChain,
  createElements,
  createMap,
  createTable,
  deleteChain,
  deleteElements,
  deleteSet,
  deleteTable,
  flushChain,
  type TableRef,
} from '../../netlink-lib/nftables/commands.ts'
import type { Expression } from '../../netlink-lib/nftables/expressions.ts'
import { setMessage } from '../../netlink-lib/nftables/messages.ts'
import {
  addressIn,
  byChance,
  destinationByMap,
  hasLabel,
  isForThisHost,
  joined,
  linkNamed,
  lookupAddress,
  lookupDestination,
  masquerade,
  newSource,
  setLabel,
  verdict,
} from '../../netlink-lib/nftables/statements.ts'
import { traced } from '../../netlink-lib/nftables/trace.ts'
import { nftCommand } from './nft.ts'
import { ruleText } from './nft-expressions.ts'

/* That nft(8) makes the same rules of these words is for integration-tests/explain.test.ts to judge. */

test.each<[Expression[], string]>([
  [[...addressIn('daddr', cidr('10.7.0.0/16')), verdict('return')], 'ip daddr 10.7.0.0/16 return'],
  [[...addressIn('saddr', cidr('10.7.0.0/20'), 'neq'), ...masquerade()], 'ip saddr != 10.7.0.0/20 masquerade'],
  [[...addressIn('daddr', cidr('fd00:7::/61')), verdict('accept')], 'ip6 daddr fd00:7::/61 accept'],
  [[...addressIn('daddr', cidr('::1/128')), verdict('drop')], 'ip6 daddr ::1 drop'],
  [[...addressIn('daddr', cidr('0.0.0.0/0')), ...masquerade()], 'meta nfproto ipv4 masquerade'],
  [lookupAddress('saddr', 6, 'sources6'), 'ip6 saddr vmap @sources6'],
  [lookupDestination(4, 'bound', true), 'ip daddr . meta l4proto . th dport vmap @bound'],
  [lookupDestination(6, 'all', false), 'meta nfproto ipv6 meta l4proto . th dport vmap @all'],
  [destinationByMap(6, 'bound', true), 'dnat ip6 to ip6 daddr . meta l4proto . th dport map @bound'],
  [destinationByMap(4, 'all', false), 'dnat ip to meta l4proto . th dport map @all'],
  [newSource('192.0.2.10'), 'snat ip to 192.0.2.10'],
  [newSource('2001:db8::10'), 'snat ip6 to 2001:db8::10'],
  [[...isForThisHost(), verdict('jump', 'ports')], 'fib daddr type local jump ports'],
  [[...hasLabel(126), ...setLabel(127)], 'ct label 126 ct label set 127'],
  [
    [...linkNamed('iifname', 'br0'), ...linkNamed('oifname', 'eth*', 'neq'), verdict('goto', 'x')],
    'iifname "br0" oifname != "eth*" goto x',
  ],
  [
    joined(addressIn('saddr', cidr('10.0.0.0/8')), linkNamed('iifname', 'a'), destinationByMap(4, 'm', true)),
    'ip saddr 10.0.0.0/8 iifname "a" dnat ip to ip daddr . meta l4proto . th dport map @m',
  ],
  [[...byChance(25), verdict('drop')], 'numgen random mod 1000 < 25 drop'],
  [traced(), 'meta nftrace set 1'],
])('rule %#', (expressions, text) => {
  expect(ruleText(expressions)).toBe(text)
})

test('a rule that there are no words for is not told wrongly', () => {
  const other: Expression = { other: { name: 'quota', data: Buffer.alloc(0) } }
  expect(() => ruleText([other])).toThrow('expression "quota"')
  expect(() => ruleText([{ meta: { key: 99, dreg: 1 } }])).toThrow('meta key 99')
  expect(() => ruleText([{ cmp: { sreg: 2, op: 0, data: { value: Buffer.alloc(4) } } }])).toThrow('register 2')
})

const table: TableRef = { family: 'inet', name: 'ns-net' }
const netdev: TableRef = { family: 'netdev', name: 'ns-net' }
const ports = createMap(
  table,
  'ports4',
  { key: ['inet_proto', 'inet_service'], data: ['ipv4_addr', 'inet_service'] },
  1,
  'c : d',
)
const sources = createMap(table, 'sources6', { key: ['ipv6_addr'], data: ['verdict'] }, 2, 'address')
const owned = createMap(table, 'owned', { key: ['mark', 'mark'], data: ['inet_proto'] }, 3, 'hash')
const findSet = (_family: number, _table: string, name: string) =>
  [ports, sources, owned].map(({ body }) => setMessage.decode(body)).find((set) => set.name === name)
const bytes = (hex: string) => ({ value: Buffer.from(hex, 'hex') })

test.each<[Command, string]>([
  [createTable(table, 'made by us'), 'create table inet ns-net { comment "made by us"; }'],
  [deleteTable(netdev), 'delete table netdev ns-net'],
  [createChain(table, 'x'), 'create chain inet ns-net x'],
  [
    createChain(table, 'post', { type: 'nat', number: 4, priority: 100 }),
    'create chain inet ns-net post { type nat hook postrouting priority srcnat; }',
  ],
  [
    createChain(table, 'out', { type: 'nat', number: 3, priority: -100 }),
    'create chain inet ns-net out { type nat hook output priority -100; }',
  ],
  [
    createChain(netdev, 'veth1', { type: 'filter', number: 0, priority: 0, device: 'veth1' }),
    'create chain netdev ns-net veth1 { type filter hook ingress device "veth1" priority filter; }',
  ],
  [deleteChain(table, 'x'), 'delete chain inet ns-net x'],
  [flushChain(table, 'x'), 'flush chain inet ns-net x'],
  [appendRule(table, 'x', [verdict('drop')], 'why'), 'add rule inet ns-net x drop comment "why"'],
  [
    ports,
    'create map inet ns-net ports4 { type inet_proto . inet_service : ipv4_addr . inet_service; comment "c : d"; }',
  ],
  [sources, 'create map inet ns-net sources6 { type ipv6_addr : verdict; comment "address"; }'],
  [deleteSet(table, 'ports4'), 'delete set inet ns-net ports4'],
  [
    createElements(
      table,
      'ports4',
      [{ key: bytes('060000001f900000'), data: bytes('0a07000200500000'), userdata: { comment: 'lab c1 eth0' } }],
      '',
    ),
    'create element inet ns-net ports4 { tcp . 8080 comment "lab c1 eth0" : 10.7.0.2 . 80 }',
  ],
  [
    createElements(
      table,
      'sources6',
      [{ key: { value: ipBytes('fd00::2') }, data: { verdict: { code: -4, chain: 'masq' } } }],
      '',
    ),
    'create element inet ns-net sources6 { fd00::2 : goto masq }',
  ],
  [
    deleteElements(table, 'owned', [{ key: bytes('78563412ff000000') }, { key: bytes('0000000001000000') }], ''),
    'delete element inet ns-net owned { 0x12345678 . 0x000000ff, 0x00000000 . 0x00000001 }',
  ],
])('command %#', (command, text) => {
  expect(nftCommand(command, findSet)).toBe(text)
})
