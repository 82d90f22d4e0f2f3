import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, type TestContext, test } from 'vitest'
import { createHost, executables, type Host, type RunOptions, type RunResult, requireTool } from './host.ts'

const program = `${executables}/ns-net`
const nsNet = (host: Host, args: string[], options: RunOptions = {}): RunResult => host.run([program, ...args], options)
/** Applies a document; nothing but success is accepted unless told. */
const apply = (host: Host, document: object, args: string[] = [], options: RunOptions = {}): RunResult =>
  nsNet(host, ['apply', '-f', '-', ...args], { input: JSON.stringify(document), ...options })
const diff = (host: Host, document: object): RunResult =>
  nsNet(host, ['diff', '-f', '-'], { input: JSON.stringify(document), expectFailure: 'maybe' })

type Row = Readonly<Record<string, unknown>>

/** The links, addresses and routes of a namespace, as ip(8) tells them, without numbers given by chance. */
function inside(host: Host, lab: string, { macs = true } = {}) {
  const links = host.json(['ip', '-j', '-n', lab, 'addr']) as Row[]
  const routes = ['-4', '-6'].flatMap((family) => (host.json(['ip', '-j', family, '-n', lab, 'route']) ?? []) as Row[])
  return {
    links: links
      .map(({ ifname, mtu, address, flags, addr_info }) => ({
        ifname,
        mtu,
        ...(macs && { address }),
        up: (flags as string[]).includes('UP'),
        addresses: (addr_info as Row[])
          .filter(({ scope }) => scope === 'global')
          .map(({ local, prefixlen }) => `${local}/${prefixlen}`)
          .sort(),
      }))
      .sort((a, b) => (String(a.ifname) < String(b.ifname) ? -1 : 1)),
    routes: routes
      .filter(({ dst }) => !String(dst).startsWith('fe80'))
      .map(({ dst, gateway, dev }) => `${dst} ${gateway ?? '-'} ${dev}`)
      .sort(),
  }
}

const indexOf = (host: Host, lab: string, link: string): number =>
  host.json(['ip', '-j', '-n', lab, 'link', 'show', link])[0].ifindex

const reaches = (host: Host, from: string, to: string): boolean =>
  host.run(['ip', 'netns', 'exec', from, 'ping', '-c1', '-W1', to], { expectFailure: 'maybe' }).status === 0

/** What a TCP server answers, asked from a lab or the host. */
const asked = (host: Host, from: string | undefined, to: string): string =>
  host.run(
    [
      ...(from ? ['ip', 'netns', 'exec', from] : []),
      'socat',
      '-T5',
      '-u',
      `TCP:${to},retry=40,interval=0.05,connect-timeout=2`,
      '-',
    ],
    { expectFailure: 'maybe' },
  ).stdout

/** What must be as before in the end. Forwarding is the host's own setting: others may rely on it by now. */
function state(host: Host) {
  const { sysctls: _, files, routes, ...rest } = host.snapshot({ ignoreLeaseMarks: true })
  const kept = (routes as { type?: string }[]).filter(({ type }) => type !== 'anycast')
  return { ...rest, routes: kept, files: Object.entries(files).filter(([path]) => path !== '/etc/netns/') }
}

/** The rules of a host: networks that were made in another order have theirs in another order. */
const rules = (host: Host) => (state(host).nftables as unknown[]).map((rule) => JSON.stringify(rule)).sort()

const server = (text: string) => `socat TCP-LISTEN:80,fork,reuseaddr SYSTEM:'echo ${text}'`

const clos = {
  lab: 'clos1',
  networks: {
    lan: { subnet: '10.10.0.0/24', ipv6: 'auto' },
    dmz: { subnet: '10.20.0.0/24', internal: true },
  },
  nodes: {
    web: {
      nets: ['lan', { name: 'dmz', ip: '10.20.0.10' }],
      ports: ['8080:80'],
      exec: [server('web')],
      dns: ['192.0.2.53'],
    },
    r1: {
      nets: ['lan'],
      sysctls: { 'net.ipv4.ip_forward': 1 },
      routes: [{ dst: '10.30.0.0/24', via: '10.10.0.9' }],
      labels: { role: 'router' },
    },
  },
  links: [
    { a: 'r1:eth9', b: 'web:eth9', addr: ['172.16.0.1/30', '172.16.0.2/30'], shape: { rate: '10mbit', loss: '1%' } },
  ],
  tests: [
    { from: 'r1', to: 'web:80' },
    { from: 'web', to: '203.0.113.9', expect: 'fail' },
  ],
}

