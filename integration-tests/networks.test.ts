import { once } from 'node:events'
import { describe, expect, type TestContext, test } from 'vitest'
import { sourceSeen, tellAddress } from './echo-server.ts'
import {
  createHost,
  executables,
  type Host,
  type Place,
  type RunOptions,
  referencePlugins,
  requireTool,
} from './host.ts'

const program = `${executables}/ns-net`
const nsNet = (host: Host, ...args: string[]) => host.run([program, ...args]).stdout
const json = (host: Host, ...args: string[]) => JSON.parse(nsNet(host, ...args, '--json'))
const refusal = (host: Host, args: string[], options: RunOptions = {}) => {
  const { status, stderr } = host.run([program, ...args], { expectFailure: true, ...options })
  return { status, stderr }
}
const inLab = (host: Host, name: string): Place => {
  const enter = (command: readonly string[]) => ['ip', 'netns', 'exec', name, ...command]
  return {
    run: (command, options) => host.run(enter(command), options),
    sh: (script, options) => host.run(enter(['sh', '-ec', script]), options),
    json: (command, options) => host.json(enter(command), options),
    start: (command) => host.start(enter(command)),
  }
}
const reaches = (host: Host, from: string, to: string): boolean =>
  inLab(host, from).run(['ping', '-c1', '-W1', to], { expectFailure: 'maybe' }).status === 0
/** Asks for up to five seconds: a bridge takes a moment to notice that its port is back. */
const reachesSoon = (host: Host, from: string, to: string): boolean =>
  inLab(host, from).run(['ping', '-c1', '-w5', to], { expectFailure: 'maybe' }).status === 0
const addresses = (host: Host, lab: string, dev: string): string[] =>
  host
    .json(['ip', '-j', '-n', lab, 'addr', 'show', 'dev', dev])[0]
    .addr_info.filter(({ scope }: { scope: string }) => scope === 'global')
    .map(({ local, prefixlen }: { local: string; prefixlen: number }) => `${local}/${prefixlen}`)
const routes = (host: Host, lab: string): [string, string | undefined, string][] =>
  host
    .json(['ip', '-j', '-n', lab, 'route'])
    .map(({ dst, gateway, dev }: Record<string, string>) => [dst, gateway, dev])

/** Forwarding is the host's own setting: others may rely on it by now. It brings anycast routes of IPv6 with it. */
function state(host: Host) {
  const { sysctls: _, files, routes: all, ...rest } = host.snapshot({ ignoreLeaseMarks: true })
  const kept = (all as { type?: string }[]).filter(({ type }) => type !== 'anycast')
  return { ...rest, routes: kept, files: Object.entries(files).filter(([path]) => path !== '/etc/netns/') }
}

test('a network is made, used by labs that reach each other and the world, and removed', (context) => {
  requireTool('ping', context)
  using host = createHost()
  const outside = host.addUplink()
  tellAddress(outside)
  const before = state(host)
  expect(nsNet(host, 'net', 'create', 'lan', '--subnet', '10.10.0.0/24', '--ipv6')).toMatch(
    /^lan {2}bridge {2}10\.10\.0\.0\/24 fd[0-9a-f:]+::\/64$/m,
  )
  nsNet(host, 'add', 'web', '--net', 'lan')
  nsNet(host, 'add', 'api', '--net', 'lan:ip=10.10.0.77,mac=02:00:00:00:00:77')
  expect(host.json(['ip', '-j', '-n', 'api', 'link', 'show', 'eth0'])[0].address).toBe('02:00:00:00:00:77')
  const [v4, v6] = addresses(host, 'api', 'eth0')
  expect(v4).toBe('10.10.0.77/24')
  expect(reaches(host, 'web', '10.10.0.77')).toBe(true)
  expect(reaches(host, 'web', v6!.split('/')[0]!)).toBe(true)
  expect(sourceSeen(inLab(host, 'web'), '192.0.2.2')).toBe('192.0.2.1')
  expect(json(host, 'net', 'ls')).toMatchObject([
    { name: 'lan', driver: 'bridge', bridge: 'ns-lan', labs: ['api', 'web'] },
  ])
  expect(refusal(host, ['net', 'rm', 'lan'])).toEqual({
    status: 4,
    stderr: 'ns-net: network "lan" is used by labs api, web\nhint: ns-net detach api lan, or ns-net del api\n',
  })
  nsNet(host, 'del', 'web', 'api')
  expect(json(host, 'net', 'ls')).toHaveLength(1) // made by hand, so it stays until it is removed by hand
  nsNet(host, 'net', 'rm', 'lan')
  expect(state(host)).toEqual(before)
})

