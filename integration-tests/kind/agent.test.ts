import { once } from 'node:events'
import { statSync, writeFileSync } from 'node:fs'
import { beforeEach, expect, test } from 'vitest'
import { executables, type Place, requireTool } from '../host.ts'
import {
  addressesOf,
  agentRoutes,
  answers,
  type Cluster,
  createCluster,
  eventually,
  hasConfiguration,
  type Node,
  rest,
  writeToken,
} from './nodes.ts'

/* That every node comes to what the API server says, whatever happens on the way, and touches nothing else. */

beforeEach((context) => {
  for (const tool of ['ping', 'nft', 'openssl', 'curl']) requireTool(tool, context)
})

/** The cluster of most tests: two nodes with agents that have done all there is to do. */
async function twoNodes(cluster: Cluster): Promise<[Node, Node]> {
  const nodes: [Node, Node] = [cluster.addNode('n1', 1), cluster.addNode('n2', 2)]
  for (const node of nodes) node.startAgent()
  const isDone = ({ log, host }: Node) =>
    log.at(-1)?.event === 'configuration written' && agentRoutes(host).length === 4
  await eventually('both nodes', () => nodes.every(isDone))
  return nodes
}

const routesTo = (n: number, at: number): string[] => {
  const [v4, v6] = addressesOf(at)
  return [`10.244.${n}.0/24 ${v4}`, `fd00:10:244:${n}::/64 ${v6}`]
}
/** Of iproute2: 7 is unreachable. */
const ownRoutes = (n: number): string[] => [`10.244.${n}.0/24 7`, `fd00:10:244:${n}::/64 7`]

const hasRoutes = ({ host }: Node, wanted: readonly string[]): boolean => {
  const present = agentRoutes(host)
  return wanted.every((route) => present.includes(route))
}

const measured = (what: string, milliseconds: number) => console.info(`${what}: ${milliseconds} ms`)

/** Everything of the agent's that a restart could change: routes, rules with their handles, the file itself. */
const workOf = ({ host }: Node) => ({
  routes: agentRoutes(host),
  rules: host.run(['nft', '-a', 'list', 'table', 'inet', 'ns-net-agent']).stdout,
  file: statSync(host.file('/etc/cni/net.d/10-ns-net.conflist')).ino,
})

test('nodes come, change their addresses and go', async () => {
  using cluster = createCluster()
  const [n1, n2] = await twoNodes(cluster)
  expect(agentRoutes(n1.host)).toEqual([...ownRoutes(1), ...routesTo(2, 2)].sort())

  const n3 = cluster.addNode('n3', 3, { known: false })
  n3.startAgent()
  await eventually('what is wrong', () => n3.log.some(({ message }) => /no node "n3"/.test(String(message))))
  cluster.api.setNode('n3', { addresses: addressesOf(3) })
  await eventually('what is missing', () => n3.log.some(({ message }) => message === 'it has no podCIDRs yet'))
  expect(hasConfiguration(n3)).toBe(false)
  cluster.api.setNode('n3', { podCIDRs: n3.podCIDRs, addresses: addressesOf(3) })
  const added = await eventually('routes to a new node', () => hasRoutes(n1, routesTo(3, 3)))
  measured('node added', added.milliseconds)
  await eventually('configuration of the new node', () => hasConfiguration(n3))
  const pod = n1.pod('one')
  const other = n3.pod('three')
  await eventually('pod to pod', () => answers(pod, other.address[4]) && answers(pod, other.address[6]))

  n3.readdress(9)
  cluster.api.setNode('n3', { podCIDRs: n3.podCIDRs, addresses: addressesOf(9) })
  const moved = await eventually('routes by the new address', () => hasRoutes(n1, routesTo(3, 9)))
  measured('node re-addressed', moved.milliseconds)
  expect(agentRoutes(n1.host)).toEqual([...ownRoutes(1), ...routesTo(2, 2), ...routesTo(3, 9)].sort())
  await eventually('pod to pod', () => answers(pod, other.address[4]) && answers(pod, other.address[6]))
  expect(n1.host.run(['nft', 'list', 'table', 'inet', 'ns-net-agent']).stdout).toContain('ip daddr 172.18.0.10 return')

  cluster.api.deleteNode('n3')
  const removed = await eventually('no routes to the gone node', () => agentRoutes(n1.host).length === 4)
  measured('node removed', removed.milliseconds)
  expect(agentRoutes(n2.host)).toEqual([...ownRoutes(2), ...routesTo(1, 1)].sort())
})

