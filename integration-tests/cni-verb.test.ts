import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { describe, expect, type TestContext, test } from 'vitest'
import { buildCnitool } from './cnitool/build.ts'
import { createHost, executables, type Host, type RunOptions, type RunResult, referencePlugins } from './host.ts'
import { kernelState } from './kernel-state.ts'

/*
 * `ns-net cni` runs plugins as libcni does. libcni itself (cnitool/main.go) judges, with plugins that write down how
 * they were called; `ip` judges what the reference plugins made.
 */

const netns = '/run/netns/box'
const containerId = 'box-1'

const cni = (host: Host, args: readonly string[], options: RunOptions = {}): RunResult =>
  host.run([`${executables}/ns-net`, 'cni', ...args], options)

function write(host: Host, file: string, json: object | string): void {
  writeFileSync(host.file(file), typeof json === 'string' ? json : JSON.stringify(json))
}

/** What was written last of the calls of the plugins below, one object for each. */
interface Call {
  readonly env: Readonly<Record<string, string>>
  readonly stdin: Readonly<Record<string, unknown>>
}

/** Plugins that write down how they are called: each prints its result, or what a file named for it and the verb says. */
function addRecorders(host: Host, ...types: string[]): void {
  mkdirSync(host.file('/run/recorders'))
  write(host, '/run/calls', '')
  for (const type of types) {
    const file = `/run/recorders/${type}`
    write(
      host,
      file,
      `#!/bin/sh
      stdin=$(cat)
      env=$(env | grep ^CNI_ | sort | tr '\\n' '|')
      printf '%s\\n' "$env" "$stdin" >>/run/calls
      if [ -e /run/fail-${type}-$CNI_COMMAND ]; then cat /run/fail-${type}-$CNI_COMMAND; exit 1; fi
      [ -e /run/say-${type}-$CNI_COMMAND ] && cat /run/say-${type}-$CNI_COMMAND
      echo "${type} says hello" >&2
      exit 0
      `,
    )
    chmodSync(host.file(file), 0o755)
  }
}

function callsOf(host: Host): Call[] {
  const lines = readFileSync(host.file('/run/calls'), 'utf8').split('\n').slice(0, -1)
  write(host, '/run/calls', '')
  const pairs = lines.flatMap((line, i) => (i % 2 === 0 ? [[line, lines[i + 1] ?? '']] : []))
  return pairs.map(([env = '', stdin = '']) => ({
    env: Object.fromEntries(
      env
        .split('|')
        .filter(Boolean)
        .map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]),
    ),
    stdin: stdin === '' ? {} : JSON.parse(stdin),
  }))
}

const first = {
  interfaces: [{ name: 'br9' }, { name: 'eth0', sandbox: netns }],
  ips: [{ interface: 1, address: '10.9.0.2/24', gateway: '10.9.0.1' }],
  routes: [{ dst: '0.0.0.0/0' }],
  dns: { nameservers: ['10.9.0.1'] },
}