function closHost(context: TestContext): Host {
  for (const tool of ['ping', 'socat', 'nft', 'tc']) requireTool(tool, context)
  return createHost()
}

test('a file becomes networks, labs and cables; twice changes nothing; down leaves nothing', (context) => {
  using host = closHost(context)
  const before = state(host)
  const { stdout } = apply(host, clos)
  expect(stdout).toMatch(/^create network lan {2}bridge 10\.10\.0\.0\/24$/m)
  expect(stdout).toMatch(/^ok +r1 reaches web:80$/m)

  expect(inside(host, 'web', { macs: false }).links).toMatchObject([
    {
      ifname: 'eth0',
      up: true,
      addresses: [expect.stringMatching(/^10\.10\.0\.\d+\/24$/), expect.stringMatching(/^fd.*\/64$/)],
    },
    { ifname: 'eth1', up: true, addresses: ['10.20.0.10/24'] },
    { ifname: 'eth9', up: true, addresses: ['172.16.0.2/30'] },
    { ifname: 'lo', up: true },
  ])
  expect(inside(host, 'r1').routes).toContain('10.30.0.0/24 10.10.0.9 eth0')
  expect(host.run(['ip', 'netns', 'exec', 'r1', 'cat', '/proc/sys/net/ipv4/ip_forward']).stdout).toBe('1\n')
  expect(host.run(['ip', 'netns', 'exec', 'web', 'cat', '/etc/resolv.conf']).stdout).toContain('nameserver 192.0.2.53')
  const rate = host.json(['tc', '-j', '-n', 'r1', 'qdisc', 'show', 'dev', 'eth9'])[0].options.rate
  expect(rate).toBe(10_000_000 / 8) // tc prints bytes
  expect(reaches(host, 'web', '10.20.0.1')).toBe(true)
  expect(asked(host, undefined, '127.0.0.1:8080')).toBe('web\n')
  expect(asked(host, 'r1', '172.16.0.2:80')).toBe('web\n')
  expect(JSON.parse(nsNet(host, ['ls', '--json', '-l', 'ns-net/lab=clos1']).stdout)).toHaveLength(2)

  const made = [state(host), inside(host, 'web'), inside(host, 'r1'), indexOf(host, 'web', 'eth1')]
  expect(diff(host, clos)).toMatchObject({ status: 0, stdout: '' })
  expect(apply(host, clos).stdout).toMatch(/^clos1 {2}nothing to do$/m)
  expect([state(host), inside(host, 'web'), inside(host, 'r1'), indexOf(host, 'web', 'eth1')]).toEqual(made)

  expect(nsNet(host, ['down', 'clos1']).stdout).toMatch(/^web {2}deleted$/m)
  expect(state(host)).toEqual(before)
  expect(host.run(['find', '/run/ns-net', '/etc/netns'], { expectFailure: 'maybe' }).stdout).toMatch(
    /^(\/etc\/netns\n)?$/,
  )
  expect(host.run(['ip', 'netns', 'pids', 'web'], { expectFailure: 'maybe' }).stdout).toBe('')
})