test('a killed agent interrupts no pod, and one that starts again changes nothing', async () => {
  using cluster = createCluster()
  const [n1, n2] = await twoNodes(cluster)
  const pod = n1.pod('one')
  const other = n2.pod('two')
  await eventually('pod to pod', () => answers(pod, other.address[4]))
  const before = workOf(n1)
  const ping = pod.start(['ping', '-q', '-i', '0.05', '-c', '60', other.address[4]])
  let summary = ''
  ping.stdout!.on('data', (text) => {
    summary += text
  })
  for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
    const ended = once(n1.agent(), 'exit')
    n1.agent().kill(signal)
    const [code] = await ended
    expect(code).toBe(signal === 'SIGTERM' ? 0 : null)
    expect(workOf(n1)).toEqual(before)
    const started = n1.log.length
    n1.startAgent()
    await eventually('ready', () => isReady(n1.host))
    expect(n1.log.slice(started).map(({ event }) => event)).toEqual(['started'])
    expect(workOf(n1)).toEqual(before)
  }
  await once(ping, 'exit')
  expect(summary).toMatch(/60 packets transmitted, 60 received/)
})

const probe = (place: Place, path: string): string =>
  place.run(['curl', '-s', '-o', '/dev/stderr', '-w', '%{http_code}', `http://127.0.0.1:19090${path}`], {
    expectFailure: 'maybe',
  }).stdout
const isReady = (place: Place) => probe(place, '/readyz') === '200'

test('is ready when all is done', async () => {
  using cluster = createCluster()
  const n1 = cluster.addNode('n1', 1, { known: false })
  n1.startAgent()
  await eventually('alive', () => probe(n1.host, '/healthz') === '200')
  expect(probe(n1.host, '/readyz')).toBe('503')
  expect(probe(n1.host, '/')).toBe('404')
  cluster.api.setNode('n1', { podCIDRs: n1.podCIDRs, addresses: addressesOf(1) })
  await eventually('ready', () => isReady(n1.host))
})

test.concurrent('idle: nothing is logged and nothing changes', async () => {
  using cluster = createCluster()
  const [n1] = await twoNodes(cluster)
  const lines = n1.log.length
  const before = workOf(n1)
  // More than one period, and what kubelets do all the time: writing into their nodes.
  for (let i = 0; i < 24; i++) {
    cluster.api.setNode('n2', { podCIDRs: ['10.244.2.0/24', 'fd00:10:244:2::/64'], addresses: addressesOf(2) })
    await rest(500)
  }
  expect(n1.log.slice(lines)).toEqual([])
  expect(workOf(n1)).toEqual(before)
})

test.concurrent.each(['event', 'status'] as const)('begins again when the history has expired (%s)', async (how) => {
  using cluster = createCluster()
  const [n1] = await twoNodes(cluster)
  cluster.api.bookmark()
  cluster.api.expire(how)
  cluster.api.setNode('n3', { podCIDRs: ['10.244.3.0/24', 'fd00:10:244:3::/64'], addresses: addressesOf(3) })
  const { milliseconds } = await eventually('the new node', () => agentRoutes(n1.host).length === 6)
  measured(`history expired (${how})`, milliseconds)
  expect(n1.log.filter(({ event }) => event === 'problem')).toEqual([])
})

test.concurrent('continues from a bookmark', async () => {
  using cluster = createCluster()
  const n1 = cluster.addNode('n1', 1)
  n1.startAgent()
  await eventually('watch', () => cluster.api.watches === 1)
  cluster.api.bookmark()
  await rest(100)
  cluster.api.setNode('n2', { podCIDRs: ['10.244.2.0/24', 'fd00:10:244:2::/64'], addresses: addressesOf(2) })
  await eventually('the new node', () => agentRoutes(n1.host).length === 4)
  expect(n1.log.filter(({ message }) => message)).toEqual([])
})