describe('as libcni', () => {
  let cnitool = ''

  /** Both on a host of their own, with the same files: what they print and how they call the plugins. */
  function both(context: TestContext, list: object, prepare: (host: Host) => void = () => {}) {
    cnitool = buildCnitool(context)
    const hosts = [createHost(), createHost()] as const
    for (const host of hosts) {
      host.addContainer('box')
      addRecorders(host, 'one', 'two')
      write(host, '/run/net.conflist', list)
      prepare(host)
    }
    const run = (verb: string, options: RunOptions = {}) => {
      const env = { CNI_PATH: '/run/recorders', CNI_CONTAINERID: containerId, ...options.env }
      const [ours, theirs] = hosts
      const byUs = cni(ours, [verb, '/run/net.conflist', netns, '--container-id', containerId], { ...options, env })
      const byThem = theirs.run([cnitool, verb, '/run/net.conflist', netns], { ...options, env })
      return {
        ours: { status: byUs.status, printed: jsonIn(byUs.stdout), calls: callsOf(ours), cache: cacheOf(ours) },
        theirs: {
          status: byThem.status,
          printed: jsonIn(byThem.stdout),
          calls: callsOf(theirs),
          cache: cacheOf(theirs),
        },
        stderr: byUs.stderr,
        theirStderr: byThem.stderr,
      }
    }
    return { hosts, run, [Symbol.dispose]: () => hosts.forEach((host) => void host[Symbol.dispose]()) }
  }

  const jsonIn = (text: string) => (text.trim() === '' ? undefined : JSON.parse(text))

  /**
   * Without the copy of the configuration, whose keys have another order, and without the namespace, which libcni keeps
   * since 1.2 only; it leaves out a list of no arguments.
   */
  function cacheOf(host: Host): Record<string, unknown> {
    const folder = host.file('/var/lib/cni/results')
    const names = existsSync(folder) ? host.run(['ls', '/var/lib/cni/results']).stdout.split('\n').filter(Boolean) : []
    return Object.fromEntries(
      names.map((name) => {
        const { config, netns: _, cniArgs = [], ...rest } = JSON.parse(readFileSync(`${folder}/${name}`, 'utf8'))
        expect(JSON.parse(Buffer.from(config, 'base64').toString()).name).toBe('net')
        return [name, { cniArgs, ...rest }]
      }),
    )
  }

  for (const cniVersion of ['0.3.1', '0.4.0', '1.0.0'])
    test(`environment, stdin, result and cache are the same, version ${cniVersion}`, {
      timeout: 120_000,
    }, (context) => {
      const result = {
        cniVersion,
        ...first,
        ips: cniVersion === '1.0.0' ? first.ips : [{ version: '4', ...first.ips[0] }],
      }
      const plugins = [
        {
          type: 'one',
          capabilities: { portMappings: true, mac: false, ips: true },
          ipam: { type: 'one' },
          extra: { a: [1] },
        },
        { type: 'two', runtimeConfig: { kept: 1 }, args: { cni: { ips: ['10.9.0.7'] } } },
      ]
      using judged = both(context, { cniVersion, name: 'net', plugins }, (host) => {
        write(host, '/run/say-one-ADD', result)
        write(host, '/run/say-two-ADD', { ...result, dns: { search: ['lab'] } })
      })
      const env = {
        CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAME=box',
        CNI_IFNAME: 'net1',
        CAP_ARGS: JSON.stringify({ portMappings: [{ hostPort: 80, containerPort: 8080 }], mac: '02:00:00:00:00:01' }),
      }
      for (const verb of ['add', 'check', 'del', 'del']) {
        const expectFailure = verb === 'check' && cniVersion === '0.3.1'
        const { ours, theirs, stderr } = judged.run(verb, { env, expectFailure })
        expect(ours).toEqual(theirs)
        if (!expectFailure) expect(stderr).toContain('one says hello')
        if (verb === 'add') expect(ours.calls.map(({ env }) => env.CNI_COMMAND)).toEqual(['ADD', 'ADD'])
      }
    })

  test('failures: the same calls, and what is left for DEL', { timeout: 120_000 }, (context) => {
    const list = { cniVersion: '1.0.0', name: 'net', plugins: [{ type: 'one' }, { type: 'two' }] }
    using judged = both(context, list, (host) => {
      write(host, '/run/say-one-ADD', { cniVersion: '1.0.0', ...first })
      write(host, '/run/fail-two-ADD', {
        cniVersion: '1.0.0',
        code: 123,
        msg: 'no colour left',
        details: 'ask for grey',
      })
    })
    const refused = judged.run('add', { expectFailure: true })
    expect(refused.ours).toEqual(refused.theirs)
    for (const text of [refused.stderr, refused.theirStderr])
      expect(text).toMatch(/"two" failed \(add\): no colour left/)
    expect(refused.stderr).toContain('(CNI error 123)\nhint: ask for grey\n')

    for (const host of judged.hosts) {
      host.run(['rm', '/run/fail-two-ADD'])
      write(host, '/run/say-two-ADD', first) // it tells no version
      write(host, '/run/fail-two-DEL', 'Segmentation fault')
    }
    const added = judged.run('add')
    expect(added.ours).toEqual(added.theirs)
    const kept = judged.run('del', { expectFailure: true })
    expect(kept.ours).toEqual(kept.theirs)
    expect(Object.keys(kept.ours.cache)).toEqual([`net-${containerId}-eth0`])
    for (const host of judged.hosts) host.run(['rm', '/run/fail-two-DEL'])
    const gone = judged.run('del')
    expect(gone.ours).toEqual(gone.theirs)
    expect(gone.ours.cache).toEqual({})
  })

  test('a list of reference plugins only: each takes back what the other made', { timeout: 120_000 }, (context) => {
    if (!existsSync(`${referencePlugins}/bridge`)) context.skip('containernetworking-plugins is not installed')
    const ipam = { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/24' }]], routes: [{ dst: '0.0.0.0/0' }] }
    const plugins = [
      { type: 'bridge', bridge: 'br1', isGateway: true, ipam },
      { type: 'tuning', sysctl: { 'net.ipv4.conf.eth0.log_martians': '1' }, mtu: 1300 },
      { type: 'bandwidth', ingressRate: 8_000_000, ingressBurst: 80_000, capabilities: { bandwidth: true } },
    ]
    using judged = both(context, { cniVersion: '1.0.0', name: 'net', plugins })
    const env = { CNI_PATH: referencePlugins }
    const { ours, theirs } = judged.run('add', { env })
    const [a, b] = judged.hosts.map((host) => kernelState(host))
    expect(withoutRandom(a)).toEqual(withoutRandom(b))
    expect(withoutRandom(ours)).toEqual(withoutRandom(theirs))
    const [us, them] = judged.hosts
    const link = us.json(['ip', '-j', '-n', 'box', 'addr', 'show', 'dev', 'eth0'])[0]
    expect(link).toMatchObject({
      mtu: 1300,
      addr_info: expect.arrayContaining([expect.objectContaining({ local: '10.1.0.2' })]),
    })
    judged.run('check', { env })

    // The other way round.
    const id = { CNI_CONTAINERID: containerId, ...env }
    us.run([cnitool, 'check', '/run/net.conflist', netns], { env: id })
    us.run([cnitool, 'del', '/run/net.conflist', netns], { env: id })
    cni(them, ['check', '/run/net.conflist', 'box', '--container-id', containerId], { env })
    cni(them, ['del', '/run/net.conflist', 'box', '--container-id', containerId], { env })
    for (const host of judged.hosts) {
      expect(
        host.json(['ip', '-j', '-n', 'box', 'link', 'show']).map(({ ifname }: { ifname: string }) => ifname),
      ).toEqual(['lo'])
      expect(host.run(['ls', '/var/lib/cni/results']).stdout).toBe('')
      expect(host.run(['find', '/var/lib/cni/networks', '-name', '10.1.0.2']).stdout).toBe('')
    }
  })
})

const withoutRandom = <T>(value: T): T =>
  JSON.parse(
    JSON.stringify(value)
      .replace(/\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b/g, 'MAC')
      .replace(/\bfe80::[0-9a-f:]+/g, 'LINK-LOCAL')
      .replace(/\bveth[0-9a-f]{8}\b/g, 'VETH')
      .replace(/\bbwp[0-9a-f]{12}\b/g, 'IFB'),
  )

const list = (more: object = {}) => ({
  cniVersion: '1.1.0',
  name: 'net',
  plugins: [{ type: 'one' }, { type: 'two' }],
  ...more,
})
const recorders = { CNI_PATH: '/run/recorders' }

/** A host with the recording plugins and a container. */
function hostWithRecorders(config: object | undefined = list()): Host {
  const host = createHost()
  host.addContainer('box')
  addRecorders(host, 'one', 'two', 'pool')
  for (const type of ['one', 'two']) write(host, `/run/say-${type}-ADD`, { cniVersion: '1.1.0', ...first })
  write(host, '/run/net.conflist', config)
  return host
}

test('defaults: eth0, and the container id that cnitool makes of the path', () => {
  using host = hostWithRecorders()
  const hash = host.sh(`printf %s ${netns} | sha512sum`).stdout.slice(0, 20)
  const expected = { CNI_CONTAINERID: `cnitool-${hash}`, CNI_IFNAME: 'eth0', CNI_NETNS: netns, CNI_ARGS: '' }
  for (const where of ['box', netns, `path:${netns}`]) {
    cni(host, ['add', '/run/net.conflist', where], { env: recorders })
    expect(callsOf(host).map(({ env }) => env)).toMatchObject([expected, expected])
    cni(host, ['check', '/run/net.conflist', where], { env: recorders })
    cni(host, ['del', '/run/net.conflist', where], { env: recorders })
    expect(callsOf(host).map(({ env }) => env)).toMatchObject([expected, expected, expected, expected])
  }
  const sleeper = host.start(['ip', 'netns', 'exec', 'box', 'sleep', '60'])
  cni(host, ['add', '/run/net.conflist', `pid:${sleeper.pid}`, '--if', 'net7'], { env: recorders })
  expect(callsOf(host)[0]!.env).toMatchObject({ CNI_NETNS: `/proc/${sleeper.pid}/ns/net`, CNI_IFNAME: 'net7' })
})

test('options come before the variables of cnitool', () => {
  using host = hostWithRecorders(list({ plugins: [{ type: 'one', capabilities: { mac: true } }] }))
  const env = { ...recorders, CNI_IFNAME: 'a', CNI_ARGS: 'A=1', CAP_ARGS: '{"mac":"02:00:00:00:00:0a"}' }
  cni(host, ['add', '/run/net.conflist', 'box'], { env })
  const options = ['--if', 'b', '--args', 'B=2;C=3', '--capability-args', '{"mac":"02:00:00:00:00:0b"}']
  cni(host, ['add', '/run/net.conflist', 'box', ...options], { env })
  expect(callsOf(host)).toMatchObject([
    { env: { CNI_IFNAME: 'a', CNI_ARGS: 'A=1' }, stdin: { runtimeConfig: { mac: '02:00:00:00:00:0a' } } },
    { env: { CNI_IFNAME: 'b', CNI_ARGS: 'B=2;C=3' }, stdin: { runtimeConfig: { mac: '02:00:00:00:00:0b' } } },
  ])
})

test('where configurations are found: stdin, a name, a single plugin, and a folder of the network', () => {
  using host = hostWithRecorders()
  const typesOf = (which: string, options: RunOptions = {}) => {
    cni(host, ['add', which, 'box'], { env: recorders, ...options })
    cni(host, ['del', which, 'box'], { env: recorders, ...options })
    return callsOf(host).map(({ env, stdin }) => `${env.CNI_COMMAND} ${stdin.name} ${stdin.type}`)
  }
  expect(typesOf('-', { input: JSON.stringify(list({ name: 'piped' })) })[0]).toBe('ADD piped one')

  host.sh('mkdir -p /run/conf/lan /etc/cni/net.d')
  write(host, '/run/conf/20-lan.conflist', list({ name: 'lan' }))
  write(host, '/run/conf/10-other.conflist', list({ name: 'other', plugins: [{ type: 'two' }] }))
  write(host, '/run/conf/30-single.conf', { cniVersion: '1.1.0', name: 'single', type: 'two' })
  write(host, '/run/conf/lan/10-more.conf', { type: 'two', more: true })
  write(host, '/run/conf/lan/20-ignored.txt', 'no configuration')
  write(host, '/etc/cni/net.d/10-usual.conflist', list({ name: 'usual' }))
  const env = { ...recorders, NETCONFPATH: '/run/conf' }
  const three = ['ADD lan one', 'ADD lan two', 'ADD lan two', 'DEL lan two', 'DEL lan two', 'DEL lan one']
  expect(typesOf('lan', { env })).toEqual(three)
  expect(typesOf('/run/conf/20-lan.conflist')).toEqual(three)
  expect(typesOf('single', { env })).toEqual(['ADD single two', 'DEL single two'])
  expect(typesOf('usual')[0]).toBe('ADD usual one')
  write(host, '/run/conf/20-lan.conflist', list({ name: 'lan', loadOnlyInlinedPlugins: true }))
  expect(typesOf('lan', { env })).toHaveLength(4)

  const refused = (which: string) => {
    const { status, stderr } = cni(host, ['add', which, 'box'], { env, expectFailure: true })
    return [status, stderr.split('\n')[0]]
  }
  expect(refused('nobody')).toEqual([3, 'ns-net: no network "nobody" in /run/conf'])
  expect(refused('/run/conf/missing.conflist')).toEqual([3, expect.stringContaining('cannot read /run/conf/missing')])
  write(host, '/run/conf/00-broken.conflist', '{')
  expect(refused('lan')).toEqual([2, expect.stringContaining('00-broken.conflist')])
  write(host, '/run/bad.conflist', list({ plugins: [] }))
  expect(refused('/run/bad.conflist')).toEqual([2, expect.stringContaining('expected at least one plugin')])
  expect(callsOf(host)).toEqual([])
})

test('an error of a plugin keeps code, message and details; exit code 1', () => {
  using host = hostWithRecorders()
  write(host, '/run/fail-two-ADD', { cniVersion: '1.1.0', code: 11, msg: 'not now', details: 'later' })
  const args = ['add', '/run/net.conflist', 'box']
  const options = { env: recorders, expectFailure: true } as const
  expect(cni(host, args, options)).toMatchObject({
    status: 1,
    stdout: '',
    stderr: expect.stringContaining('ns-net: plugin "two" failed (add): not now (CNI error 11)\nhint: later\n'),
  })
  const json = cni(host, [...args, '--json'], options)
  expect(JSON.parse(json.stderr.slice(json.stderr.indexOf('{'))).error).toMatchObject({
    code: 1,
    cni: { code: 11, msg: 'not now', details: 'later' },
  })
  const missing = cni(host, args, { env: { CNI_PATH: '/run/nowhere:/run/none' }, expectFailure: true })
  expect(missing).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('failed to find plugin "one" in path [/run/nowhere:/run/none]'),
  })
})

