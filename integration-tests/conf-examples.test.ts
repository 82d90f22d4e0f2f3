import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, type TestContext, test } from 'vitest'
import { createHost, executables, type Host, requireTool } from './host.ts'

/*
 * Every conflist of conf-examples/ is run twice: by `ns-net add`, and plugin by plugin through the executables, as a
 * runtime does it. The judges are ip(8), ping(8) and the state of the host before and after.
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
  /** What is special about this example. */
  readonly also?: (host: Host) => void
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

const expectations: Readonly<Record<string, Expectation>> = {
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

/** A host with an uplink and what the example's backend leaves of itself when its last rule is gone. */
function hostFor(example: string, context: TestContext): Host {
  requireTool('ping', context)
  const host = createHost()
  try {
    if (example === 'bridge-iptables') {
      requireTool('iptables', context)
      // iptables makes the table and the chain at its first use and never deletes them.
      host.sh('for action in A D; do iptables -t nat -$action POSTROUTING -j RETURN; done')
    }
    host.addUplink()
    return host
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
  expect(loopback.flags).toContain('UP')
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
  using host = hostFor(example, context)
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
  readonly plugins: readonly ({ readonly type: string; readonly bridge?: string } & Row)[]
}

test.for(examples)('the executables with the plugins of %s, as a runtime calls them', (example, context) => {
  using host = hostFor(example, context)
  const wanted = expectations[example]
  if (!wanted) throw new Error(`no expectation for conf-examples/${example}.conflist`)
  const { cniVersion, name, plugins }: Example = JSON.parse(readFileSync(`${folder}/${example}.conflist`, 'utf8'))
  expect(name).toBe(example)
  const before = stateOf(host)
  const container = host.addContainer('lab')
  const call = (plugin: Example['plugins'][number], command: string, prevResult?: object) =>
    host.cni(plugin.type, command, {
      config: { ...plugin, cniVersion, name, prevResult },
      containerId: 'lab',
      netns: container.path,
      ifName: 'eth0',
    })

  let result: { cniVersion: string } | undefined
  for (const plugin of plugins) result = call(plugin, 'ADD', result).json
  expect(result!.cniVersion).toBe(cniVersion)
  expectConnected(host, wanted)
  expectForwarding(host, wanted)
  for (const plugin of plugins) expect(call(plugin, 'CHECK', result).stdout).toBe('')
  for (const plugin of plugins.toReversed()) expect(call(plugin, 'DEL', result).stdout).toBe('')
  // Runtimes repeat DEL, and may have lost the result.
  for (const plugin of plugins.toReversed()) call(plugin, 'DEL')

  host.run(['ip', 'netns', 'del', 'lab'])
  // The bridge is the network's, not the container's: it stays, as with the reference plugin.
  for (const { bridge } of plugins) if (bridge) host.run(['ip', 'link', 'delete', bridge])
  expect(stateOf(host)).toEqual(before)
})

test.for(['bridge-dual-stack', 'veth'])('two containers of %s reach each other', (example, context) => {
  using host = hostFor(example, context)
  for (const name of ['lab', 'other'])
    host.run([`${executables}/ns-net`, 'add', name, '--conf', `${folder}/${example}.conflist`])
  const [other] = host.json(['ip', '-json', '-n', 'other', 'address', 'show', 'dev', 'eth0'])
  const addresses = (other.addr_info as Row[]).map(({ local }) => String(local)).filter((text) => !isLinkLocal(text))
  expect(addresses).toHaveLength(2)
  // The host forwards IPv6 to a new link only when its own link-local address there is no longer tentative: 1 to 2 s.
  for (const address of addresses) host.run([...lab, 'ping', '-c1', '-w5', address])
})

test('bridge-isolated: containers reach the gateway and not each other', (context) => {
  using host = hostFor('bridge-isolated', context)
  for (const name of ['lab', 'other'])
    host.run([`${executables}/ns-net`, 'add', name, '--conf', `${folder}/bridge-isolated.conflist`])
  expect(reaches(host, '10.11.12.1')).toBe(true)
  expect(reaches(host, '10.11.12.3')).toBe(false)
})

test('host-local-ranges: the second container gets the next address that is not excluded', (context) => {
  using host = hostFor('host-local-ranges', context)
  for (const name of ['one', 'two', 'three'])
    host.run([`${executables}/ns-net`, 'add', name, '--conf', `${folder}/host-local-ranges.conflist`])
  const addressOf = (name: string) =>
    host.json(['ip', '-json', '-4', '-n', name, 'address', 'show', 'dev', 'eth0'])[0].addr_info[0].local
  expect(['one', 'two', 'three'].map(addressOf)).toEqual(['10.11.6.11', '10.11.6.16', '10.11.6.17'])
})

test('host-local-routes-dns: the nameserver of the configuration is the one inside', (context) => {
  using host = hostFor('host-local-routes-dns', context)
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
