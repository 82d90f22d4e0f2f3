import { expect, test } from 'vitest'
import { KernelError } from '../netlink-lib/errors.ts'
import { bandwidth } from '../plugins/bandwidth/bandwidth.ts'
import { bridge } from '../plugins/bridge/bridge.ts'
import { dispatch } from '../plugins/contract/dispatch.ts'
import { Host as PluginHost } from '../plugins/contract/host.ts'
import type { Plugin } from '../plugins/contract/plugin.ts'
import type { Command } from '../plugins/contract/request.ts'
import { firewall } from '../plugins/firewall/firewall.ts'
import { loopback } from '../plugins/loopback/loopback.ts'
import { nat } from '../plugins/nat/nat.ts'
import { portmap } from '../plugins/portmap/portmap.ts'
import { tuning } from '../plugins/tuning/tuning.ts'
import { veth } from '../plugins/veth/veth.ts'
import { createHost, type Host } from './host.ts'
import { inside } from './inside.ts'

const ipam = { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/24' }], [{ subnet: 'fd00:1::/64' }]] }
const defaultRoutes = [{ dst: '0.0.0.0/0' }, { dst: '::/0' }]
const prevResult = {
  interfaces: [{ name: 'eth0', sandbox: '/run/netns/c1' }],
  ips: [
    { address: '10.1.0.2/24', interface: 0 },
    { address: 'fd00:1::2/64', interface: 0 },
  ],
}

/** The result of a plugin that has made a link: see {@link makeLink}. */
const linked = {
  interfaces: [{ name: 'br9' }, { name: 'v1' }, { name: 'eth0', sandbox: '/run/netns/c1' }],
  ips: prevResult.ips.map((ip) => ({ ...ip, interface: 2 })),
}

/** A link of container `c<n>`, port `v<n>` of the bridge br9. */
const makeLink = (host: Host, n: number) =>
  host.sh(`ip link add v${n} type veth peer name eth0 netns c${n}
           ip link show br9 >/dev/null 2>&1 || ip link add br9 up type bridge
           ip link set v${n} master br9 up
           ip -n c${n} link set eth0 up`)

const dns = { hostPort: 53, containerPort: 53, protocol: 'udp', hostIP: '192.0.2.1' }

/** Everything that each plugin can be asked to do at once. */
const cases: readonly [name: string, plugin: Plugin<never>, config: object][] = [
  [
    'bridge',
    bridge as Plugin<never>,
    { bridge: 'br1', isDefaultGateway: true, ipMasq: true, hairpinMode: true, mtu: 1400, ipam },
  ],
  [
    'bridge with iptables',
    bridge as Plugin<never>,
    { bridge: 'br1', isGateway: true, ipMasq: true, ipMasqBackend: 'iptables', ipam },
  ],
  ['veth', veth as Plugin<never>, { ipMasq: true, mtu: 1400, ipam: { ...ipam, routes: defaultRoutes } }],
  ['nat', nat as Plugin<never>, { nonMasqueradeCIDRs: ['192.168.0.0/16', 'fd00:2::/64'], prevResult }],
  [
    'portmap',
    portmap as Plugin<never>,
    {
      conditionsV4: ['iifname != "wg0"'],
      runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 80 }, dns] },
      prevResult,
    },
  ],
  [
    'portmap with iptables',
    portmap as Plugin<never>,
    { backend: 'iptables', runtimeConfig: { portMappings: [dns] }, prevResult },
  ],
  ['loopback', loopback as Plugin<never>, {}],
  [
    'tuning',
    tuning as Plugin<never>,
    {
      sysctl: { 'net.core.somaxconn': '500', 'net.ipv4.conf.IFNAME.arp_filter': '1' },
      ...{ mac: '02:00:00:00:00:09', mtu: 1400, promisc: true, allmulti: true, txQLen: 77 },
      prevResult: linked,
    },
  ],
  ['firewall', firewall as Plugin<never>, { ingressPolicy: 'isolated', prevResult: linked }],
  [
    'firewall with nftables',
    firewall as Plugin<never>,
    { backend: 'nftables', ingressPolicy: 'isolated', prevResult: linked },
  ],
  [
    'bandwidth',
    bandwidth as Plugin<never>,
    { ingressRate: 1e7, ingressBurst: 1e6, egressRate: 2e7, egressBurst: 2e6, prevResult: linked },
  ],
]

/** Calls of a host or IPAM that are steps: what they do may fail. */
const isStep = (name: string | symbol) =>
  typeof name === 'string' && !['try', 'warn', 'rollback', 'type', 'constructor'].includes(name)

/** A host whose n-th step fails, counting from 1; the steps after that work again, as the rollback needs them. */
class FailingHost {
  steps = 0
  readonly names: string[] = []
  constructor(readonly failAt: number) {}

  wrap<T extends object>(target: T, path = ''): T {
    return new Proxy(target, {
      get: (_, name) => {
        const value: unknown = Reflect.get(target, name, target)
        if (typeof value === 'function' && isStep(name))
          return (...args: unknown[]) => this.#step(`${path}${String(name)}`, () => Reflect.apply(value, target, args))
        if (typeof value === 'function') return value.bind(target)
        const isPart = name === 'route' || name === 'sysctl'
        return isPart ? this.wrap(value as object, `${path}${name}.`) : value
      },
    })
  }