test('what cannot be meant is refused before a plugin runs', () => {
  using host = hostWithRecorders()
  const add = ['add', '/run/net.conflist', 'box']
  for (const [args, status, said] of [
    [['add', '/run/net.conflist', 'host'], 2, 'host is no container'],
    [['del', '/run/net.conflist', 'self'], 2, 'self is no container'],
    [['add', '/run/net.conflist', 'nobody'], 3, 'no lab "nobody"'],
    [['add', '/run/net.conflist', '/run/netns/nobody'], 3, 'no file /run/netns/nobody'],
    [[...add, '--if', 'far-too-long-a-name'], 2, 'interface name is too long'],
    [[...add, '--container-id', '../../etc'], 2, 'invalid characters in containerID'],
    [[...add, '--args', 'A=1;B'], 2, '"B" is not understood'],
    [[...add, '--capability-args', '[1]'], 2, 'expected a JSON object'],
    [['gc', '/run/net.conflist', '--valid', 'box'], 2, 'expected CONTAINER-ID:INTERFACE'],
    [[...add, '--explain'], 2, 'nothing to explain'],
  ] as const) {
    const { stderr, ...rest } = cni(host, args, { env: recorders, expectFailure: true })
    expect({ args, status: rest.status, stderr }).toMatchObject({ args, status, stderr: expect.stringContaining(said) })
  }
  expect(callsOf(host)).toEqual([])
})

