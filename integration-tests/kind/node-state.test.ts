import { once } from 'node:events'
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { beforeEach, expect, test } from 'vitest'
import { executables, requireTool } from '../host.ts'
import { agentRoutes, createCluster, eventually, hasConfiguration, type Node, type Pod } from './nodes.ts'

/* What the agent keeps on a node's disk: executables, and leases of pods that are gone. */

beforeEach((context) => {
  for (const tool of ['nft', 'openssl']) requireTool(tool, context)
})

const binDir = '/run/cni-bin'

/** Names below the folder of executables, with those it keeps out of the way. */
const executablesOf = ({ host }: Node): string[] =>
  readdirSync(host.file(binDir), { recursive: true })
    .map(String)
    .filter((name) => name !== '.before-ns-net')
    .sort()

test('installs executables before the configuration, and not twice; --cleanup takes everything away', async () => {
  using cluster = createCluster()
  const node = cluster.addNode('n1', 1)
  const { host } = node
  host.sh(`mkdir ${binDir}
           printf 'the node own' > ${binDir}/portmap
           chmod 755 ${binDir}/portmap
           printf other > ${binDir}/flannel
           ip route add 10.99.0.0/24 via 172.18.0.7
           nft add table inet mine`)
  const state = () => ({
    executables: executablesOf(node),
    routes: host.json(['ip', '-j', 'route']),
    tables: host.run(['nft', 'list', 'ruleset']).stdout,
    configurations: host.run(['ls', '-A', '/etc/cni/net.d'], { expectFailure: 'maybe' }).stdout,
  })
  const before = state()

  node.startAgent('--install-from', executables, '--bin-dir', binDir)
  await eventually('configuration', () => node.log.at(-1)?.event === 'configuration written')
  const installed = [...readdirSync(executables), 'flannel', '.before-ns-net/portmap'].sort()
  expect(executablesOf(node)).toEqual(installed)
  expect(host.run(['readlink', `${binDir}/ptp`]).stdout).toBe('ns-net-plugins\n')
  expect(host.run([`${binDir}/portmap`], { expectFailure: 'maybe' }).stderr).toContain('portmap')
  expect(node.log.map(({ event }) => event)).toEqual([
    'started',
    'installed',
    'route added',
    'route added',
    'masquerade replaced',
    'configuration written',
  ])

  const inodes = () => ['ns-net', 'ns-net-plugins'].map((name) => statSync(host.file(`${binDir}/${name}`)).ino)
  const atFirst = inodes()
  node.agent().kill('SIGTERM')
  node.startAgent('--install-from', executables, '--bin-dir', binDir)
  await eventually('second start', () => node.log.filter(({ event }) => event === 'started').length === 2)
  expect(inodes()).toEqual(atFirst)
  const ended = once(node.agent(), 'exit')
  node.agent().kill('SIGTERM')
  await ended
  expect(node.log.at(-1)?.event).toBe('started')

  host.run([`${executables}/ns-net`, 'agent', '--cleanup', '--bin-dir', binDir])
  expect({ ...state(), configurations: '' }).toEqual({ ...before, configurations: '' })
  expect(hasConfiguration(node)).toBe(false)
  expect(host.run(['cat', `${binDir}/portmap`]).stdout).toBe('the node own')
  // Twice is as good as once.
  expect(host.run([`${executables}/ns-net`, 'agent', '--cleanup', '--bin-dir', binDir]).stdout).toBe('')
})

test('a configuration that goes first is told of', async () => {
  using cluster = createCluster()
  const node = cluster.addNode('n1', 1)
  node.host.sh('mkdir -p /etc/cni/net.d; echo {} > /etc/cni/net.d/10-kindnet.conflist')
  node.startAgent()
  await eventually('warning', () =>
    node.log.some(({ message }) => /10-kindnet\.conflist, not ours/.test(String(message))),
  )
  expect(hasConfiguration(node)).toBe(true)
})

const leasesOf = ({ host }: Node): string[] =>
  readdirSync(host.file('/run/ns-net/ipam/ns-net')).filter((name) => /^[0-9a-f]+[.:]/.test(name))
