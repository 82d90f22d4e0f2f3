import { expect, test } from 'vitest'
import { cidr } from '../netlink-lib/ip.ts'
import { createNamedNetns, deleteNamedNetns, Netns } from '../netlink-lib/netns.ts'
import type { LinkSettings } from '../netlink-lib/route/link.ts'
import { RouteSocket } from '../netlink-lib/route/socket.ts'
import { createHost, type Host } from './host.ts'
import { inside } from './inside.ts'

/** Runs library code in the host with a socket there; `ip` is the judge of what it did. */
function withRoute<T>(host: Host, work: (route: RouteSocket) => T): T {
  return inside(host, () => {
    using route = new RouteSocket()
    return work(route)
  })
}

const ip = (host: Host, ...args: string[]) => host.json(['ip', '-json', '-details', ...args])

test('a bridge with a veth port whose peer is born in another namespace', () => {
  using host = createHost()
  const container = host.addContainer('c1')
  withRoute(host, (route) => {
    using netns = Netns.open('/run/netns/c1')
    route.createBridge({ name: 'br0', mtu: 1400 })
    const bridge = route.getLink('br0')
    route.setLink(bridge, { up: true, promiscuous: true, alias: 'the bridge' })
    route.createVeth({
      name: 'outer',
      mtu: 1300,
      master: bridge.index,
      up: true,
      peer: { name: 'inner', netnsFd: netns.fd, mtu: 1300, mac: '02:00:00:00:00:07' },
    })
    route.setLink(route.getLink('outer'), { port: { hairpin: true, isolated: true } })
    expect(route.listLinks({ master: bridge.index }).map(({ name }) => name)).toEqual(['outer'])
    expect(route.findLink('nothing')).toBeUndefined()
    expect(() => route.getLink('nothing')).toThrow('get link nothing: ENODEV')
  })
  expect(ip(host, 'link', 'show', 'br0')).toMatchObject([
    {
      mtu: 1300, // a bridge takes the smallest of its ports
      flags: expect.arrayContaining(['UP', 'PROMISC']),
      ifalias: 'the bridge',
      linkinfo: { info_kind: 'bridge' },
    },
  ])
  expect(ip(host, 'link', 'show', 'outer')).toMatchObject([
    {
      mtu: 1300,
      master: 'br0',
      flags: expect.arrayContaining(['UP']),
      linkinfo: { info_kind: 'veth', info_slave_data: { hairpin: true, isolated: true } },
    },
  ])
  expect(container.json(['ip', '-j', 'link', 'show', 'inner'])).toMatchObject([
    { mtu: 1300, address: '02:00:00:00:00:07' },
  ])

  withRoute(host, (route) => {
    for (const name of ['outer', 'br0', 'br0']) route.deleteLink(name)
  })
  expect(ip(host, 'link')).toHaveLength(1)
  expect(container.json(['ip', '-j', 'link'])).toHaveLength(1)
})

test('settings of a link by address family', () => {
  using host = createHost()
  host.sh('ip link add veth-a type veth peer name veth-b')
  const settings = () => ({
    arpNotify: host.run(['cat', '/proc/sys/net/ipv4/conf/veth-a/arp_notify']).stdout.trim(),
    generation: ip(host, 'link', 'show', 'veth-a')[0].inet6_addr_gen_mode,
  })
  const set = (changed: LinkSettings) => withRoute(host, (route) => route.setLink(route.getLink('veth-a'), changed))
  expect(settings()).toEqual({ arpNotify: '0', generation: 'eui64' })
  set({ arpNotify: true })
  expect(settings()).toEqual({ arpNotify: '1', generation: 'eui64' })
  set({ linkLocal: false })
  expect(settings()).toEqual({ arpNotify: '1', generation: 'none' })
  set({ arpNotify: false, linkLocal: true })
  expect(settings()).toEqual({ arpNotify: '0', generation: 'eui64' })
  host.run(['ip', 'link', 'set', 'veth-a', 'mtu', '1000']) // less than IPv6 needs
  expect(() => set({ linkLocal: false })).toThrow('set linkLocal of veth-a: EAFNOSUPPORT')
})