test('a conflist that net show prints is one that any runtime can use', (context) => {
  requireTool('ping', context)
  using host = createHost()
  nsNet(host, 'net', 'create', 'lan', '--subnet', '10.10.0.0/24')
  const { conflist } = json(host, 'net', 'show', 'lan')
  const container = host.addContainer('c1')
  const bridge = conflist.plugins.find(({ type }: { type: string }) => type === 'bridge')
  const config = { ...bridge, name: conflist.name, cniVersion: '1.0.0' } // Debian's speaks no later one
  host.cni('bridge', 'ADD', {
    config,
    containerId: 'c1',
    netns: container.path,
    ifName: 'eth0',
    path: referencePlugins,
  })
  expect(addresses(host, 'c1', 'eth0')).toEqual(['10.10.0.2/24'])
})

test('an internal network leads nowhere, an isolated one not to its neighbours', (context) => {
  requireTool('ping', context)
  using host = createHost()
  host.addUplink()
  nsNet(host, 'net', 'create', 'back', '--internal')
  nsNet(host, 'net', 'create', 'guests', '--isolated')
  for (const name of ['db', 'cache']) nsNet(host, 'add', name, '--net', 'back')
  for (const name of ['g1', 'g2']) nsNet(host, 'add', name, '--net', 'guests')
  const address = (name: string) => addresses(host, name, 'eth0')[0]!.split('/')[0]!
  expect(reaches(host, 'db', address('cache'))).toBe(true)
  expect(reaches(host, 'db', '192.0.2.2')).toBe(false)
  expect(routes(host, 'db').map(([dst]) => dst)).not.toContain('default')
  expect(reaches(host, 'g1', address('g2'))).toBe(false)
  expect(reaches(host, 'g1', '192.0.2.2')).toBe(true)
  nsNet(host, 'add', 'quiet', '--internal')
  expect(reaches(host, 'quiet', '10.88.0.1')).toBe(true)
  expect(reaches(host, 'quiet', '192.0.2.2')).toBe(false)
})

