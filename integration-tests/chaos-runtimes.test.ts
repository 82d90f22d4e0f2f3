import { expect, type TestContext, test } from 'vitest'
import { type RunOptions, type RunResult, requireTool } from './host.ts'
import { type Chaos, chaosOn } from './runtimes/chaos.ts'
import { createMachine, type Machine, plugins } from './runtimes/machine.ts'
import { firstPage, getPage, makeRootFilesystem, webServer } from './runtimes/root-filesystem.ts'

/*
 * What podman makes of the faults of the plugin chaos, which stands in for bridge, and what is left after them. The
 * judges are podman itself, TCP connections, and the state of the host.
 */

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
const storage = '[storage]\ndriver = "vfs"\nrunroot = "/run/containers/storage"\ngraphroot = "/run/podman"\n'
// What a developer may have set.
const env = { CONTAINERS_CONF: undefined, CONTAINERS_STORAGE_CONF: undefined, CONTAINER_HOST: undefined }

const bridge = {
  type: 'bridge',
  bridge: 'cni0',
  isGateway: true,
  ipMasq: true,
  ipam: { type: 'host-local', subnet: '10.66.0.0/24', routes: [{ dst: '0.0.0.0/0' }] },
}
const standIn = { type: 'chaos', plugin: bridge }
const conflist = {
  cniVersion: '1.0.0',
  name: 'lab',
  plugins: [standIn, { type: 'portmap', capabilities: { portMappings: true } }],
}

interface ChaoticPodman extends Machine, Chaos {
  podman(command: readonly string[], options?: RunOptions): RunResult
  /** Has podman create the container `web`, a web server with a port published, without starting it. */
  createWeb(): void
  /** Starts it, whether or not that works. */
  tryStart(): RunResult
  /** What is there apart from what outlives all containers on purpose: the bridge, and what chaos has written down. */
  remains(): ReturnType<Machine['state']>
}

async function createPodman(context: TestContext): Promise<ChaoticPodman> {
  requireTool('nft', context)
  const machine = await createMachine(context, ['podman', 'conmon', 'crun', 'busybox'])
  const podman = (command: readonly string[], options: RunOptions = {}) =>
    machine.run(['podman', ...command], { env, ...options })
  const chaos = chaosOn(machine, conflist.plugins)
  try {
    makeRootFilesystem(machine, rootFilesystem, context)
    machine.run(['tee', '/etc/containers/containers.conf'], { input: configuration })
    machine.run(['tee', '/etc/containers/storage.conf'], { input: storage })
    machine.run(['mkdir', '-p', '/etc/cni/net.d'])
    machine.run(['tee', '/etc/cni/net.d/lab.conflist'], { input: JSON.stringify(conflist) })
    podman(['network', 'ls']) // makes podman's lock in /etc/cni/net.d, which stays
  } catch (error) {
    machine[Symbol.dispose]()
    throw error
  }
  return {
    ...machine,
    ...chaos,
    podman,
    createWeb() {
      const options = ['--name=web', '--hostname=web', '--network=lab', '--publish=8080:80']
      podman(['create', ...options, '--rootfs', rootFilesystem, ...webServer])
    },
    tryStart: () => podman(['start', 'web'], { expectFailure: 'maybe' }),
    remains() {
      chaos.chaos('report', '--clear')
      machine.run(['ip', 'link', 'delete', 'cni0'], { expectFailure: 'maybe' })
      return machine.state()
    },
  }
}

const page = (machine: Machine) => getPage(machine.host, '127.0.0.1', 8080)
const ruleset = ({ host }: Machine) => host.run(['nft', 'list', 'ruleset']).stdout
const listLeases = (machine: Machine) =>
  machine.run(['ls', '/var/lib/cni/networks/lab'], { expectFailure: 'maybe' }).stdout.match(/^10\..*$/gm) ?? []

/** What podman says when a plugin does not do what it is asked. */
const complaint = (reason: string) => ({
  status: 125,
  stderr: expect.stringMatching(new RegExp(`unable to start container .*plugin type="chaos" failed.*${reason}`)),
})

test('ADD fails twice: podman says so each time, and starts the container the third time', async (context) => {
  using machine = await createPodman(context)
  const before = machine.state()
  machine.chaos('add', '--id=busy', '--error=11', '--count=2')
  machine.createWeb()
  for (let i = 0; i < 2; i++) {
    expect(machine.tryStart()).toMatchObject(complaint('injected by chaos: rule "busy"'))
    expect(listLeases(machine)).toEqual([])
  }
  expect(machine.tryStart()).toMatchObject({ status: 0 })
  expect(await firstPage(machine.host, '127.0.0.1', 8080)).toMatchObject({ hostname: 'web' })
  expect(machine.struck()).toEqual(['busy ADD', 'busy ADD'])
  expect(machine.chaos('report')).toMatch(/ lab +web\n/)
  machine.podman(['rm', '--force', '--time=0', 'web'])
  expect(machine.remains()).toEqual(before)
})

