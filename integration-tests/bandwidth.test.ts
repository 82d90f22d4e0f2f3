import { existsSync } from 'node:fs'
import { expect, test } from 'vitest'
import { type CniCall, type Container, createHost, type Host, referencePlugins, requireTool } from './host.ts'

/** A host with containers as ptp would leave them: a veth link each, addresses on both ends. */
function prepare(count = 1): { host: Host; containers: Container[] } {
  const host = createHost()
  const containers = Array.from({ length: count }, (_, i) => {
    const container = host.addContainer(`c${i + 1}`)
    host.sh(`ip link add v${i + 1} mtu 1400 type veth peer name eth0 netns c${i + 1}
             ip link set v${i + 1} up
             ip address add 10.7.${i + 1}.1/24 dev v${i + 1}`)
    container.sh(`ip link set eth0 mtu 1400 up
                  ip address add 10.7.${i + 1}.2/24 dev eth0`)
    return container
  })
  return { host, containers }
}

const config = (keys: object, { cniVersion = '1.1.0', id = 1 } = {}) => ({
  cniVersion,
  name: 'lab',
  type: 'bandwidth',
  ...keys,
  prevResult: {
    cniVersion,
    interfaces: [{ name: `v${id}` }, { name: 'eth0', sandbox: `/run/netns/c${id}` }],
    ips: [{ address: `10.7.${id}.2/24`, interface: 1 }],
  },
})

function call(
  host: Host,
  command: string,
  keys: object,
  { id = 1, ...options }: { id?: number } & Partial<CniCall> = {},
) {
  const attachment = { containerId: `c${id}`, netns: `/run/netns/c${id}`, ifName: 'eth0' }
  return host.cni('bandwidth', command, { ...attachment, config: config(keys, { id }), ...options })
}

const bare = { cniVersion: '1.1.0', name: 'lab', type: 'bandwidth' }
const both = { ingressRate: 10_000_000, ingressBurst: 1_000_000, egressRate: 20_000_000, egressBurst: 2_000_000 }

const qdiscs = (host: Host, link: string) => host.json(['tc', '-j', 'qdisc', 'show', 'dev', link])
const filters = (host: Host, link: string) => host.json(['tc', '-j', 'filter', 'show', 'dev', link, 'ingress'])
const ifbs = (host: Host) => host.json(['ip', '-j', '-d', 'link', 'show', 'type', 'ifb']) ?? []
const state = (host: Host) => [host.snapshot(), qdiscs(host, 'v1'), filters(host, 'v1')]

/** tc counts in bytes and rounds what it computes from the kernel's ticks. */
function expectBucket(host: Host, link: string, [rate, burst]: readonly [number, number]): void {
  const [root] = qdiscs(host, link)
  expect(root).toMatchObject({ kind: 'tbf', handle: '1:', root: true, options: { rate } })
  expect(Math.abs(root.options.burst - burst)).toBeLessThanOrEqual(1 + burst / 1e6)
  expect(Math.abs(root.options.lat - 25_000)).toBeLessThanOrEqual(1) // microseconds
}

test('ADD limits both directions, CHECK verifies, DEL removes', (context) => {
  requireTool('tc', context)
  const { host } = prepare()
  using _ = host
  const before = state(host)
  const { json } = call(host, 'ADD', both)
  const [ifb] = ifbs(host)
  expect(ifb).toMatchObject({ mtu: 1400, ifalias: 'ns-net:lab:c1:eth0', flags: expect.arrayContaining(['UP']) })
  expect(ifb.ifname).toMatch(/^bwp[0-9a-f]{12}$/)
  expect(json.interfaces[2]).toEqual({ name: ifb.ifname, mac: ifb.address, mtu: 1400 })
  expect(json.interfaces).toHaveLength(3)
  expectBucket(host, 'v1', [1_250_000, 125_000])
  expectBucket(host, ifb.ifname, [2_500_000, 250_000])
  expect(qdiscs(host, 'v1')[1]).toMatchObject({ kind: 'ingress', handle: 'ffff:' })
  expect(filters(host, 'v1').at(-1)).toMatchObject({
    protocol: 'all',
    kind: 'u32',
    options: {
      match: { value: '0', mask: '0' },
      actions: [{ kind: 'mirred', mirred_action: 'redirect', direction: 'egress', to_dev: ifb.ifname }],
    },
  })

  const damage = [
    [
      'tc qdisc replace dev v1 root handle 1: tbf rate 9mbit burst 125000 limit 156250',
      'the limit of "v1" is 1125000 bytes/s',
    ],
    ['tc qdisc change dev v1 root tbf rate 10mbit burst 125000 limit 156251', 'and 156251 bytes of queue, expected'],
    ['tc qdisc change dev v1 root tbf rate 10mbit burst 125100 limit 156250', 'the limit of "v1" is 1250000 bytes/s'],
    ['tc qdisc delete dev v1 root', '"v1" has no token bucket'],
    [`tc qdisc delete dev ${ifb.ifname} root`, `"${ifb.ifname}" has no token bucket`],
    ['tc filter delete dev v1 ingress', `"v1" redirects nothing to "${ifb.ifname}"`, 'tc qdisc delete dev v1 ingress'],
    ['tc qdisc delete dev v1 ingress', `"v1" redirects nothing to "${ifb.ifname}"`],
    [`ip link set ${ifb.ifname} down`, `link "${ifb.ifname}" is down`],
    [`ip link delete ${ifb.ifname}`, `link "${ifb.ifname}" is gone`],
  ]
  call(host, 'CHECK', both)
  for (const [break_, message, worse = 'true'] of damage) {
    host.sh(break_!)
    const failed = call(host, 'CHECK', both, { expectFailure: true })
    expect(failed.json).toMatchObject({ code: 104, msg: expect.stringContaining(message!) })
    host.sh(worse)
    call(host, 'DEL', both)
    expect(state(host)).toEqual(before)
    call(host, 'ADD', both)
  }
  for (const _time of [1, 2]) call(host, 'DEL', both)
  expect(state(host)).toEqual(before)
})

