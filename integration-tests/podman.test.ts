import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { expect, type TestContext, test } from 'vitest'
import { type RunOptions, type RunResult, requireTool } from './host.ts'
import { createMachine, type Machine, plugins } from './runtimes/machine.ts'
import { firstPage, getPage, makeRootFilesystem, serve, webServer } from './runtimes/root-filesystem.ts'
import { until } from './runtimes/until.ts'

/*
 * podman with its CNI backend: it writes the conflists, calls the executables, and hands them to conmon, which calls
 * them again when a container ends. The judges are podman itself, ping, TCP connections and the state of the host.
 */

interface Podman extends Machine {
  /** What `podman ARGUMENTS` prints. */
  podman(...command: readonly string[]): string
  /** Starts a container in the background from a root filesystem of busybox. */
  runDetached(options: readonly string[], ...command: readonly string[]): void
  tryPodman(command: readonly string[], options: RunOptions): RunResult
}

const rootFilesystem = '/run/root-filesystem'

/** cgroups are left alone since the tests may not have a tree of their own; nothing is asked of systemd. */
const configuration = `
[network]
network_backend = "cni"
cni_plugin_dirs = ["${plugins}"]
[engine]
runtime = "crun"
cgroup_manager = "cgroupfs"
events_logger = "none"
[containers]
cgroups = "disabled"
pids_limit = 0
log_driver = "k8s-file"
`
const storage = `
[storage]
driver = "vfs"
runroot = "/run/containers/storage"
graphroot = "/run/podman"
`
// What a developer may have set.
const env = { CONTAINERS_CONF: undefined, CONTAINERS_STORAGE_CONF: undefined, CONTAINER_HOST: undefined }

async function createPodman(context: TestContext): Promise<Podman> {
  const machine = await createMachine(context, ['podman', 'conmon', 'crun', 'busybox'])
  try {
    makeRootFilesystem(machine, rootFilesystem, context)
    machine.run(['tee', '/etc/containers/containers.conf'], { input: configuration })
    machine.run(['tee', '/etc/containers/storage.conf'], { input: storage })
    const tryPodman = (command: readonly string[], options: RunOptions) =>
      machine.run(['podman', ...command], { env, ...options })
    const podman = (...command: readonly string[]) => tryPodman(command, {}).stdout.trim()
    podman('network', 'ls') // makes podman's lock in /etc/cni/net.d, which stays
    return {
      ...machine,
      podman,
      tryPodman,
      runDetached(options, ...command) {
        // NET_RAW: busybox pings by a raw socket only.
        podman('run', '--detach', '--cap-add=NET_RAW', ...options, '--rootfs', rootFilesystem, ...command)
      },
    }
  } catch (error) {
    machine[Symbol.dispose]()
    throw error
  }
}

/** The addresses of a container's interface, by what `ip` prints in it, without the link-local ones. */
function addressesOf(machine: Podman, container: string, link = 'eth0'): string[] {
  const printed = machine.podman('exec', container, 'ip', 'address', 'show', 'dev', link)
  const all = [...printed.matchAll(/^ +inet6? (\S+)\/\d+ /gm)].map((match) => match[1]!)
  return all.filter((address) => !address.startsWith('fe80:'))
}

/** A container as a place to run programs of busybox in. */
const inContainer = ({ tryPodman }: Podman, name: string) => ({
  run: (command: readonly string[], options: RunOptions = {}) =>
    tryPodman(['exec', '--interactive', name, ...command], options),
})

const networks = {
  IPv4: { options: ['--subnet', '10.66.0.0/24'], web: ['10.66.0.2'], hosts: ['192.0.2.1'], outside: ['192.0.2.2'] },
  'dual-stack': {
    options: ['--ipv6', '--subnet', '10.67.0.0/24', '--subnet', 'fd00:67::/64'],
    web: ['10.67.0.2', 'fd00:67::2'],
    hosts: ['192.0.2.1', '2001:db8::1'],
    outside: ['192.0.2.2', '2001:db8::2'],
  },
} as const