describe('what vanished is put back, and nothing else is touched', () => {
  const disasters: [what: string, script: string, step: RegExp][] = [
    ['a cable', 'ip -n r1 link del eth9', /^add cable r1:eth9 {2}web:eth9$/m],
    ['a broken cable', 'ip -n r1 link set eth9 down', /^set link r1:eth9 {2}up$/m],
    [
      'an address of a cable',
      'ip -n r1 addr del 172.16.0.1/30 dev eth9',
      /^add address r1:eth9 {2}172\.16\.0\.1\/30$/m,
    ],
    ['another address of a cable', 'ip -n r1 addr add 172.16.9.1/30 dev eth9', /^delete address r1:eth9/m],
    ['the shape of a cable', 'tc -n r1 qdisc del dev eth9 root', /^shape r1:eth9 {2}rate 10mbit loss 1%$/m],
    ['all rules', 'nft flush ruleset', /^repair web:eth0 /m],
    ['an address', 'ip -n web addr del 10.20.0.10/24 dev eth1', /^repair web:eth1 .*10\.20\.0\.10/m],
    ['a link', 'ip -n web link del eth1', /^repair web:eth1 /m],
    [
      'a broken link',
      'ip link set $(ip -o link | grep ns-net:dmz:web:eth1 | cut -d: -f2 | cut -d@ -f1) down',
      /^repair web:eth1 /m,
    ],
    ['a default route', 'ip -n r1 route del default', /^repair r1:eth0 /m],
    ['a route', 'ip -n r1 route del 10.30.0.0/24', /^add route r1 {2}10\.30\.0\.0\/24 via 10\.10\.0\.9$/m],
    ['a link with a route', 'ip -n r1 link del eth0', /^repair r1:eth0 /m],
    [
      'a setting',
      'ip netns exec r1 sh -c "echo 0 > /proc/sys/net/ipv4/ip_forward"',
      /^set sysctl r1 {2}net\.ipv4\.ip_forward=1$/m,
    ],
    ['a resolv.conf', 'rm /etc/netns/web/resolv.conf', /^set dns web {2}192\.0\.2\.53$/m],
    ['a namespace', 'ip netns del r1', /^delete lab r1 {2}its namespace is gone$/m],
    ['a bridge', 'ip link del ns-dmz', /^repair web:eth1 /m],
  ]
  test.each(disasters)('%s', (_, script, step) => {
    using host = createHost()
    apply(host, clos, ['--no-tests'])
    const made = [inside(host, 'web', { macs: false }), inside(host, 'r1', { macs: false }), state(host).nftables]
    const index = indexOf(host, 'web', 'eth0')
    host.sh(script)
    const { status, stdout } = diff(host, clos)
    expect(stdout).toMatch(step)
    expect(status).toBe(1)
    apply(host, clos)
    expect([inside(host, 'web', { macs: false }), inside(host, 'r1', { macs: false }), state(host).nftables]).toEqual(
      made,
    )
    expect(indexOf(host, 'web', 'eth0')).toBe(index)
    expect(diff(host, clos)).toMatchObject({ status: 0, stdout: '' })
  })
})

describe('a changed file changes what is different, in place', () => {
  const changes: [what: string, change: (document: typeof clos) => object, steps: string[]][] = [
    [
      'ports',
      (d) => ({ ...d, nodes: { ...d.nodes, web: { ...d.nodes.web, ports: ['8081:80'] } } }),
      ['withdraw web:eth0  8080:80', 'publish web:eth0  8081:80'],
    ],
    [
      'a sysctl more',
      (d) => ({
        ...d,
        nodes: {
          ...d.nodes,
          r1: { ...d.nodes.r1, sysctls: { 'net.ipv4.ip_forward': 1, 'net/ipv4/conf/eth0/rp_filter': 2 } },
        },
      }),
      ['set sysctl r1  net.ipv4.conf.eth0.rp_filter=2'],
    ],
    [
      'a sysctl less',
      (d) => ({ ...d, nodes: { ...d.nodes, r1: { ...d.nodes.r1, sysctls: {} } } }),
      ['set sysctl r1  net.ipv4.ip_forward=0, as before'],
    ],
    [
      'another route',
      (d) => ({
        ...d,
        nodes: { ...d.nodes, r1: { ...d.nodes.r1, routes: [{ dst: '10.31.0.0/24', via: '10.10.0.9' }] } },
      }),
      ['delete route r1  10.30.0.0/24 via 10.10.0.9 dev eth0', 'add route r1  10.31.0.0/24 via 10.10.0.9'],
    ],
    [
      'labels',
      (d) => ({ ...d, nodes: { ...d.nodes, r1: { ...d.nodes.r1, labels: { role: 'spine' } } } }),
      ['set labels r1  role=spine'],
    ],
    [
      'dns',
      (d) => ({ ...d, nodes: { ...d.nodes, web: { ...d.nodes.web, dns: [] } } }),
      ["set dns web  the network's or the host's"],
    ],
    [
      'one network less',
      (d) => ({ ...d, nodes: { ...d.nodes, web: { ...d.nodes.web, nets: ['lan'] } } }),
      ['detach web  dmz eth1: it is not in the file'],
    ],
    [
      'one network more',
      (d) => ({ ...d, nodes: { ...d.nodes, r1: { ...d.nodes.r1, nets: ['lan', 'dmz'] } } }),
      ['attach r1  dmz eth1'],
    ],
    [
      'another address',
      (d) => ({
        ...d,
        nodes: { ...d.nodes, web: { ...d.nodes.web, nets: ['lan', { name: 'dmz', ip: '10.20.0.11' }] } },
      }),
      ['detach web  dmz eth1: address is 10.20.0.10, wanted 10.20.0.11', 'attach web  dmz eth1 10.20.0.11'],
    ],
    [
      'another subnet',
      (d) => ({
        ...d,
        networks: { ...d.networks, dmz: { subnet: '10.21.0.0/24', internal: true } },
        nodes: { ...d.nodes, web: { ...d.nodes.web, nets: ['lan', 'dmz'] } },
      }),
      [
        'detach web  dmz eth1: subnet is 10.20.0.0/24, wanted 10.21.0.0/24',
        'delete network dmz  subnet is 10.20.0.0/24, wanted 10.21.0.0/24',
        'create network dmz  bridge 10.21.0.0/24',
        'attach web  dmz eth1',
      ],
    ],
    ['a node more', (d) => ({ ...d, nodes: { ...d.nodes, r2: { nets: ['dmz'] } } }), ['create lab r2  dmz eth0']],
    ['a cable less', (d) => ({ ...d, links: [] }), ['delete cable r1:eth9  web:eth9']],
    [
      'another address of a cable',
      (d) => ({ ...d, links: [{ ...d.links[0], addr: ['172.16.0.5/30', '172.16.0.6/30'] }] }),
      [
        'delete address r1:eth9  172.16.0.1/30',
        'delete address web:eth9  172.16.0.2/30',
        'add address r1:eth9  172.16.0.5/30',
        'add address web:eth9  172.16.0.6/30',
      ],
    ],
    ['a cable that is broken', (d) => ({ ...d, links: [{ ...d.links[0], up: false }] }), ['set link r1:eth9  down']],
    [
      'a cable of another MTU',
      (d) => ({ ...d, links: [{ ...d.links[0], mtu: 1300 }] }),
      ['set link r1:eth9  mtu 1300', 'set link web:eth9  mtu 1300'],
    ],
    [
      'another shape',
      (d) => ({ ...d, links: [{ ...d.links[0], shape: { rate: '20mbit' } }] }),
      ['shape r1:eth9  rate 20mbit'],
    ],
    ['no shape', (d) => ({ ...d, links: [{ a: 'r1:eth9', b: 'web:eth9' }] }), ['shape r1:eth9  none']],
    [
      'another command',
      (d) => ({ ...d, nodes: { ...d.nodes, web: { ...d.nodes.web, exec: [server('changed')] } } }),
      [`end web  ${server('web')}`, `start web  ${server('changed')}`],
    ],
  ]
  test.each(changes)('%s', (_, change, steps) => {
    using host = createHost()
    apply(host, clos, ['--no-tests'])
    const index = indexOf(host, 'web', 'eth0')
    const changed = { ...change(clos), tests: [] }
    expect(diff(host, changed).stdout.trimEnd().split('\n')).toEqual(steps)
    expect(apply(host, changed, ['--dry-run']).stdout.trimEnd().split('\n')).toEqual(steps)
    apply(host, changed)
    expect(diff(host, changed)).toMatchObject({ status: 0, stdout: '' })
    expect(indexOf(host, 'web', 'eth0')).toBe(index)
    // and back again
    apply(host, clos, ['--prune'])
    expect(diff(host, clos)).toMatchObject({ status: 0, stdout: '' })
  })
})