test('one direction only, and none', (context) => {
  requireTool('tc', context)
  const { host } = prepare()
  using _ = host
  const before = state(host)
  const inwards = { ingressRate: 8_000_000, ingressBurst: 80_000 }
  expect(call(host, 'ADD', inwards).json.interfaces).toHaveLength(2)
  expectBucket(host, 'v1', [1_000_000, 10_000])
  expect(ifbs(host)).toEqual([])
  call(host, 'CHECK', inwards)
  call(host, 'DEL', {})
  const outwards = { egressRate: 8_000_000, egressBurst: 80_000 }
  expect(call(host, 'ADD', outwards).json.interfaces).toHaveLength(3)
  expect(qdiscs(host, 'v1')[0].kind).toBe('noqueue')
  call(host, 'CHECK', outwards)
  call(host, 'DEL', {})
  for (const command of ['ADD', 'CHECK', 'DEL']) call(host, command, { runtimeConfig: { bandwidth: {} } })
  expect(state(host)).toEqual(before)
})

test('what containerd sends: capital letters, the largest burst, DEL with nothing but names', (context) => {
  requireTool('tc', context)
  const { host } = prepare()
  using _ = host
  const before = state(host)
  const bandwidth = { IngressRate: 1e6, IngressBurst: 4294967295, EgressRate: 1e9, EgressBurst: 4294967295 }
  const conf = { runtimeConfig: { bandwidth } }
  call(host, 'ADD', conf, { args: 'IgnoreUnknown=1;K8S_POD_NAME=web' })
  const [{ ifname }] = ifbs(host)
  expectBucket(host, ifname, [125_000_000, 536_870_911])
  expect(qdiscs(host, 'v1')[0].options.rate).toBe(125_000)
  call(host, 'CHECK', conf)
  call(host, 'DEL', {}, { config: bare, netns: undefined })
  expect(ifbs(host)).toEqual([])
  host.sh('tc qdisc delete dev v1 root; tc qdisc delete dev v1 ingress')
  expect(state(host)).toEqual(before)
})

test('two networks and two interfaces of one container; GC deletes what is stale', (context) => {
  requireTool('tc', context)
  const { host } = prepare(2)
  using _ = host
  const second = { ...config(both, { id: 2 }), name: 'lab-2' }
  call(host, 'ADD', both)
  // One container id in both, as with a container that is connected to two networks.
  host.cni('bandwidth', 'ADD', { config: second, containerId: 'c1', netns: '/run/netns/c2', ifName: 'eth0' })
  host.sh('ip link add mine type ifb')
  const aliases = () =>
    ifbs(host)
      .map(({ ifalias, ifname }: { ifalias?: string; ifname: string }) => ifalias ?? ifname)
      .sort()
  const all = ['mine', 'ns-net:lab-2:c1:eth0', 'ns-net:lab:c1:eth0']
  expect(aliases()).toEqual(all)
  const collect = (valid: object[]) =>
    host.cni('bandwidth', 'GC', { config: { ...bare, 'cni.dev/valid-attachments': valid } })
  collect([{ containerID: 'c1', ifname: 'eth0' }])
  expect(aliases()).toEqual(all)
  collect([{ containerID: 'c1', ifname: 'eth1' }])
  expect(aliases()).toEqual(all.slice(0, 2))
})

