import { once } from 'node:events'
import { expect, test } from 'vitest'
import { createHost, executables, type Host } from './host.ts'

const nsNet = (host: Host, ...args: string[]) => host.run([`${executables}/ns-net`, ...args]).stdout
const report = (host: Host) => JSON.parse(nsNet(host, 'chaos', 'report', '--json'))

const ipam = { type: 'host-local', subnet: '10.7.0.0/24' }
const bridge = { type: 'bridge', bridge: 'br0', isGateway: true, ipam }
const head = { cniVersion: '1.1.0', name: 'lab' }
const standIn = (rules: object[], more: object = {}) => ({ ...head, type: 'chaos', plugin: bridge, rules, ...more })
const chained = (rules: object[], prevResult: object, more: object = {}) => ({
  ...head,
  type: 'chaos',
  rules,
  prevResult,
  ...more,
})
const podArgs = (pod: string, namespace = 'default') =>
  `IgnoreUnknown=1;K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${pod}`

/** A container with an interface, made by `config`; what the plugin printed. */
function attach(host: Host, name: string, config: object, more: object = {}) {
  const { path } = host.addContainer(name)
  return host.cni('chaos', 'ADD', {
    config,
    containerId: name,
    netns: path,
    ifName: 'eth0',
    args: podArgs(name),
    ...more,
  })
}

const detach = (host: Host, name: string, config: object, more: object = {}) =>
  host.cni('chaos', 'DEL', {
    config,
    containerId: name,
    netns: `/run/netns/${name}`,
    ifName: 'eth0',
    args: podArgs(name),
    ...more,
  })

const reaches = (host: Host, from: string, to: string, count = 1) =>
  host.run(['ip', 'netns', 'exec', from, 'ping', `-c${count}`, '-i0.01', '-W1', to], { expectFailure: 'maybe' })

test('without rules the plugin that it stands in for works as ever, and nothing is kept', () => {
  using host = createHost()
  const config = standIn([])
  const { json } = attach(host, 'c1', config)
  expect(json.ips).toMatchObject([{ address: '10.7.0.2/24' }])
  const call = { config: { ...config, prevResult: json }, containerId: 'c1', netns: '/run/netns/c1', ifName: 'eth0' }
  host.cni('chaos', 'CHECK', call)
  host.cni('chaos', 'STATUS', { config })
  detach(host, 'c1', config)
  expect(host.run(['ip', '-n', 'c1', 'link', 'show', 'eth0'], { expectFailure: true }).status).toBe(1)
  expect(report(host)).toEqual([])
  expect(host.run(['nft', 'list', 'ruleset']).stdout).toBe('')
})

test('an error before the work leaves nothing, one after it leaves all of it for DEL', () => {
  using host = createHost()
  const early = standIn([{ id: 'early', fault: { error: { code: 11, message: 'busy today' } } }])
  const refused = attach(host, 'c1', early, { expectFailure: true })
  expect(refused.json).toMatchObject({ code: 11, msg: 'busy today' })
  expect(host.json(['ip', '-j', '-n', 'c1', 'link'])).toHaveLength(1)
  const late = standIn([{ id: 'late', fault: { error: { code: 999, afterwards: true } } }])
  expect(attach(host, 'c2', late, { expectFailure: true }).json).toMatchObject({ code: 999 })
  expect(host.run(['ip', '-n', 'c2', 'addr']).stdout).toContain('10.7.0.2/24')
  detach(host, 'c2', late)
  expect(host.json(['ip', '-j', '-n', 'c2', 'link'])).toHaveLength(1)
  expect(report(host)).toMatchObject([
    { rule: 'early', fault: 'error', verb: 'ADD', container: 'c1', pod: 'c1', namespace: 'default' },
    { rule: 'late', fault: 'error', verb: 'ADD', container: 'c2' },
  ])
})

test('the report says who it was, as far as the runtime says it', () => {
  using host = createHost()
  const config = { ...head, type: 'chaos', rules: [{ id: 'no', fault: { error: 11 } }] }
  const { path } = host.addContainer('c')
  const containerId = '0123456789abcdef0123456789abcdef'
  // Kubernetes, podman, and one that says nothing.
  for (const args of ['K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web', 'K8S_POD_NAME=web', 'IgnoreUnknown=1'])
    host.cni('chaos', 'ADD', { config, containerId, netns: path, ifName: 'eth0', args, expectFailure: true })
  const who = nsNet(host, 'chaos', 'report').trim().split('\n').slice(1)
  expect(who.map((line) => line.split(/\s+/).at(-1))).toEqual(['shop/web', 'web', '0123456789ab'])
})