test('ADD fails when all its work is done: what podman then does leaves nothing', async (context) => {
  using machine = await createPodman(context)
  const before = machine.state()
  machine.chaos('add', '--id=late', '--error=11', '--afterwards')
  machine.createWeb()
  expect(machine.tryStart()).toMatchObject(complaint('injected by chaos: rule "late"'))
  expect(machine.struck()).toEqual(['late ADD'])
  // That the work was done: host-local remembers the address that it gave.
  expect(machine.run(['cat', '/var/lib/cni/networks/lab/last_reserved_ip.0']).stdout.trim()).toBe('10.66.0.2')
  expect(machine.remains()).toEqual(before)
  machine.podman(['rm', '--force', '--time=0', 'web'])
  expect(machine.remains()).toEqual(before)
})

test('a result without addresses: podman starts a container that it knows no address of', async (context) => {
  using machine = await createPodman(context)
  const before = machine.state()
  machine.chaos('add', '--id=liar', '--result=missing-ip')
  machine.createWeb()
  expect(machine.tryStart()).toMatchObject({ status: 0 })
  expect(machine.struck()).toEqual(['liar ADD'])
  const address = '{{(index .NetworkSettings.Networks "lab").IPAddress}}'
  expect(machine.podman(['inspect', `--format={{.State.Status}} ${address}.`, 'web']).stdout).toBe('running .\n')
  // It has one, and serves there; but portmap believed the result as well. podman itself listens on the port, silently.
  expect(await firstPage(machine.host, '10.66.0.2', 80)).toMatchObject({ hostname: 'web' })
  expect(ruleset(machine)).not.toContain('8080')
  machine.podman(['rm', '--force', '--time=0', 'web'])
  expect(machine.remains()).toEqual(before)
})

test('a result of a version that nobody knows: podman refuses it and undoes the ADD', async (context) => {
  using machine = await createPodman(context)
  const before = machine.state()
  machine.chaos('add', '--id=liar', '--result=wrong-version')
  machine.createWeb()
  expect(machine.tryStart()).toMatchObject(complaint('unsupported CNI result version "9\\.9\\.9"'))
  expect(machine.struck()).toEqual(['liar ADD'])
  expect(machine.remains()).toEqual(before)
  machine.podman(['rm', '--force', '--time=0', 'web'])
  expect(machine.remains()).toEqual(before)
})

test('DEL is dropped: the container is gone, its lease and its rules stay until GC', async (context) => {
  using machine = await createPodman(context)
  const before = machine.state()
  machine.createWeb()
  machine.podman(['start', 'web'])
  await firstPage(machine.host, '127.0.0.1', 8080)
  machine.chaos('add', '--id=forgotten', '--verb=del', '--drop')
  machine.podman(['rm', '--force', '--time=0', 'web'])
  expect(machine.podman(['ps', '--all', '--quiet']).stdout).toBe('')
  expect(machine.struck()).toEqual(['forgotten DEL'])
  // The link went with its namespace, which podman deletes itself.
  expect(listLeases(machine)).toEqual(['10.66.0.2'])
  expect(ruleset(machine)).toContain('10.66.0.2 comment "lab')
  expect(page(machine)).toBeUndefined()

  machine.collect()
  expect(listLeases(machine)).toEqual([])
  expect(ruleset(machine)).not.toContain('10.66.0.2')
  expect(machine.remains()).toEqual(before)
})

test('ADD is late: podman waits, and the container is as ever', async (context) => {
  using machine = await createPodman(context)
  const before = machine.state()
  machine.chaos('add', '--id=slow', '--delay=1500ms')
  machine.createWeb()
  const began = performance.now()
  expect(machine.tryStart()).toMatchObject({ status: 0 })
  expect(performance.now() - began).toBeGreaterThan(1500)
  expect(await firstPage(machine.host, '127.0.0.1', 8080)).toMatchObject({ hostname: 'web' })
  expect(ruleset(machine)).toContain('8080')
  expect(machine.struck()).toEqual(['slow ADD'])
  machine.podman(['rm', '--force', '--time=0', 'web'])
  expect(machine.remains()).toEqual(before)
})
