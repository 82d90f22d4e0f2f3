import { expect, test } from 'vitest'
import { cidr, formatCidr } from '../../netlink-lib/ip.ts'
import { routeTypes } from '../../netlink-lib/route/wire.ts'
import { configurationFor } from './configuration.ts'
import { toClusterNode } from './nodes.ts'
import { planFor } from './plan.ts'
import { changesOf, protocol, wantedRoutes } from './routes.ts'

/** A Node object with what the API server says besides. */
const node = (name: string, podCIDRs: readonly string[] | undefined, ...addresses: string[]) =>
  toClusterNode({
    metadata: { name, uid: '1', labels: {} },
    spec: { podCIDR: podCIDRs?.[0], podCIDRs, providerID: `kind://docker/kind/${name}` },
    status: {
      addresses: [
        ...addresses.map((address) => ({ type: 'InternalIP', address })),
        { type: 'ExternalIP', address: '198.51.100.1' },
        { type: 'Hostname', address: name },
      ],
      conditions: [],
    },
  })

const dual = [
  node('a', ['10.244.1.0/24', 'fd00:10:244:1::/64'], '172.18.0.2', 'fc00:f853::2'),
  node('b', ['10.244.2.0/24', 'fd00:10:244:2::/64'], '172.18.0.3', 'fc00:f853::3'),
  node('new', undefined, '172.18.0.4', 'fc00:f853::4'),
]

test('a route to each range of the others, by the address of its family', () => {
  const plan = planFor(dual, 'a', [cidr('192.0.2.0/24')])!
  expect(plan.podRanges.map(formatCidr)).toEqual(['10.244.1.0/24', 'fd00:10:244:1::/64'])
  expect(plan.routes.map(({ range, gateway }) => `${formatCidr(range)} via ${gateway}`)).toEqual([
    '10.244.2.0/24 via 172.18.0.3',
    'fd00:10:244:2::/64 via fc00:f853::3',
  ])
  expect(plan.unmasqueraded.map(formatCidr)).toContain('192.0.2.0/24')
  expect(plan.unmasqueraded.map(formatCidr)).toContain('172.18.0.4/32')
  expect(plan.unmasqueraded.map(formatCidr)).not.toContain('198.51.100.1/32')
  expect(plan.problems).toEqual([])
})

test('the order of the nodes does not matter', () => {
  const [one, other] = [dual, dual.toReversed()].map((nodes) => planFor(nodes, 'a', [])!.unmasqueraded)
  expect(one).toEqual(other)
})

test('a node without a range: no pods yet, the routes to the others all the same', () => {
  const plan = planFor(dual, 'new', [])!
  expect(plan.podRanges).toEqual([])
  expect(plan.routes).toHaveLength(4)
})

test('a cluster that does not know this node says nothing', () => {
  expect(planFor(dual, 'other', [])).toBeUndefined()
  expect(planFor([], 'a', [])).toBeUndefined()
})

test.each([
  [node('c', ['10.244.1.128/25'], '172.18.0.5'), "10.244.1.128/25 of node c overlaps this node's own range"],
  [node('c', ['10.244.0.0/16'], '172.18.0.5'), "10.244.0.0/16 of node c overlaps this node's own range"],
  [node('c', ['10.244.2.0/24'], '172.18.0.5'), '10.244.2.0/24 belongs to nodes b and c; the first one gets it'],
  [node('c', ['fd00:10:244:9::/64'], '172.18.0.5'), 'node c has no InternalIP of IPv6 for fd00:10:244:9::/64'],
])('what cannot be routed is told of: %j', (third, problem) => {
  const plan = planFor([...dual, third], 'a', [])!
  expect(plan.problems).toEqual([problem])
  expect(plan.routes).toEqual(planFor(dual, 'a', [])!.routes)
})

test('what makes no sense in a node is as if it were not there', () => {
  expect(toClusterNode({})).toEqual({ name: '', podRanges: [], addresses: [] })
  const strange = node('x', ['10.244.0.0', 'all'], 'host.example', '::ffff:10.0.0.1')
  expect(strange).toEqual({ name: 'x', podRanges: [], addresses: ['10.0.0.1'] })
  expect(
    toClusterNode({ metadata: { name: 'old' }, spec: { podCIDR: '10.1.2.3/24' } }).podRanges.map(formatCidr),
  ).toEqual(['10.1.2.0/24'])
})

test('routes: the right one stays, ours that is wrong goes, those of others always stay', () => {
  const wanted = wantedRoutes(planFor(dual, 'a', [])!.routes.slice(0, 1), [cidr('10.244.1.0/24')])
  const route = (dst: string, gateway: string, by = protocol) => ({
    dst: cidr(dst),
    gateway,
    protocol: by,
    type: routeTypes.unicast,
  })
  const refusing = { dst: cidr('10.244.1.0/24'), protocol, type: routeTypes.unreachable, priority: 4096 }
  const nothing = { add: [], remove: [] }
  expect(changesOf(wanted, [route('10.244.2.0/24', '172.18.0.3'), refusing])).toEqual(nothing)
  expect(changesOf(wanted, [route('10.244.2.0/24', '172.18.0.3', 4), refusing])).toEqual(nothing)

  const wrong = route('10.244.2.0/24', '172.18.0.9')
  const stale = route('10.244.7.0/24', '172.18.0.7')
  const theirs = route('10.244.8.0/24', '172.18.0.8', 4)
  expect(changesOf(wanted, [wrong, stale, theirs, refusing])).toEqual({ add: [wanted[0]], remove: [wrong, stale] })
})

test('configuration: the whole file, byte for byte', () => {
  const list = {
    cniVersion: '1.0.0',
    cniVersions: ['0.3.1', '0.4.0', '1.0.0', '1.1.0'],
    name: 'ns-net',
    plugins: [
      {
        type: 'veth',
        mtu: 1450,
        ipam: {
          type: 'host-local',
          dataDir: '/run/ns-net/ipam',
          ranges: [[{ subnet: '10.244.1.0/24' }], [{ subnet: 'fd00:10:244:1::/64' }]],
          routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
        },
      },
      { type: 'portmap', capabilities: { portMappings: true } },
    ],
  }
  const ranges = planFor(dual, 'a', [])!.podRanges
  expect(configurationFor(ranges, { mode: 'veth', mtu: 1450 })).toBe(`${JSON.stringify(list, undefined, 2)}\n`)

  const [link, portmap] = list.plugins
  const chaotic = JSON.parse(configurationFor(ranges, { mode: 'veth', mtu: 1450, chaos: true }))
  expect(chaotic.plugins).toEqual([{ type: 'chaos', plugin: link }, portmap])
})

test('on a bridge pods send everything through the gateway, and take no advice against it', () => {
  const { plugins } = JSON.parse(configurationFor([cidr('10.244.1.0/24')], { mode: 'bridge' }))
  expect(plugins).toMatchObject([
    {
      type: 'bridge',
      isGateway: true,
      hairpinMode: true,
      ipam: {
        routes: [
          { dst: '0.0.0.0/0' },
          { dst: '10.244.1.1/32', scope: 253 },
          { dst: '10.244.1.0/25', gw: '10.244.1.1' },
          { dst: '10.244.1.128/25', gw: '10.244.1.1' },
        ],
      },
    },
    { type: 'tuning', sysctl: { 'net.ipv4.conf.IFNAME.accept_redirects': '0' } },
    { type: 'portmap' },
  ])
  expect(plugins[0]).not.toHaveProperty('mtu')
  expect(JSON.stringify(plugins)).not.toContain('ipv6')
})