test.concurrent('notices a watch that is dead without a sign', async () => {
  using cluster = createCluster()
  const [n1] = await twoNodes(cluster)
  await eventually('watches', () => cluster.api.watches === 2)
  cluster.api.loseWatches()
  cluster.api.setNode('n3', { podCIDRs: ['10.244.3.0/24', 'fd00:10:244:3::/64'], addresses: addressesOf(3) })
  await eventually('the new node', () => agentRoutes(n1.host).length === 6)
  await eventually('other watches', () => cluster.api.watches === 2)
  expect(n1.log.filter(({ event }) => event === 'problem')).toEqual([])
})

test.concurrent('uses the new token when it has rotated', async () => {
  using cluster = createCluster()
  const [n1, n2] = await twoNodes(cluster)
  await eventually('watches', () => cluster.api.watches === 2)
  for (const node of [n1, n2]) writeToken(node, 'second')
  cluster.api.setToken('second')
  cluster.api.disconnect()
  cluster.api.setNode('n3', { podCIDRs: ['10.244.3.0/24', 'fd00:10:244:3::/64'], addresses: addressesOf(3) })
  const { milliseconds } = await eventually('the new node', () => agentRoutes(n1.host).length === 6)
  measured('token rotated, connections lost', milliseconds)
  expect(cluster.api.requests.filter(({ status }) => status === 401)).toEqual([])
})

test.concurrent('an API server that refuses, falls silent or is somebody else changes nothing, and is told of', async () => {
  using cluster = createCluster()
  const [n1] = await twoNodes(cluster)
  const before = workOf(n1)
  const problem = (pattern: RegExp) => () => n1.log.some(({ message }) => pattern.test(String(message)))

  cluster.api.setToken('other')
  cluster.api.disconnect()
  await eventually('refusal', problem(/401 Unauthorized/))
  cluster.api.setToken('first')
  await eventually('contact', () => n1.log.at(-1)?.event === 'resolved')

  cluster.api.silent = true
  cluster.api.setNode('n3', { podCIDRs: ['10.244.3.0/24', 'fd00:10:244:3::/64'], addresses: addressesOf(3) })
  await eventually('silence', problem(/no answer within/))
  expect(workOf(n1)).toEqual(before)
  cluster.api.silent = false
  const { milliseconds } = await eventually('what was missed', () => agentRoutes(n1.host).length === 6)
  measured('API server back', milliseconds)

  const believed = cluster.api.ca
  n1.host.run(['sh', '-c', 'cat > /run/secrets/kubernetes.io/serviceaccount/ca.crt'], { input: await otherCa() })
  cluster.api.disconnect()
  await eventually('another CA', problem(/certificate|unable to verify/i))
  n1.host.run(['sh', '-c', 'cat > /run/secrets/kubernetes.io/serviceaccount/ca.crt'], { input: believed })
  await eventually('contact', () => n1.log.at(-1)?.event === 'resolved')
})

async function otherCa(): Promise<string> {
  const { createCertificates } = await import('./api-server.ts')
  return createCertificates(['172.18.0.1']).ca
}

test.concurrent("what others made is not touched, what they did to the agent's is put right", async () => {
  using cluster = createCluster()
  const n1 = cluster.addNode('n1', 1)
  cluster.addNode('n2', 2)
  n1.host.sh(`ip route add 10.244.2.0/24 via 172.18.0.3 proto static
              ip route add 10.99.0.0/24 via 172.18.0.7
              ip -6 route add fd00:10:244:2::/64 via fc00:f853:ccd::7 proto static
              ip route add 10.244.77.0/24 via 172.18.0.9 proto 114
              nft add table inet mine
              nft add chain inet mine post '{ type nat hook postrouting priority 110; }'`)
  const foreign = () => ({
    tables: n1.host.run(['nft', '-a', 'list', 'table', 'inet', 'mine']).stdout,
    routes: (['-4', '-6'] as const).map(
      (family) => n1.host.run(['ip', '-N', family, 'route', 'show', 'proto', '4']).stdout,
    ),
    by3: n1.host.run(['ip', 'route', 'show', 'proto', '3']).stdout,
  })
  const before = foreign()
  n1.startAgent()
  await eventually('ready', () => isReady(n1.host))
  expect(foreign()).toEqual(before)
  // The right route of somebody else is as good as ours; the wrong one stays, behind ours; one of ours that nobody wants goes.
  expect(agentRoutes(n1.host)).toEqual([...ownRoutes(1), `fd00:10:244:2::/64 ${addressesOf(2)[1]}`].sort())
  expect(n1.host.run(['ip', '-6', 'route', 'get', 'fd00:10:244:2::5']).stdout).toContain(`via ${addressesOf(2)[1]}`)

  n1.host.sh(`ip route del 10.244.2.0/24
              nft flush chain inet ns-net-agent pods4
              nft add chain inet ns-net-agent stranger`)
  await eventually('the route', () => agentRoutes(n1.host).includes(routesTo(2, 2)[0]!))
  await eventually('the rules', () => {
    const rules = n1.host.run(['nft', 'list', 'table', 'inet', 'ns-net-agent']).stdout
    return rules.match(/masquerade/g)?.length === 2 && !rules.includes('stranger')
  })
  n1.host.run(['nft', 'delete', 'table', 'inet', 'ns-net-agent'])
  await eventually('the table', () => n1.host.run(['nft', 'list', 'tables']).stdout.includes('ns-net-agent'))
})

