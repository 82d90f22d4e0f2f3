import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  type CniCall,
  type Container,
  createHost,
  executables,
  type Host,
  referencePlugins,
  requireTool,
} from './host.ts'
import {
  createPrograms,
  dropForwarded as dropForwardedBy,
  type Programs,
  savedRules,
  useVariant,
  variants,
} from './programs.ts'

let programs: Programs
beforeEach(() => {
  programs = createPrograms()
})
afterEach(() => programs[Symbol.dispose]())

const save = (host: Host, table?: string) => savedRules(host, programs, table)
const dropForwarded = (host: Host) => dropForwardedBy(host, programs)

const bridgeConfig = (n: number) => ({
  cniVersion: '1.0.0',
  name: `lab${n}`,
  type: 'bridge',
  bridge: `br${n}`,
  isDefaultGateway: true,
  ipMasq: true,
  ipMasqBackend: 'nftables',
  ipam: { type: 'host-local', ranges: [[{ subnet: `10.${n}.0.0/24` }], [{ subnet: `fd00:${n}::/64` }]] },
})

interface Attached extends Container {
  readonly call: Pick<CniCall, 'containerId' | 'netns' | 'ifName'>
  readonly network: number
  readonly prevResult: object
}

/** A container on bridge `br<network>`. */
function attach(host: Host, name: string, network: number): Attached {
  const container = host.addContainer(name)
  const call = { containerId: name, netns: container.path, ifName: 'eth0' }
  const prevResult = host.cni('bridge', 'ADD', { ...call, config: bridgeConfig(network) }).json
  return { ...container, call, network, prevResult }
}

function firewall(host: Host, command: string, container: Attached, keys: object = {}, options: Partial<CniCall> = {}) {
  const { call, network, prevResult } = container
  const config = { cniVersion: '1.0.0', name: `lab${network}`, type: 'firewall', ...keys, prevResult }
  return host.cni('firewall', command, { ...call, config, env: programs.env, ...options })
}

const collect = (host: Host, network: string, valid: object[]) => {
  const config = { cniVersion: '1.1.0', name: network, type: 'firewall', 'cni.dev/valid-attachments': valid }
  return host.cni('firewall', 'GC', { config, env: programs.env })
}

/** Which of the addresses answer, all asked at the same time: the silent ones take a second. */
function answers(host: Host, questions: readonly (readonly [from: Container, to: string])[]): boolean[] {
  const script = questions.map(
    ([from, to], i) => `{ ip netns exec ${from.name} ping -c1 -i0.2 -w1 ${to} >/dev/null 2>&1 && echo ${i}; } &`,
  )
  const answered = host
    .sh(`${script.join('\n')}\nwait`)
    .stdout.trim()
    .split('\n')
  return questions.map((_question, i) => answered.includes(String(i)))
}

const nft = (host: Host) => host.run(['nft', 'list', 'table', 'inet', 'ns-net-firewall'], { expectFailure: 'maybe' })

/** Two containers on br1, one on br2, and who reaches whom by IPv4 and IPv6; outside knows none of them. */
function reachability(host: Host, [a, a2, b]: readonly [Attached, Attached, Attached]) {
  const addresses = ({ prevResult }: Attached) =>
    (prevResult as { ips: { address: string }[] }).ips.map(({ address }) => address.split('/')[0]!)
  const questions = {
    sameBridge: addresses(a2).map((address) => [a, address] as const),
    otherBridge: addresses(b).map((address) => [a, address] as const),
    otherWay: addresses(a2).map((address) => [b, address] as const),
    outside: ['192.0.2.2', '2001:db8::2'].map((address) => [a, address] as const),
    gateway: ['10.1.0.1', 'fd00:1::1'].map((address) => [a, address] as const),
  }
  const all = answers(host, Object.values(questions).flat())
  return Object.fromEntries(Object.keys(questions).map((name, i) => [name, all.slice(2 * i, 2 * i + 2)]))
}

const yes = [true, true]
const no = [false, false]
const expected = {
  open: { sameBridge: yes, otherBridge: yes, otherWay: yes, outside: yes, gateway: yes },
  'same-bridge': { sameBridge: yes, otherBridge: no, otherWay: no, outside: yes, gateway: yes },
  isolated: { sameBridge: no, otherBridge: no, otherWay: no, outside: yes, gateway: yes },
} as const
type Ingress = keyof typeof expected

function lab(): { host: Host; containers: readonly [Attached, Attached, Attached] } {
  const host = createHost()
  host.addUplink()
  return { host, containers: [attach(host, 'a1', 1), attach(host, 'a2', 1), attach(host, 'b1', 2)] }
}

