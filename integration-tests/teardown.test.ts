import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type CniCall, type Container, createHost, executables, type Host } from './host.ts'

/*
 * DEL as runtimes really call it: late, repeatedly, for what was never added, with the namespace gone in every way it
 * can be gone, and with a configuration or result that is not the ADD's. Judged by ip(8), nft(8), iptables-save(8) and
 * the files on disk. Other attachments of the same network are there all the time and must not notice.
 */

const ipam = { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/24' }], [{ subnet: 'fd00:1::/64' }]] }
const base = { cniVersion: '1.1.0', name: 'lab' }
const bridge = { ...base, type: 'bridge', bridge: 'br1', isDefaultGateway: true, ipMasq: true, ipam }

interface Subject {
  readonly plugin: string
  /** Of the n-th attachment. */
  readonly config: (n: number) => object
  /** nat needs an interface that somebody else makes; host-local makes none. */
  readonly ownsLink: boolean
  readonly ifName?: string
}

const given = (n: number) => ({
  cniVersion: '1.1.0',
  interfaces: [{ name: 'eth0', sandbox: `/run/netns/c${n}` }],
  ips: [
    { address: `10.1.0.${n + 2}/24`, interface: 0 },
    { address: `fd00:1::${(n + 2).toString(16)}/64`, interface: 0 },
  ],
})

const subjects: Readonly<Record<string, Subject>> = {
  bridge: { plugin: 'bridge', config: () => bridge, ownsLink: true },
  'bridge with iptables': {
    plugin: 'bridge',
    config: () => ({ ...bridge, ipMasqBackend: 'iptables' }),
    ownsLink: true,
  },
  veth: { plugin: 'veth', config: () => ({ ...base, type: 'veth', ipMasq: true, ipam }), ownsLink: true },
  nat: { plugin: 'nat', config: (n) => ({ ...base, type: 'nat', prevResult: given(n) }), ownsLink: false },
  'nat with iptables': {
    plugin: 'nat',
    config: (n) => ({ ...base, type: 'nat', backend: 'iptables', prevResult: given(n) }),
    ownsLink: false,
  },
  loopback: { plugin: 'loopback', config: () => ({ ...base, type: 'loopback' }), ownsLink: false, ifName: 'lo' },
  'host-local': { plugin: 'host-local', config: () => ({ ...base, type: 'bridge', ipam }), ownsLink: false },
}

interface Attached {
  readonly host: Host
  readonly container: Container
  readonly call: CniCall
}

interface Way {
  /** Turns the call that would be right into the one to be made, after doing to the host what belongs to it. */
  readonly call: (attached: Attached) => CniCall
  /** Subjects it makes sense for; all unless told. */
  readonly for?: readonly string[]
  /** What the call may leave, for lack of knowledge: then this call says all and finishes. */
  readonly finish?: boolean
  readonly expectFailure?: boolean
}

const netns =
  (path: string | ((attached: Attached) => string)) =>
  (attached: Attached): CniCall => ({ ...attached.call, netns: typeof path === 'string' ? path : path(attached) })

const config =
  (change: object) =>
  ({ call }: Attached): CniCall => ({ ...call, config: { ...call.config, ...change } })

const withIpam = ['bridge', 'bridge with iptables', 'veth', 'host-local']
const interfacePlugins = ['bridge', 'bridge with iptables', 'veth']

const ways: Readonly<Record<string, Way>> = {
  'as it should be': { call: ({ call }) => call },

  'CNI_NETNS empty': { call: netns('') },
  'CNI_NETNS not set': { call: ({ call: { netns: _, ...rest } }) => rest },
  'namespace deleted': {
    call({ host, container, call }) {
      host.run(['ip', 'netns', 'del', container.name])
      return call
    },
  },
  'nothing at the path': { call: netns('/run/netns/nobody') },
  'no directory of the path': { call: netns('/nonexistent/netns/nobody') },
  'a path through a plain file': { call: netns('/etc/passwd/nobody') },
  'a plain file at the path': {
    call({ host, container, call }) {
      host.sh(`ip netns del ${container.name}; : > ${container.path}`)
      return call
    },
  },
  'a plain file with content': { call: netns('/etc/passwd') },
  'a directory': { call: netns('/run/netns') },
  'a dangling symlink': {
    call: netns(({ host }) => {
      host.run(['ln', '-sfn', '/run/netns/nobody', '/run/dangling'])
      return '/run/dangling'
    }),
  },
  'a symlink to itself': {
    call: netns(({ host }) => {
      host.run(['ln', '-sfn', '/run/loop', '/run/loop'])
      return '/run/loop'
    }),
  },
  'a path that is too long': { call: netns(`/run/${'x'.repeat(5000)}`) },
  'a device': { call: netns('/dev/null') },
  'a fifo that nobody writes to': {
    call: netns(({ host }) => {
      host.run(['sh', '-c', 'test -p /run/fifo || mkfifo /run/fifo'])
      return '/run/fifo'
    }),
  },
  'a namespace of another kind': { call: netns('/proc/self/ns/mnt') },
  'a dead process': {
    call: netns(({ host }) => `/proc/${host.run(['sh', '-c', 'echo $$']).stdout.trim()}/ns/net`),
  },
  'a zombie': {
    call: netns(({ host }) => {
      // Ends after its parent has become sleep, which waits for no child.
      host.start(['sh', '-c', 'sleep 0.1 & echo $! >/run/zombie; exec sleep 1000'])
      const script = `until grep -q '^State:.Z' /proc/$(cat /run/zombie)/status; do sleep 0.01; done; cat /run/zombie`
      return `/proc/${host.sh(script).stdout.trim()}/ns/net`
    }),
  },
  'a descriptor of a dead process': {
    call: netns(({ host }) => `/proc/${host.run(['sh', '-c', 'echo $$']).stdout.trim()}/fd/7`),
  },

  'without prevResult': { call: config({ prevResult: undefined }) },
  'prevResult null': { call: config({ prevResult: null }) },
  'prevResult without addresses': { call: config({ prevResult: { cniVersion: '1.1.0' } }) },
  'prevResult with other addresses': {
    call: config({ prevResult: { cniVersion: '1.1.0', ips: [{ address: '10.1.0.250/24' }] } }),
  },
  'prevResult with the addresses of another attachment': { call: config({ prevResult: given(0) }) },
  'prevResult of an old version': {
    call: config({ prevResult: { cniVersion: '0.2.0', ip4: { ip: '10.1.0.3/24' } } }),
  },
  'prevResult of a version to come': { call: config({ prevResult: { cniVersion: '9.0.0', ips: 'many' } }) },
  'prevResult with an index into nothing': {
    call: config({
      prevResult: { cniVersion: '1.1.0', interfaces: [], ips: [{ address: '10.1.0.3/24', interface: 7 }] },
    }),
  },
  ...Object.fromEntries(
    ['garbage', 7, true, [], [null], { ips: [{}] }, { ips: [{ address: 'x' }] }, { interfaces: 3 }].map(
      (prevResult) => [`prevResult ${JSON.stringify(prevResult)}`, { call: config({ prevResult }) }],
    ),
  ),

  'cniVersion 0.1.0': { call: config({ cniVersion: '0.1.0', prevResult: undefined }) },
  'without cniVersion': { call: config({ cniVersion: undefined, prevResult: undefined }) },
  'CNI_ARGS that no ADD takes': { call: ({ call }) => ({ ...call, args: 'K8S_POD_NAME=web' }) },
  'ipMasq off': { for: interfacePlugins, call: config({ ipMasq: false }) },
  'ipMasq not mentioned': { for: interfacePlugins, call: config({ ipMasq: undefined }) },
  'another bridge': { for: ['bridge', 'bridge with iptables'], call: config({ bridge: 'br7' }) },
  'another masquerading backend': {
    for: interfacePlugins,
    call: ({ call }) => {
      const { ipMasqBackend } = call.config as { ipMasqBackend?: string }
      return { ...call, config: { ...call.config, ipMasqBackend: ipMasqBackend ? undefined : 'iptables' } }
    },
  },
  'ranges removed from ipam': { for: withIpam, call: config({ ipam: { type: 'host-local' } }) },
  'other ranges': { for: withIpam, call: config({ ipam: { type: 'host-local', subnet: '10.9.0.0/24' } }) },
  'ranges that no ADD takes': { for: withIpam, call: config({ ipam: { ...ipam, ranges: 'all' } }) },
  // Where the leases are only ipam says; links and rules need nothing of it.
  'without ipam': {
    for: interfacePlugins,
    call: config({ ipam: undefined }),
    finish: true,
  },
  'ipam empty': {
    for: interfacePlugins,
    call: config({ ipam: {} }),
    finish: true,
  },
  'another ipam': {
    for: interfacePlugins,
    call: config({ ipam: { type: 'static', addresses: [{ address: '10.1.0.77/24' }] } }),
    finish: true,
  },
  'static addresses that no ADD takes': {
    for: interfacePlugins,
    call: config({ ipam: { type: 'static', addresses: [{ address: 'here' }], routes: 7 } }),
    finish: true,
  },
  ...Object.fromEntries(
    ['text', 7, true, [], { type: 7 }, { type: ['host-local'] }].map((ipam) => [
      `ipam ${JSON.stringify(ipam)}`,
      { for: interfacePlugins, call: config({ ipam }), finish: true },
    ]),
  ),
  'runtimeConfig and args that are no objects': { call: config({ runtimeConfig: 'x', args: { cni: 7 } }) },
  // Links and rules go, and what the configuration had to say about addresses is asked for after that.
  ...Object.fromEntries(
    [
      { type: 'acme' },
      { type: 'constructor' },
      { type: '../acme' },
      { ...ipam, dataDir: 7 },
      { ...ipam, dataDir: 'leases' },
    ].map((ipam) => [
      `no way to release: ipam ${JSON.stringify({ ...ipam, ranges: undefined })}`,
      { for: interfacePlugins, call: config({ ipam }), finish: true, expectFailure: true },
    ]),
  ),
  'options that no ADD takes': {
    for: interfacePlugins,
    call: config({ mtu: 'large', bridge: 'a name of more than 15 bytes' }),
  },
}

const matrix = Object.entries(subjects).map(([name, subject]) => ({
  name,
  subject,
  cases: Object.entries(ways)
    .filter(([, way]) => way.for?.includes(name) ?? true)
    .map(([title, way]) => ({ title, way })),
}))

/** What the container has besides lo. */
function inside({ container }: Attached): unknown {
  if (container.run(['true'], { expectFailure: 'maybe' }).status !== 0) return 'gone'
  const links: { ifname: string }[] = container.json(['ip', '-json', 'link'])
  return links.map(({ ifname }) => ifname)
}

/** The namespace and its name are the test's own; without them, the host is to be as it was. */
function remove({ host, container }: Attached): void {
  host.run(['ip', 'netns', 'del', container.name], { expectFailure: 'maybe' })
  host.run(['rm', '-f', container.path])
}

describe.each(matrix)('$name', ({ subject, cases }) => {
  let host: Host
  let before: ReturnType<typeof state> | undefined
  let n = 0
  beforeAll(() => {
    host = createHost()
    attach()
  })
  afterAll(() => host[Symbol.dispose]())

  function attach(): Attached {
    const container = host.addContainer(`c${n}`)
    const { plugin, ifName = 'eth0' } = subject
    const call: CniCall = { config: subject.config(n), containerId: container.name, netns: container.path, ifName }
    n++
    host.cni(plugin, 'ADD', call)
    return { host, container, call }
  }

  const state = () => host.snapshot({ ignoreLeaseMarks: true })

  test('ADD does something that a snapshot shows', () => {
    const empty = state()
    attach()
    expect(state()).not.toEqual(empty)
  })

  for (const { title, way } of cases)
    test(title, () => {
      const earlier = before ?? state()
      before = undefined // what fails may leave something: the next case looks for itself
      const attached = attach()
      const call = { timeout: 1_000, ...way.call(attached), expectFailure: way.expectFailure ?? false }
      for (const attempt of ['first', 'second']) {
        const { stdout, stderr } = host.cni(subject.plugin, 'DEL', call)
        if (!way.expectFailure) expect({ attempt, stdout, stderr }).toEqual({ attempt, stdout: '', stderr: '' })
      }
      if (subject.ownsLink) expect(inside(attached)).not.toContain('eth0')
      if (way.finish) {
        remove(attached)
        const { files: _, ...left } = state()
        const { files: _1, ...wanted } = earlier
        expect(left).toEqual(wanted)
        host.cni(subject.plugin, 'DEL', { ...attached.call, netns: '' })
      }
      remove(attached)
      const after = state()
      expect(after).toEqual(earlier)
      before = after
    })
})

test('static: DEL and GC read nothing of ipam, as nothing is kept', () => {
  using host = createHost()
  const call = { containerId: 'c1', netns: '/run/netns/none', ifName: 'eth0' }
  const before = host.snapshot()
  for (const ipam of [{ type: 'static', addresses: [{ address: 'here' }] }, 'text', undefined])
    for (const command of ['DEL', 'GC']) {
      const { stdout, stderr } = host.cni('static', command, { config: { ...base, type: 'x', ipam }, ...call })
      expect(stdout + stderr).toBe('')
    }
  expect(host.snapshot()).toEqual(before)
})

test.each(['bridge', 'bridge with iptables', 'veth'])('%s: 40 containers torn down at once', (name) => {
  using host = createHost()
  const { plugin, config } = subjects[name]!
  const ids = Array.from({ length: 40 }, (_, i) => `c${i}`)
  /** Runs a verb for all containers at the same time; what failed, with its output. */
  const all = (verb: string, environment: string) => {
    const script = `for id in ${ids.join(' ')}; do
      { CNI_COMMAND=${verb} CNI_CONTAINERID=$id CNI_IFNAME=eth0 CNI_PATH=${executables} ${environment} \
        ${executables}/${plugin} </run/config >/run/$id.out 2>&1 || { echo "$id: $(cat /run/$id.out)"; }; } &
    done; wait; rm /run/*.out`
    return host.run(['sh', '-c', script]).stdout
  }
  host.run(['sh', '-c', 'cat >/run/config'], { input: JSON.stringify(config(0)) })
  for (const id of ['first', ...ids]) host.addContainer(id)
  host.cni(plugin, 'ADD', { config: config(0), containerId: 'first', netns: '/run/netns/first', ifName: 'eth0' })
  const before = host.snapshot({ ignoreLeaseMarks: true })
  for (const environment of ['CNI_NETNS=/run/netns/$id', 'CNI_NETNS=']) {
    expect(all('ADD', 'CNI_NETNS=/run/netns/$id')).toBe('')
    expect(host.json(['ip', '-json', 'link', 'show', 'type', 'veth'])).toHaveLength(41)
    expect(all('DEL', environment)).toBe('')
    expect(host.snapshot({ ignoreLeaseMarks: true })).toEqual(before)
  }
})