/** Below the ten seconds after which the agent looks at everything by itself: it has to hear of it. */
const beforeTheClock = 5000

test.concurrent('hears of it when somebody deletes its routes, or takes the link down', async () => {
  using cluster = createCluster()
  const [n1, n2] = await twoNodes(cluster)
  const all = [...ownRoutes(1), ...routesTo(2, 2)].sort()
  const [pod, other] = [n1.pod('one'), n2.pod('two')]
  const harm = [
    'ip route del 10.244.2.0/24',
    'ip -6 route del fd00:10:244:2::/64 proto 114',
    'ip route del unreachable 10.244.1.0/24 metric 4096',
    `ip link set eth0 down
     ip link set eth0 up
     ip address replace ${addressesOf(1)[1]}/64 dev eth0 nodad`,
  ]
  for (const script of harm) {
    n1.host.sh(script)
    expect(agentRoutes(n1.host)).not.toEqual(all)
    const { milliseconds } = await eventually(
      `all routes after ${script}`,
      () => JSON.stringify(agentRoutes(n1.host)) === JSON.stringify(all),
      beforeTheClock,
    )
    measured(script.split('\n')[0]!, milliseconds)
  }
  await eventually('pod to pod', () => answers(pod, other.address[4]) && answers(pod, other.address[6]))
})

test.concurrent('hears of it when its own address changes, and what the API server says from then on', async () => {
  using cluster = createCluster()
  const [n1, n2] = await twoNodes(cluster)
  await eventually('watches', () => cluster.api.watches === 2)
  const all = [...ownRoutes(1), ...routesTo(2, 2)].sort()
  const [pod, other] = [n1.pod('one'), n2.pod('two')]
  n1.readdress(7)
  expect(agentRoutes(n1.host)).not.toEqual(all) // the kernel took them away with the address
  const routes = await eventually(
    'all routes',
    () => JSON.stringify(agentRoutes(n1.host)) === JSON.stringify(all),
    beforeTheClock,
  )
  measured('own address changed, routes', routes.milliseconds)
  cluster.api.setNode('n1', { podCIDRs: n1.podCIDRs, addresses: addressesOf(7) })
  cluster.api.setNode('n3', { podCIDRs: ['10.244.3.0/24', 'fd00:10:244:3::/64'], addresses: addressesOf(3) })
  const news = await eventually('a new node', () => hasRoutes(n1, routesTo(3, 3)), beforeTheClock)
  measured('own address changed, news of the API server', news.milliseconds)
  await eventually('routes by the new address', () => hasRoutes(n2, routesTo(1, 7)))
  await eventually('pod to pod', () => answers(pod, other.address[4]) && answers(other, pod.address[6]))
  expect(n1.host.run(['nft', 'list', 'table', 'inet', 'ns-net-agent']).stdout).toContain('ip daddr 172.18.0.8 return')
})

test.concurrent('a node that is not on a link of this one gets no route, and that is told once', async () => {
  using cluster = createCluster()
  const n1 = cluster.addNode('n1', 1)
  cluster.api.setNode('far', { podCIDRs: ['10.244.8.0/24'], addresses: ['192.0.2.8'] })
  cluster.api.setNode('strange', { podCIDRs: ['10.244.1.0/25'], addresses: addressesOf(5) })
  n1.startAgent()
  await eventually('ready', () => isReady(n1.host))
  cluster.api.setNode('n2', { podCIDRs: ['10.244.2.0/24'], addresses: addressesOf(2) })
  await eventually('another pass', () => agentRoutes(n1.host).length === 3)
  const told = n1.log.filter(({ event }) => event === 'problem').map(({ message }) => message)
  expect(told).toEqual([
    expect.stringContaining("overlaps this node's own range"),
    expect.stringMatching(/192\.0\.2\.8 of node far is not on a link of this node but behind 172\.18\.0\.1/),
  ])
})