test('addresses, routes and neighbours of both families', () => {
  using host = createHost()
  host.sh('ip link add veth-a up type veth peer name veth-b; ip link set veth-b up')
  withRoute(host, (route) => {
    const a = route.getLink('veth-a')
    for (const address of ['10.1.0.2/24', 'fd00::2/64']) route.addAddress(a, cidr(address))
    expect(() => route.addAddress(a, cidr('10.1.0.2/24'))).toThrow('add address 10.1.0.2/24 to veth-a: EEXIST')
    route.addRoute({
      dst: cidr('0.0.0.0/0'),
      gateway: '10.1.0.1',
      link: a.index,
      mtu: 1400,
      advmss: 1200,
      priority: 77,
    })
    route.addRoute({ dst: cidr('::/0'), gateway: 'fd00::1', link: a.index, priority: 78 })
    route.addRoute({ dst: cidr('10.2.3.4/16'), link: a.index, table: 1000, source: '10.1.0.2' })
    route.addRoute({ dst: cidr('10.3.0.1/32'), link: a.index, scope: 254 })
    route.setNeighbour(a, '10.1.0.9', '02:00:00:00:00:09')
    route.setNeighbour(a, 'fd00::9', '02:00:00:00:00:0a')
    expect(route.listNeighbours(a)).toContainEqual({ address: '10.1.0.9', mac: '02:00:00:00:00:09', state: 0x80 })
    expect(route.listRoutes(4, { link: a.index })).toContainEqual(
      expect.objectContaining({ gateway: '10.1.0.1', mtu: 1400, advmss: 1200, priority: 77 }),
    )
    expect(route.listAddresses(a).map(({ address, prefix }) => `${address}/${prefix}`)).toEqual(
      expect.arrayContaining(['10.1.0.2/24', 'fd00::2/64']),
    )
  })
  const [{ addr_info }] = ip(host, 'addr', 'show', 'dev', 'veth-a')
  expect(addr_info).toContainEqual(
    expect.objectContaining({ local: '10.1.0.2', prefixlen: 24, broadcast: '10.1.0.255', scope: 'global' }),
  )
  expect(addr_info).toContainEqual(expect.objectContaining({ local: 'fd00::2', prefixlen: 64, nodad: true }))
  expect(ip(host, 'route', 'show', 'default')).toMatchObject([
    { gateway: '10.1.0.1', dev: 'veth-a', metric: 77, metrics: [{ mtu: 1400, advmss: 1200 }] },
  ])
  expect(ip(host, '-6', 'route', 'show', 'default')).toMatchObject([{ gateway: 'fd00::1', dev: 'veth-a', metric: 78 }])
  expect(ip(host, 'route', 'show', 'table', '1000')).toMatchObject([
    { dst: '10.2.0.0/16', prefsrc: '10.1.0.2', scope: 'link' },
  ])
  expect(ip(host, 'route', 'show', '10.3.0.1')).toMatchObject([{ dst: '10.3.0.1', scope: 'host' }])
  expect(ip(host, 'neigh', 'show', 'dev', 'veth-a', 'nud', 'permanent')).toEqual(
    expect.arrayContaining([expect.objectContaining({ dst: '10.1.0.9', lladdr: '02:00:00:00:00:09' })]),
  )

  withRoute(host, (route) => {
    const a = route.getLink('veth-a')
    for (let twice = 0; twice < 2; twice++) {
      for (const dst of ['0.0.0.0/0', '::/0']) route.deleteRoute({ dst: cidr(dst), link: a.index })
      route.deleteRoute({ dst: cidr('10.2.0.0/16'), link: a.index, table: 1000 })
      route.deleteNeighbour(a, '10.1.0.9')
      route.deleteAddress(a, cidr('10.1.0.2/24'))
      route.deleteAddress(a, cidr('fd00::2/64'))
    }
  })
  expect(host.run(['ip', 'route', 'show', 'table', 'all', 'dev', 'veth-a']).stdout).not.toMatch(/default|10\.2\.0\.0/)
  expect(host.run(['ip', 'addr', 'show', 'dev', 'veth-a', 'scope', 'global']).stdout).toBe('')
})

test("the kernel's own explanation is part of the error", () => {
  using host = createHost()
  withRoute(host, (route) => {
    expect(() => route.addRoute({ dst: cidr('10.0.0.0/8'), gateway: '192.0.2.77' })).toThrow(
      /^add route 10\.0\.0\.0\/8 via 192\.0\.2\.77 .*ENETUNREACH.*\(kernel: Nexthop has invalid gateway\)$/,
    )
  })
})

test('a namespace made by us is one for ip(8), and the reverse', () => {
  using host = createHost()
  inside(host, () => {
    createNamedNetns('ours')
    expect(() => createNamedNetns('ours')).toThrow('create network namespace ours: EEXIST')
  })
  expect(host.run(['ip', 'netns', 'list']).stdout).toMatch(/^ours/)
  expect(host.run(['ip', '-n', 'ours', '-br', 'link']).stdout).toMatch(/^lo /)
  host.run(['ip', 'netns', 'add', 'theirs'])
  inside(host, () => {
    using theirs = Netns.open('/run/netns/theirs')
    const links = theirs.run<string[]>(() => {
      using route = new RouteSocket()
      return route.listLinks().map(({ name }) => name)
    })
    expect(links).toEqual(['lo'])
    for (let twice = 0; twice < 2; twice++) for (const name of ['ours', 'theirs']) deleteNamedNetns(name)
  })
  expect(host.run(['ip', 'netns', 'list']).stdout).toBe('')
  host.sh('echo > /run/netns/plainfile')
  inside(host, () => {
    expect(() => Netns.open('/run/netns/plainfile')).toThrow('/run/netns/plainfile is not a network namespace')
    expect(() => Netns.open('/run/netns/nothing')).toThrow('ENOENT')
    expect(() => Netns.open('/proc/self/ns/mnt')).toThrow('is not a network namespace')
    for (const path of ['/run/netns/plainfile', '/run/netns/nothing', '/run/netns/plainfile/x', '/proc/999999/ns/net'])
      expect(Netns.find(path)).toBeUndefined()
  })
})