describe('nothing is forwarded into or out of an internal network', () => {
  /** Which of the addresses answer, all asked at the same time: the silent ones take a second. */
  const answering = (from: Place, addresses: readonly string[]): string[] => {
    const script = addresses.map((to) => `{ ping -c1 -i0.2 -w1 ${to} >/dev/null 2>&1 && echo ${to}; } &`)
    const answered = from.sh(`${script.join('\n')}\nwait`).stdout.split('\n')
    return addresses.filter((to) => answered.includes(to))
  }
  const rulesOf = (host: Host) => host.run(['nft', 'list', 'ruleset']).stdout
  const forwarding = (host: Host) =>
    host
      .run(['nft', 'list', 'table', 'inet', 'ns-net-firewall'], { expectFailure: 'maybe' })
      .stdout.split('\n')
      .filter((line) => line.includes('drop'))
  const [db, cache] = [
    ['10.20.0.2', 'fd00:20::2'],
    ['10.20.0.3', 'fd00:20::3'],
  ]
  const own = ['10.20.0.1', 'fd00:20::1', '192.0.2.1', '2001:db8::1']
  const strange = ['10.10.0.2', 'fd00:10::2', '192.0.2.2', '2001:db8::2']

  /** Both ways there are routes, by hand where the network gives none: only a rule can be what keeps them apart. */
  function connected(context: TestContext, driver: string) {
    for (const tool of ['ping', 'socat', 'nft']) requireTool(tool, context)
    const host = createHost()
    const outside = host.addUplink()
    for (const range of ['10.20.0.0/24 via 192.0.2.1', 'fd00:20::/64 via 2001:db8::1'])
      outside.run(['ip', 'route', 'add', ...range.split(' ')])
    const ranges = (n: number) => ['--subnet', `10.${n}.0.0/24`, '--subnet', `fd00:${n}::/64`]
    nsNet(host, 'net', 'create', 'lan', ...ranges(10))
    nsNet(host, 'add', 'web', '--net', 'lan')
    const before = rulesOf(host)
    nsNet(host, 'net', 'create', 'back', '--internal', '--driver', driver, ...ranges(20))
    for (const name of ['db', 'cache']) {
      nsNet(host, 'add', name, '--net', 'back', ...(name === 'db' ? ['-p', '5432:80'] : []))
      for (const gateway of ['10.20.0.1', 'fd00:20::1'])
        host.run(['ip', '-n', name, 'route', 'add', 'default', 'via', gateway])
    }
    return { host, outside, before }
  }

  test.for(['bridge', 'ptp'])('driver %s', (driver, context) => {
    const { host, outside, before } = connected(context, driver)
    using _ = host
    const [inDb, inWeb] = [inLab(host, 'db'), inLab(host, 'web')]
    const connects = (from: Place, to: string) =>
      from.run(['socat', '-T1', '-u', `TCP:${to},connect-timeout=1`, '-'], { expectFailure: 'maybe' }).stdout !== ''
    inDb.start(['socat', 'TCP6-LISTEN:80,ipv6-v6only=0,fork,reuseaddr', 'SYSTEM:echo db'])
    host.run(['socat', '-T5', '-u', 'TCP:10.20.0.2:80,retry=50,interval=0.1', '-'])

    for (const calls of [0, 1]) {
      for (const name of ['iptables', 'ip6tables']) // frames inside the bridge pass the rules then, as with Docker
        host.sh(`echo ${calls} >/proc/sys/net/bridge/bridge-nf-call-${name} || true`)
      expect(answering(inDb, [...cache!, ...own])).toEqual([...cache!, ...own])
      expect(answering(host, [...db!, ...cache!])).toEqual([...db!, ...cache!])
      expect([host, inLab(host, 'cache')].map((from) => connects(from, '10.20.0.2:80'))).toEqual([true, true])
      expect([host, inLab(host, 'cache')].map((from) => connects(from, '192.0.2.1:5432'))).toEqual([true, true])
    }
    /** Echo requests that came in: nothing gets through in one direction either. */
    const echoes = (place: Place) =>
      place.sh("nstat -asz IcmpInEchos Icmp6InEchos | awk '/InEchos/ { all += $2 } END { print all }'").stdout
    const arrived = () => [inDb, inLab(host, 'cache'), inWeb, outside].map(echoes)
    const untouched = arrived()
    expect(answering(inDb, strange)).toEqual([])
    for (const from of [inWeb, outside]) {
      expect(answering(from, [...db!, ...cache!])).toEqual([])
      for (const to of ['10.20.0.2:80', '[fd00:20::2]:80', '192.0.2.1:5432']) expect(connects(from, to)).toBe(false)
    }
    expect(arrived()).toEqual(untouched)

    // Without the rules nothing else would keep them apart.
    host.run(['nft', 'delete', 'table', 'inet', 'ns-net-firewall'])
    expect(answering(inDb, strange)).toEqual(strange)
    for (const from of [inWeb, outside]) {
      expect(answering(from, db!)).toEqual(db)
      for (const to of ['10.20.0.2:80', '192.0.2.1:5432']) expect(connects(from, to)).toBe(true)
    }
    nsNet(host, 'reload')
    expect(answering(inDb, strange)).toEqual([])

    nsNet(host, 'del', 'cache')
    expect(forwarding(host)).not.toEqual([])
    nsNet(host, 'del', 'db', '--kill')
    expect(rulesOf(host)).toBe(before)
  })
})

