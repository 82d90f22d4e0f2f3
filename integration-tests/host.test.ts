import { existsSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { createHost, requireTool } from './host.ts'

test('a host has links, rules and files of its own', () => {
  using one = createHost()
  using other = createHost()

  one.sh(`ip link add br0 type bridge
          mkdir /etc/cni/net.d
          echo one >/etc/netns/file
          echo one >/run/file
          echo one >/var/lib/cni/file`)

  const names = (links: { ifname: string }[]) => links.map((link) => link.ifname)
  expect(names(one.json(['ip', '-json', 'link']))).toEqual(['lo', 'br0'])
  expect(names(other.json(['ip', '-json', 'link']))).toEqual(['lo'])
  for (const path of ['/etc/netns/file', '/run/file', '/var/lib/cni/file']) {
    expect(readFileSync(one.file(path), 'utf8')).toBe('one\n')
    expect(existsSync(other.file(path))).toBe(false)
    expect(existsSync(path)).toBe(false)
  }
})

test('a host starts with lo up, forwarding off and names to resolve by', () => {
  using host = createHost()
  host.run(['ip', '-json', 'address', 'show', 'up', 'dev', 'lo'])
  expect(host.run(['cat', '/proc/sys/net/ipv4/ip_forward']).stdout).toBe('0\n')
  expect(host.run(['cat', '/etc/hosts']).stdout).toBe(readFileSync('/etc/hosts', 'utf8'))
})

test('a container is a named namespace inside the host', () => {
  using host = createHost()
  const container = host.addContainer('web')

  expect(host.run(['ip', 'netns', 'list']).stdout).toMatch(/^web\b/)
  expect(container.path).toBe('/run/netns/web')
  const namespaceIn = (place: typeof host | typeof container) => place.run(['readlink', '/proc/self/ns/net']).stdout
  expect(namespaceIn(container)).not.toBe(namespaceIn(host))
  expect(container.json(['ip', '-json', 'link'])).toHaveLength(1)
})

test('the uplink reaches outside, which knows nothing of what is behind the host', (context) => {
  requireTool('ping', context)
  using host = createHost()
  const outside = host.addUplink()

  for (const address of ['192.0.2.2', '2001:db8::2']) host.run(['ping', '-c1', '-W2', address])
  host.sh('ip address add 10.9.0.1/24 dev eth0')
  outside.run(['ping', '-c1', '-W1', '10.9.0.1'], { expectFailure: true })
  expect(host.json(['ip', '-json', 'route', 'get', '198.51.100.7'])).toMatchObject([{ gateway: '192.0.2.2' }])
  expect(host.run(['ip', 'netns', 'list']).stdout).toBe('')
})

test('an unexpected end of a command throws with all that it printed', () => {
  using host = createHost()
  expect(() => host.sh('echo on stdout; echo on stderr >&2; cat; exit 3', { input: 'from stdin' })).toThrow(
    /exit 3[\s\S]*from stdin[\s\S]*on stdout[\s\S]*on stderr/,
  )
  expect(() => host.run(['true'], { expectFailure: true })).toThrow('expected to fail')
  expect(host.run(['sh', '-c', 'exit 4'], { expectFailure: true }).status).toBe(4)
  expect(host.run(['sh', '-c', 'exit 5'], { expectFailure: 'maybe' }).status).toBe(5)
})

test('a plugin gets the CNI variables, PATH, its configuration, and nothing else', () => {
  using host = createHost()
  writeFileSync(host.file('/run/spy'), '#!/bin/sh\nenv | cut -d= -f1 | sort | tr "\\n" " " >/run/seen\ncat\n', {
    mode: 0o755,
  })
  const config = { cniVersion: '1.0.0', name: 'n', type: 'spy' }
  const call = { config, containerId: 'c', netns: '/run/netns/c', ifName: 'eth0', path: '/nowhere:/run' }

  expect(host.cni('spy', 'ADD', call).json).toEqual(config)
  expect(host.run(['cat', '/run/seen']).stdout.trim().split(' ')).toEqual(
    expect.arrayContaining(['CNI_COMMAND', 'CNI_CONTAINERID', 'CNI_IFNAME', 'CNI_NETNS', 'CNI_PATH', 'PATH']),
  )
  expect(host.run(['cat', '/run/seen']).stdout).not.toMatch(/CNI_ARGS|HOME|USER|VITEST/)
})

test('two snapshots of a host at rest are equal, also when things came and went between them', () => {
  using host = createHost()
  host.addUplink()
  const before = host.snapshot()
  host.sh(`ip link add br0 type bridge
           ip netns add web
           echo lease >/var/lib/cni/file
           ip rule add from 10.0.0.1 table 7
           ip rule del from 10.0.0.1 table 7
           rm /var/lib/cni/file
           ip netns del web
           ip link del br0`)
  expect(host.snapshot()).toEqual(before)
})

test.each([
  ['links', 'ip link add br0 type bridge'],
  ['links', 'ip link set lo mtu 1400'],
  ['addresses', 'ip address add 10.0.0.1/32 dev lo'],
  ['addresses', 'ip address add 2001:db8:1::1/128 dev lo'],
  ['routes', 'ip route add 10.0.0.0/8 dev lo table 1234'],
  ['routes', 'ip route add unreachable 2001:db8:1::/64'],
  ['rules', 'ip rule add from 10.0.0.1 table 7'],
  ['files', 'ip netns add web'],
  ['files', 'mkdir -p /var/lib/cni/networks/n; echo c >/var/lib/cni/networks/n/10.0.0.1'],
  ['files', 'mkdir /run/ns-net; touch /run/ns-net/lock'],
  ['mounts', 'mkdir /run/left; mount -t tmpfs tmpfs /run/left'],
  ['files', 'mkdir /etc/netns/web; echo nameserver 192.0.2.53 >/etc/netns/web/resolv.conf'],
  ['sysctls', 'echo 1 >/proc/sys/net/ipv4/ip_forward'],
] as const)('a snapshot shows in its %s: %s', (part, script) => {
  using host = createHost()
  const before = host.snapshot()
  host.sh(script)
  expect(host.snapshot()[part]).not.toEqual(before[part])
})

test.for([
  ['nftables', 'nft', 'nft add table inet t'],
  ['nftables', 'nft', 'nft add table inet t; nft add set inet t s "{ type ipv4_addr; elements = { 10.0.0.1 } }"'],
  ['iptables', 'iptables', 'iptables -t nat -A POSTROUTING -j MASQUERADE'],
  ['ip6tables', 'ip6tables', 'ip6tables -A FORWARD -j ACCEPT'],
] as const)('a snapshot shows in its %s what %s did: %s', ([part, tool, script], context) => {
  requireTool(tool, context)
  using host = createHost()
  const before = host.snapshot()
  host.sh(script)
  expect(host.snapshot()[part]).not.toEqual(before[part])
})

test('a snapshot can leave out what the lease store keeps', () => {
  using host = createHost()
  const before = host.snapshot({ ignoreLeaseMarks: true })
  host.sh(`mkdir -p /var/lib/cni/networks/n/.boot
           touch /var/lib/cni/networks/n/lock /var/lib/cni/networks/n/last_reserved_ip.0 /var/lib/cni/networks/n/.boot/id`)
  expect(host.snapshot().files).not.toEqual(before.files)
  expect(host.snapshot({ ignoreLeaseMarks: true }).files).toEqual({ ...before.files })
  host.sh('echo c >/var/lib/cni/networks/n/10.0.0.1')
  expect(host.snapshot({ ignoreLeaseMarks: true }).files).not.toEqual(before.files)
})

test('a host that is disposed of ends its processes', async () => {
  const host = createHost()
  const background = host.start(['sleep', '1000'])
  const { pid } = host
  expect(readlinkSync(`/proc/${pid}/ns/net`)).not.toBe(readlinkSync('/proc/self/ns/net'))
  host[Symbol.dispose]()
  for (let i = 0; i < 100 && (existsSync(`/proc/${pid}`) || existsSync(`/proc/${background.pid}`)); i++)
    await setTimeout(10)
  expect(existsSync(`/proc/${pid}`)).toBe(false)
  expect(existsSync(`/proc/${background.pid}`)).toBe(false)
})