function bridgeCallsIptables(host: Host, on: boolean): void {
  for (const name of ['iptables', 'ip6tables'])
    host.sh(`echo ${Number(on)} >/proc/sys/net/bridge/bridge-nf-call-${name} || true`)
}

describe.each(variants)('iptables variant %s', (variant) => {
  beforeEach((context) => {
    requireTool('ping', context)
    useVariant(programs, variant, context)
  })

  test.each([
    ...(['iptables', 'nftables'] as const).flatMap((backend) =>
      (['open', 'same-bridge', 'isolated'] as const).map((ingress): [string, Ingress] => [backend, ingress]),
    ),
    ['', 'same-bridge'] as [string, Ingress],
  ])('backend "%s", %s: packets with FORWARD DROP', (backend, ingressPolicy) => {
    const { host, containers } = lab()
    using _ = host
    dropForwarded(host)
    if (ingressPolicy === 'open') expect(reachability(host, containers)).toMatchObject({ otherBridge: no, outside: no })
    for (const container of containers) firewall(host, 'ADD', container, { backend, ingressPolicy })
    for (const container of containers) firewall(host, 'CHECK', container, { backend, ingressPolicy })
    for (const calls of [true, false]) {
      bridgeCallsIptables(host, calls)
      expect({ calls, ...reachability(host, containers) }).toEqual({ calls, ...expected[ingressPolicy] })
    }
  })

  test.for(['iptables', 'nftables'])('backend "%s", internal: nothing in, nothing out', (backend) => {
    const { host, containers } = lab()
    using _ = host
    dropForwarded(host)
    const rules = () => [save(host), nft(host).stdout]
    const before = rules()
    const [a, a2, b] = containers
    const keys = { backend, internal: true }
    firewall(host, 'ADD', b, { backend })
    firewall(host, 'ADD', a, keys)
    const once = rules()
    firewall(host, 'ADD', a2, keys)
    expect(rules()).toEqual(once)
    for (const calls of [true, false]) {
      bridgeCallsIptables(host, calls)
      const inside = { sameBridge: yes, gateway: yes, otherBridge: no, otherWay: no, outside: no }
      expect({ calls, ...reachability(host, containers) }).toEqual({ calls, ...inside })
    }
    if (backend === 'iptables') host.run(['iptables', '-D', 'NS-NET-FORWARD', '2'], { env: programs.env })
    else host.run(['nft', 'flush', 'chain', 'inet', 'ns-net-firewall', 'forward'])
    expect(firewall(host, 'CHECK', a, keys, { expectFailure: true }).json).toMatchObject({ code: 104 })
    firewall(host, 'ADD', a, keys)
    for (const container of [a, a2]) firewall(host, 'CHECK', container, keys)
    for (const container of containers) firewall(host, 'DEL', container)
    expect(rules()).toEqual(before)
  })

  test('rules per network; the last DEL, with names only, removes them all', () => {
    const { host, containers } = lab()
    using _ = host
    dropForwarded(host)
    const before = save(host)
    const isolated = { backend: 'iptables', ingressPolicy: 'isolated' }
    firewall(host, 'ADD', containers[0], isolated)
    const once = save(host)
    expect(once.filter((line) => line.startsWith('-A NS-NET-FORWARD'))).toHaveLength(2 * 5)
    expect(once).toContain('-A FORWARD -m comment --comment ns-net -j NS-NET-FORWARD')
    for (const _time of [1, 2]) firewall(host, 'ADD', containers[1], isolated)
    expect(save(host)).toEqual(once)
    firewall(host, 'ADD', containers[2], { backend: 'iptables' })

    const bare = (network: number) => ({
      config: { cniVersion: '1.0.0', name: `lab${network}`, type: 'firewall' },
      netns: undefined,
    })
    firewall(host, 'DEL', containers[2], {}, bare(2))
    firewall(host, 'DEL', containers[0], {}, bare(1))
    expect(save(host)).toEqual(once)
    for (const _time of [1, 2]) firewall(host, 'DEL', containers[1], {}, bare(1))
    expect(save(host)).toEqual(before)
    expect(existsSync(host.file('/run/ns-net/firewall'))).toBe(false)
  })

  test('what the administrator says comes first and stays', () => {
    const { host, containers } = lab()
    using _ = host
    dropForwarded(host)
    const [a, a2, b] = containers
    for (const container of containers)
      firewall(host, 'ADD', container, { backend: 'iptables', iptablesAdminChainName: 'MY-RULES' })
    host.run(['iptables', '-A', 'MY-RULES', '-d', '192.0.2.0/24', '-j', 'DROP'], { env: programs.env })
    expect(reachability(host, containers)).toMatchObject({ outside: [false, true], otherBridge: yes })
    for (const container of [a, a2, b]) firewall(host, 'DEL', container)
    expect(save(host).filter((line) => line.includes('MY-RULES'))).toEqual([
      ':MY-RULES -',
      '-A MY-RULES -d 192.0.2.0/24 -j DROP',
    ])
    expect(save(host).filter((line) => line.includes('NS-NET'))).toEqual([])
  })

  test("behind Docker's own chain", () => {
    const { host, containers } = lab()
    using _ = host
    dropForwarded(host)
    host.run(['iptables-restore', '--noflush'], {
      env: programs.env,
      input: '*filter\n:DOCKER-USER -\n-A FORWARD -j DOCKER-USER\n-A DOCKER-USER -d 192.0.2.0/24 -j DROP\nCOMMIT\n',
    })
    for (const container of containers) firewall(host, 'ADD', container)
    expect(save(host).filter((line) => line.startsWith('-A FORWARD'))).toEqual([
      '-A FORWARD -j DOCKER-USER',
      ...Array(2).fill('-A FORWARD -m comment --comment ns-net -j NS-NET-FORWARD'),
    ])
    expect(reachability(host, containers)).toMatchObject({ outside: [false, true], otherBridge: yes })
  })

  test('CHECK names what somebody removed, the next ADD puts it back, GC takes what is stale', () => {
    const { host, containers } = lab()
    using _ = host
    const [a, a2] = containers
    const keys = { backend: 'iptables', ingressPolicy: 'same-bridge' }
    const fails = (message: string) =>
      expect(firewall(host, 'CHECK', a, keys, { expectFailure: true }).json).toMatchObject({
        code: 104,
        msg: expect.stringContaining(message),
      })
    fails('is not among the users')
    const before = save(host)
    for (const container of [a, a2]) firewall(host, 'ADD', container, keys)
    const complete = save(host)
    for (const [line, message] of [
      ['-F FORWARD', 'filter rule "-A FORWARD -m comment --comment ns-net -j NS-NET-FORWARD" is missing'],
      ['-D NS-NET-FORWARD 1', '-j CNI-ADMIN" is missing'],
      ['-D NS-NET-FORWARD 2', '-i br1 ! -o br1'],
      ['-F NS-NET-ISOLATED', 'filter rule "-A NS-NET-ISOLATED -o br1'],
      ['-D NS-NET-FORWARD 3', 'filter rule "-A NS-NET-FORWARD -s 10.1.0.0/24 -i br1'],
      ['-F', 'filter rule'],
    ]) {
      host.run(['iptables', ...line!.split(' ')], { env: programs.env })
      fails(message!)
      firewall(host, 'ADD', a2, keys)
      firewall(host, 'CHECK', a, keys)
      expect(save(host).sort()).toEqual([...complete].sort())
    }
    collect(host, 'lab1', [{ containerID: 'a2', ifname: 'eth0' }])
    collect(host, 'lab2', [])
    expect(save(host).sort()).toEqual([...complete].sort())
    fails('is not among the users')
    collect(host, 'lab1', [])
    expect(save(host)).toEqual(before)
  })

  test('many at the same time: rules once, and none after the last', () => {
    using host = createHost()
    host.run(['ip', 'link', 'add', 'br1', 'type', 'bridge'])
    dropForwarded(host)
    const before = save(host)
    const prevResult = { cniVersion: '1.0.0', interfaces: [{ name: 'br1' }], ips: [{ address: '10.1.0.2/24' }] }
    const keys = { backend: 'iptables', ingressPolicy: 'same-bridge', prevResult }
    const config = (n: number) => ({ cniVersion: '1.0.0', name: `lab${n % 2}`, type: 'firewall', ...keys })
    const all = (command: string) =>
      host.sh(
        `export CNI_COMMAND=${command} CNI_IFNAME=eth0 CNI_NETNS=/run/netns/none CNI_PATH=${executables}
        ${Array.from({ length: 12 }, (_each, n) => `(echo '${JSON.stringify(config(n))}' | CNI_CONTAINERID=c${n} ${executables}/firewall >/run/out.${n} || cat /run/out.${n} >>/run/failed) &`).join('\n')}
        wait; [ ! -s /run/failed ] || { cat /run/failed; exit 1; }`,
        { env: programs.env },
      )
    for (const _time of [1, 2, 3]) {
      all('ADD')
      expect(save(host).filter((line) => line.startsWith('-A NS-NET'))).toHaveLength(2 * 4 + 1)
      all('DEL')
      expect(save(host)).toEqual(before)
    }
  })

  test('an ADD that fails for one family leaves nothing of the other', () => {
    const { host, containers } = lab()
    using _ = host
    dropForwarded(host) // iptables' own tables appear at its first use
    const before = [save(host), host.snapshot()]
    programs.replace('ip6tables-restore', 'echo no module >&2; exit 3')
    const { json } = firewall(host, 'ADD', containers[0], { backend: 'iptables' }, { expectFailure: true })
    expect(json).toMatchObject({ code: 100, msg: 'ip6tables-restore --noflush -w 5: exit 3: no module' })
    expect([save(host), host.snapshot()]).toEqual(before)
  })
})