test('of labs that an internal network keeps apart, why names the rule, and doctor finds nothing wrong', () => {
  using host = createHost()
  nsNet(host, 'net', 'create', 'back', '--internal', '--subnet', '10.20.0.0/24')
  nsNet(host, 'add', 'web')
  nsNet(host, 'add', 'db', '--net', 'back')
  host.run(['ip', '-n', 'db', 'route', 'add', 'default', 'via', '10.20.0.1'])
  for (const [from, to, rule] of [
    ['web', 'db', 'iifname != "ns-back" oifname "ns-back" drop'],
    ['db', 'web', 'iifname "ns-back" oifname != "ns-back" drop'],
  ] as const) {
    const { stdout } = host.run([program, 'why', from, to, '--json'], { expectFailure: true })
    const { verdict, fix, hops } = JSON.parse(stdout)
    expect({ verdict, fix }).toEqual({
      verdict: 'dropped on the host in chain forward of table inet ns-net-firewall (rule set owned by ns-net)',
      fix: [],
    })
    expect(JSON.stringify(hops)).toContain(JSON.stringify(rule).slice(1, -1))
  }
  expect(host.run([program, 'why', 'host', 'db']).status).toBe(0)
  const { checks } = JSON.parse(host.run([program, 'doctor', '--json'], { expectFailure: 'maybe' }).stdout)
  expect(checks.filter(({ check }: { check: string }) => check === 'leftovers')).toMatchObject([{ state: 'ok' }])
})

test('routed and address-less networks', (context) => {
  requireTool('ping', context)
  using host = createHost()
  host.addUplink()
  nsNet(host, 'net', 'create', 'routed', '--driver', 'ptp', '--subnet', '10.20.0.0/24')
  nsNet(host, 'add', 'a', '--net', 'routed')
  nsNet(host, 'add', 'b', '--net', 'routed')
  expect(reaches(host, 'a', '10.20.0.3')).toBe(true)
  expect(reaches(host, 'a', '192.0.2.2')).toBe(true)
  expect(host.json(['ip', '-j', 'link', 'show', 'type', 'bridge'])).toEqual([])
  nsNet(host, 'net', 'create', 'wire', '--driver', 'l2')
  for (const [i, name] of ['x', 'y'].entries()) {
    nsNet(host, 'add', name, '--net', 'wire')
    host.run(['ip', '-n', name, 'addr', 'add', `10.99.0.${i + 1}/24`, 'dev', 'eth0'])
  }
  expect(reaches(host, 'x', '10.99.0.2')).toBe(true)
  expect(json(host, 'net', 'show', 'wire')).toMatchObject({ driver: 'l2', subnets: [], labs: ['x', 'y'] })
})

test('a lab in several networks has one way out, also when they come one after the other', (context) => {
  requireTool('ping', context)
  using host = createHost()
  host.addUplink()
  nsNet(host, 'net', 'create', 'lan', '--subnet', '10.10.0.0/24')
  nsNet(host, 'net', 'create', 'dmz', '--subnet', '10.20.0.0/24')
  nsNet(host, 'add', 'r1', '--net', 'lan', '--net', 'dmz:if=dmz0')
  nsNet(host, 'add', 'r2', '--net', 'dmz')
  nsNet(host, 'attach', 'r2', 'lan', '--ip', '10.10.0.9')
  expect(routes(host, 'r1').filter(([dst]) => dst === 'default')).toEqual([['default', '10.10.0.1', 'eth0']])
  expect(routes(host, 'r2').filter(([dst]) => dst === 'default')).toEqual([['default', '10.20.0.1', 'eth0']])
  expect(addresses(host, 'r1', 'dmz0')).toEqual(['10.20.0.2/24'])
  expect(addresses(host, 'r2', 'eth1')).toEqual(['10.10.0.9/24'])
  for (const to of ['10.10.0.9', '10.20.0.3', '192.0.2.2']) expect(reaches(host, 'r1', to)).toBe(true)
  expect(refusal(host, ['attach', 'r2', 'lan'])).toMatchObject({
    status: 4,
    stderr: expect.stringContaining('"r2" is attached to network "lan" already, by eth1'),
  })
  nsNet(host, 'detach', 'r2', 'lan')
  expect(host.run(['ip', '-n', 'r2', 'link', 'show', 'eth1'], { expectFailure: true }).status).toBe(1)
  expect(reaches(host, 'r2', '192.0.2.2')).toBe(true)
})