test('DEL after the namespace is gone; CHECK needs version 0.4.0 and may be switched off', () => {
  using host = hostWithRecorders()
  cni(host, ['add', '/run/net.conflist', 'box'], { env: recorders })
  host.run(['ip', 'netns', 'del', 'box'])
  const { stdout } = cni(host, ['del', '/run/net.conflist', 'box'], { env: recorders })
  expect(stdout).toBe('')
  expect(callsOf(host).slice(2)).toMatchObject([
    { env: { CNI_COMMAND: 'DEL', CNI_NETNS: netns }, stdin: { type: 'two', prevResult: first } },
    { env: { CNI_COMMAND: 'DEL', CNI_NETNS: netns }, stdin: { type: 'one', prevResult: first } },
  ])
  expect(host.run(['ls', '/var/lib/cni/results']).stdout).toBe('')

  host.addContainer('box')
  const check = ['check', '-', 'box']
  const old = { env: recorders, input: JSON.stringify(list({ cniVersion: '0.3.1' })), expectFailure: true } as const
  expect(cni(host, check, old)).toMatchObject({ status: 1, stderr: expect.stringContaining('does not allow CHECK') })
  cni(host, check, { env: recorders, input: JSON.stringify(list({ disableCheck: true })) })
  expect(callsOf(host)).toEqual([])
})

