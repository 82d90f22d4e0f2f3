import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, type TestContext, test } from 'vitest'
import { sourceSeen, tellAddress } from './echo-server.ts'
import { createHost, executables, type Host, type Place, requireTool } from './host.ts'

/*
 * Every conflist of conf-examples/ is run twice: by `ns-net add`, and plugin by plugin through the executables, as a
 * runtime does it, with values for the capabilities that they announce. The judges are ip(8), ping(8), tc(8), socat(1)
 * and the state of the host before and after.
 */

const folder = fileURLToPath(new URL('../conf-examples', import.meta.url))
const examples = readdirSync(folder)
  .filter((file) => file.endsWith('.conflist'))
  .map((file) => file.replace(/\.conflist$/, ''))

/** What the first container of a network has. Everything not said is not there. */
interface Expectation {
  /** The interface; `eth0` unless told. */
  readonly link?: string
  readonly addresses: readonly string[]
  /** Must answer a ping from inside. */
  readonly gateways: readonly string[]
  /** Destination, gateway (undefined: on the link), as `ip route` shows them. */
  readonly routes: readonly (readonly [dst: string, gateway?: string])[]
  /** Which families reach a host outside that knows nothing of the container, so with translated addresses only. */
  readonly outside: readonly (4 | 6)[]
  /** Families whose forwarding is on afterwards. */
  readonly forwarding: readonly (4 | 6)[]
  readonly mtu?: number
  /** Whether `lo` is up; true unless told. */
  readonly loopback?: boolean
  /** Besides ip(8) and ping(8). */
  readonly tools?: readonly string[]
  /** What the host is like before the network is. */
  readonly before?: (host: Host) => void
  /** What is special about this example. */
  readonly also?: (host: Host) => void
  /** Values for capabilities, which only a runtime gives, and what comes of them. */
  readonly runtime?: {
    readonly config: Row
    readonly also: (host: Host, outside: Place) => void
  }
}

const lab = ['ip', 'netns', 'exec', 'lab']

/** Whether `address` answers the container's ping. */
function reaches(host: Host, address: string): boolean {
  return host.run([...lab, 'ping', '-c1', '-W1', address], { expectFailure: 'maybe' }).status === 0
}

const port = (host: Host) =>
  host
    .json(['ip', '-json', '-details', 'link', 'show', 'type', 'veth'])
    .find((link: { master?: string }) => link.master)

/** As Docker sets it; whoever wants packets forwarded has to say so. */
const dropForwarded = (host: Host) => host.run(['iptables', '--policy', 'FORWARD', 'DROP'])

/** A port of the host that leads to the container's port 80, for those outside, on the host and in the container. */
const published = {
  config: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] },
  also(host: Host, outside: Place) {
    host.start([...lab, 'socat', 'TCP-LISTEN:80,fork,reuseaddr', 'SYSTEM:echo answer'])
    const inside: Place['run'] = (command, options) => host.run([...lab, ...command], options)
    for (const [run, address] of [
      [host.run, '127.0.0.1'],
      [host.run, '192.0.2.1'],
      [outside.run, '192.0.2.1'],
      [inside, '192.0.2.1'],
    ] as const) {
      const answer = run(['socat', '-T5', '-u', `TCP:${address}:8080,retry=50,interval=0.1`, '-'])
      expect(answer.stdout).toBe('answer\n')
    }
  },
} as const

