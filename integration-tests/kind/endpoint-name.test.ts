import { beforeEach, expect, test } from 'vitest'
import { type Place, requireTool } from '../host.ts'
import { inside } from '../inside.ts'
import { serveNames } from './name-server.ts'
import {
  addressesOf,
  agentRoutes,
  type Cluster,
  controlPlane,
  createCluster,
  eventually,
  gateways,
  hasConfiguration,
  type Node,
} from './nodes.ts'

/*
 * The API server by a name, as `ns-net kind manifest --cluster` has it: a node of kind knows the control plane's name by
 * docker's resolver, and the control plane itself by /etc/hosts.
 */

beforeEach((context) => {
  for (const tool of ['nft', 'openssl', 'curl']) requireTool(tool, context)
})

const endpoint = `${controlPlane}:6443`

const knowsNode2 = ({ host }: Node) => agentRoutes(host).includes(`10.244.2.0/24 ${addressesOf(2)[0]}`)
const problems = ({ log }: Node): string[] =>
  log
    .filter(({ event, subject }) => event === 'problem' && subject === 'API server')
    .map(({ message }) => String(message))
const ready = (place: Place): string =>
  place.run(['curl', '-s', '-w', ' %{http_code}', 'http://127.0.0.1:19090/readyz'], { expectFailure: 'maybe' }).stdout

function nodeOf(
  cluster: Cluster,
  { hosts = '127.0.0.1 localhost', options = 'options timeout:1 attempts:1\n' } = {},
): Node {
  const node = cluster.addNode('n1', 1)
  cluster.addNode('n2', 2)
  node.host.run(['tee', '/etc/hosts'], { input: `${hosts}\n` })
  node.host.run(['tee', '/etc/resolv.conf'], { input: `nameserver ${gateways[4]}\n${options}` })
  return node
}

test('a name of /etc/hosts', async () => {
  using cluster = createCluster()
  const node = nodeOf(cluster, { hosts: `${gateways[4]} ${controlPlane}` })
  node.startAgentAt(endpoint)
  await eventually('routes', () => knowsNode2(node))
  expect(node.log[0]).toMatchObject({ event: 'started', server: `https://${endpoint}` })
  expect(problems(node)).toEqual([])
})

test.each([4, 6] as const)('a name that a resolver knows, IPv%s', async (family) => {
  using cluster = createCluster()
  using dns = inside(cluster.fabric, () => serveNames(gateways[4]))
  dns.names.set(controlPlane, [gateways[family]])
  const node = nodeOf(cluster)
  node.startAgentAt(endpoint)
  await eventually('routes', () => knowsNode2(node))
  expect(dns.asked).toContain(controlPlane)
  expect(problems(node)).toEqual([])
})

test('a name that nobody knows is told of, and tried again until somebody does', async () => {
  using cluster = createCluster()
  using dns = inside(cluster.fabric, () => serveNames(gateways[4]))
  const node = nodeOf(cluster)
  node.startAgentAt(endpoint)
  await eventually('what is wrong', () => problems(node).length > 0)
  expect(problems(node)).toEqual([
    expect.stringContaining(`https://${endpoint}: the name ${controlPlane} cannot be resolved: no resolver knows it`),
  ])
  expect(ready(node.host)).toBe(`no contact to the API server https://${endpoint}\n 503`)
  expect(hasConfiguration(node)).toBe(false)
  const before = dns.asked.length
  await eventually('another question', () => dns.asked.length > before + 1)
  expect(problems(node)).toHaveLength(1) // told once

  dns.names.set(controlPlane, [gateways[4]])
  await eventually('routes', () => knowsNode2(node))
  await eventually('the end of the problem', () => node.log.some(({ event }) => event === 'resolved'))
  await eventually('ready', () => ready(node.host) === 'ok\n 200')
})

test('a resolver that is not there is told of, and tried again until it is', async () => {
  using cluster = createCluster()
  const node = nodeOf(cluster)
  node.startAgentAt(endpoint)
  await eventually('what is wrong', () => problems(node).length > 0)
  expect(problems(node)[0]).toContain(`the name ${controlPlane} cannot be resolved: no resolver answered`)
  using dns = inside(cluster.fabric, () => serveNames(gateways[4]))
  dns.names.set(controlPlane, [gateways[4]])
  await eventually('routes', () => knowsNode2(node))
})

test('a resolver that is silent for longer than the agent waits', async () => {
  using cluster = createCluster()
  using dns = inside(cluster.fabric, () => serveNames(gateways[4]))
  dns.names.set(controlPlane, [gateways[4]])
  dns.silent = true
  const node = nodeOf(cluster, { options: '' })
  node.startAgentAt(endpoint)
  await eventually('what is wrong', () => problems(node).length > 0)
  expect(problems(node)[0]).toMatch(/no answer within 10 s, with the time that the name lab-control-plane took/)
  dns.silent = false
  await eventually('routes', () => knowsNode2(node))
})

test('a name that the certificate does not have is refused', async () => {
  using cluster = createCluster()
  const node = nodeOf(cluster, { hosts: `${gateways[4]} impostor ${controlPlane}` })
  node.startAgentAt('impostor:6443')
  await eventually('what is wrong', () => problems(node).length > 0)
  expect(problems(node)[0]).toMatch(/impostor:6443: .*(altnames|ERR_TLS_CERT_ALTNAME_INVALID)/)
  expect(hasConfiguration(node)).toBe(false)
  expect(cluster.api.requests).toEqual([]) // the token was not sent
})

test('the name gets another address: the agent follows', async () => {
  using cluster = createCluster()
  using dns = inside(cluster.fabric, () => serveNames(gateways[4]))
  cluster.fabric.sh('ip address add 172.18.0.99/16 dev kind0')
  dns.names.set(controlPlane, ['172.18.0.99'])
  const node = nodeOf(cluster)
  node.startAgentAt(endpoint)
  await eventually('routes', () => knowsNode2(node))
  dns.names.set(controlPlane, [gateways[4]])
  cluster.fabric.sh('ip address del 172.18.0.99/16 dev kind0')
  cluster.api.setNode('n3', { podCIDRs: ['10.244.3.0/24'], addresses: addressesOf(3) })
  await eventually('news', () => agentRoutes(node.host).includes(`10.244.3.0/24 ${addressesOf(3)[0]}`))
})