test('the first network that leads out is the only one, whatever order they came in', () => {
  using host = createHost()
  const document = (nets: string[]) => ({
    lab: 'x',
    networks: { a: { subnet: '10.1.0.0/24' }, b: { subnet: '10.2.0.0/24' }, c: { subnet: '10.3.0.0/24' } },
    nodes: { web: { nets } },
  })
  const defaults = () => inside(host, 'web').routes.filter((route) => route.startsWith('default'))
  apply(host, document(['a', 'b']))
  expect(defaults()).toEqual(['default 10.1.0.1 eth0'])
  for (const [nets, gateway] of [
    [['b'], '10.2.0.1'],
    [['c', 'b'], '10.3.0.1'],
    [['c', 'a', 'b'], '10.3.0.1'],
    [['b', 'c'], '10.2.0.1'],
  ] as const) {
    apply(host, document([...nets]))
    expect(defaults()).toEqual([`default ${gateway} eth0`])
    expect(diff(host, document([...nets]))).toMatchObject({ status: 0, stdout: '' })
  }
})

test('lo stays up, whatever comes and goes', () => {
  using host = createHost()
  nsNet(host, ['net', 'create', 'a'])
  nsNet(host, ['net', 'create', 'b'])
  nsNet(host, ['add', 'web', '--net', 'a'])
  nsNet(host, ['add', 'other', '--net', 'b', '-p', '80:80'])
  const lo = () => inside(host, 'web').links.find(({ ifname }) => ifname === 'lo')!.up
  nsNet(host, ['attach', 'web', 'b', '-p', '80:80'], { expectFailure: true })
  expect(lo()).toBe(true)
  nsNet(host, ['attach', 'web', 'b'])
  nsNet(host, ['detach', 'web', 'a'])
  expect(lo()).toBe(true)
  nsNet(host, ['detach', 'web', 'b'])
  expect(lo()).toBe(true)
})