test('the same seed gives the same faults, another seed others, and so many of them as asked', () => {
  const strikes = (seed: number): boolean[] => {
    using host = createHost()
    const config = { ...head, type: 'chaos', seed, rules: [{ id: 'maybe', probability: 0.5, fault: { error: 11 } }] }
    const { path } = host.addContainer('c')
    return Array.from({ length: 24 }, (_, i) => {
      const call = { config, containerId: `c${Math.random()}`.replace('.', ''), netns: path, ifName: `eth${i}` }
      return host.cni('chaos', 'ADD', { ...call, expectFailure: 'maybe' }).status !== 0
    })
  }
  const first = strikes(1)
  expect(strikes(1)).toEqual(first)
  expect(strikes(2)).not.toEqual(first)
  expect(first.filter(Boolean).length).toBeGreaterThan(4)
  expect(first.filter(Boolean).length).toBeLessThan(20)
})

test('rules choose by pod, namespace, label, number and time', () => {
  using host = createHost()
  const rules = [
    { id: 'web', match: { pod: 'web-*', namespace: 'shop' }, count: 1, fault: { error: 11 } },
    { id: 'red', match: { labels: { color: 'r?d' } }, fault: { error: 5 } },
    { id: 'past', until: '2020-01-01T00:00:00Z', fault: { error: 6 } },
    { id: 'future', after: '2120-01-01T00:00:00Z', fault: { error: 6 } },
  ]
  const config = { ...head, type: 'chaos', rules }
  const { path } = host.addContainer('c')
  const code = (args: string, labels?: object[]) =>
    host.cni('chaos', 'ADD', {
      config: { ...config, args: labels && { cni: { labels } } },
      containerId: 'c',
      netns: path,
      ifName: 'eth0',
      args,
      expectFailure: 'maybe',
    }).json.code
  expect(code(podArgs('web-1'))).toBeUndefined()
  expect(code(podArgs('api-1', 'shop'))).toBeUndefined()
  expect(code(podArgs('web-1', 'shop'))).toBe(11)
  expect(code(podArgs('web-1', 'shop'))).toBeUndefined()
  expect(code(podArgs('x'), [{ key: 'color', value: 'red' }])).toBe(5)
  expect(code(podArgs('x'), [{ key: 'color', value: 'reed' }])).toBeUndefined()
})

test('a call hangs until it is killed, and a delayed one is only late', async () => {
  using host = createHost()
  const { path } = host.addContainer('c1')
  const env = [
    'CNI_COMMAND=ADD',
    'CNI_CONTAINERID=c1',
    `CNI_NETNS=${path}`,
    'CNI_IFNAME=eth0',
    `CNI_PATH=${executables}`,
  ]
  const call = (rules: object[]) => {
    const child = host.start(['env', ...env, `${executables}/chaos`])
    child.stdin!.end(JSON.stringify({ ...head, type: 'chaos', rules }))
    return child
  }
  const hanging = call([{ id: 'stuck', fault: { hang: true } }])
  const late = call([{ id: 'late', fault: { delay: '700ms' } }])
  const began = performance.now()
  const [code] = await once(late, 'exit')
  expect(code).toBe(0)
  expect(performance.now() - began).toBeGreaterThan(600)
  expect(hanging.exitCode).toBeNull()
  expect(
    report(host)
      .map(({ fault }: { fault: string }) => fault)
      .sort(),
  ).toEqual(['delay', 'hang'])
  hanging.kill('SIGKILL')
  await once(hanging, 'exit')
})

test('results that lie', () => {
  using host = createHost()
  const lie = (name: string, result: string) => attach(host, name, standIn([{ id: result, fault: { result } }])).json
  expect(lie('c1', 'missing-ip').ips).toBeUndefined()
  expect(lie('c2', 'wrong-version').cniVersion).toBe('9.9.9')
  const third = lie('c3', 'duplicate-address')
  const real = host.run(['ip', '-n', 'c3', '-br', 'addr', 'show', 'dev', 'eth0']).stdout
  expect(real).toContain('10.7.0.4/24')
  expect(['10.7.0.2/24', '10.7.0.3/24']).toContain(third.ips[0].address)
})

test('a dropped DEL keeps link and lease, and GC finds them', () => {
  using host = createHost()
  const config = standIn([{ id: 'forget', count: 1, fault: { drop: true } }])
  attach(host, 'c1', config)
  detach(host, 'c1', config)
  expect(host.run(['ip', '-n', 'c1', 'addr']).stdout).toContain('10.7.0.2/24')
  expect(host.run(['ls', '/var/lib/cni/networks/lab']).stdout).toContain('10.7.0.2')
  host.cni('chaos', 'GC', { config: { ...config, 'cni.dev/valid-attachments': [] } })
  expect(host.run(['ls', '/var/lib/cni/networks/lab']).stdout).not.toContain('10.7.0.2')
  expect(host.json(['ip', '-j', '-n', 'c1', 'link'])).toHaveLength(1)
  expect(report(host)).toMatchObject([{ rule: 'forget', verb: 'DEL', fault: 'drop' }])
})