const expectations: Readonly<Record<string, Expectation>> = {
  bandwidth: {
    addresses: ['10.11.17.2/24'],
    gateways: ['10.11.17.1'],
    routes: [['default', '10.11.17.1'], ['10.11.17.0/24']],
    outside: [4],
    forwarding: [4],
    tools: ['tc'],
    also(host) {
      const limit = (link: string) =>
        host.json(['tc', '-json', 'qdisc', 'show', 'dev', link]).find(({ kind }: Row) => kind === 'tbf').options.rate
      const [ifb] = host.json(['ip', '-json', 'link', 'show', 'type', 'ifb'])
      // tc prints bytes.
      expect([limit(port(host).ifname), limit(ifb.ifname)]).toEqual([100_000_000 / 8, 20_000_000 / 8])
    },
  },
  bridge: {
    addresses: ['10.11.1.2/24'],
    gateways: ['10.11.1.1'],
    routes: [['default', '10.11.1.1'], ['10.11.1.0/24']],
    outside: [4],
    forwarding: [4],
  },
  'bridge-dual-stack': {
    addresses: ['10.11.2.2/24', 'fd00:11:2::2/64'],
    gateways: ['10.11.2.1', 'fd00:11:2::1'],
    routes: [['default', '10.11.2.1'], ['10.11.2.0/24'], ['default', 'fd00:11:2::1'], ['fd00:11:2::/64']],
    outside: [4, 6],
    forwarding: [4, 6],
  },
  'bridge-hairpin-mtu': {
    addresses: ['10.11.4.2/24'],
    gateways: ['10.11.4.1'],
    routes: [['default', '10.11.4.1'], ['10.11.4.0/24']],
    outside: [4],
    forwarding: [4],
    mtu: 1400,
    also(host) {
      expect(port(host).linkinfo.info_slave_data.hairpin).toBe(true)
      expect(host.json(['ip', '-json', 'link', 'show', 'br-hairpin'])).toMatchObject([{ mtu: 1400 }])
    },
  },
  'bridge-internal': {
    addresses: ['10.11.3.2/24'],
    gateways: ['10.11.3.1'],
    routes: [['10.11.3.0/24']],
    outside: [],
    forwarding: [4],
  },
  'bridge-iptables': {
    addresses: ['10.11.5.2/24'],
    gateways: ['10.11.5.1'],
    routes: [['default', '10.11.5.1'], ['10.11.5.0/24']],
    outside: [4],
    forwarding: [4],
    also(host) {
      expect(host.run(['iptables', '-t', 'nat', '-S']).stdout).toMatch(
        /^-A POSTROUTING -s 10\.11\.5\.0\/24 .*ns-net:bridge-iptables/m,
      )
    },
  },
  'bridge-isolated': {
    addresses: ['10.11.12.2/24'],
    gateways: ['10.11.12.1'],
    routes: [['default', '10.11.12.1'], ['10.11.12.0/24']],
    outside: [4],
    forwarding: [4],
    also(host) {
      expect(port(host).linkinfo.info_slave_data.isolated).toBe(true)
    },
  },
  'bridge-l2': {
    addresses: [],
    gateways: [],
    routes: [],
    outside: [],
    forwarding: [],
    also(host) {
      host.sh(`ip address add 10.0.0.1/24 dev br-l2
               ip -n lab address add 10.0.0.2/24 dev eth0`)
      expect(reaches(host, '10.0.0.1')).toBe(true)
    },
  },
  'bridge-macspoofchk': {
    addresses: ['10.11.13.2/24'],
    gateways: ['10.11.13.1'],
    routes: [['default', '10.11.13.1'], ['10.11.13.0/24']],
    outside: [4],
    forwarding: [4],
    also(host) {
      const [{ address }] = host.json(['ip', '-json', '-n', 'lab', 'link', 'show', 'eth0'])
      const setAddress = (mac: string) => host.run(['ip', '-n', 'lab', 'link', 'set', 'eth0', 'address', mac])
      setAddress('02:00:00:00:00:01')
      expect(reaches(host, '10.11.13.1')).toBe(false)
      setAddress(address)
      expect(reaches(host, '10.11.13.1')).toBe(true)
    },
  },
  firewall: {
    addresses: ['10.11.15.2/24'],
    gateways: ['10.11.15.1'],
    routes: [['default', '10.11.15.1'], ['10.11.15.0/24']],
    outside: [4],
    forwarding: [4],
    tools: ['iptables'],
    before: dropForwarded,
  },
  'host-local-ranges': {
    // .10 is excluded.
    addresses: ['10.11.6.11/24'],
    gateways: ['10.11.6.254'],
    routes: [['default', '10.11.6.254'], ['10.11.6.0/24']],
    outside: [4],
    forwarding: [4],
  },
  'host-local-routes-dns': {
    addresses: ['10.11.7.2/24'],
    gateways: ['10.11.7.1'],
    routes: [['10.11.7.0/24'], ['192.0.2.0/24', '10.11.7.1'], ['198.51.100.0/24', '10.11.7.1']],
    outside: [4],
    forwarding: [4],
    also(host) {
      const route = host.run(['ip', '-n', 'lab', 'route', 'show', '198.51.100.0/24']).stdout
      expect(route).toMatch(/metric 50 mtu 1400/)
    },
  },
  loopback: {
    link: 'lo',
    addresses: ['127.0.0.1/8', '::1/128'],
    gateways: ['127.0.0.1', '::1'],
    routes: [],
    outside: [],
    forwarding: [],
  },
  'nat-chained': {
    addresses: ['10.11.11.2/24'],
    gateways: ['10.11.11.1'],
    routes: [['default', '10.11.11.1'], ['10.11.11.0/24']],
    outside: [4],
    forwarding: [4],
  },
  'nat-snat': {
    addresses: ['10.11.19.2/24'],
    gateways: ['10.11.19.1'],
    routes: [['default', '10.11.19.1'], ['10.11.19.0/24']],
    outside: [4],
    forwarding: [4],
    tools: ['iptables'],
    before(host) {
      host.run(['ip', 'address', 'add', '192.0.2.10/32', 'dev', 'lo'])
      dropForwarded(host)
    },
  },
  chaos: {
    addresses: ['10.11.20.2/24'],
    gateways: ['10.11.20.1'],
    routes: [['default', '10.11.20.1'], ['10.11.20.0/24']],
    outside: [4],
    forwarding: [4],
    also(host) {
      const { plugins, ...head } = JSON.parse(readFileSync(`${folder}/chaos.conflist`, 'utf8'))
      const { path } = host.addContainer('web')
      const call = { config: { ...head, ...plugins[1] }, containerId: 'web', netns: path, ifName: 'eth0' }
      const pod = { ...call, args: 'IgnoreUnknown=1;K8S_POD_NAME=web-1' }
      expect(host.cni('chaos', 'ADD', { ...pod, expectFailure: true }).json).toMatchObject({
        code: 11,
        msg: 'try again later',
      })
      expect(host.cni('chaos', 'ADD', pod).json.ips[0].address).toBe('10.11.20.3/24')
      host.cni('chaos', 'DEL', pod)
      host.run([`${executables}/ns-net`, 'chaos', 'report', '--clear'])
      host.run(['ip', 'netns', 'del', 'web'])
    },
  },
  podman: {
    addresses: ['10.11.18.2/24'],
    gateways: ['10.11.18.1'],
    routes: [['default', '10.11.18.1'], ['10.11.18.0/24']],
    outside: [4],
    forwarding: [4],
    tools: ['iptables', 'socat'],
    before: dropForwarded,
    loopback: false, // podman raises it itself
    runtime: published,
  },
  portmap: {
    addresses: ['10.11.14.2/24'],
    gateways: ['10.11.14.1'],
    routes: [['default', '10.11.14.1'], ['10.11.14.0/24']],
    outside: [4],
    forwarding: [4],
    tools: ['socat'],
    runtime: published,
  },
  ptp: {
    addresses: ['10.11.9.2/24'],
    gateways: ['10.11.9.1'],
    routes: [['default', '10.11.9.1'], ['10.11.9.0/24', '10.11.9.1'], ['10.11.9.1']],
    outside: [4],
    forwarding: [4],
  },
  static: {
    addresses: ['10.11.8.80/24', 'fd00:11:8::80/64'],
    gateways: ['10.11.8.1', 'fd00:11:8::1'],
    routes: [['default', '10.11.8.1'], ['10.11.8.0/24'], ['default', 'fd00:11:8::1'], ['fd00:11:8::/64']],
    outside: [4, 6],
    forwarding: [4, 6],
  },
  tuning: {
    addresses: ['10.11.16.2/24'],
    gateways: ['10.11.16.1'],
    routes: [['default', '10.11.16.1'], ['10.11.16.0/24']],
    outside: [4],
    forwarding: [4],
    mtu: 1400,
    also(host) {
      const sysctl = (name: string) => host.run([...lab, 'cat', `/proc/sys/net/${name}`]).stdout.trim()
      expect([sysctl('core/somaxconn'), sysctl('ipv4/conf/eth0/arp_filter')]).toEqual(['500', '1'])
      expect(host.json(['ip', '-json', '-n', 'lab', 'link', 'show', 'eth0'])).toMatchObject([{ txqlen: 2000 }])
    },
  },
  veth: {
    addresses: ['10.11.10.2/24', 'fd00:11:10::2/64'],
    gateways: ['10.11.10.1', 'fd00:11:10::1'],
    routes: [
      ['default', '10.11.10.1'],
      ['10.11.10.0/24', '10.11.10.1'],
      ['10.11.10.1'],
      ['default', 'fd00:11:10::1'],
      ['fd00:11:10::/64', 'fd00:11:10::1'],
      ['fd00:11:10::1'],
    ],
    outside: [4, 6],
    forwarding: [4, 6],
    mtu: 1400,
  },
}