test('a failed attach leaves the lab as it was', () => {
  using host = createHost()
  nsNet(host, 'net', 'create', 'lan', '--subnet', '10.10.0.0/24')
  nsNet(host, 'add', 'web')
  nsNet(host, 'add', 'other', '--net', 'lan:ip=10.10.0.9')
  const before = host.snapshot()
  const taken = refusal(host, ['attach', 'web', 'lan', '--ip', '10.10.0.9'])
  expect(taken.stderr).toMatch(/^ns-net: cannot attach "web": .*10\.10\.0\.9 is not available/)
  expect(host.snapshot()).toEqual(before)
})

test('labs find each other by name, whoever came first', async (context) => {
  requireTool('ping', context)
  using host = createHost()
  host.sh('echo "192.0.2.99 printer" >> /etc/hosts')
  nsNet(host, 'add', 'web')
  const waiting = host.start(['ip', 'netns', 'exec', 'web', 'sh', '-c', 'read line; getent hosts db'])
  nsNet(host, 'add', 'db')
  expect(reaches(host, 'web', 'db')).toBe(true)
  expect(reaches(host, 'db', 'web')).toBe(true)
  expect(inLab(host, 'web').run(['getent', 'hosts', 'printer']).stdout).toMatch(/^192\.0\.2\.99\s+printer/)
  waiting.stdin!.end('now\n') // it has had the file mounted since before db was made
  const [text] = await once(waiting.stdout!, 'data')
  expect(String(text)).toMatch(/^10\.88\.0\.3\s+db/)
  nsNet(host, 'del', 'db')
  expect(inLab(host, 'web').run(['getent', '-s', 'files', 'hosts', 'db'], { expectFailure: true }).status).toBe(2)
})

test('a cable between two labs works without any bridge, and goes at either end', (context) => {
  requireTool('ping', context)
  using host = createHost()
  for (const name of ['r1', 'r2']) nsNet(host, 'add', name, '--no-net')
  const links = () => host.json(['ip', '-j', 'link']).map(({ ifname }: { ifname: string }) => ifname)
  expect(nsNet(host, 'link', 'add', 'r1', 'r2:up0', '--addr', '172.16.0.1/30,172.16.0.2/30')).toBe(
    'r1:eth0  <->  r2:up0\n',
  )
  expect(links()).toEqual(['lo'])
  expect(reaches(host, 'r1', '172.16.0.2')).toBe(true)
  expect(json(host, 'link', 'ls')).toEqual([
    { a: { place: 'r1', ifName: 'eth0' }, b: { place: 'r2', ifName: 'up0' }, up: true },
  ])
  expect(refusal(host, ['link', 'add', 'r1:eth0', 'r2']).stderr).toBe('ns-net: "r1" has an interface eth0 already\n')
  expect(refusal(host, ['link', 'add', 'r1', 'r2:up0']).stderr).toBe('ns-net: "r2" has an interface up0 already\n')
  nsNet(host, 'link', 'del', 'r2:up0')
  expect(host.json(['ip', '-j', '-n', 'r1', 'link'])).toHaveLength(1)
  nsNet(host, 'link', 'add', 'r1', 'host:lab0', '--addr', '172.16.0.1/30,172.16.0.2/30')
  expect(host.run(['ping', '-c1', '-W1', '172.16.0.1']).status).toBe(0)
  nsNet(host, 'del', 'r1', 'r2')
  expect(links()).toEqual(['lo'])
})

test('a cable that somebody was killed over is made anew, from either end', () => {
  using host = createHost()
  for (const name of ['r1', 'r2']) nsNet(host, 'add', name, '--no-net')
  // Its first end is born in this group (ns-net/cables.ts); the second is not told apart from a stranger's.
  const unfinished = () => host.sh('ip -n r1 link add eth0 group 28276 type veth peer name eth0 netns r2')
  for (const ends of [
    ['r1:eth0', 'r2:eth0'],
    ['r2:eth0', 'r1:eth0'],
  ]) {
    unfinished()
    nsNet(host, 'link', 'add', ...ends, '--addr', '172.16.0.1/30,172.16.0.2/30')
    const [cable] = json(host, 'link', 'ls')
    expect(cable).toMatchObject({ up: true })
    expect(host.json(['ip', '-j', '-n', 'r1', 'link', 'show', 'eth0'])[0]).toMatchObject({ group: 'default' })
    expect(refusal(host, ['link', 'add', ...ends]).stderr).toContain('has an interface eth0 already')
    nsNet(host, 'link', 'del', 'r1:eth0')
  }
})

