import { describe, expect, test } from 'vitest'
import { type CniCall, type Container, createHost, executables, type Host, type Place, requireTool } from './host.ts'

/*
 * GC against five attachments of which two are said to be valid, and STATUS of networks that can and that cannot serve
 * an ADD. Judged by ip(8), nft(8), iptables-save(8), the lease files, and pings through the translation.
 */

const base = { cniVersion: '1.1.0', name: 'lab' }
const routes = [{ dst: '0.0.0.0/0' }, { dst: '::/0' }]
const ipam = { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/24' }], [{ subnet: 'fd00:1::/64' }]], routes }
const bridge = { ...base, type: 'bridge', bridge: 'br1', isGateway: true, ipMasq: true, ipam }

type Plugin = Readonly<Record<string, unknown>> & { readonly type: string }

interface Subject {
  /** The plugins of the list, in the order of ADD. */
  readonly list: readonly Plugin[]
  readonly translates?: boolean
}

const subjects: Readonly<Record<string, Subject>> = {
  bridge: { list: [bridge], translates: true },
  'bridge with iptables': { list: [{ ...bridge, ipMasqBackend: 'iptables' }], translates: true },
  veth: { list: [{ ...base, type: 'veth', ipMasq: true, ipam }], translates: true },
  'bridge and nat': {
    list: [
      { ...bridge, ipMasq: false },
      { ...base, type: 'nat' },
    ],
    translates: true,
  },
  'bridge and nat with iptables': {
    list: [
      { ...bridge, ipMasq: false },
      { ...base, type: 'nat', backend: 'iptables' },
    ],
    translates: true,
  },
  'bridge without addresses': { list: [{ ...base, type: 'bridge', bridge: 'br1' }] },
}

/** The other network: same plugins, other name, bridge and addresses. */
const ofOther = (list: readonly Plugin[]): Plugin[] =>
  list.map(
    (config) =>
      JSON.parse(
        JSON.stringify({ ...config, name: 'lab2' })
          .replaceAll('10.1.0.', '10.2.0.')
          .replaceAll('fd00:1:', 'fd00:2:')
          .replaceAll('br1', 'br2'),
      ) as Plugin,
  )

const idOf = (container: Container) => ({ containerId: container.name, netns: container.path, ifName: 'eth0' })

/** ADD of all plugins of a list; the last result. */
function addList(host: Host, list: readonly Plugin[], container: Container): object | undefined {
  let prevResult: object | undefined
  for (const config of list)
    prevResult = host.cni(config.type, 'ADD', { config: { ...config, prevResult }, ...idOf(container) }).json
  return prevResult
}

function checkList(host: Host, list: readonly Plugin[], container: Container, prevResult: object | undefined): void {
  for (const config of list) host.cni(config.type, 'CHECK', { config: { ...config, prevResult }, ...idOf(container) })
}

type Valid = readonly { containerID: string; ifname: string }[]
const validOf = (containers: readonly Container[]): Valid =>
  containers.map(({ name }) => ({ containerID: name, ifname: 'eth0' }))

/** As a runtime calls it: no container, no namespace, no interface. */
function gcList(host: Host, list: readonly Plugin[], keys: object, options: Partial<CniCall> = {}) {
  return list.map((config) => host.cni(config.type, 'GC', { config: { ...config, ...keys }, ...options }))
}

const valid = 'cni.dev/valid-attachments'
const legacy = 'cni.dev/attachments'

const state = (host: Host) => host.snapshot({ ignoreLeaseMarks: true })

/** Things of others that look more or less like ours. */
function addForeign(host: Host): void {
  host.sh(`ip link add veth-foreign type veth peer name veth-foreign2
           ip link add veth0123456789a type veth peer name foreign3
           ip link set veth0123456789a alias "somebody's"
           ip link add br-foreign type bridge
           ip link set br-foreign alias ns-net:lab:x:eth0
           ip link add veth-prefix type veth peer name foreign4
           ip link set veth-prefix alias ns-net:lab-2:x:eth0
           nft add table inet foreign
           nft add chain inet foreign post '{ type nat hook postrouting priority 99; }'
           nft add rule inet foreign post ip saddr 10.1.0.0/24 counter comment '"lab c3 eth0"'
           iptables -t nat -N FOREIGN
           iptables -t nat -A FOREIGN -s 10.1.0.4 -j RETURN -m comment --comment ns-net:lab
           mkdir -p /var/lib/cni/networks/lab0
           printf 'c3\\r\\neth0' >/var/lib/cni/networks/lab0/10.1.0.4`)
}

const pings = (from: Place, to: string) => from.run(['ping', '-c1', '-W2', to], { expectFailure: 'maybe' }).status === 0

/** Reaches a host that has no route back, so under a translated address. */
const reachesOutside = (container: Container) => ['192.0.2.2', '2001:db8::2'].map((to) => pings(container, to))

describe.each(Object.entries(subjects))('%s', (_name, { list, translates = false }) => {
  test('two of five stay and work, what others made stays', (context) => {
    for (const tool of ['nft', 'iptables', 'ping']) requireTool(tool, context)
    using host = createHost()
    host.addUplink()
    addForeign(host)
    const containers = [0, 1, 2, 3, 4, 5].map((n) => host.addContainer(`c${n}`))
    const [c1, c2, c3, c4, c5] = containers.slice(1) as [Container, Container, Container, Container, Container]
    const other = ofOther(list)
    const results = new Map<Container, object | undefined>()
    const otherResult = addList(host, other, c3)
    for (const container of [c1, c4]) results.set(container, addList(host, list, container))
    const wanted = state(host)
    for (const container of [c2, c3, c5].filter((each) => each !== c3)) addList(host, list, container)
    // One whose container died without a DEL.
    const lost = host.addContainer('lost')
    addList(host, list, lost)
    host.run(['ip', 'netns', 'del', 'lost'])
    expect(state(host)).not.toEqual(wanted)

    for (const { stdout, stderr } of gcList(host, list, { [valid]: validOf([c1, c4]) }))
      expect(stdout + stderr).toBe('')
    expect(state(host)).toEqual(wanted)
    for (const gone of [c2, c5]) expect(gone.json(['ip', '-json', 'link'])).toHaveLength(1)
    // Without addresses the bridge's MAC is not fixed, see below.
    if (translates) for (const [container, result] of results) checkList(host, list, container, result)
    if (translates) checkList(host, other, c3, otherResult)
    if (translates) for (const each of [c1, c4, c3]) expect(reachesOutside(each)).toEqual([true, true])

    gcList(host, list, { [valid]: validOf([c1, c4]) })
    expect(state(host)).toEqual(wanted)

    // An attachment that is not listed any more may come again.
    addList(host, list, c2)
    if (translates) expect(reachesOutside(c2)).toEqual([true, true])
  })

  test('the older spelling of the key; the newer one wins', () => {
    using host = createHost()
    const [c1, c2, c3] = ['c1', 'c2', 'c3'].map((name) => host.addContainer(name)) as [Container, Container, Container]
    addList(host, list, c1)
    const one = state(host)
    addList(host, list, c2)
    const two = state(host)
    addList(host, list, c3)
    gcList(host, list, { [legacy]: validOf([c1, c2]) })
    expect(state(host)).toEqual(two)
    gcList(host, list, { [valid]: validOf([c1]), [legacy]: validOf([c1, c2]) })
    expect(state(host)).toEqual(one)
  })

  test('an empty list removes everything of the network and nothing else', () => {
    using host = createHost()
    const [c1, c2, c3] = ['c1', 'c2', 'c3'].map((name) => host.addContainer(name)) as [Container, Container, Container]
    // Bridge and forwarding stay: they are shared.
    addList(host, list, c1)
    gcList(host, list, { [valid]: [] })
    addList(host, ofOther(list), c3)
    const empty = state(host)
    for (const container of [c1, c2]) addList(host, list, container)
    gcList(host, list, { [valid]: [] })
    expect(state(host)).toEqual(empty)
  })

  test('another interface, network or container of the same name is not valid for it', () => {
    using host = createHost()
    const c1 = host.addContainer('c1')
    addList(host, list, host.addContainer('c0'))
    const before = state(host)
    addList(host, list, c1)
    const almost: Valid = [
      { containerID: 'c0', ifname: 'eth0' },
      { containerID: 'c1', ifname: 'eth1' },
      { containerID: 'c', ifname: 'eth0' },
      { containerID: 'c11', ifname: 'eth0' },
      { containerID: 'C1', ifname: 'eth0' },
    ]
    gcList(host, list, { [valid]: almost })
    const { files: _, ...rest } = state(host)
    const { files: _1, ...wanted } = before
    expect(rest).toEqual(wanted)
  })

  test('versions before 1.1.0 are refused with code 1, and nothing is touched', () => {
    using host = createHost()
    addList(host, list, host.addContainer('c1'))
    const before = state(host)
    for (const cniVersion of ['0.4.0', '1.0.0'])
      for (const { status, json } of gcList(host, list, { cniVersion, [valid]: [] }, { expectFailure: true }))
        expect({ status, json }).toMatchObject({ status: 1, json: { code: 1, cniVersion } })
    expect(state(host)).toEqual(before)
  })

  test.each([
    'all',
    7,
    {},
    [7],
    [{}],
    [null],
    [{ containerID: 'c1' }],
    [{ containerID: 1, ifname: 'eth0' }],
    [{ ifname: 'eth0' }],
  ])('a list that makes no sense is refused, and nothing is touched: %j', (nonsense) => {
    using host = createHost()
    addList(host, list, host.addContainer('c1'))
    const before = state(host)
    for (const { json } of gcList(host, list, { [valid]: nonsense }, { expectFailure: true }))
      expect(json).toMatchObject({ code: 7, msg: expect.stringContaining(valid) })
    expect(state(host)).toEqual(before)
  })

  // nat reads its backend and nonMasqueradeCIDRs on GC as on ADD.
  if (list.length === 1)
    test.each([
      { mtu: 'large', vlan: 9999, isGateway: 'yes', hairpinMode: true, promiscMode: true, dns: 7 },
      { bridge: 'a name of more than 15 bytes', ipMasq: 'yes', runtimeConfig: 'x', args: { cni: 7 } },
      { vlanTrunk: [{ minID: 7 }], runtimeConfig: { mac: 'x', dns: 7 }, disableContainerInterface: true },
      ...(JSON.stringify(list).includes('host-local') ? [{ ipam: { ...ipam, ranges: 'all', routes: 7 } }] : []),
    ])('values that ADD would refuse do not stop it: %j', (change) => {
      using host = createHost()
      const [c1, c2] = ['c1', 'c2'].map((name) => host.addContainer(name)) as [Container, Container]
      addList(host, list, c1)
      const wanted = state(host)
      addList(host, list, c2)
      for (const { stdout } of gcList(host, list, { ...change, [valid]: validOf([c1]) })) expect(stdout).toBe('')
      expect(state(host)).toEqual(wanted)
    })

  if (JSON.stringify(list).includes('host-local') && list.length === 1)
    test.each([
      ['text', 0],
      [{ type: 7 }, 0],
      [{ type: 'static', addresses: 'all' }, 0],
      [undefined, 0],
      [{ type: 'acme' }, 1],
      [{ ...ipam, dataDir: 7 }, 1],
    ])('without knowing the leases, links and rules go: ipam %j', (ipam, expected) => {
      using host = createHost()
      const [c1, c2] = ['c1', 'c2'].map((name) => host.addContainer(name)) as [Container, Container]
      addList(host, list, c1)
      const { files: _, ...wanted } = state(host)
      addList(host, list, c2)
      const [{ status, json }] = gcList(host, list, { ipam, [valid]: validOf([c1]) }, { expectFailure: 'maybe' }) as [
        ReturnType<Host['cni']>,
      ]
      expect({ status, code: json?.code }).toEqual({ status: expected, code: expected ? 7 : undefined })
      const { files: _1, ...rest } = state(host)
      expect(rest).toEqual(wanted)
    })

  if (JSON.stringify(list).includes('host-local'))
    test('leases that cannot be removed are reported, links and rules go all the same', () => {
      using host = createHost()
      addList(host, list, host.addContainer('c0'))
      const { files: _, ...wanted } = state(host)
      addList(host, list, host.addContainer('c1'))
      host.run(['mount', '-o', 'remount,ro', '/var/lib/cni'])
      const keys = { [valid]: [{ containerID: 'c0', ifname: 'eth0' }] }
      const [first, ...others] = gcList(host, list, keys, { expectFailure: 'maybe' })
      expect(first).toMatchObject({ status: 1, json: { msg: expect.stringMatching(/read-only|EROFS/) } })
      for (const { status } of others) expect(status).toBe(0)
      const { files: _1, ...rest } = state(host)
      expect(rest.links).toEqual(wanted.links)
      expect({ ...rest, mounts: wanted.mounts }).toEqual(wanted)

      host.run(['mount', '-o', 'remount,rw', '/var/lib/cni'])
      gcList(host, list, keys)
      expect(host.run(['ls', '/var/lib/cni/networks/lab']).stdout).not.toContain('10.1.0.3')
    })
})

test('CHECK of a bridge without addresses after another port came', () => {
  using host = createHost()
  const { list } = subjects['bridge without addresses']!
  const container = host.addContainer('c1')
  const result = addList(host, list, container)
  checkList(host, list, container, result)
  host.sh(`ip link add low type veth peer name other
           ip link set low address 02:00:00:00:00:01 master br1 up`)
  checkList(host, list, container, result)
})

describe('host-local', () => {
  const config = { ...base, type: 'bridge', ipam }
  const call = (id: string, change: object = {}): CniCall => ({
    config: { ...config, ...change },
    containerId: id,
    netns: '/run/netns/none',
    ifName: 'eth0',
  })
  const leaseNames = (host: Host, network: string) =>
    host
      .sh(`cd /var/lib/cni/networks/${network}; ls | grep -v -e lock -e last_ || true`)
      .stdout.split('\n')
      .filter((name) => name !== '')

  test.each([valid, legacy])('%s: two of five leases stay, other networks keep theirs', (key) => {
    using host = createHost()
    for (const id of ['c1', 'c2', 'c3', 'c4', 'c5']) {
      host.cni('host-local', 'ADD', call(id))
      host.cni('host-local', 'ADD', call(id, { name: 'lab2' }))
    }
    const other = leaseNames(host, 'lab2')
    const kept = ['c2', 'c4'].map((containerID) => ({ containerID, ifname: 'eth0' }))
    host.cni('host-local', 'GC', { config: { ...config, [key]: kept } })
    expect(leaseNames(host, 'lab')).toEqual(['10.1.0.3', '10.1.0.5', 'fd00:1::3', 'fd00:1::5'])
    expect(leaseNames(host, 'lab2')).toEqual(other)
    for (const id of ['c2', 'c4'])
      host.cni('host-local', 'CHECK', call(id, { prevResult: { cniVersion: '1.1.0', ips: [] } }))
    host.cni('host-local', 'GC', { config: { ...config, [key]: [] } })
    expect(leaseNames(host, 'lab')).toEqual([])
    expect(leaseNames(host, 'lab2')).toEqual(other)
  })

  test('a network that never had a lease gets no folder', () => {
    using host = createHost()
    const before = host.snapshot()
    host.cni('host-local', 'GC', { config: { ...config, [valid]: [] } })
    expect(host.snapshot()).toEqual(before)
  })
})

describe('STATUS', () => {
  const folder = '/var/lib/cni/leases'
  const small = { type: 'host-local', subnet: '10.1.0.0/29', dataDir: folder }
  const configs: Readonly<Record<string, Plugin>> = {
    bridge: { ...bridge, ipam: small },
    veth: { ...base, type: 'veth', ipMasq: true, ipam: small },
    'host-local': { ...base, type: 'host-local', ipam: small },
  }
  /** As containerd polls: nothing of a container in the environment. */
  const status = (host: Host, config: Plugin, options: Partial<CniCall> = {}) =>
    host.cni(config.type, 'STATUS', { config, ...options })
  const unavailable = (outcome: { status: number; json?: { code?: number; msg?: string } }, word: RegExp) => {
    expect(outcome.status).toBe(1)
    expect(outcome.json?.msg).toMatch(word)
    expect([50, 51]).toContain(outcome.json?.code)
  }

  describe.each(Object.entries(configs))('%s', (_name, config) => {
    test('ok says nothing, creates nothing and may be asked again and again', () => {
      using host = createHost()
      const before = host.snapshot()
      for (let i = 0; i < 5; i++) {
        const { stdout, stderr } = status(host, config)
        expect(stdout + stderr).toBe('')
      }
      expect(host.snapshot()).toEqual(before)
    })

    test('ok with leases: they stay as they are, byte for byte', () => {
      using host = createHost()
      host.cni('host-local', 'ADD', { config, containerId: 'c1', netns: '/run/netns/none', ifName: 'eth0' })
      const stamps = () => host.run(['find', folder, '-printf', '%p %T@ %s\\n']).stdout
      const before = stamps()
      status(host, config)
      expect(stamps()).toBe(before)
    })

    test('range exhausted', () => {
      using host = createHost()
      for (const n of [1, 2, 3, 4, 5])
        host.cni('host-local', 'ADD', { config, containerId: `c${n}`, netns: '/run/netns/none', ifName: 'eth0' })
      const before = host.snapshot()
      unavailable(status(host, config, { expectFailure: true }), /no IP addresses available/)
      expect(host.snapshot()).toEqual(before)
      host.cni('host-local', 'DEL', { config, containerId: 'c3', ifName: 'eth0' })
      status(host, config)
    })

    test('dataDir on a read-only file system', () => {
      using host = createHost()
      host.sh(`mkdir ${folder}; mount -t tmpfs -o ro tmpfs ${folder}`)
      unavailable(status(host, config, { expectFailure: true }), /read-only|EROFS/)
    })

    test('dataDir that cannot be created', () => {
      using host = createHost()
      host.run(['mount', '-o', 'remount,ro', '/var/lib/cni'])
      unavailable(status(host, config, { expectFailure: true }), /read-only|EROFS/)
    })

    test('a plain file as dataDir', () => {
      using host = createHost()
      host.sh(`: > ${folder}`)
      unavailable(status(host, config, { expectFailure: true }), /ipam\.dataDir \/var\/lib\/cni\/leases/)
    })

    test('an executable file as dataDir', () => {
      using host = createHost()
      host.sh(`: > ${folder}; chmod 755 ${folder}`)
      unavailable(status(host, config, { expectFailure: true }), /ipam\.dataDir \/var\/lib\/cni\/leases/)
    })

    test('versions before 1.1.0 are refused with code 1', () => {
      using host = createHost()
      const { json } = status(host, { ...config, cniVersion: '1.0.0' } as Plugin, { expectFailure: true })
      expect(json).toMatchObject({ code: 1, cniVersion: '1.0.0' })
    })

    test('a poll asks little of the system, however many leases there are', (context) => {
      const strace = requireTool('strace', context)
      using host = createHost()
      const wide = { ...config, ipam: { ...small, subnet: '10.1.0.0/16' } } as Plugin
      const calls = () => {
        const trace = `${strace} -f -o /run/trace -e trace=file,network,desc ${executables}/${config.type}`
        host.run(['sh', '-c', trace], {
          env: { CNI_COMMAND: 'STATUS', CNI_PATH: executables },
          input: JSON.stringify(wide),
        })
        return Number(host.run(['wc', '-l', '/run/trace']).stdout.split(' ')[0])
      }
      host.cni('host-local', 'ADD', { config: wide, containerId: 'c1', netns: '/run/netns/none', ifName: 'eth0' })
      const few = calls()
      host.sh(`cd ${folder}/lab
        for i in 1 2 3 4; do for j in $(seq 0 255); do printf 'x%s\\r\\neth0' $i$j >10.1.$i.$j; done; done`)
      expect(calls()).toBeLessThan(few + 200)
    })
  })

  test('nat and loopback have nothing that could be unavailable', () => {
    using host = createHost()
    const before = host.snapshot()
    for (const type of ['nat', 'loopback']) status(host, { ...base, type })
    expect(host.snapshot()).toEqual(before)
  })

  test('an IPAM that is not installed', () => {
    using host = createHost()
    const { json } = status(host, { ...bridge, ipam: { type: 'acme' } } as Plugin, { expectFailure: true })
    expect(json.msg).toContain('failed to find plugin "acme"')
  })
})
