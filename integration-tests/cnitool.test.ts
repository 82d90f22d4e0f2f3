import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { beforeEach, expect, test } from 'vitest'
import { buildCnitool } from './cnitool/build.ts'
import { createHost, executables, type Host, type RunOptions, type RunResult } from './host.ts'

/*
 * libcni, the library that container runtimes call plugins with, drives our executables through cnitool/main.go: it
 * passes results from plugin to plugin, keeps them in its cache for CHECK and DEL, and reads what plugins print its way.
 */

let cnitool = ''
beforeEach((context) => {
  cnitool = buildCnitool(context)
}, 120_000)

const examples = fileURLToPath(new URL('../conf-examples', import.meta.url))
const exampleNames = readdirSync(examples)
  .filter((file) => file.endsWith('.conflist'))
  .map((file) => file.replace(/\.conflist$/, ''))

interface List {
  readonly cniVersion?: string
  readonly name: string
  readonly plugins: readonly (Readonly<Record<string, unknown>> & { readonly type: string })[]
}

/** A network on a host, driven by libcni. */
class Network {
  constructor(
    readonly host: Host,
    readonly list: List,
  ) {
    this.write(list)
  }

  write(list: object): void {
    this.host.run(['sh', '-c', 'cat >/run/network.conflist'], { input: JSON.stringify(list) })
  }

  call(verb: string, name: string, { env = {}, ...options }: RunOptions = {}): RunResult {
    return this.host.run([cnitool, verb, '/run/network.conflist', `/run/netns/${name}`], {
      ...options,
      env: { CNI_PATH: executables, ...env },
    })
  }

  /** The result of an ADD. */
  // biome-ignore lint/suspicious/noExplicitAny: a result of any version
  add(name: string, options: RunOptions = {}): any {
    const { stdout, stderr } = this.call('add', name, options)
    expect(stderr).toBe('')
    return JSON.parse(stdout)
  }

  check = (name: string, options: RunOptions = {}) => this.call('check', name, options)
  del = (name: string, options: RunOptions = {}) => this.call('del', name, options)

  /** What libcni keeps between the calls. */
  cached(): string[] {
    const { stdout, status } = this.host.run(['ls', '/var/lib/cni/results'], { expectFailure: 'maybe' })
    return status === 0 ? stdout.split('\n').filter((name) => name !== '') : []
  }

  /** The host without what is shared by the network's containers: bridge and forwarding, which no DEL takes back. */
  state() {
    const { host } = this
    for (const { bridge, plugin } of this.list.plugins) {
      const name = bridge ?? (plugin as { bridge?: string } | undefined)?.bridge // what chaos stands in for
      if (name) host.run(['ip', 'link', 'delete', String(name)], { expectFailure: 'maybe' })
    }
    host.sh('for family in ipv4/ip_forward ipv6/conf/all/forwarding; do echo 0 >/proc/sys/net/$family; done')
    return host.snapshot({ ignoreLeaseMarks: true })
  }
}