test('gc: DEL for what is not valid any more, then GC with what is', () => {
  using host = hostWithRecorders()
  for (const id of ['keep', 'drop'])
    for (const ifName of ['eth0', 'net1'])
      cni(host, ['add', '/run/net.conflist', 'box', '--container-id', id, '--if', ifName], { env: recorders })
  cni(host, ['add', '-', 'box', '--container-id', 'other'], {
    env: recorders,
    input: JSON.stringify(list({ name: 'other' })),
  })
  callsOf(host)
  const { stdout } = cni(host, ['gc', '/run/net.conflist', '--valid', 'keep:eth0', '--valid', 'keep:net1'], {
    env: recorders,
  })
  expect(stdout).toBe('deleted drop eth0\ndeleted drop net1\n')
  const calls = callsOf(host)
  expect(
    calls.map(({ env, stdin }) => [env.CNI_COMMAND, env.CNI_CONTAINERID, env.CNI_IFNAME, stdin.type].join(' ')),
  ).toEqual([
    'DEL drop eth0 two',
    'DEL drop eth0 one',
    'DEL drop net1 two',
    'DEL drop net1 one',
    'GC   one',
    'GC   two',
  ])
  const valid = [
    { containerID: 'keep', ifname: 'eth0' },
    { containerID: 'keep', ifname: 'net1' },
  ]
  expect(calls.at(-1)!.stdin).toEqual({
    type: 'two',
    name: 'net',
    cniVersion: '1.1.0',
    'cni.dev/valid-attachments': valid,
    'cni.dev/attachments': valid,
  })
  const left = () => host.run(['ls', '/var/lib/cni/results']).stdout.trim().split('\n')
  expect(left()).toEqual(['net-keep-eth0', 'net-keep-net1', 'other-other-eth0'])

  cni(host, ['gc', '-'], { env: recorders, input: JSON.stringify(list({ disableGC: true })) })
  expect(callsOf(host)).toEqual([])
  write(host, '/run/fail-one-GC', { code: 999, msg: 'no' })
  const failed = cni(host, ['gc', '/run/net.conflist'], { env: recorders, expectFailure: true })
  expect(failed).toMatchObject({ status: 1, stderr: expect.stringContaining('plugin "one" failed (gc): no') })
  expect(callsOf(host).at(-1)).toMatchObject({ env: { CNI_COMMAND: 'GC' }, stdin: { type: 'two' } }) // it goes on
  expect(left()).toEqual(['other-other-eth0'])
})