const outsideAddresses = { 4: '192.0.2.2', 6: '2001:db8::2' } as const

interface Connected {
  readonly host: Host
  readonly outside: Place
}

/** What iptables makes at its first use and never deletes. */
const tablesOf: Readonly<Record<string, readonly string[]>> = {
  'bridge-iptables': ['nat POSTROUTING'],
  firewall: ['filter FORWARD'],
  'nat-snat': ['filter FORWARD'],
  podman: ['filter FORWARD'],
}

/** A host with an uplink and what the example's backend leaves of itself when its last rule is gone. */
function hostFor(example: string, context: TestContext): Connected {
  const { tools = [], before } = expectations[example] ?? {}
  const tables = tablesOf[example] ?? []
  for (const tool of ['ping', ...tools, ...(tables.length > 0 ? ['iptables'] : [])]) requireTool(tool, context)
  const host = createHost()
  try {
    for (const table of tables) {
      const [name, chain] = table.split(' ')
      host.sh(`for action in A D; do iptables -t ${name} -$action ${chain} -j RETURN; done`)
    }
    before?.(host)
    return { host, outside: host.addUplink() }
  } catch (error) {
    host[Symbol.dispose]()
    throw error
  }
}

/** The state of the host but for the forwarding, which no DEL takes back: others may rely on it. */
function stateOf(host: Host) {
  host.sh('for family in ipv4/ip_forward ipv6/conf/all/forwarding; do echo 0 >/proc/sys/net/$family; done')
  return host.snapshot({ ignoreLeaseMarks: true })
}

