import { expect, test } from 'vitest'
import { cidr } from '../netlink-lib/ip.ts'
import type { PortForwarding } from './forwards.ts'
import { installationFor, sharedRules } from './port-forward-iptables-rules.ts'

const wish = (more: Partial<PortForwarding> = {}): PortForwarding => ({
  mappings: [{ protocol: 'tcp', hostPort: 8080, containerPort: 80 }],
  targets: [cidr('10.7.0.2/24')],
  masquerade: 'local',
  conditions: { 4: [], 6: [] },
  markBit: 13,
  ...more,
})
const of = (more: Partial<PortForwarding> = {}) => installationFor('lab c1 eth0', wish(more)).families[0]!
const chain = of().chain

test('one entry for the ports of a protocol, then marks, then the new destination', () => {
  expect(of()).toEqual({
    family: 4,
    chain: expect.stringMatching(/^NS-NET-P-[0-9a-f]{16}$/),
    entries: [`NS-NET-PORTS -p tcp -m comment --comment "lab c1 eth0" -m multiport --dports 8080 -j ${chain}`],
    rules: [
      `${chain} -s 10.7.0.0/24 -p tcp -m tcp --dport 8080 -j MARK --set-xmark 0x2000/0x2000`,
      `${chain} -s 127.0.0.0/8 -p tcp -m tcp --dport 8080 -j MARK --set-xmark 0x2000/0x2000`,
      `${chain} -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.7.0.2:80`,
    ],
    shared: ['NS-NET-PORTS', 'masquerade-13'],
  })
})

test('whose packets are marked, by which bit, and by whom', () => {
  const marks = (more: Partial<PortForwarding>) =>
    of(more)
      .rules.slice(0, -1)
      .map((rule) => rule.replace(`${chain} `, ''))
  expect(marks({ masquerade: 'none' })).toEqual([])
  expect(marks({ masquerade: 'all', markBit: 31 })).toEqual([
    '-p tcp -m tcp --dport 8080 -j MARK --set-xmark 0x80000000/0x80000000',
  ])
  expect(marks({ setMarkChain: 'KUBE-MARK-MASQ' }).at(-1)).toBe(
    '-s 127.0.0.0/8 -p tcp -m tcp --dport 8080 -j KUBE-MARK-MASQ',
  )
  expect(of({ setMarkChain: 'KUBE-MARK-MASQ' }).shared).toEqual(['NS-NET-PORTS'])
  expect(sharedRules('masquerade-0').rules).toEqual([
    'POSTROUTING -m mark --mark 0x1/0x1 -m comment --comment ns-net:ports -j MASQUERADE',
  ])
})

test('IPv6, an address of the host, conditions', () => {
  const { entries, rules } = of({
    mappings: [
      { protocol: 'udp', hostPort: 53, containerPort: 53 },
      { protocol: 'udp', hostPort: 53, containerPort: 5353, hostIp: '2001:db8::1' },
    ],
    targets: [cidr('fd00:7::2/64')],
    masquerade: 'none',
    conditions: { 4: ['-i', 'eth0'], 6: ['!', '-s', 'fd00::/8', '-m', 'comment', '--comment', 'two words'] },
  })
  expect(entries).toEqual([
    'NS-NET-PORTS -p udp -m comment --comment "lab c1 eth0" -m multiport --dports 53 ' +
      `! -s fd00::/8 -m comment --comment "two words" -j ${chain}`,
  ])
  expect(rules).toEqual([
    `${chain} -d 2001:db8::1/128 -p udp -m udp --dport 53 -j DNAT --to-destination [fd00:7::2]:5353`,
    `${chain} -p udp -m udp --dport 53 -j DNAT --to-destination [fd00:7::2]:53`,
  ])
})

test('a multiport match takes 15 ports', () => {
  const mappings = Array.from({ length: 31 }, (_, i) => ({
    protocol: i < 30 ? ('tcp' as const) : ('sctp' as const),
    hostPort: 9000 + i,
    containerPort: 80,
  }))
  const { entries } = of({ mappings })
  expect(entries.map((entry) => entry.match(/--dports (\S+)/)![1]!.split(',').length)).toEqual([15, 15, 1])
})