test('status: each plugin for itself; a list before 1.1.0 is refused', () => {
  using host = hostWithRecorders()
  expect(cni(host, ['status', '/run/net.conflist'], { env: recorders }).stdout).toMatch(
    /^PLUGIN +STATUS +ERROR\none +available +-\ntwo +available +-\n$/,
  )
  write(host, '/run/fail-one-STATUS', { code: 50, msg: 'no uplink', details: 'plug it in' })
  const bad = cni(host, ['status', '/run/net.conflist'], { env: recorders, expectFailure: true })
  expect(bad).toMatchObject({
    status: 1,
    stdout: expect.stringMatching(/^one +not available +50: no uplink; plug it in$/m),
  })
  const json = cni(host, ['status', '/run/net.conflist', '--json'], { env: recorders, expectFailure: true })
  expect(JSON.parse(json.stdout)).toEqual([
    { plugin: 'one', available: false, error: { code: 50, msg: 'no uplink', details: 'plug it in' } },
    { plugin: 'two', available: true },
  ])
  callsOf(host)
  const old = cni(host, ['status', '-'], { input: JSON.stringify(list({ cniVersion: '1.0.0' })), expectFailure: true })
  expect(old).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/does not allow STATUS.*\nhint: STATUS needs cniVersion 1\.1\.0 or later/),
  })
  expect(callsOf(host)).toEqual([])
})