test('a lossy, slow link, chained behind a real plugin, and nothing of it after DEL', () => {
  using host = createHost()
  const { path } = host.addContainer('c1')
  const call = { containerId: 'c1', netns: path, ifName: 'eth0', args: podArgs('c1') }
  const prevResult = host.cni('bridge', 'ADD', { ...call, config: { ...head, ...bridge } }).json
  const outer = prevResult.interfaces.find(({ name }: { name: string }) => name.startsWith('veth')).name
  const config = chained([{ id: 'bad', fault: { link: { loss: 40, rate: '1mbit' } } }], prevResult)
  expect(host.cni('chaos', 'ADD', { ...call, config }).json).toEqual(prevResult)
  expect(host.json(['tc', '-j', 'qdisc', 'show', 'dev', outer])[0]).toMatchObject({ kind: 'tbf' })
  expect(host.run(['nft', 'list', 'table', 'netdev', 'ns-net-chaos']).stdout).toMatch(
    /numgen random mod 1000 < 400 drop/,
  )
  // ARP gets lost as well, and before it has got through all else would.
  host.sh('for i in $(seq 20); do ip netns exec c1 ping -qc1 -W1 10.7.0.1 && exit; done; exit 1')
  const { stdout } = reaches(host, 'c1', '10.7.0.1', 200)
  const received = Number(/(\d+) received/.exec(stdout)![1])
  expect(received).toBeGreaterThan(40)
  expect(received).toBeLessThan(190)
  host.cni('chaos', 'DEL', { ...call, config })
  expect(host.run(['nft', 'list', 'ruleset']).stdout).toBe('')
  expect(host.json(['tc', '-j', 'qdisc', 'show', 'dev', outer])[0].kind).not.toBe('tbf')
  host.cni('bridge', 'DEL', { ...call, config: { ...head, ...bridge } })
})

test('two pods are cut off from each other and from nobody else, by a rule given at run time', () => {
  using host = createHost()
  const config = standIn([])
  attach(host, 'db', config)
  attach(host, 'other', config)
  nsNet(host, 'chaos', 'add', '--id', 'split', '--pod', 'web', '--partition', 'db')
  attach(host, 'web', config)
  const rules = host.run(['nft', 'list', 'table', 'netdev', 'ns-net-chaos']).stdout
  expect(rules).toContain('ip daddr 10.7.0.2 drop')
  expect(rules).toContain('ip daddr 10.7.0.4 drop')
  expect(reaches(host, 'web', '10.7.0.2').status).toBe(1)
  expect(reaches(host, 'db', '10.7.0.4').status).toBe(1)
  expect(reaches(host, 'web', '10.7.0.3').status).toBe(0)
  expect(reaches(host, 'db', '10.7.0.1').status).toBe(0)
  expect(JSON.parse(nsNet(host, 'chaos', 'ls', '--json'))).toMatchObject([{ id: 'split', asked: 1, struck: 1 }])
  nsNet(host, 'chaos', 'rm', 'split')
  for (const name of ['db', 'other', 'web']) detach(host, name, config)
  expect(host.run(['nft', 'list', 'ruleset']).stdout).toBe('')
})

/** What chaos has of its own: rules in nftables, and where pods are. */
const traces = (host: Host) => ({
  ruleset: host.run(['nft', 'list', 'ruleset']).stdout,
  files: host.run(['find', '/run', '-name', '*chaos*', '-o', '-name', 'placed.json']).stdout,
})

const collect = (host: Host, config: object, valid: readonly string[] = []) =>
  host.cni('chaos', 'GC', {
    config: {
      ...config,
      'cni.dev/valid-attachments': valid.map((containerID) => ({ containerID, ifname: 'eth0' })),
    },
  })

const spoilt = [
  { id: 'bad', match: { pod: 'web' }, fault: { link: { loss: 40, rate: '1mbit' } } },
  { id: 'split', match: { pod: 'web' }, fault: { partition: { pod: 'db' } } },
]