const cacheOf = ({ host }: Node): string[] => readdirSync(host.file('/var/lib/cni/results')).sort()
const rulesFor = ({ host }: Node, { address }: Pod): boolean =>
  host.run(['nft', 'list', 'ruleset']).stdout.includes(`${address[4]} .`)

test('gives back what dead pods held, and nothing else', async () => {
  using cluster = createCluster()
  const node = cluster.addNode('n1', 1)
  const { host } = node
  node.startAgent('--collect-every', '1')
  await eventually('configuration', () => hasConfiguration(node))
  const portMappings = (HostPort: number) => ({ portMappings: [{ HostPort, ContainerPort: 80, Protocol: 'tcp' }] })
  const alive = node.pod('alive', portMappings(8001))
  const uncached = node.pod('uncached')
  const dead = node.pod('dead', portMappings(8002))
  const forgotten = node.pod('forgotten', portMappings(8003))
  const fileOf = (name: string) => `/var/lib/cni/results/ns-net-${name}0123456789abcdef-eth0`
  // The runtime was killed: before it called DEL, and before it had written down what ADD said.
  host.run(['ip', 'netns', 'del', dead.name])
  host.run(['ip', 'netns', 'del', forgotten.name])
  host.run(['rm', fileOf('forgotten'), fileOf('uncached')])
  // Another runtime's, whose namespace is gone as well.
  host.sh(`mkdir -p /var/lib/cni/networks/theirs
           echo someone > /var/lib/cni/networks/theirs/10.7.0.2`)
  const config = { cniVersion: '1.0.0', name: 'theirs', plugins: [{ type: 'veth' }] }
  const entry = {
    kind: 'cniCacheV1',
    containerId: 'x',
    ifName: 'eth0',
    networkName: 'theirs',
    netns: '/run/netns/none',
  }
  writeFileSync(
    host.file('/var/lib/cni/results/theirs'),
    JSON.stringify({ ...entry, config: Buffer.from(JSON.stringify(config)).toString('base64'), result: {} }),
  )

  await eventually('the dead one', () => !existsSync(host.file(fileOf('dead'))))
  await eventually('the forgotten one', () => leasesOf(node).length === 4)
  expect(leasesOf(node).sort()).toEqual([alive, uncached].flatMap(({ address }) => [address[4], address[6]]).sort())
  expect(cacheOf(node)).toEqual([`ns-net-alive0123456789abcdef-eth0`, 'theirs'])
  expect(existsSync(host.file('/var/lib/cni/networks/theirs/10.7.0.2'))).toBe(true)
  expect([alive, dead, forgotten].map((pod) => rulesFor(node, pod))).toEqual([true, false, false])
  expect(node.log.filter(({ event }) => event === 'stale attachment')).toEqual(
    ['dead', 'forgotten'].map((name) => expect.objectContaining({ containerId: `${name}0123456789abcdef` })),
  )
  for (const pod of [alive, uncached]) host.run(['ip', 'netns', 'exec', pod.name, 'ip', 'link', 'show', 'eth0'])
  expect(agentRoutes(host)).toHaveLength(2)
})

test('with --chaos a DEL can be dropped, and is made good', async () => {
  using cluster = createCluster()
  const node = cluster.addNode('n1', 1)
  const { host } = node
  const chaos = (...args: string[]) => host.run([`${executables}/ns-net`, 'chaos', ...args]).stdout
  node.startAgent('--chaos', '--collect-every', '1')
  await eventually('configuration', () => hasConfiguration(node))
  const other = node.pod('other')
  chaos('add', '--drop', '--pod', 'unlucky')
  chaos('add', '--partition', 'other', '--pod', 'unlucky')
  const pod = node.pod('unlucky')
  const rules = () => host.run(['nft', 'list', 'ruleset']).stdout
  expect(rules()).toContain(`ip daddr ${pod.address[4]} drop`)
  pod.stop()
  expect(leasesOf(node)).toHaveLength(4)
  await eventually('what the DEL should have done', () => leasesOf(node).length === 2)
  // The other one is not cut off from whoever gets the address next.
  await eventually('what chaos should have done', () => !rules().includes(`ip daddr ${pod.address[4]} drop`))
  other.stop()
  expect(rules()).not.toContain('ns-net-chaos')
  chaos('report', '--clear')
  expect(existsSync(host.file('/run/ns-net/chaos'))).toBe(false)
})
