import { expect, test } from 'vitest'
import { createHost, executables, type Host, requireTool } from './host.ts'

/*
 * What a new lab, or a new container on a bridge, says to those that are there, and what it does not: everything that it
 * says is passed on to all of them. Judged by ip(8), ping(8) and a counter of nft(8) in a lab that was there before.
 */

const nsNet = (host: Host, ...args: string[]) => host.run([`${executables}/ns-net`, ...args])

/** The IPv6 addresses of a namespace, by link. */
const listAddresses6 = (host: Host, name: string): { ifname: string; local: string; scope: string }[] =>
  host
    .json(['ip', '-j', '-6', '-n', name, 'address'])
    .flatMap(({ ifname, addr_info = [] }: { ifname?: string; addr_info?: object[] }) =>
      addr_info.map((address) => ({ ifname, ...address })),
    )

const addresses6 = (host: Host, name: string): string[] =>
  listAddresses6(host, name)
    .map(({ ifname, local, scope }) => `${ifname} ${scope === 'link' ? 'link-local' : local}`)
    .sort()

const answers = (host: Host, name: string, address: string): boolean =>
  host.run(['ip', 'netns', 'exec', name, 'ping', '-c1', '-W2', address], { expectFailure: 'maybe' }).status === 0

const macOf = (host: Host, link: string): string => host.json(['ip', '-j', 'link', 'show', link])[0].address

const ports = (host: Host): string[] =>
  host
    .json(['ip', '-j', 'link', 'show', 'type', 'bridge_slave'])
    .flatMap(({ ifname }: { ifname?: string }) => ifname ?? []) // of the others ip prints {}

/** Counts frames that come to the lab from others than the host's bridge, by their type. */
function listenIn(host: Host, name: string, bridge: string): () => Record<string, number> {
  host.run(['ip', 'netns', 'exec', name, 'nft', '-f', '-'], {
    input: `table netdev heard {
      chain incoming {
        type filter hook ingress device eth0 priority 0;
        ether saddr ${macOf(host, bridge)} accept
        ether type ip6 counter comment "ip6"
        ether type arp counter comment "arp"
      }
    }`,
  })
  return () => {
    const { nftables } = host.json(['ip', 'netns', 'exec', name, 'nft', '-j', 'list', 'table', 'netdev', 'heard'])
    const rules = nftables.flatMap(({ rule }: { rule?: { comment?: string; expr: { counter?: object }[] } }) =>
      rule?.comment ? [[rule.comment, rule.expr.find(({ counter }) => counter)!.counter]] : [],
    )
    return Object.fromEntries(rules.map(([type, { packets }]: [string, { packets: number }]) => [type, packets]))
  }
}

test('a lab of IPv4 says nothing of IPv6, nor does its port, and ::1 answers in it', (context) => {
  for (const tool of ['nft', 'ping']) requireTool(tool, context)
  using host = createHost()
  host.sh('echo 1 >/proc/sys/net/ipv6/conf/all/forwarding') // as a router the host would join more groups
  nsNet(host, 'add', 'first')
  const heard = listenIn(host, 'first', 'nsbr0')
  nsNet(host, 'add', 'second')
  nsNet(host, 'add', 'third')
  host.run(['sleep', '3']) // duplicate address detection takes one to two seconds, reports and solicitations follow it
  expect(heard()).toEqual({ ip6: 0, arp: 0 })
  expect(ports(host)).toHaveLength(3)
  for (const port of ports(host)) {
    expect(host.run(['ip', '-6', 'address', 'show', 'dev', port]).stdout).toBe('')
    expect(host.run(['ip', '-6', 'route', 'show', 'table', 'all', 'dev', port]).stdout).toBe('')
  }
  expect(addresses6(host, 'second')).toEqual(['lo ::1'])
  expect(answers(host, 'second', '::1')).toBe(true)
  expect(answers(host, 'second', '10.88.0.2')).toBe(true)
  expect(heard()).toMatchObject({ ip6: 0, arp: expect.any(Number) })
  expect(heard().arp).toBeGreaterThan(0) // the counter counts

  host.sh('ip -n second address add fd00:7::2/64 dev eth0 nodad; ip -n third address add fd00:7::3/64 dev eth0 nodad')
  expect(answers(host, 'second', 'fd00:7::3')).toBe(true) // who wants IPv6 adds an address
})