test.concurrent('by a kubeconfig with a client certificate, IPv4 alone, with exemptions of its own', async () => {
  using cluster = createCluster()
  const n1 = cluster.addNode('n1', 1, { known: false })
  cluster.api.setNode('n1', { podCIDRs: ['10.244.1.0/24'], addresses: ['172.18.0.2'] })
  const base64 = (text: string) => Buffer.from(text).toString('base64')
  const { ca, certificate } = cluster.api
  writeFileSync(n1.host.file('/run/client.crt'), certificate.cert)
  const config = {
    'current-context': 'test',
    contexts: [{ name: 'test', context: { cluster: 'c', user: 'u' } }],
    clusters: [{ name: 'c', cluster: { server: 'https://172.18.0.1:6443', 'certificate-authority-data': base64(ca) } }],
    users: [{ name: 'u', user: { 'client-certificate': 'client.crt', 'client-key-data': base64(certificate.key) } }],
  }
  writeFileSync(n1.host.file('/run/kubeconfig'), JSON.stringify(config))
  n1.host.run(['rm', '-r', '/run/secrets'])
  n1.startAgent('--kubeconfig', '/run/kubeconfig', '--no-masq', '192.0.2.0/24', '--pod-subnet', '10.244.0.0/16')
  await eventually('ready', () => isReady(n1.host))
  const { plugins } = n1.host.json(['cat', '/etc/cni/net.d/10-ns-net.conflist'])
  expect(plugins[0].ipam).toMatchObject({ ranges: [[{ subnet: '10.244.1.0/24' }]], routes: [{ dst: '0.0.0.0/0' }] })
  const rules = n1.host.run(['nft', 'list', 'table', 'inet', 'ns-net-agent']).stdout
  expect(rules).toContain('ip daddr 192.0.2.0/24 return')
  expect(rules).toContain('ip daddr 10.244.0.0/16 return')
  expect(rules).not.toContain('ip6')
})

test.concurrent('IPv6 alone', async () => {
  using cluster = createCluster()
  const nodes = [cluster.addNode('n1', 1, { known: false }), cluster.addNode('n2', 2, { known: false })]
  for (const [i, node] of nodes.entries()) {
    cluster.api.setNode(node.name, { podCIDRs: [node.podCIDRs[1]!], addresses: [addressesOf(i + 1)[1]!] })
    node.host.run(['ip', '-4', 'address', 'flush', 'dev', 'eth0'])
    node.startAgentAt('[fc00:f853:ccd::1]:6443')
  }
  await eventually('ready', () => nodes.every(({ host }) => isReady(host)))
  const [one, two] = nodes.map((node) => node.pod(`on-${node.name}`))
  await eventually('pod to pod', () => answers(one!, two!.address[6]))
  expect(agentRoutes(nodes[0]!.host)).toEqual([ownRoutes(1)[1], routesTo(2, 2)[1]].sort())
  expect(one!.result.ips).toHaveLength(1)
})

test.concurrent('refuses what it cannot work with', () => {
  using cluster = createCluster()
  const n1 = cluster.addNode('n1', 1)
  const agent = (...args: string[]) =>
    n1.host.run(['env', '-u', 'NODE_NAME', `${executables}/ns-net`, 'agent', ...args], { expectFailure: true })
  expect(agent()).toMatchObject({ status: 2, stderr: expect.stringMatching(/NODE_NAME/) })
  expect(agent('--node', 'n1')).toMatchObject({ status: 2, stderr: expect.stringMatching(/KUBERNETES_SERVICE_HOST/) })
  expect(agent('--node', 'n1', '--mode', 'vlan').stderr).toMatch(/veth or bridge/)
  expect(agent('--node', 'n1', '--kubeconfig', '/none')).toMatchObject({ status: 3 })
  const access = ['--node', 'n1', '--kubeconfig', '/run/k']
  writeFileSync(n1.host.file('/run/k'), 'current-context: a\n')
  expect(agent(...access).stderr).toMatch(/no context named "a"/)
})