  #step(name: string, work: () => unknown): unknown {
    this.names.push(name)
    if (++this.steps === this.failAt) throw new KernelError('injected failure of', name, 5)
    const made = work()
    const isPart = typeof made === 'object' && made !== null && Symbol.dispose in made
    return isPart ? this.wrap(made, `${name}().`) : made
  }
}

/** ADD or DEL of `plugin` in-process; the steps it took. */
function call(command: Command, plugin: Plugin<never>, config: object, id: string, failAt = 0): string[] {
  const failing = new FailingHost(failAt)
  const withFailingIpam: Plugin<never> = {
    ...plugin,
    parse: (request) => {
      const conf: { ipam?: object } = plugin.parse(request) ?? {}
      return (conf.ipam ? { ...conf, ipam: failing.wrap(conf.ipam, 'ipam.') } : conf) as never
    },
  }
  const environment = {
    command,
    containerId: id,
    netns: `/run/netns/${id}`,
    ifName: 'eth0',
    args: new Map<string, string>(),
    path: [],
    netnsOverride: false,
  }
  using host = new PluginHost()
  const document = JSON.stringify({ cniVersion: '1.1.0', name: 'n1', type: plugin.type, ...config })
  dispatch(withFailingIpam, environment, document, failing.wrap(host))
  return failing.names
}

/** A host with one attachment already, so that what is shared (bridge, table, forwarding) is there before and after. */
function hostInUse(plugin: Plugin<never>, config: object): Host {
  const host = createHost()
  for (const name of ['iptables', 'ip6tables']) host.run([name, '-P', 'FORWARD', 'DROP'])
  const isLinked = 'prevResult' in config && config.prevResult === linked
  for (const n of [0, 1]) {
    host.addContainer(`c${n}`)
    if (isLinked) makeLink(host, n)
  }
  const interfaces = isLinked ? [{ name: 'br9' }, { name: 'v0' }, { name: 'eth0', sandbox: '/run/netns/c0' }] : []
  const otherPorts = { runtimeConfig: { portMappings: [{ hostPort: 9000, containerPort: 80 }] } }
  const others =
    'prevResult' in config
      ? {
          ...config,
          ...(plugin.type === 'portmap' && otherPorts),
          prevResult: { interfaces, ips: [{ address: '10.1.0.9/24' }, { address: 'fd00:1::9/64' }] },
        }
      : config
  inside(host, () => call('ADD', plugin, others, 'c0'))
  return host
}

/** The host whole; of the container what a plugin makes: lo keeps the address that the kernel gave it. */
function state(host: Host) {
  const inContainer = (...args: string[]) => host.json(['ip', '-j', '-n', 'c1', ...args])
  return {
    ...host.snapshot({ ignoreLeaseMarks: true }),
    inside: {
      links: inContainer('link').map(({ ifname, flags, ...settings }: Record<string, unknown>) => [
        ifname,
        ['UP', 'PROMISC', 'ALLMULTI'].map((flag) => (flags as string[]).includes(flag)),
        ['address', 'mtu', 'txqlen'].map((setting) => settings[setting]),
      ]),
      addresses: inContainer('addr', 'show', 'scope', 'global').flatMap(
        ({ addr_info }: { addr_info: { local: string }[] }) => addr_info.map(({ local }) => local),
      ),
      routes: [...inContainer('-4', 'route'), ...inContainer('-6', 'route')],
    },
  }
}

test.each(cases)('%s: whichever step of ADD fails, nothing is left', { timeout: 240_000 }, (_name, plugin, config) => {
  using host = hostInUse(plugin, config)
  const before = state(host)
  const steps = inside(host, () => call('ADD', plugin, config, 'c1'))
  expect(steps.length).toBeGreaterThan(1)
  expect(state(host)).not.toEqual(before)
  inside(host, () => call('DEL', plugin, config, 'c1'))
  expect(state(host)).toEqual(before)

  for (const [i, step] of steps.entries()) {
    expect(() => inside(host, () => call('ADD', plugin, config, 'c1', i + 1)), step).toThrow('injected failure')
    expect({ step, ...state(host) }).toEqual({ step, ...before })
  }
})

test.each(cases)(
  '%s: whichever step of DEL fails, the others are done and the next DEL finishes',
  { timeout: 240_000 },
  (_name, plugin, config) => {
    using host = hostInUse(plugin, config)
    const before = state(host)
    inside(host, () => call('ADD', plugin, config, 'c1'))
    const steps = inside(host, () => call('DEL', plugin, config, 'c1'))
    for (const [i, step] of steps.entries()) {
      inside(host, () => call('ADD', plugin, config, 'c1'))
      expect(() => inside(host, () => call('DEL', plugin, config, 'c1', i + 1)), step).toThrow('injected failure')
      inside(host, () => call('DEL', plugin, config, 'c1'))
      expect({ step, ...state(host) }).toEqual({ step, ...before })
    }
  },
)