test('labs of an IPv6 network, and of one without addresses, have link-local addresses', (context) => {
  requireTool('ping', context)
  using host = createHost()
  nsNet(host, 'net', 'create', 'both', '--subnet', '10.7.0.0/24', '--subnet', 'fd00:7::/64')
  nsNet(host, 'net', 'create', 'wire', '--driver', 'l2')
  for (const name of ['one', 'two']) nsNet(host, 'add', name, '--net', 'both')
  nsNet(host, 'add', 'bare', '--net', 'wire')
  expect(addresses6(host, 'one')).toEqual(['eth0 fd00:7::2', 'eth0 link-local', 'lo ::1'])
  expect(answers(host, 'one', 'fd00:7::3')).toBe(true)
  const { local } = listAddresses6(host, 'two').find(({ scope }) => scope === 'link')!
  expect(answers(host, 'one', `${local}%eth0`)).toBe(true)
  expect(addresses6(host, 'bare')).toEqual(['eth0 link-local', 'lo ::1'])
})

const four = [{ subnet: '10.1.0.0/24' }]
const six = [{ subnet: 'fd00:1::/64' }]
const network = { cniVersion: '1.1.0', name: 'n1', type: 'bridge', bridge: 'br1', isDefaultGateway: true }

/** One more container on the bridge. */
function attach(host: Host, name: string, options: object, args?: string) {
  const container = host.addContainer(name)
  const config = { ...network, ...options }
  const call = { config, containerId: name, netns: container.path, ifName: 'eth0', args }
  const { json: result } = host.cni('bridge', 'ADD', call)
  const check = () => host.cni('bridge', 'CHECK', { ...call, config: { ...config, prevResult: result } })
  return { container, check, del: () => host.cni('bridge', 'DEL', call) }
}

test.each([
  ['IPv4 alone', { ranges: [four] }, {}, ['eth0 link-local']],
  ['IPv4 alone, false', { ranges: [four] }, { ipv6LinkLocal: false }, []],
  ['both families, false', { ranges: [four, six] }, { ipv6LinkLocal: false }, ['eth0 fd00:1::2', 'eth0 link-local']],
  ['too small for IPv6, false', { ranges: [four] }, { ipv6LinkLocal: false, mtu: 1000 }, []],
])('ipv6LinkLocal of a container: %s', (_, ranges, options, expected) => {
  using host = createHost()
  const { container, check, del } = attach(host, 'c1', { ...options, ipam: { type: 'host-local', ...ranges } })
  expect(addresses6(host, 'c1')).toEqual(expected)
  expect(container.run(['cat', '/proc/sys/net/ipv4/conf/eth0/arp_notify']).stdout).toBe('1\n')
  check()
  del()
  expect(ports(host)).toEqual([])
})

test('ipv6LinkLocal must be a boolean', () => {
  using host = createHost()
  const config = { ...network, ipv6LinkLocal: 'no', ipam: { type: 'host-local', ranges: [four] } }
  const call = { config, containerId: 'c1', netns: host.addContainer('c1').path, ifName: 'eth0', expectFailure: true }
  expect(host.cni('bridge', 'ADD', call).json).toMatchObject({ code: 7, msg: expect.stringMatching(/ipv6LinkLocal/) })
})

test('the routed end of a cable keeps IPv6, and takes no router advertisements', () => {
  using host = createHost()
  host.sh('for conf in all default; do echo 2 >/proc/sys/net/ipv6/conf/$conf/accept_ra; done')
  const config = { ...network, type: 'ptp', ipam: { type: 'host-local', ranges: [four, six] } }
  const call = { config, containerId: 'c1', netns: host.addContainer('c1').path, ifName: 'eth0' }
  const [{ name }] = host.cni('ptp', 'ADD', call).json.interfaces
  expect(host.run(['cat', `/proc/sys/net/ipv6/conf/${name}/accept_ra`]).stdout).toBe('0\n')
  expect(host.run(['ip', '-6', 'address', 'show', 'dev', name, 'scope', 'link']).stdout).toMatch(/fe80::/)
})

const addressed = (ipam: string) =>
  ipam === 'host-local'
    ? { options: { ipam: { type: 'host-local', ranges: [four, six] } }, args: 'IP=10.1.0.9,fd00:1::9' }
    : {
        options: { ipam: { type: 'static', addresses: [{ address: '10.1.0.9/24' }, { address: 'fd00:1::9/64' }] } },
        args: undefined,
      }

test.each(['host-local', 'static'])('an address that was asked for answers at once from its new owner: %s', (ipam) => {
  using host = createHost()
  attach(host, 'c1', { ipam: { type: 'host-local', ranges: [four, six] } })
  const { options, args } = addressed(ipam)
  const first = attach(host, 'c2', options, args)
  for (const address of ['10.1.0.9', 'fd00:1::9']) expect(answers(host, 'c1', address)).toBe(true)
  first.del()
  attach(host, 'c3', options, args)
  for (const address of ['10.1.0.9', 'fd00:1::9'])
    expect([address, answers(host, 'c1', address)]).toEqual([address, true])
})