test('ports change hands within one apply', (context) => {
  using host = closHost(context)
  const document = (a: string[], b: string[]) => ({
    lab: 'x',
    nodes: { a: { ports: a, exec: [server('a')] }, b: { ports: b, exec: [server('b')] } },
  })
  apply(host, document(['8080:80'], []))
  expect(asked(host, undefined, '127.0.0.1:8080')).toBe('a\n')
  apply(host, document([], ['8080:80']))
  expect(asked(host, undefined, '127.0.0.1:8080')).toBe('b\n')
})

test('who asks for an address gets it before somebody else is given it', () => {
  using host = createHost()
  const net = { name: 'lan', ip: '10.10.0.2' }
  apply(host, {
    lab: 'x',
    networks: { lan: { subnet: '10.10.0.0/24' } },
    nodes: { a: { nets: ['lan'] }, b: { nets: [net] } },
  })
  expect(inside(host, 'b').links[0]!.addresses).toEqual(['10.10.0.2/24'])
})

test('what is no longer in the file is told, and removed only with --prune', () => {
  using host = createHost()
  apply(host, clos, ['--no-tests'])
  const { web } = clos.nodes
  const less = { lab: 'clos1', networks: { lan: clos.networks.lan }, nodes: { web: { ...web, nets: ['lan'] } } }
  const { stdout } = apply(host, less)
  expect(stdout).toMatch(/^note: lab r1 is not in the file; --prune removes it$/m)
  expect(stdout).toMatch(/^note: network dmz is not in the file; --prune removes it$/m)
  expect(host.run(['ip', 'netns', 'list']).stdout).toContain('r1')
  expect(apply(host, less, ['--prune']).stdout).toMatch(/^delete lab r1 {2}it is not in the file\ndelete network dmz/m)
  expect(host.run(['ip', 'netns', 'list']).stdout).not.toContain('r1')
  expect(nsNet(host, ['net', 'ls']).stdout).not.toContain('dmz')
  expect(apply(host, less, ['--prune']).stdout).toContain('nothing to do')
})

test('what was made without a file is only changed when asked to', () => {
  using host = createHost()
  nsNet(host, ['net', 'create', 'lan', '--subnet', '10.10.0.0/24'])
  nsNet(host, ['add', 'web', '--net', 'lan'])
  const document = (ports: string[]) => ({
    lab: 'x',
    networks: { lan: { subnet: '10.10.0.0/24' } },
    nodes: { web: { nets: ['lan'], ports } },
  })
  expect(apply(host, document([])).stdout).toContain('nothing to do')
  const before = state(host)
  const refusal = apply(host, document(['80']), [], { expectFailure: true })
  expect(refusal).toMatchObject({ status: 4, stdout: '' })
  expect(refusal.stderr).toMatch(
    /^ns-net: lab "web" was made without a lab file, and differs from x\nhint: --take-over/,
  )
  expect(state(host)).toEqual(before)
  expect(apply(host, document(['80']), ['--take-over']).stdout).toMatch(/^take over web/m)
  const other = { ...document(['81']), lab: 'y' }
  expect(apply(host, other, ['--take-over'], { expectFailure: true }).stderr).toMatch(/belongs to the lab file "x"/)
  // The network was made by hand and stays.
  expect(nsNet(host, ['down', 'x']).stdout).toMatch(/^web {2}deleted$/m)
  expect(nsNet(host, ['net', 'ls']).stdout).toContain('lan')
})

test('names of others are refused before anything is changed', () => {
  using host = createHost()
  host.addContainer('foreign')
  const before = state(host)
  const taken = apply(host, { lab: 'x', nodes: { a: {}, foreign: {} } }, [], { expectFailure: true })
  expect(taken.status).toBe(4)
  expect(taken.stderr).toMatch(/^ns-net: a network namespace "foreign" already exists/)
  const external = { lab: 'x', networks: { lan: { external: true } }, nodes: { a: { nets: ['lan'] } } }
  expect(apply(host, external, [], { expectFailure: true })).toMatchObject({ status: 3 })
  expect(state(host)).toEqual(before)
})