type Row = Readonly<Record<string, unknown>>

const isLinkLocal = (text: unknown) => /^(fe80|ff00):/.test(String(text))

function expectConnected(host: Host, wanted: Expectation): void {
  const { link = 'eth0', mtu, also } = wanted
  const [shown] = host.json(['ip', '-json', '-n', 'lab', 'address', 'show', 'dev', link])
  const addresses = (shown.addr_info as Row[]).map(({ local, prefixlen }) => `${local}/${prefixlen}`)
  expect(addresses.filter((address) => !isLinkLocal(address))).toEqual(wanted.addresses)
  expect(shown.flags).toContain('UP')
  if (mtu !== undefined) expect(shown.mtu).toBe(mtu)

  const routes = ['-4', '-6'].flatMap((family) =>
    ((host.json(['ip', '-json', '-n', 'lab', family, 'route']) ?? []) as Row[])
      .filter(({ dst }) => dst !== undefined && !isLinkLocal(dst))
      .map(({ dst, gateway }) => [dst, gateway]),
  )
  expect(routes.sort()).toEqual(wanted.routes.map(([dst, gateway]) => [dst, gateway]).sort())

  const [loopback] = host.json(['ip', '-json', '-n', 'lab', 'address', 'show', 'dev', 'lo'])
  expect(loopback.flags.includes('UP')).toBe(wanted.loopback ?? true)
  for (const gateway of wanted.gateways) expect(reaches(host, gateway), `ping ${gateway}`).toBe(true)
  for (const family of [4, 6] as const)
    expect(reaches(host, outsideAddresses[family]), `IPv${family} outside`).toBe(wanted.outside.includes(family))
  also?.(host)
}