const routes = [{ dst: '0.0.0.0/0' }, { dst: '::/0' }]
const ipam = { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/24' }], [{ subnet: 'fd00:1::/64' }]], routes }
const bridge = { type: 'bridge', bridge: 'br1', isGateway: true, ipMasq: true, hairpinMode: true, ipam }
const lab = { cniVersion: '1.0.0', name: 'lab', plugins: [bridge] }

const addressesOf = (result: { ips: { address: string }[] }) => result.ips.map(({ address }) => address)

/** Addresses as ip(8) shows them. */
const addressesIn = (host: Host, name: string, link = 'eth0') =>
  host
    .json(['ip', '-json', '-n', name, 'address', 'show', 'dev', link])[0]
    .addr_info.filter(({ scope }: { scope: string }) => scope === 'global')
    .map(({ local, prefixlen }: { local: string; prefixlen: number }) => `${local}/${prefixlen}`)

test.for(exampleNames)('conf-examples/%s: ADD, CHECK, DEL', (name) => {
  const example: List = JSON.parse(readFileSync(`${examples}/${name}.conflist`, 'utf8'))
  using host = createHost()
  host.addUplink()
  // The newest version that Debian's libcni knows.
  const network = new Network(host, { ...example, cniVersion: '1.0.0' })
  host.addContainer('web')
  if (/iptables|firewall|portmap/.test(JSON.stringify(example))) {
    // Tables and chains that are made at their first use, and stay.
    network.add('web')
    network.del('web')
  }
  const before = network.state()

  const result = network.add('web')
  expect(result.cniVersion).toBe('1.0.0')
  const link = example.plugins.some(({ type }) => type !== 'loopback') ? 'eth0' : 'lo'
  if (link === 'eth0') expect((result.ips ?? []).length).toBe(addressesIn(host, 'web').length)
  expect(network.cached()).toEqual([`${name}-web-eth0`])
  network.check('web')
  network.del('web')
  expect(network.cached()).toEqual([])
  network.del('web')
  expect(network.state()).toEqual(before)
})

test.each(['0.3.1', '0.4.0', '1.0.0'])('version %s: a chain of loopback, bridge and nat', (cniVersion) => {
  using host = createHost()
  const outside = host.addUplink()
  const plugins = [{ type: 'loopback' }, { ...bridge, ipMasq: false }, { type: 'nat' }]
  const network = new Network(host, { cniVersion, name: 'lab', plugins })
  const web = host.addContainer('web')
  const before = network.state()

  const result = network.add('web')
  expect(addressesOf(result)).toEqual(['10.1.0.2/24', 'fd00:1::2/64'])
  expect(addressesIn(host, 'web').sort()).toEqual(['10.1.0.2/24', 'fd00:1::2/64'])
  for (const address of ['192.0.2.2', '2001:db8::2']) web.run(['ping', '-c1', '-W5', address])
  expect(outside.run(['ping', '-c1', '-W1', '10.1.0.2'], { expectFailure: 'maybe' }).status).not.toBe(0)
  // Before 0.4.0 libcni itself knows no CHECK.
  network.check('web', { expectFailure: cniVersion === '0.3.1' })

  network.del('web')
  expect(network.cached()).toEqual([])
  host.run(['ip', '-n', 'web', 'link', 'show', 'eth0'], { expectFailure: true })
  expect(network.state()).toEqual(before)
})

test('two containers of a network reach each other, one of another network by its own address', () => {
  using host = createHost()
  const network = new Network(host, lab)
  const [web, api] = ['web', 'api'].map((name) => host.addContainer(name))
  for (const { name } of [web!, api!]) network.add(name)
  for (const to of ['10.1.0.3', 'fd00:1::3', '10.1.0.1', 'fd00:1::1']) web!.run(['ping', '-c1', '-W5', to])
  for (const to of ['10.1.0.2', 'fd00:1::2']) api!.run(['ping', '-c1', '-W5', to])
  expect(network.cached()).toEqual(['lab-api-eth0', 'lab-web-eth0'])

  network.del('api')
  expect(network.cached()).toEqual(['lab-web-eth0'])
  network.check('web')
})

test('a container in two networks', () => {
  using host = createHost()
  host.addContainer('web')
  const network = new Network(host, lab)
  network.add('web')
  const second = {
    ...lab,
    name: 'second',
    plugins: [{ type: 'veth', ipam: { type: 'host-local', subnet: '10.2.0.0/24' } }],
  }
  network.write(second)
  const env = { CNI_IFNAME: 'net1' }
  expect(addressesOf(network.add('web', { env }))).toEqual(['10.2.0.2/24'])
  network.check('web', { env })
  network.del('web', { env })
  network.write(lab)
  network.check('web')
})

test('capabilities: ips and mac arrive, port mappings for nobody do no harm', () => {
  using host = createHost()
  const capable = { ...bridge, capabilities: { ips: true, mac: true, portMappings: true } }
  const network = new Network(host, { ...lab, plugins: [capable] })
  for (const name of ['web', 'api', 'db']) host.addContainer(name)
  const before = network.state()
  const withArgs = (args: object) => ({ env: { CAP_ARGS: JSON.stringify(args) } })

  const asked = withArgs({ ips: ['10.1.0.77/24', 'fd00:1::77'], mac: '02:11:22:33:44:55' })
  expect(addressesOf(network.add('web', asked))).toEqual(['10.1.0.77/24', 'fd00:1::77/64'])
  expect(host.json(['ip', '-json', '-n', 'web', 'link', 'show', 'eth0'])[0].address).toBe('02:11:22:33:44:55')
  network.check('web', asked)

  const mapped = withArgs({ portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] })
  expect(addressesOf(network.add('api', mapped))).toEqual(['10.1.0.78/24', 'fd00:1::78/64'])
  expect(addressesOf(network.add('db', withArgs({ portMappings: [] })))).toEqual(['10.1.0.79/24', 'fd00:1::79/64'])

  expect(network.call('add', 'web', { ...asked, expectFailure: true }).stderr).toContain('already exists')
  network.check('web', asked)
  // Without what was asked for at the time: libcni has it in its cache, other runtimes have not.
  for (const name of ['web', 'api', 'db']) network.del(name)
  expect(network.state()).toEqual(before)
})