test('a step that fails ends it, tells what is done and what is not, and the next apply goes on', () => {
  using host = createHost()
  nsNet(host, ['add', 'other', '-p', '8080:80'])
  const document = { lab: 'x', nodes: { a: {}, b: { ports: ['8080:80'] }, c: {} } }
  const failed = apply(host, document, ['--json'], { expectFailure: true })
  expect(failed.status).toBe(8)
  expect(JSON.parse(failed.stdout)).toMatchObject({
    done: [{ action: 'create lab', subject: 'a' }],
    failed: { action: 'create lab', subject: 'b', error: expect.stringMatching(/8080/) },
    left: [
      { action: 'create lab', subject: 'b' },
      { action: 'create lab', subject: 'c' },
    ],
  })
  expect(
    host
      .run(['ip', 'netns', 'list'])
      .stdout.trim()
      .split('\n')
      .map((line) => line.split(' ')[0])
      .sort(),
  ).toEqual(['a', 'other'])
  nsNet(host, ['del', 'other'])
  expect(JSON.parse(apply(host, document, ['--json']).stdout).done.map(({ subject }: Row) => subject)).toEqual([
    'b',
    'c',
  ])
})

test('killed at any moment: the next apply completes it, and down removes all of it', async () => {
  using host = createHost()
  const before = state(host)
  host.run(['tee', '/run/clos.json'], { input: JSON.stringify(clos) })
  for (const milliseconds of [15, 25, 35, 45, 60, 80]) {
    const child = host.start([program, 'apply', '-f', '/run/clos.json', '--no-tests'])
    const ended = new Promise((resolve) => child.on('exit', resolve))
    await new Promise((resolve) => setTimeout(resolve, milliseconds))
    child.kill('SIGKILL')
    await ended
    expect(nsNet(host, ['apply', '-f', '/run/clos.json', '--no-tests']).status).toBe(0)
    expect(diff(host, clos)).toMatchObject({ status: 0, stdout: '' })
    // A command that was started and not yet written down is a stranger, which down ends only when it is told to.
    nsNet(host, ['down', 'clos1', '--kill'])
    host.sh('rm -f /run/ns-net/*/*.new')
    const { files, ...rest } = state(host)
    const { files: filesBefore, ...restBefore } = before
    expect(rest).toEqual(restBefore)
    // A kill may leave empty folders of records behind.
    expect(files.filter(([path]) => !path.endsWith('/'))).toEqual(filesBefore.filter(([path]) => !path.endsWith('/')))
  }
}, 120_000)

test('tests decide about the exit code', (context) => {
  using host = closHost(context)
  const document = (tests: object[]) => ({ lab: 'x', nodes: { a: {}, b: { exec: [server('b')] } }, tests })
  const right = [
    { from: 'a', to: 'b' },
    { from: 'a', to: 'b:80' },
    { from: 'a', to: 'b:81', expect: 'fail' },
    { from: 'host', to: 'b:80' },
  ]
  expect(apply(host, document(right)).stdout.match(/^ok /gm)).toHaveLength(4)
  const wrong = document([
    { from: 'a', to: 'b:81' },
    { from: 'a', to: 'b', expect: 'fail' },
  ])
  const { status, stdout } = apply(host, wrong, [], { expectFailure: true })
  expect(status).toBe(1)
  expect(stdout).toMatch(
    /^FAILED {2}a does not reach b:81, expected to reach\nFAILED {2}a reaches b, expected to fail$/m,
  )
  expect(apply(host, wrong, ['--no-tests']).status).toBe(0)
})

test('commands run in the background, with a log, until they leave the file or the lab goes down', (context) => {
  requireTool('socat', context)
  using host = createHost()
  const document = (exec: string[]) => ({ lab: 'x', nodes: { a: { nets: [], exec } } })
  const running = () => host.run(['ip', 'netns', 'pids', 'a']).stdout.trim().split('\n').filter(Boolean).length
  // The second command takes its time to end.
  const onlyOneRuns = () =>
    host.sh('for i in $(seq 50); do [ $(ip netns pids a | wc -l) = 1 ] && break; sleep 0.1; done')
  apply(host, document(['echo started; exec sleep 1000', 'true']))
  expect(
    host.sh(
      'for i in $(seq 50); do cat /run/ns-net/exec/a/0.log && [ -s /run/ns-net/exec/a/0.log ] && break; sleep 0.1; done',
    ).stdout,
  ).toContain('started')
  onlyOneRuns()
  expect(running()).toBe(1)
  expect(apply(host, document(['echo started; exec sleep 1000', 'true'])).stdout).toContain('nothing to do')
  expect(nsNet(host, ['del', 'a'], { expectFailure: true }).stderr).toContain('1 process runs in "a"')
  apply(host, document(['true']))
  expect(running()).toBe(0)
  // Processes that somebody else started are not ended unasked.
  const child = host.start(['ip', 'netns', 'exec', 'a', 'sleep', '1000'])
  host.sh('for i in $(seq 50); do [ "$(ip netns pids a)" ] && break; sleep 0.1; done')
  expect(nsNet(host, ['down', 'x'], { expectFailure: true })).toMatchObject({ status: 4 })
  nsNet(host, ['down', 'x', '--kill'])
  expect(host.run(['ip', 'netns', 'list']).stdout).toBe('')
  child.kill('SIGKILL')
})