test.each(['is still there', 'went with its pod'])('GC takes chains and notes of a pod whose link %s', (state) => {
  using host = createHost()
  const config = standIn(spoilt)
  attach(host, 'db', config)
  attach(host, 'web', config)
  expect(traces(host).ruleset).toContain('drop')
  if (state === 'went with its pod') host.run(['ip', 'netns', 'del', 'web'])
  collect(host, config, ['db'])
  expect(host.run(['ls', '/var/lib/cni/networks/lab']).stdout).not.toContain('10.7.0.3')
  expect(traces(host).ruleset).toBe('')
  // Whoever gets the address next is not cut off from the other one.
  attach(
    host,
    'heir',
    standIn([], { plugin: { ...bridge, ipam: { type: 'static', addresses: [{ address: '10.7.0.3/24' }] } } }),
  )
  expect(reaches(host, 'db', '10.7.0.3').status).toBe(0)
  for (const name of ['db', 'heir']) detach(host, name, config)
  nsNet(host, 'chaos', 'report', '--clear')
  expect(traces(host)).toEqual({ ruleset: '', files: '' })
})

test('pods that come and go at once, each cut off from all others, leave no rule', async () => {
  using host = createHost()
  const config = standIn([{ id: 'split', fault: { partition: { pod: 'p*' } } }])
  const names = Array.from({ length: 8 }, (_, i) => `p${i}`)
  for (const name of names) host.addContainer(name)
  const atOnce = (verb: 'ADD' | 'DEL') =>
    Promise.all(
      names.map(async (name) => {
        const facts = {
          COMMAND: verb,
          CONTAINERID: name,
          NETNS: `/run/netns/${name}`,
          IFNAME: 'eth0',
          ARGS: podArgs(name),
        }
        const env = Object.entries({ ...facts, PATH: executables }).map(([key, value]) => `CNI_${key}=${value}`)
        const child = host.start(['env', ...env, `${executables}/chaos`])
        child.stdin!.end(JSON.stringify(config))
        const [code] = await once(child, 'exit')
        expect(code).toBe(0)
      }),
    )
  for (let i = 0; i < 3; i++) {
    await atOnce('ADD')
    expect(traces(host).ruleset.match(/daddr .* drop/g)).toHaveLength(8 * 7)
    await atOnce('DEL')
    expect(traces(host).ruleset).toBe('')
  }
  nsNet(host, 'chaos', 'report', '--clear')
  expect(traces(host).files).toBe('')
})

test('GC of a chaos that is first in the list comes before the link goes', () => {
  using host = createHost()
  const { path } = host.addContainer('c1')
  const call = { containerId: 'c1', netns: path, ifName: 'eth0', args: podArgs('c1') }
  const prevResult = host.cni('bridge', 'ADD', { ...call, config: { ...head, ...bridge } }).json
  const config = chained([{ id: 'bad', fault: { link: { loss: 40 } } }], prevResult)
  host.cni('chaos', 'ADD', { ...call, config })
  expect(traces(host).ruleset).toContain('drop')
  collect(host, config)
  expect(traces(host).ruleset).toBe('')
  nsNet(host, 'chaos', 'report', '--clear')
  expect(traces(host).files).toBe('')
})

test('a pod that went by DEL leaves no rule with its address at those it was cut off from', () => {
  using host = createHost()
  const config = standIn([spoilt[1]!, { id: 'lossy', match: { pod: 'db' }, fault: { link: { loss: 1 } } }])
  attach(host, 'db', config)
  attach(host, 'web', config)
  expect(traces(host).ruleset).toContain('ip daddr 10.7.0.3 drop')
  detach(host, 'web', config)
  expect(traces(host).ruleset).not.toContain('10.7.0.3')
  expect(traces(host).ruleset).toContain('< 10 drop') // its own fault stays
  detach(host, 'db', config)
  expect(traces(host).ruleset).toBe('')
})

test.each([
  [{ rules: [{ fault: {} }] }, 'rules[0].fault'],
  [{ rules: [{ fault: { delay: 'soon' } }] }, 'rules[0].fault.delay: expected a duration such as 500ms, 2s or 1m'],
  [{ rules: [{ fault: { hang: true }, probability: 2 }] }, 'rules[0].probability: expected a number from 0 to 1'],
  [{ rules: [{ fault: { drop: true } }] }, 'rules[0].fault.drop: needs "plugin"'],
  [{ rules: [{ fault: { result: 'nonsense' } }] }, 'rules[0].fault.result: expected "missing-ip"'],
  [{ rules: [{ fault: { result: 'missing-ip' }, verbs: ['DEL'] }] }, 'fault "result" cannot happen to DEL'],
  [{ rules: [{ fault: { hang: true }, chance: 1 }] }, 'rules[0].chance: unknown key'],
  [{ plugin: { type: '../sh' } }, 'plugin.type: expected the name of another plugin'],
])('%j is refused', (wrong, words) => {
  using host = createHost()
  const refused = attach(host, 'c1', { ...head, type: 'chaos', ...wrong }, { expectFailure: true })
  expect(refused.json).toMatchObject({ code: 7, msg: expect.stringContaining(words) })
})