test('capabilities: a network that has no ranges but those of the runtime', () => {
  using host = createHost()
  const veth = { type: 'veth', capabilities: { ipRanges: true }, ipam: { type: 'host-local' } }
  const network = new Network(host, { ...lab, plugins: [veth] })
  host.addContainer('web')
  const before = network.state()
  const ranges = [[{ subnet: '10.9.0.0/24', rangeStart: '10.9.0.10' }], [{ subnet: 'fd00:9::/64' }]]
  const options = { env: { CAP_ARGS: JSON.stringify({ ipRanges: ranges }) } }
  expect(addressesOf(network.add('web', options))).toEqual(['10.9.0.10/24', 'fd00:9::2/64'])
  network.check('web', options)
  network.del('web')
  expect(network.state()).toEqual(before)
})

test('a capability that the configuration does not announce never reaches the plugin', () => {
  using host = createHost()
  const network = new Network(host, lab)
  host.addContainer('web')
  const result = network.add('web', { env: { CAP_ARGS: '{"ips":["10.1.0.77/24"]}' } })
  expect(addressesOf(result)).toEqual(['10.1.0.2/24', 'fd00:1::2/64'])
})

test('arguments: of Kubernetes, of CNI_ARGS, and of the configuration', () => {
  using host = createHost()
  const network = new Network(host, lab)
  for (const name of ['web', 'api', 'db']) host.addContainer(name)
  const kubernetes =
    'IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=1-2'
  network.add('web', { env: { CNI_ARGS: kubernetes } })
  const asked = { env: { CNI_ARGS: 'IP=10.1.0.50;MAC=02:00:00:00:00:50' } }
  expect(addressesOf(network.add('api', asked))[0]).toBe('10.1.0.50/24')
  network.check('api', asked)
  const refused = network.call('add', 'db', { env: { CNI_ARGS: 'COLOUR=red' }, expectFailure: true })
  expect(refused.stderr).toContain('COLOUR=red')
  network.write({ ...lab, plugins: [{ ...bridge, args: { cni: { ips: ['10.1.0.60'] } } }] })
  expect(addressesOf(network.add('db'))[0]).toBe('10.1.0.60/24')
})

test('CHECK tells what is gone; disableCheck asks nobody', () => {
  using host = createHost()
  const network = new Network(host, lab)
  host.addContainer('web')
  network.add('web')
  host.run(['ip', '-n', 'web', 'address', 'del', '10.1.0.2/24', 'dev', 'eth0'])
  expect(network.check('web', { expectFailure: true }).stderr).toContain('10.1.0.2/24')
  network.write({ ...lab, disableCheck: true })
  network.check('web')
})

test('DEL after the container, the cache or both are gone', () => {
  using host = createHost()
  const network = new Network(host, { ...lab, plugins: [{ ...bridge, ipMasq: false }, { type: 'nat' }] })
  const before = network.state()
  for (const [container, cache] of [
    [true, false],
    [false, true],
    [true, true],
  ]) {
    host.addContainer('web')
    network.add('web')
    if (container) host.run(['ip', 'netns', 'del', 'web'])
    if (cache) host.run(['rm', '-r', '/var/lib/cni/results'])
    network.del('web')
    if (!container) host.run(['ip', 'netns', 'del', 'web'])
    expect(network.state()).toEqual(before)
  }
})

test('an error of ours is what the runtime reports', () => {
  using host = createHost()
  const network = new Network(host, lab)
  expect(network.call('add', 'nobody', { expectFailure: true }).stderr).toMatch(/\/run\/netns\/nobody.*ENOENT/)
  network.write({ ...lab, plugins: [{ ...bridge, mtu: 'large' }] })
  host.addContainer('web')
  expect(network.call('add', 'web', { expectFailure: true }).stderr).toContain(
    'mtu: expected an integer from 0 to 65535, got "large"',
  )
  expect(network.cached()).toEqual([])
})