test('down needs nothing but the name, keeps what others use, and says when there is nothing', () => {
  using host = createHost()
  apply(host, clos, ['--no-tests'])
  nsNet(host, ['add', 'guest', '--net', 'dmz'])
  const { stdout } = nsNet(host, ['down', 'clos1'])
  expect(stdout).toMatch(/^note: network dmz stays: lab guest uses it$/m)
  expect(nsNet(host, ['ls', '--json']).stdout).toContain('guest')
  expect(nsNet(host, ['down', 'clos1'], { expectFailure: true })).toMatchObject({ status: 3 })
  expect(nsNet(host, ['down'], { expectFailure: true })).toMatchObject({ status: 2 })
})

describe('export', () => {
  const fill = (host: Host) => {
    apply(host, clos, ['--no-tests'])
    nsNet(host, ['net', 'create', 'wire', '--driver', 'l2', '--mtu', '1400'])
    nsNet(host, ['net', 'create', 'routed', '--driver', 'ptp', '--subnet', '10.40.0.0/24'])
    nsNet(host, ['net', 'create', 'unused', '--isolated'])
    nsNet(host, ['add', 'hand', '-p', '9000:90', '--label', 'a=b', '--dns', '192.0.2.1'])
    nsNet(host, ['attach', 'hand', 'wire', '--if', 'w0'])
    nsNet(host, ['attach', 'hand', 'dmz', '--mtu', '1300', '--ip', '10.20.0.77'])
    nsNet(host, ['add', 'routed', '--net', 'routed', '--internal'])
    nsNet(host, ['add', 'own', '--ptp', '--subnet', '10.50.0.0/24'])
    nsNet(host, ['add', 'bare', '--no-net'])
    nsNet(host, ['link', 'add', 'hand:eth5', 'bare:eth5', '--addr', '172.17.0.1/30,172.17.0.2/30'])
    nsNet(host, ['link', 'add', 'host:lab0', 'bare:eth6'])
    nsNet(host, ['link', 'down', 'hand:eth5'])
    nsNet(host, ['shape', 'hand:eth0', '--rate', '5mbit'])
    nsNet(host, ['shape', 'bare:eth5', '--loss', '3%'])
    host.sh('ip -n hand route add 10.77.0.0/16 via 10.88.0.1; ip -n bare addr add fd00:9::1/64 dev eth6 nodad')
  }
  const labs = ['web', 'r1', 'hand', 'routed', 'own', 'bare']

  test('applied to an empty host it makes the same, and to this one it changes nothing', (context) => {
    using host = closHost(context)
    fill(host)
    const yaml = nsNet(host, ['export']).stdout
    const json = JSON.parse(nsNet(host, ['export', '--format', 'json']).stdout)
    expect(diff(host, json)).toMatchObject({ status: 0, stdout: '', stderr: '' })
    using other = createHost()
    nsNet(other, ['apply', '-f', '-'], { input: yaml })
    const view = (on: Host) => labs.map((lab) => [lab, inside(on, lab)] as const)
    expect(view(other)).toEqual(view(host))
    expect(rules(other)).toEqual(rules(host))
    expect(other.json(['ip', '-j', 'link', 'show', 'lab0'])).toMatchObject([{ ifname: 'lab0', operstate: 'UP' }])
    const without = (text: string) => text.replace(/^lab: .*$/m, '')
    expect(without(nsNet(other, ['export']).stdout)).toBe(without(yaml))
  })

  test('of one file, and of one lab', () => {
    using host = createHost()
    fill(host)
    for (const name of ['clos1', 'hand', 'bare', 'own']) {
      const json = JSON.parse(nsNet(host, ['export', name, '--format', 'json']).stdout)
      expect(json.lab).toBe(name)
      expect({ name, ...diff(host, json) }).toMatchObject({ status: 0, stdout: '' })
    }
    const json = JSON.parse(nsNet(host, ['export', 'clos1', '--json']).stdout)
    expect(Object.keys(json.nodes)).toEqual(['r1', 'web'])
    expect(json.tests).toEqual(clos.tests)
    expect(nsNet(host, ['export', 'nobody'], { expectFailure: true })).toMatchObject({ status: 3 })
  })
})

