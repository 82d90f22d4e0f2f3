import { statSync } from 'node:fs'
import { beforeEach, expect, type TestContext, test, vi } from 'vitest'
import { requireTool } from '../host.ts'
import {
  addressesOf,
  agentRoutes,
  answers,
  type Cluster,
  clusterOf,
  controlPlane,
  createFabric,
  eventually,
  gateways,
  hasConfiguration,
  type Node,
  writeToken,
} from './nodes.ts'
import { findRealPrograms, type RealApiServer, startRealApiServer } from './real-api-server.ts'

/*
 * What agent.test.ts says of the agent, by a real etcd and kube-apiserver where both are on the machine. Written without a
 * kube-apiserver at hand, which Debian has no package of: it was tried with a real etcd and a program that takes the flags
 * and the requests. The first run with a real one may have to correct flags or waiting times in real-api-server.ts.
 */

vi.setConfig({ testTimeout: 400_000 })

beforeEach((context) => {
  const found = findRealPrograms()
  if (typeof found === 'string') skip(context, found)
  for (const tool of ['ping', 'nft', 'openssl', 'curl']) requireTool(tool, context)
})

/** Under CI as well, unlike the judges of other tests: distributions have no package of it. */
function skip(context: TestContext, reason: string): never {
  console.warn(`skipped: ${context.task.name}: ${reason}`)
  context.skip(reason)
}

type RealCluster = Cluster<RealApiServer>

async function createRealCluster(): Promise<RealCluster> {
  const programs = findRealPrograms()
  if (typeof programs === 'string') throw new Error(programs)
  const fabric = createFabric()
  try {
    return clusterOf(fabric, await startRealApiServer(fabric, programs, [...Object.values(gateways), controlPlane]))
  } catch (error) {
    fabric[Symbol.dispose]()
    throw error
  }
}

function addNode(cluster: RealCluster, n: number, options?: { known?: boolean }): Node {
  const node = cluster.addNode(`n${n}`, n, options)
  writeToken(node, cluster.api.token)
  return node
}

async function twoNodes(cluster: RealCluster): Promise<[Node, Node]> {
  const nodes: [Node, Node] = [addNode(cluster, 1), addNode(cluster, 2)]
  for (const node of nodes) node.startAgent()
  await eventually('both nodes', () => nodes.every((node) => isConfigured(node) && agentRoutes(node.host).length === 4))
  return nodes
}

const isConfigured = ({ log }: Node) => log.some(({ event }) => event === 'configuration written')
const isTold = ({ log }: Node, pattern: RegExp) => log.some(({ message }) => pattern.test(String(message)))

const routesTo = (n: number, at = n): string[] => {
  const [v4, v6] = addressesOf(at)
  return [`10.244.${n}.0/24 ${v4}`, `fd00:10:244:${n}::/64 ${v6}`]
}
/** Of iproute2: 7 is unreachable. */
const ownRoutes = (n: number): string[] => [`10.244.${n}.0/24 7`, `fd00:10:244:${n}::/64 7`]

const hasRoutes = (node: Node, ...wanted: string[][]): boolean =>
  JSON.stringify(agentRoutes(node.host)) === JSON.stringify(wanted.flat().sort())

const rulesOf = ({ host }: Node) => host.run(['nft', '-a', 'list', 'table', 'inet', 'ns-net-agent']).stdout

/** Below the ten seconds after which the agent lists by itself: a watch has to have told it. */
const beforeTheClock = 5000

test('the configuration comes with podCIDRs and not before, with routes and rules', async () => {
  using cluster = await createRealCluster()
  const [n1, n2] = [addNode(cluster, 1, { known: false }), addNode(cluster, 2)]
  n1.startAgent()
  await eventually('what is wrong', () => isTold(n1, /no node "n1"/))
  cluster.api.setNode('n1', { addresses: addressesOf(1) })
  await eventually('what is missing', () => isTold(n1, /^it has no podCIDRs yet$/))
  expect(hasConfiguration(n1)).toBe(false)
  cluster.api.setNode('n1', { podCIDRs: n1.podCIDRs, addresses: addressesOf(1) })
  await eventually('configuration', () => isConfigured(n1))
  const { plugins } = n1.host.json(['cat', '/etc/cni/net.d/10-ns-net.conflist'])
  expect(plugins[0].ipam.ranges).toEqual(n1.podCIDRs.map((subnet) => [{ subnet }]))
  await eventually('routes', () => hasRoutes(n1, ownRoutes(1), routesTo(2)))

  const rules = rulesOf(n1)
  expect(rules.match(/masquerade/g)).toHaveLength(2)
  for (const exempt of ['10.244.1.0/24', '10.244.2.0/24', ...addressesOf(1), ...addressesOf(2)])
    expect(rules).toMatch(new RegExp(`daddr ${exempt} return`))

  n2.startAgentAt(`[${gateways[6]}]:6443`)
  await eventually('configuration of the other', () => isConfigured(n2))
  const [pod, other] = [n1.pod('one'), n2.pod('two')]
  await eventually('pod to pod', () => answers(pod, other.address[4]) && answers(pod, other.address[6]))
})