test('a broken link keeps addresses and routes, and mends', (context) => {
  requireTool('ping', context)
  using host = createHost()
  nsNet(host, 'add', 'web')
  nsNet(host, 'link', 'down', 'web:eth0')
  expect(reaches(host, 'web', '10.88.0.1')).toBe(false)
  expect(host.json(['ip', '-j', '-n', 'web', 'link', 'show', 'eth0'])[0].flags).toContain('NO-CARRIER')
  expect(addresses(host, 'web', 'eth0')).toEqual(['10.88.0.2/16'])
  expect(routes(host, 'web')[0]).toEqual(['default', '10.88.0.1', 'eth0'])
  nsNet(host, 'link', 'up', 'web:eth0')
  expect(reachesSoon(host, 'web', '10.88.0.1')).toBe(true)
  expect(refusal(host, ['link', 'del', 'web:eth0'])).toMatchObject({
    status: 4,
    stderr: expect.stringContaining('web:eth0 is no cable of ns-net'),
  })
})

test('a routed link that was down works again in both families', (context) => {
  requireTool('ping', context)
  using host = createHost()
  nsNet(host, 'net', 'create', 'routed', '--driver', 'ptp', '--subnet', '10.20.0.0/24', '--subnet', 'fd00:20::/64')
  nsNet(host, 'add', 'a', '--net', 'routed')
  nsNet(host, 'link', 'down', 'a:eth0')
  expect(reaches(host, 'a', '10.20.0.1')).toBe(false)
  nsNet(host, 'link', 'up', 'a:eth0')
  for (const gateway of ['10.20.0.1', 'fd00:20::1']) expect(reachesSoon(host, 'a', gateway)).toBe(true)
  for (const address of ['10.20.0.2', 'fd00:20::2']) host.run(['ping', '-c1', '-w5', address])
})

test('ports are published at birth and later, and taken back', (context) => {
  for (const tool of ['socat', 'nft']) requireTool(tool, context)
  using host = createHost()
  const outside = host.addUplink()
  const before = host.run(['nft', 'list', 'ruleset']).stdout
  nsNet(host, 'add', 'web', '-p', '8080:7000', '-p', '127.0.0.1:5300-5301:53-54/udp')
  tellAddress(inLab(host, 'web'))
  const answers = (port: number) =>
    outside.run(['socat', '-T1', '-u', `TCP:192.0.2.1:${port},connect-timeout=1`, '-'], { expectFailure: 'maybe' })
      .stdout
  expect(answers(8080)).toContain('192.0.2.2')
  expect(json(host, 'port', 'ls')).toMatchObject([
    { lab: 'web', hostPort: 8080, containerPort: 7000, protocol: 'tcp' },
    { hostIP: '127.0.0.1', hostPort: 5300, containerPort: 53, protocol: 'udp' },
    { hostIP: '127.0.0.1', hostPort: 5301, containerPort: 54, protocol: 'udp' },
  ])
  nsNet(host, 'port', 'add', 'web', '9090:7000')
  expect(answers(9090)).toContain('192.0.2.2')
  expect(answers(8080)).toContain('192.0.2.2')
  nsNet(host, 'port', 'rm', 'web', '8080')
  expect(answers(8080)).toBe('')
  expect(answers(9090)).toContain('192.0.2.2')
  nsNet(host, 'add', 'other')
  const taken = refusal(host, ['port', 'add', 'other', '9090:81'])
  expect(taken).toMatchObject({ status: 4, stderr: expect.stringContaining('web') })
  expect(json(host, 'port', 'ls', 'other')).toEqual([])
  nsNet(host, 'del', '--all', '--kill')
  expect(host.run(['nft', 'list', 'ruleset']).stdout).toBe(before)
})