test('version: what each plugin and its source of addresses speak', () => {
  using host = hostWithRecorders(list({ plugins: [{ type: 'one', ipam: { type: 'pool' } }, { type: 'two' }] }))
  for (const type of ['one', 'two', 'pool'])
    write(host, `/run/say-${type}-VERSION`, { cniVersion: '1.1.0', supportedVersions: ['1.0.0', '1.1.0'] })
  const told = () => cni(host, ['version', '/run/net.conflist', '--json'], { env: recorders, expectFailure: 'maybe' })
  const good = told()
  expect(good.status).toBe(0)
  expect(JSON.parse(good.stdout)).toEqual(
    ['one', 'pool', 'two'].map((plugin) => ({
      plugin,
      file: `/run/recorders/${plugin}`,
      versions: ['1.0.0', '1.1.0'],
      supported: true,
    })),
  )
  write(host, '/run/say-two-VERSION', { cniVersion: '1.0.0', supportedVersions: ['0.4.0', '1.0.0'] })
  write(host, '/run/fail-pool-VERSION', { code: 4, msg: 'unknown CNI_COMMAND: VERSION' })
  const { stdout, status } = cni(host, ['version', '/run/net.conflist'], { env: recorders, expectFailure: true })
  expect(status).toBe(1)
  expect(stdout).toMatch(/^pool +no +0\.1\.0 /m)
  expect(stdout).toMatch(/^two +no +0\.4\.0 1\.0\.0 +\/run\/recorders\/two$/m)
})

test('our own plugins, found beside ns-net: add, check, gc, and nothing is left', () => {
  using host = createHost()
  host.addContainer('box')
  const ipam = { type: 'host-local', subnet: '10.5.0.0/24' }
  const plugins = [
    { type: 'ptp', ipam },
    { type: 'portmap', capabilities: { portMappings: true } },
  ]
  write(host, '/run/ours.conflist', { cniVersion: '1.1.0', name: 'ours', plugins })
  const env = { CNI_PATH: executables }
  const before = host.snapshot({ ignoreLeaseMarks: true })
  const ports = JSON.stringify({ portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] })
  const result = JSON.parse(cni(host, ['add', '/run/ours.conflist', 'box', '--capability-args', ports], { env }).stdout)
  expect(result.ips).toMatchObject([{ address: '10.5.0.2/24' }])
  expect(host.run(['nft', 'list', 'ruleset']).stdout).toContain('8080')
  host.run(['ping', '-c1', '-W5', '10.5.0.2'])
  cni(host, ['check', '/run/ours.conflist', 'box'], { env })
  expect(cni(host, ['status', '/run/ours.conflist'], { env }).status).toBe(0)
  host.run(['ip', '-n', 'box', 'addr', 'flush', 'dev', 'eth0'])
  const drifted = cni(host, ['check', '/run/ours.conflist', 'box'], { env, expectFailure: true })
  expect(drifted).toMatchObject({ status: 1, stderr: expect.stringContaining('10.5.0.2') })
  expect(cni(host, ['gc', '/run/ours.conflist'], { env }).stdout).toMatch(/^deleted cnitool-[0-9a-f]{20} eth0\n$/)
  const { sysctls: _, ...after } = host.snapshot({ ignoreLeaseMarks: true })
  const { sysctls: __, ...expected } = before
  expect(after).toEqual(expected)
})