function expectForwarding(host: Host, { forwarding }: Expectation): void {
  const read = (name: string) => host.run(['cat', `/proc/sys/net/${name}`]).stdout.trim() === '1'
  expect({ 4: read('ipv4/ip_forward'), 6: read('ipv6/conf/all/forwarding') }).toEqual({
    4: forwarding.includes(4),
    6: forwarding.includes(6),
  })
}

test('every example has an expectation and every expectation an example', () => {
  expect(Object.keys(expectations).sort()).toEqual([...examples].sort())
})

test.for(examples)('ns-net add lab --conf conf-examples/%s.conflist, and del', (example, context) => {
  using host = hostFor(example, context).host
  const wanted = expectations[example]
  if (!wanted) throw new Error(`no expectation for conf-examples/${example}.conflist`)
  const nsNet = (...args: string[]) => host.run([`${executables}/ns-net`, ...args])
  const before = stateOf(host)

  nsNet('add', 'lab', '--conf', `${folder}/${example}.conflist`)
  expectConnected(host, wanted)
  expectForwarding(host, wanted)
  nsNet('del', 'lab')

  expect(stateOf(host)).toEqual(before)
})

interface Example {
  readonly cniVersion: string
  readonly name: string
  readonly plugins: readonly ({
    readonly type: string
    readonly bridge?: string
    readonly capabilities?: Row
    /** What chaos stands in for. */
    readonly plugin?: { readonly bridge?: string }
  } & Row)[]
}

/** What a runtime fills in: the values for those capabilities that the plugin announces. */
const granted = ({ capabilities = {} }: Example['plugins'][number], values: Row): Row =>
  Object.fromEntries(Object.entries(values).filter(([name]) => capabilities[name] === true))

test.for(examples)('the executables with the plugins of %s, as a runtime calls them', (example, context) => {
  const { host, outside } = hostFor(example, context)
  using _ = host
  const wanted = expectations[example]
  if (!wanted) throw new Error(`no expectation for conf-examples/${example}.conflist`)
  const { cniVersion, name, plugins }: Example = JSON.parse(readFileSync(`${folder}/${example}.conflist`, 'utf8'))
  expect(name).toBe(example)
  const before = stateOf(host)
  const container = host.addContainer('lab')
  const call = (plugin: Example['plugins'][number], command: string, prevResult?: object) =>
    host.cni(plugin.type, command, {
      config: { ...plugin, cniVersion, name, prevResult, runtimeConfig: granted(plugin, wanted.runtime?.config ?? {}) },
      containerId: 'lab',
      netns: container.path,
      ifName: 'eth0',
    })

  let result: { cniVersion: string } | undefined
  for (const plugin of plugins) result = call(plugin, 'ADD', result).json
  expect(result!.cniVersion).toBe(cniVersion)
  expectConnected(host, wanted)
  expectForwarding(host, wanted)
  wanted.runtime?.also(host, outside)
  for (const plugin of plugins) expect(call(plugin, 'CHECK', result).stdout).toBe('')
  for (const plugin of plugins.toReversed()) expect(call(plugin, 'DEL', result).stdout).toBe('')
  // Runtimes repeat DEL, and may have lost the result.
  for (const plugin of plugins.toReversed()) call(plugin, 'DEL')

  host.run(['ip', 'netns', 'del', 'lab'])
  // The bridge is the network's, not the container's: it stays, as with the reference plugin.
  for (const { bridge, plugin } of plugins) {
    const name = bridge ?? plugin?.bridge
    if (name) host.run(['ip', 'link', 'delete', name])
  }
  expect(stateOf(host)).toEqual(before)
})