test('labels select labs to list and to delete', () => {
  using host = createHost()
  nsNet(host, 'add', 'a', '--label', 'role=web', '--label', 'tier=1')
  nsNet(host, 'add', 'b', '--label', 'role=web')
  nsNet(host, 'add', 'c')
  const names = (...args: string[]) => json(host, 'ls', ...args).map(({ name }: { name: string }) => name)
  expect(names('-l', 'role=web')).toEqual(['a', 'b'])
  expect(names('-l', 'role=web', '-l', 'tier=1')).toEqual(['a'])
  nsNet(host, 'del', '-l', 'role=web')
  expect(names()).toEqual(['c'])
  expect(nsNet(host, 'del', 'nobody', '--ignore-missing')).toBe('nothing to delete\n')
  nsNet(host, 'add', 'c', '--if-not-exists')
})

test('a namespace of somebody else is adopted, connected, and goes with del', (context) => {
  requireTool('ping', context)
  using host = createHost()
  host.addContainer('old')
  const sleeper = host.start(['unshare', '--net', 'sleep', '60'])
  expect(json(host, 'ls')).toMatchObject([{ name: 'old', state: 'unmanaged' }])
  expect(refusal(host, ['attach', 'old', 'default']).stderr).toContain('take it over with ns-net adopt old')
  nsNet(host, 'adopt', 'old')
  nsNet(host, 'adopt', `pid:${sleeper.pid}`, 'box')
  for (const name of ['old', 'box']) nsNet(host, 'attach', name, 'default')
  expect(reaches(host, 'box', '10.88.0.2')).toBe(true)
  expect(host.run(['nsenter', `--target=${sleeper.pid}`, '--net', 'ip', '-br', 'addr']).stdout).toContain(
    '10.88.0.3/16',
  )
  nsNet(host, 'del', 'old')
  nsNet(host, 'del', 'box', '--kill')
  expect(host.run(['ip', 'netns', 'list']).stdout).toBe('')
})

test.each([
  [['net', 'create', 'x', '--subnet', '10.1/8'], 2, '"10.1/8" is no range of addresses'],
  [['net', 'create', 'x', '--driver', 'vlan'], 2, 'unknown driver "vlan"'],
  [['net', 'create', 'x', '--driver', 'l2', '--subnet', '10.1.0.0/24'], 2, 'a network with driver l2 has no addresses'],
  [
    ['net', 'create', 'x', '--subnet', '192.0.2.0/25'],
    4,
    '192.0.2.0/25 overlaps 192.0.2.0/24, a route of the host by lo',
  ],
  [['net', 'create', '../x'], 2, 'bad name "../x"'],
  [['net', 'rm', 'nobody'], 3, 'no network "nobody"'],
  [['add', 'x', '--net', 'nobody'], 3, 'no network "nobody"'],
  [['add', 'x', '--net', 'default:color=red'], 2, '"color=red" is not understood'],
  [['add', 'x', '--ip', 'ten'], 2, '"ten" is no IP address'],
  [['add', 'x', '-p', '99999:80'], 2, 'port "99999:80": "99999" is no port or range of ports'],
  [['add', 'x', '-p', '80:80/icmp'], 2, 'unknown protocol "icmp"'],
  [['add', 'x', '--no-net', '--ip', '10.88.0.9'], 2, '--ip needs a network'],
  [['add', 'x', '--net', 'default', '--subnet', '10.1.0.0/24'], 2, '--net and --subnet exclude each other'],
  [['link', 'add', 'x', 'host'], 3, 'no lab "x"'],
  [['port', 'add', 'x', '80'], 3, 'no lab "x"'],
  [['del'], 2, 'del takes names, or --all, or a selector'],
])('ns-net %j is refused', (args, status, words) => {
  using host = createHost()
  host.sh('ip route add 192.0.2.0/24 dev lo')
  const before = host.snapshot()
  expect(refusal(host, args)).toEqual({ status, stderr: expect.stringContaining(words) })
  expect(host.snapshot()).toEqual(before)
})