test.for(['IPv4', 'dual-stack'] as const)(
  'two containers of the %s network that podman writes, one with a port published',
  async (kind, context) => {
    using machine = await createPodman(context)
    const { podman, host, outside } = machine
    const network = networks[kind]
    await serve(outside, context)
    const before = machine.state()

    podman('network', 'create', ...network.options, 'lab')
    const conflist = readFileSync(host.file('/etc/cni/net.d/lab.conflist'), 'utf8')
    expect(JSON.parse(conflist).plugins.map(({ type }: { type: string }) => type)).toEqual([
      'bridge',
      'portmap',
      'firewall',
      'tuning',
    ])
    machine.runDetached(['--name=web', '--hostname=web', '--network=lab', '--publish=8080:80'], ...webServer)
    machine.runDetached(['--name=peer', '--network=lab'], '/bin/sleep', '1000')
    const [web, peer] = [inContainer(machine, 'web'), inContainer(machine, 'peer')]
    await firstPage(host, '127.0.0.1', 8080)
    expect(addressesOf(machine, 'web')).toEqual(network.web)
    const inPeer = addressesOf(machine, 'peer')

    // A new bridge forwards IPv6 only when its own link-local address is no longer tentative: 1 to 2 s.
    for (const address of network.web) peer.run(['ping', '-c1', '-w5', address])
    for (const address of inPeer) web.run(['ping', '-c1', '-w5', address])
    network.web.forEach((address, i) => {
      expect(getPage(peer, address, 80)).toEqual({ hostname: 'web', client: inPeer[i] })
      expect(getPage(peer, network.outside[i]!, 80)?.client).toBe(network.hosts[i])
    })

    expect(getPage(host, '127.0.0.1', 8080)?.hostname).toBe('web')
    network.hosts.forEach((address, i) => {
      expect(getPage(outside, address, 8080)).toEqual({ hostname: 'web', client: network.outside[i] })
      for (const client of [host, peer, web]) expect(getPage(client, address, 8080)?.hostname).toBe('web')
    })

    podman('rm', '--force', '--time=0', 'web')
    expect(getPage(host, '127.0.0.1', 8080)).toBeUndefined()
    for (const address of network.hosts) expect(getPage(outside, address, 8080)).toBeUndefined()
    podman('stop', '--time=0', 'peer')
    podman('rm', 'peer')
    expect(readFileSync(host.file('/etc/cni/net.d/lab.conflist'), 'utf8')).toBe(conflist)
    podman('network', 'rm', 'lab')
    expect(machine.state()).toEqual(before)
  },
)

test('a FORWARD policy of DROP: the firewall of the conflist lets containers out, and in what they publish', async (context) => {
  requireTool('iptables', context)
  using machine = await createPodman(context)
  const { podman, host, outside } = machine
  await serve(outside, context)
  host.sh('for iptables in iptables ip6tables; do $iptables --policy FORWARD DROP; done')
  const before = machine.state()
  podman('network', 'create', ...networks['dual-stack'].options, 'lab')
  machine.runDetached(['--name=web', '--network=lab', '--publish=8080:80'], ...webServer)
  const web = inContainer(machine, 'web')
  await firstPage(outside, '192.0.2.1', 8080)
  await firstPage(outside, '2001:db8::1', 8080)
  expect(await firstPage(web, '192.0.2.2', 80)).toMatchObject({ client: '192.0.2.1' })
  expect(await firstPage(web, '2001:db8::2', 80)).toMatchObject({ client: '2001:db8::1' })
  podman('rm', '--force', '--time=0', 'web')
  podman('network', 'rm', 'lab')
  expect(machine.state()).toEqual(before)
})

test('--ip and --mac-address', async (context) => {
  using machine = await createPodman(context)
  const { podman } = machine
  podman('network', 'create', '--subnet=10.66.0.0/24', 'lab')
  const before = machine.state()
  const asked = ['--ip=10.66.0.77', '--mac-address=02:42:ac:11:00:42']
  machine.runDetached(['--name=web', '--network=lab', ...asked], ...webServer)
  expect(addressesOf(machine, 'web')).toEqual(['10.66.0.77'])
  expect(podman('exec', 'web', 'cat', '/sys/class/net/eth0/address')).toBe('02:42:ac:11:00:42')
  await firstPage(machine.host, '10.66.0.77', 80)

  const second = ['run', '--detach', '--network=lab', '--ip=10.66.0.77', '--rootfs', rootFilesystem, '/bin/sleep', '9']
  expect(machine.tryPodman(second, { expectFailure: true }).stderr).toMatch(/10\.66\.0\.77/)
  expect(getPage(machine.host, '10.66.0.77', 80)).toBeDefined()
  podman('rm', '--all', '--force', '--time=0')
  machine.run(['ip', 'link', 'delete', 'cni-podman1'])
  expect(machine.state()).toEqual(before)
})