test.for(['bridge-dual-stack', 'veth'])('two containers of %s reach each other', (example, context) => {
  using host = hostFor(example, context).host
  for (const name of ['lab', 'other'])
    host.run([`${executables}/ns-net`, 'add', name, '--conf', `${folder}/${example}.conflist`])
  const [other] = host.json(['ip', '-json', '-n', 'other', 'address', 'show', 'dev', 'eth0'])
  const addresses = (other.addr_info as Row[]).map(({ local }) => String(local)).filter((text) => !isLinkLocal(text))
  expect(addresses).toHaveLength(2)
  // The host forwards IPv6 to a new link only when its own link-local address there is no longer tentative: 1 to 2 s.
  for (const address of addresses) host.run([...lab, 'ping', '-c1', '-w5', address])
})

test('bridge-isolated: containers reach the gateway and not each other', (context) => {
  using host = hostFor('bridge-isolated', context).host
  for (const name of ['lab', 'other'])
    host.run([`${executables}/ns-net`, 'add', name, '--conf', `${folder}/bridge-isolated.conflist`])
  expect(reaches(host, '10.11.12.1')).toBe(true)
  expect(reaches(host, '10.11.12.3')).toBe(false)
})

test('host-local-ranges: the second container gets the next address that is not excluded', (context) => {
  using host = hostFor('host-local-ranges', context).host
  for (const name of ['one', 'two', 'three'])
    host.run([`${executables}/ns-net`, 'add', name, '--conf', `${folder}/host-local-ranges.conflist`])
  const addressOf = (name: string) =>
    host.json(['ip', '-json', '-4', '-n', name, 'address', 'show', 'dev', 'eth0'])[0].addr_info[0].local
  expect(['one', 'two', 'three'].map(addressOf)).toEqual(['10.11.6.11', '10.11.6.16', '10.11.6.17'])
})

test('host-local-routes-dns: the nameserver of the configuration is the one inside', (context) => {
  using host = hostFor('host-local-routes-dns', context).host
  host.run([`${executables}/ns-net`, 'add', 'lab', '--conf', `${folder}/host-local-routes-dns.conflist`])
  expect(host.run([...lab, 'cat', '/etc/resolv.conf']).stdout).toMatch(
    /^nameserver 192\.0\.2\.53\nsearch lab\.example\noptions ndots:2$/m,
  )
})

test('nat-chained: an exempt destination sees the own address of the container', (context) => {
  requireTool('ping', context)
  using host = createHost()
  const outside = host.addUplink()
  outside.run(['ip', 'address', 'add', '198.51.100.1/24', 'dev', 'eth0'])
  host.run([`${executables}/ns-net`, 'add', 'lab', '--conf', `${folder}/nat-chained.conflist`])

  expect(reaches(host, '198.51.100.1')).toBe(false) // it gets the ping, and has no way back to 10.11.11.2
  outside.run(['ip', 'route', 'add', '10.11.11.0/24', 'via', '192.0.2.1'])
  expect(reaches(host, '198.51.100.1')).toBe(true)
})

test('nat-snat: outside sees the source that the configuration names', (context) => {
  requireTool('socat', context)
  const { host, outside } = hostFor('nat-snat', context)
  using _ = host
  tellAddress(outside)
  host.run([`${executables}/ns-net`, 'add', 'lab', '--conf', `${folder}/nat-snat.conflist`])
  const inside: Place = { ...host, run: (command, options) => host.run([...lab, ...command], options) }
  expect(sourceSeen(inside, '192.0.2.2')).toBe('192.0.2.10')
})

test('firewall: where forwarded packets are dropped, nothing gets out without it', (context) => {
  requireTool('iptables', context)
  using host = hostFor('bridge', context).host
  dropForwarded(host)
  host.run([`${executables}/ns-net`, 'add', 'lab', '--conf', `${folder}/bridge.conflist`])
  expect(reaches(host, '10.11.1.1')).toBe(true)
  expect(reaches(host, '192.0.2.2')).toBe(false)
})