test.runIf(existsSync(`${referencePlugins}/firewall`)).each(['open', 'same-bridge'] as const)(
  'the reference plugin lets the same packets through: %s',
  (ingressPolicy) => {
    const { host, containers } = lab()
    using _ = host
    dropForwarded(host)
    bridgeCallsIptables(host, true) // the reference isolates within a bridge only then
    const options = { path: referencePlugins }
    const keys = { backend: 'iptables', ingressPolicy }
    for (const container of containers) firewall(host, 'ADD', container, keys, options)
    expect(reachability(host, containers)).toEqual(expected[ingressPolicy])
  },
)

test('nftables without iptables in use: isolation in a table of our own, nothing for open', (context) => {
  requireTool('nft', context)
  const { host, containers } = lab()
  using _ = host
  const before = host.snapshot()
  const keys = { backend: 'nftables', ingressPolicy: 'isolated' }
  for (const container of containers) firewall(host, 'ADD', container, keys)
  const ruleset = nft(host).stdout
  expect(ruleset.match(/comment "ns-net:lab1:/g)).toHaveLength(3)
  expect(ruleset.match(/comment "ns-net:lab2:/g)).toHaveLength(3)
  expect(ruleset).toContain('iifname "br1" oifname != "br1" jump isolated')
  expect(ruleset).toContain('iifname "br1" oifname "br1" drop')
  expect(reachability(host, containers)).toEqual(expected.isolated)

  host.run(['nft', 'flush', 'chain', 'inet', 'ns-net-firewall', 'isolated'])
  const failed = firewall(host, 'CHECK', containers[0], keys, { expectFailure: true })
  expect(failed.json).toMatchObject({ code: 104, msg: expect.stringContaining('missing from chain isolated') })
  for (const container of containers) firewall(host, 'ADD', container, keys)
  firewall(host, 'CHECK', containers[0], keys)
  host.sh('for port in $(ls /sys/class/net/br1/brif); do ip link set $port type bridge_slave isolated off; done')
  expect(firewall(host, 'CHECK', containers[0], keys, { expectFailure: true }).json.msg).toMatch(
    /^CHECK: "veth\w+" is not isolated/,
  )

  for (const container of containers) firewall(host, 'DEL', container, keys)
  for (const container of containers) firewall(host, 'ADD', container, { backend: 'nftables' })
  expect(nft(host).status).not.toBe(0)
  expect(host.snapshot()).toEqual(before)
})

test('a point-to-point link: rules for its own end', () => {
  using host = createHost()
  host.addUplink()
  const ends = [1, 2].map((n) => {
    const container = host.addContainer(`p${n}`)
    const call = { containerId: `p${n}`, netns: container.path, ifName: 'eth0' }
    const ipam = { type: 'host-local', subnet: '10.3.0.0/24', routes: [{ dst: '0.0.0.0/0' }] }
    const config = { cniVersion: '1.0.0', name: 'lab3', type: 'ptp', ipMasq: true, ipMasqBackend: 'nftables', ipam }
    return { ...container, call, network: 3, prevResult: host.cni('ptp', 'ADD', { ...call, config }).json }
  })
  host.run(['iptables', '-P', 'FORWARD', 'DROP'])
  const [first, second] = ends as [Attached, Attached]
  for (const [ingressPolicy, answered] of [
    ['open', true],
    ['same-bridge', false],
  ]) {
    for (const end of ends) firewall(host, 'ADD', end, { ingressPolicy })
    const asked = [[first, '10.3.0.3'] as const, [second, '192.0.2.2'] as const]
    expect(answers(host, asked)).toEqual([answered, true])
    for (const end of ends) firewall(host, 'DEL', end)
  }
  expect(save(host).filter((line) => line.includes('NS-NET'))).toEqual([])
})

test('firewalld: subnets become sources of the zone by its own program; not running is said so', () => {
  const { host, containers } = lab()
  using _ = host
  const fails = firewall(host, 'ADD', containers[0], { backend: 'firewalld' }, { expectFailure: true })
  expect(fails.json).toMatchObject({ code: 50, details: expect.stringContaining('install firewall-cmd') })

  const log = join(programs.folder, 'log')
  programs.replace('firewall-cmd', `echo "$@" >>${log}`)
  writeFileSync(log, '')
  const asked = () =>
    host
      .run(['sh', '-c', `sort ${log}; : >${log}`])
      .stdout.trim()
      .split('\n')
  const keys = { backend: 'firewalld', firewalldZone: 'work' }
  firewall(host, 'ADD', containers[0], keys)
  const sources = ['10.1.0.0/24', 'fd00:1::/64']
  expect(asked()).toEqual(['--state', ...sources.map((source) => `--zone=work --add-source=${source}`)])
  firewall(host, 'ADD', containers[1], keys)
  asked()
  firewall(host, 'CHECK', containers[1], keys)
  expect(asked()).toEqual(['--state', ...sources.map((source) => `--zone=work --query-source=${source}`)])
  firewall(host, 'DEL', containers[0])
  expect(asked()).toEqual([''])
  firewall(host, 'DEL', containers[1])
  expect(asked()).toEqual(sources.map((source) => `--zone=work --remove-source=${source}`))

  host.run(['nft', 'add', 'table', 'inet', 'firewalld'])
  firewall(host, 'ADD', containers[2])
  expect(asked()[0]).toBe('--zone=trusted --add-source=10.2.0.0/24')

  programs.replace('firewall-cmd', 'echo "Error: ZONE_CONFLICT: is bound to public" >&2; exit 26')
  const conflict = firewall(host, 'ADD', containers[0], {}, { expectFailure: true })
  expect(conflict.json).toMatchObject({ code: 103, msg: expect.stringContaining('ZONE_CONFLICT') })
})

test('no result, no addresses, an old version', () => {
  using host = createHost()
  const container = host.addContainer('c1')
  const call = { containerId: 'c1', netns: container.path, ifName: 'eth0', env: programs.env }
  const before = host.snapshot()
  const config = { cniVersion: '1.0.0', name: 'lab', type: 'firewall' }
  expect(host.cni('firewall', 'ADD', { ...call, config, expectFailure: true }).json.code).toBe(7)
  const old = { ...config, cniVersion: '0.3.1' }
  expect(host.cni('firewall', 'ADD', { ...call, config: old, expectFailure: true }).json.code).toBe(1)
  const layer2 = { ...config, prevResult: { cniVersion: '1.0.0', interfaces: [{ name: 'eth0', sandbox: call.netns }] } }
  for (const command of ['ADD', 'CHECK', 'DEL']) host.cni('firewall', command, { ...call, config: layer2 })
  expect(host.snapshot()).toEqual(before)
  const { stdout } = host.cni('firewall', 'VERSION', { config })
  expect(JSON.parse(stdout).supportedVersions).toEqual(['0.4.0', '1.0.0', '1.1.0'])
})

test('STATUS: whether the backend that is asked for is there', () => {
  using host = createHost()
  const status = (backend: string) => {
    const config = { cniVersion: '1.1.0', name: 'lab', type: 'firewall', backend }
    const { json } = host.cni('firewall', 'STATUS', { config, env: programs.env, expectFailure: 'maybe' })
    return json && [json.code, json.msg, json.details]
  }
  const unavailable = (what: RegExp, remedy: RegExp) => [50, expect.stringMatching(what), expect.stringMatching(remedy)]
  expect(status('firewalld')).toEqual(unavailable(/firewalld is not running/, /install firewall-cmd/))
  programs.replace('firewall-cmd', 'echo not running; exit 252')
  expect(status('firewalld')).toEqual(unavailable(/firewalld is not running/, /start it/))
  programs.replace('firewall-cmd', 'echo running')
  for (const backend of ['firewalld', 'iptables', 'nftables', 'auto']) expect(status(backend)).toBeUndefined()

  host.sh('mkdir /run/empty; for bin in /usr/sbin /sbin /usr/local/sbin; do mount --bind /run/empty $bin; done')
  const missing = unavailable(/iptables or ip6tables is not installed/, /install iptables/)
  expect(status('iptables')).toEqual(missing)
  programs.replace('iptables', '')
  expect(status('iptables')).toEqual(missing)
  programs.replace('ip6tables', '')
  for (const backend of ['iptables', 'nftables', 'auto']) expect(status(backend)).toBeUndefined()
})