test('a second interface by network connect, and away again', async (context) => {
  using machine = await createPodman(context)
  const { podman, host } = machine
  const before = machine.state()
  podman('network', 'create', '--subnet=10.66.0.0/24', 'one')
  podman('network', 'create', '--subnet=10.77.0.0/24', 'two')
  machine.runDetached(['--name=web', '--network=one', '--publish=8080:80'], ...webServer)
  machine.runDetached(['--name=peer', '--network=two'], '/bin/sleep', '1000')
  const peer = inContainer(machine, 'peer')
  await firstPage(machine.outside, '192.0.2.1', 8080)

  podman('network', 'connect', 'two', 'web')
  expect(addressesOf(machine, 'web')).toEqual(['10.66.0.2'])
  expect(addressesOf(machine, 'web', 'eth1')).toEqual(['10.77.0.3'])
  expect(getPage(peer, '10.77.0.3', 80)).toMatchObject({ client: '10.77.0.2' })
  expect(getPage(machine.outside, '192.0.2.1', 8080)).toBeDefined()

  podman('network', 'disconnect', 'two', 'web')
  expect(podman('exec', 'web', 'ip', 'link')).not.toMatch(/eth1/)
  expect(getPage(peer, '10.77.0.3', 80)).toBeUndefined()
  expect(getPage(machine.outside, '192.0.2.1', 8080)).toBeDefined()

  // Given back, so free. With the first network gone, the port leads to the second.
  podman('network', 'connect', '--ip=10.77.0.3', 'two', 'web')
  podman('network', 'disconnect', 'one', 'web')
  expect(getPage(host, '127.0.0.1', 8080)).toBeDefined()
  expect(getPage(machine.outside, '192.0.2.1', 8080)).toBeDefined()

  podman('rm', '--all', '--force', '--time=0')
  podman('network', 'rm', 'one', 'two')
  expect(machine.state()).toEqual(before)
})

test('a container that ends by itself: conmon calls DEL', async (context) => {
  using machine = await createPodman(context)
  const { podman, host } = machine
  const before = machine.state()
  podman('network', 'create', '--subnet=10.66.0.0/24', 'lab')
  const untilTold = 'httpd -p 80 -h /www; while [ ! -e /tmp/end ]; do sleep 0.1; done'
  machine.runDetached(['--name=web', '--network=lab', '--publish=8080:80'], '/bin/sh', '-c', untilTold)
  await firstPage(host, '127.0.0.1', 8080)
  const conflist = host.file('/etc/cni/net.d/lab.conflist')

  podman('exec', 'web', 'sh', '-c', 'echo >/tmp/end')
  const processes = () => machine.run(['sh', '-c', 'cat /proc/[0-9]*/comm'], { expectFailure: 'maybe' }).stdout
  await until('conmon and the podman that it starts have ended', () => !/^(conmon|podman)$/m.test(processes()))
  expect(podman('inspect', '--format={{.State.Status}}', 'web')).toBe('exited')
  // All that is left is the network's: its bridge and its file.
  const saved = readFileSync(conflist)
  machine.run(['ip', 'link', 'delete', 'cni-podman1'])
  rmSync(conflist)
  expect(machine.state()).toEqual(before)

  writeFileSync(conflist, saved)
  podman('rm', 'web')
  podman('network', 'rm', 'lab')
  expect(machine.state()).toEqual(before)
})

test('stop, start and restart', async (context) => {
  using machine = await createPodman(context)
  const { podman, outside } = machine
  const before = machine.state()
  podman('network', 'create', '--subnet=10.66.0.0/24', 'lab')
  machine.runDetached(['--name=web', '--network=lab', '--publish=8080:80', '--publish=5353:5353/udp'], ...webServer)
  podman('stop', '--time=0', 'web')
  expect(getPage(outside, '192.0.2.1', 8080)).toBeUndefined()
  podman('start', 'web')
  await firstPage(outside, '192.0.2.1', 8080)
  podman('restart', '--time=0', 'web')
  await firstPage(outside, '192.0.2.1', 8080)
  podman('stop', '--time=0', 'web')
  podman('rm', 'web')
  podman('network', 'rm', 'lab')
  expect(machine.state()).toEqual(before)
})

test('the default network, which podman keeps in no file', async (context) => {
  using machine = await createPodman(context)
  const before = machine.state()
  machine.runDetached(['--name=web', '--publish=192.0.2.1:8080:80'], ...webServer)
  expect(addressesOf(machine, 'web')).toEqual(['10.88.0.2'])
  expect(await firstPage(machine.outside, '192.0.2.1', 8080)).toMatchObject({ client: '192.0.2.2' })
  expect(getPage(machine.host, '127.0.0.1', 8080)).toBeUndefined()
  machine.podman('rm', '--force', '--time=0', 'web')
  machine.run(['ip', 'link', 'delete', 'cni-podman0'])
  expect(machine.state()).toEqual(before)
})