test('validate names every mistake, and the schema accepts what it accepts', (context) => {
  using host = createHost()
  const validate = (text: string) => nsNet(host, ['validate', '-f', '-'], { input: text, expectFailure: 'maybe' })
  expect(validate(JSON.stringify(clos))).toMatchObject({
    status: 0,
    stdout: 'clos1  valid: 2 networks, 2 nodes, 1 links, 2 tests\n',
  })
  const wrong = validate('lab: x\nnodes: {web: {netz: [], ports: [x]}}\nlinks: [{a: "web:e", b: "wbe:e"}]')
  expect(wrong).toMatchObject({ status: 2, stdout: '' })
  expect(wrong.stderr).toBe(`ns-net: stdin: 3 mistakes
  links[0].b: no node "wbe" in this file; did you mean "web"?
  nodes.web.ports[0]: port "x": not understood (expected [HOSTIP:]HOSTPORT:PORT[/tcp|udp|sctp], as 8080:80)
  nodes.web.netz: unknown key; did you mean "nets"?
hint: ns-net validate --schema prints the schema; docs/lab-files.md explains the keys
`)
  expect(validate('lab: x\nlab: y').stderr).toMatch(/^ns-net: stdin is no YAML: Map keys must be unique at line 2/)
  expect(validate('nodes: [*x]').stderr).toMatch(/^ns-net: stdin is no YAML: /)
  expect(nsNet(host, ['validate', '-f', '/nothing'], { expectFailure: true }).status).toBe(3)

  const python = requireTool('python3', context)
  const hasJudge = host.run([python, '-c', 'import jsonschema'], { expectFailure: 'maybe' }).status === 0
  if (!hasJudge) context.skip('the Python package jsonschema is not installed')
  host.run(['tee', '/run/schema.json'], { input: nsNet(host, ['validate', '--schema']).stdout })
  const judge = `import json, sys, jsonschema
schema = json.load(open('/run/schema.json'))
jsonschema.Draft202012Validator.check_schema(schema)
errors = [error.json_path for error in jsonschema.Draft202012Validator(schema).iter_errors(json.load(sys.stdin))]
print(*errors)`
  const judged = (document: object) =>
    host.run([python, '-c', judge], { input: JSON.stringify(document) }).stdout.trim()
  expect(judged(clos)).toBe('')
  expect(judged({ lab: 'x', networks: { lan: { mtu: 1 } } })).not.toBe('')
  expect(judged({ lab: 'x', nodes: { web: { netz: [] } } })).not.toBe('')
  apply(host, clos, ['--no-tests'])
  expect(judged(JSON.parse(nsNet(host, ['export', '--format', 'json']).stdout))).toBe('')
})

describe('examples', () => {
  const folder = fileURLToPath(new URL('../conf-examples/labs', import.meta.url))
  const examples = readdirSync(folder).filter((file) => file.endsWith('.lab.yaml'))

  test.for(examples)('%s', (file, context) => {
    requireTool('python3', context)
    using host = createHost()
    host.addUplink()
    const before = state(host)
    const text = readFileSync(`${folder}/${file}`, 'utf8')
    const { lab } = JSON.parse(nsNet(host, ['validate', '-f', '-', '--json'], { input: text }).stdout)
    const applied = JSON.parse(nsNet(host, ['apply', '-f', '-', '--json'], { input: text }).stdout)
    expect(applied.tests.filter(({ ok }: Row) => !ok)).toEqual([])
    expect(applied.tests.length).toBeGreaterThan(0)
    expect(nsNet(host, ['apply', '-f', '-', '--no-tests'], { input: text }).stdout).toContain('nothing to do')
    nsNet(host, ['down', lab])
    expect(state(host)).toEqual(before)
  })
})

test('many labs: each has an address of its own, reaches the others, and all go at once', () => {
  using host = createHost()
  const before = state(host)
  const names = Array.from({ length: 60 }, (_, i) => `n${i}`)
  const nodes = Object.fromEntries(names.map((name) => [name, { nets: ['lan'] }]))
  const document = { lab: 'many', networks: { lan: { subnet: '10.10.0.0/24' } }, nodes }
  apply(host, document)
  const addresses = names.map((name) => inside(host, name).links[0]!.addresses[0]!)
  expect(new Set(addresses).size).toBe(names.length)
  expect(reaches(host, 'n0', addresses.at(-1)!.split('/')[0]!)).toBe(true)
  expect(apply(host, document).stdout).toContain('nothing to do')
  nsNet(host, ['down', 'many'])
  expect(state(host)).toEqual(before)
})