test('an ADD that is refused leaves nothing', (context) => {
  requireTool('tc', context)
  const { host } = prepare()
  using _ = host
  const refused = (message: string, options: object = {}) => {
    const before = state(host)
    const { json } = call(host, 'ADD', both, { ...options, expectFailure: true })
    expect(json.msg).toContain(message)
    expect(state(host)).toEqual(before)
  }
  refused('no end of "eth7" in /run/netns/c1 is known on the host', { ifName: 'eth7' })
  const unreported = { ...config(both), prevResult: { cniVersion: '1.1.0', interfaces: [{ name: 'v9' }] } }
  refused('no end of "eth0" in /run/netns/c1 is known on the host', { config: unreported })
  refused('Required prevResult missing', { config: { ...bare, ...both } })
  refused('incompatible CNI versions', { config: config(both, { cniVersion: '0.2.0' }) })
  host.sh('tc qdisc add dev v1 ingress')
  refused('limited already: "v1" has an ingress qdisc')
  host.sh('tc qdisc delete dev v1 ingress; tc qdisc add dev v1 root tbf rate 1mbit burst 10000 limit 20000')
  refused('limited already: "v1" has a root qdisc')
})

test.for([
  ['both directions', both, /: link "bwp[0-9a-f]{12}" exists on the host$/],
  ['inwards', { ingressRate: 8_000_000, ingressBurst: 80_000 }, /: "v1" has a root qdisc$/],
  ['outwards', { egressRate: 8_000_000, egressBurst: 80_000 }, /: link "bwp[0-9a-f]{12}" exists on the host$/],
] as const)(
  'a second ADD of an attachment is a conflict, and the first one stays: %s',
  ([, limits, obstacle], context) => {
    requireTool('tc', context)
    const { host } = prepare()
    using _ = host
    const before = state(host)
    call(host, 'ADD', limits)
    const limited = state(host)
    const { json } = call(host, 'ADD', limits, { expectFailure: true })
    expect(json).toMatchObject({ code: 103, msg: expect.stringMatching(obstacle) })
    expect(json.msg).toMatch(/^interface eth0 of container c1 in network "lab" is limited already: /)
    expect(json.details).toMatch(/^an earlier ADD was not undone: run DEL first/)
    expect(state(host)).toEqual(limited)
    call(host, 'CHECK', limits)
    call(host, 'DEL', limits)
    expect(state(host)).toEqual(before)
  },
)

/** Seconds that 1.5 MB take from one place to the other. */
function transfer(host: Host, direction: 'in' | 'out'): number {
  const [container, outside] = [['ip', 'netns', 'exec', 'c1'], [] as string[]]
  const [from, to, address] = direction === 'in' ? [outside, container, '10.7.1.2'] : [container, outside, '10.7.1.1']
  const receive = [...to, 'socat', '-u', 'TCP-LISTEN:7000,reuseaddr', '/dev/null']
  const send = [...from, 'socat', '-u', 'OPEN:/run/data', `TCP:${address}:7000,retry=50,interval=0.05`]
  const script = `head -c 1500000 /dev/zero >/run/data
    ${receive.join(' ')} & receiver=$!
    start=$(date +%s%N)
    ${send.join(' ')}
    wait $receiver
    echo $((($(date +%s%N) - start) / 1000000))`
  return Number(host.sh(script).stdout.trim()) / 1000
}

test.each(['in', 'out'] as const)('packets on their way %s take the time that the limit says', (direction) => {
  const { host } = prepare()
  using _ = host
  const limit = { rate: 10_000_000, burst: 800_000 }
  const name = direction === 'in' ? 'ingress' : 'egress'
  call(host, 'ADD', { [`${name}Rate`]: limit.rate, [`${name}Burst`]: limit.burst })
  const ideal = (1_500_000 * 8 - limit.burst) / limit.rate
  expect(transfer(host, direction)).toBeGreaterThan(0.5 * ideal)
  const free = transfer(host, direction === 'in' ? 'out' : 'in')
  expect(free).toBeLessThan(10) // it gets through at all
})

test.runIf(existsSync(`${referencePlugins}/bandwidth`))('tc shows what the reference plugin would have made', () => {
  const { host } = prepare(2)
  using _ = host
  call(host, 'ADD', both)
  const conf = config(both, { id: 2, cniVersion: '1.0.0' })
  call(host, 'ADD', both, { id: 2, config: conf, path: referencePlugins })
  const [ours, theirs] = ifbs(host)
    .sort((a: { ifalias?: string }) => (a.ifalias ? -1 : 1))
    .map(({ ifname }: { ifname: string }) => ifname)
  for (const [one, other] of [
    ['v1', 'v2'],
    [ours, theirs],
  ]) {
    const [{ options: a }, { options: b }] = [qdiscs(host, one!)[0], qdiscs(host, other!)[0]]
    expect(a.rate).toBe(b.rate)
    expect(a.burst / b.burst).toBeCloseTo(1, 3)
    expect(a.lat / b.lat).toBeCloseTo(1, 2)
  }
  const filter = ({ options: { match, actions } }: { options: { match: object; actions: { kind: string }[] } }) => ({
    match,
    kind: actions[0]?.kind,
  })
  expect(filter(filters(host, 'v1').at(-1))).toEqual(filter(filters(host, 'v2').at(-1)))
})