test('nodes come, change their addresses and go', async () => {
  using cluster = await createRealCluster()
  const [n1, n2] = await twoNodes(cluster)
  cluster.api.setNode('n3', { podCIDRs: ['10.244.3.0/24', 'fd00:10:244:3::/64'], addresses: addressesOf(3) })
  await eventually('routes to a new node', () => hasRoutes(n1, ownRoutes(1), routesTo(2), routesTo(3)), beforeTheClock)
  cluster.api.setNode('n3', { addresses: addressesOf(9) })
  await eventually('routes by the new address', () => hasRoutes(n1, ownRoutes(1), routesTo(2), routesTo(3, 9)))
  await eventually('rules with the new address', () => rulesOf(n1).includes(`ip daddr ${addressesOf(9)[0]} return`))
  expect(rulesOf(n1)).not.toContain(`ip daddr ${addressesOf(3)[0]} return`)
  cluster.api.deleteNode('n3')
  await eventually('no routes to the gone node', () =>
    [hasRoutes(n1, ownRoutes(1), routesTo(2)), hasRoutes(n2, ownRoutes(2), routesTo(1))].every(Boolean),
  )
  expect([n1, n2].flatMap(({ log }) => log).filter(({ event }) => event === 'problem')).toEqual([])
})

test('kube-apiserver is killed and starts again', async () => {
  using cluster = await createRealCluster()
  const [n1] = await twoNodes(cluster)
  const work = () => ({
    routes: agentRoutes(n1.host),
    rules: rulesOf(n1),
    file: statSync(n1.host.file('/etc/cni/net.d/10-ns-net.conflist')).ino,
  })
  const before = work()
  await cluster.api.kill()
  await eventually('the loss', () => isTold(n1, /ECONNREFUSED/))
  expect(work()).toEqual(before)
  await cluster.api.start()
  await eventually('contact', () => n1.log.at(-1)?.event === 'resolved')
  expect(work()).toEqual(before)
  // It lists again, and watches from there on.
  cluster.api.setNode('n3', { podCIDRs: ['10.244.3.0/24', 'fd00:10:244:3::/64'], addresses: addressesOf(3) })
  await eventually('routes to a new node', () => hasRoutes(n1, ownRoutes(1), routesTo(2), routesTo(3)), beforeTheClock)
  cluster.api.deleteNode('n3')
  await eventually('no routes to the gone node', () => hasRoutes(n1, ownRoutes(1), routesTo(2)), beforeTheClock)
})

test('a token that is not valid is told of, and tried again until it is', async () => {
  using cluster = await createRealCluster()
  const n1 = addNode(cluster, 1)
  writeToken(n1, 'nobody')
  n1.startAgent()
  await eventually('refusal', () => isTold(n1, /401 Unauthorized/))
  expect(hasConfiguration(n1)).toBe(false)
  writeToken(n1, cluster.api.token)
  await eventually('configuration', () => isConfigured(n1))
  await eventually('the end of the problem', () => n1.log.some(({ event }) => event === 'resolved'))
  expect(n1.log.filter(({ message }) => /401/.test(String(message))).map(({ event }) => event)).toContain('problem')
})

test("the agent's account reads nodes, and may do nothing else", async () => {
  using cluster = await createRealCluster()
  addNode(cluster, 1)
  const { api } = cluster
  const asAgent = (method: string, path: string, body?: object) => api.call(api.token, method, path, body)
  expect(asAgent('GET', '/api/v1/nodes').body.items).toMatchObject([{ metadata: { name: 'n1' } }])
  expect(asAgent('GET', '/api/v1/nodes/n1').status).toBe(200)
  expect(api.call(api.adminToken, 'GET', '/api/v1/pods').status).toBe(200)
  expect(asAgent('GET', '/api/v1/pods')).toMatchObject({ status: 403, body: { reason: 'Forbidden' } })
  expect(asAgent('GET', '/api/v1/namespaces/kube-system/secrets').status).toBe(403)
  expect(asAgent('PATCH', '/api/v1/nodes/n1', { metadata: { labels: { changed: 'yes' } } }).status).toBe(403)
  expect(asAgent('PATCH', '/api/v1/nodes/n1/status', { status: { addresses: [] } }).status).toBe(403)
  expect(asAgent('DELETE', '/api/v1/nodes/n1').status).toBe(403)
  expect(() => api.setNode('n1', { podCIDRs: ['10.244.9.0/24'], addresses: addressesOf(1) })).toThrow(/422/)
})
