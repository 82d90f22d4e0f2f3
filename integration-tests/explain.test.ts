import { writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { createHost, executables, type Host, requireTool } from './host.ts'
import { kernelState, readTree } from './kernel-state.ts'

/*
 * What `--explain` prints is pasted into a shell: on a clean host it must make the same, and its undo must leave what was
 * before. `ip`, `nft`, `iptables-save`, `tc` and `sysctl` judge.
 */

const nsNet = (host: Host, ...args: string[]) => host.run([`${executables}/ns-net`, ...args])
const paste = (host: Host, text: string) => host.run(['sh', '-e'], { input: text })

/** What stands in the here-document that a paste of everything does not carry out. */
function undoIn(text: string): string {
  const [, undo] = /^: <<'UNDO'.*\n([\s\S]*?)^UNDO$/m.exec(text) ?? []
  if (undo === undefined) throw new Error(`no undo in:\n${text}`)
  return undo
}

/** What others read. */
const publicFiles = (host: Host) => ({ ...readTree(host, '/etc/netns'), ...readTree(host, '/run/ns-net/hosts') })

/** All that ns-net and its plugins write. */
const allFiles = (host: Host) =>
  Object.assign(
    {},
    ...['/etc/netns', '/run/ns-net', '/run/ns-net.lock', '/run/cni', '/run/leases', '/var/lib/cni'].map((path) =>
      readTree(host, path),
    ),
  )

/** Without what stays after a lease: folders, locks and the index, which is made anew. */
function filesToUndo(host: Host): Record<string, string> {
  const isTrace = (path: string) =>
    /^\/(var\/lib\/cni|run\/leases)\/(.*(\/|\/lock))?$|\/\.ns-net\/|^\/run\/ns-net\.lock$/.test(path)
  return Object.fromEntries(Object.entries(allFiles(host)).filter(([path]) => !isTrace(path))) as Record<string, string>
}

/** MACs are random where nobody gave one. */
const withoutMacs = <T>(value: T): T =>
  JSON.parse(JSON.stringify(value).replace(/\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b/g, 'MAC'))

const tools = ['ip', 'nft', 'iptables', 'sysctl', 'tc']

/** Conflists with what the networks of ns-net do not use: every kind of rule and setting that our plugins write. */
const conflists: Readonly<Record<string, readonly object[]>> = {
  iptables: [
    bridgePlugin('br-ipt', '10.41.0.0/24', { ipMasq: true, ipMasqBackend: 'iptables' }),
    { type: 'portmap', backend: 'iptables', capabilities: { portMappings: true } },
    { type: 'firewall', backend: 'iptables', ingressPolicy: 'isolated' },
  ],
  nftables: [
    { type: 'loopback' },
    bridgePlugin('br-nft', '10.42.0.0/25', { macspoofchk: true, promiscMode: true, enabledad: true }),
    {
      type: 'portmap',
      backend: 'nftables',
      capabilities: { portMappings: true },
      conditionsV4: ['ip', 'saddr', '!=', '10.9.0.0/20', 'iifname', 'eth*'],
    },
    { type: 'firewall', backend: 'nftables', ingressPolicy: 'isolated' },
    { type: 'bandwidth', ingressRate: 8_000_000, ingressBurst: 80_000, egressRate: 16_000_000, egressBurst: 80_000 },
    {
      type: 'tuning',
      mtu: 1300,
      promisc: true,
      allmulti: true,
      txQLen: 500,
      sysctl: { 'net.ipv4.conf.IFNAME.log_martians': '1', 'net.core.somaxconn': '500' },
    },
  ],
  snat: [
    {
      type: 'ptp',
      ipam: {
        type: 'host-local',
        dataDir: '/run/leases/elsewhere',
        ranges: [[{ subnet: '10.43.0.0/24' }], [{ subnet: 'fd43::/64' }]],
      },
    },
    { type: 'nat', backend: 'nftables', snat: ['192.0.2.10', '2001:db8::10'], nonMasqueradeCIDRs: ['10.0.0.0/9'] },
  ],
  foreign: [{ type: 'macvlan', master: 'uplink', ipam: { type: 'static', addresses: [{ address: '10.44.0.2/24' }] } }],
}

function bridgePlugin(bridge: string, subnet: string, more: object): object {
  const ipam = { type: 'host-local', ranges: [[{ subnet }]] }
  return { type: 'bridge', bridge, isDefaultGateway: true, ipam, ...more }
}

const unusual: readonly (readonly string[])[] = [
  ['add', 'ipt', '--conf', '/run/iptables.conflist', '-p', '8443:443', '-p', '5353:53/udp'],
  ['add', 'ipt2', '--conf', '/run/iptables.conflist'],
  ['add', 'nft', '--conf', '/run/nftables.conflist', '-p', '9443:443'],
  ['add', 'snat', '--conf', '/run/snat.conflist'],
  ['shape', 'snat:eth0', '--rate', '8mbit', '--loss', '2.5%'],
  ['shape', 'snat:eth0', '--rate', '1mbit', '--loss', '100%'],
  ['link', 'down', 'snat:eth0'],
  ['link', 'up', 'snat:eth0'],
  ['shape', 'snat:eth0', '--reset'],
  ['add', 'mac', '--conf', '/run/foreign.conflist'],
  ['del', 'mac'],
  ['reload'],
  ['del', 'ipt2'],
  ['del', 'ipt', 'nft', 'snat'],
]

/** Verbs, in an order in which each finds what it needs; `sh` is what somebody else does. */
const daily: readonly (readonly string[])[] = [
  ['add', 'web', '-p', '8080:80', '-p', '127.0.0.1:5353:53/udp'],
  ['add', 'api', '--dns', '192.0.2.53', '--mac', '02:00:00:00:00:07', '--mtu', '1400'],
  ['add', 'pair', '--ptp', '--subnet', '10.0.0.0/24', '--ip', '10.0.0.2', '-p', '2222:22'],
  ['add', 'bare', '--no-net'],
  ['net', 'create', 'back', '--subnet', '10.20.0.0/24', '--internal'],
  ['attach', 'web', 'back', '--ip', '10.20.0.9'],
  ['net', 'create', 'six', '--subnet', '10.30.0.0/24', '--ipv6', '--isolated'],
  ['add', 'dual', '--net', 'six'],
  ['link', 'add', 'web:eth9', 'api:eth9', '--addr', '172.16.0.1/30,172.16.0.2/30'],
  ['link', 'add', 'host:cable0', 'bare:eth0', '--addr', ',172.17.0.2/30'],
  ['link', 'down', 'web:eth0'],
  ['link', 'up', 'web:eth0'],
  ['link', 'down', 'api:eth9'],
  ['port', 'add', 'web', '9090:90'],
  ['port', 'rm', 'web', '8080'],
  ['sh', 'nft flush ruleset; echo 0 >/proc/sys/net/ipv4/ip_forward'],
  ['reload'],
  ['detach', 'web', 'back'],
  ['net', 'rm', 'back'],
  ['link', 'del', 'web:eth9'],
  ['adopt', 'stray'],
  ['link', 'add', 'web:eth8', 'dual:eth8'],
  ['del', 'web', 'dual'],
  ['del', 'pair'],
  ['del', '--all'],
]

const series = [
  ['daily verbs', daily],
  ['what conflists ask for', unusual],
] as const

function prepare(host: Host): void {
  host.sh(`ip netns add stray
           ip link add uplink type veth peer name far
           ip link set uplink up
           iptables -P FORWARD DROP; ip6tables -P FORWARD DROP
           for program in iptables ip6tables; do
             for chain in nat/PREROUTING nat/OUTPUT nat/POSTROUTING filter/FORWARD; do # they stay after their first use
               $program -t \${chain%/*} -A \${chain#*/} -j RETURN
               $program -t \${chain%/*} -D \${chain#*/} 1
             done
           done`)
  for (const [name, plugins] of Object.entries(conflists))
    writeFileSync(host.file(`/run/${name}.conflist`), JSON.stringify({ cniVersion: '1.0.0', name, plugins }))
}

/** The verbs of ns-net, with what others do on these hosts in between. */
function* ours(verbs: readonly (readonly string[])[], ...hosts: Host[]): Generator<readonly string[]> {
  for (const verb of verbs) {
    if (verb[0] === 'sh') for (const host of hosts) host.sh(verb[1]!)
    else yield verb
  }
}

const patient = { timeout: 300_000 } // hundreds of programs are asked

test.for(series)('what is explained makes the same on a clean host: %s', patient, ([_name, verbs], context) => {
  for (const tool of tools) requireTool(tool, context)
  using explained = createHost()
  using clean = createHost()
  const state = (host: Host) => withoutMacs({ places: kernelState(host), files: publicFiles(host) })
  for (const host of [explained, clean]) prepare(host)
  for (const verb of ours(verbs, explained, clean)) {
    paste(clean, nsNet(explained, ...verb, '--explain').stdout)
    expect({ verb, ...state(clean) }).toEqual({ verb, ...state(explained) })
  }
})

test.for(series)('the undo leaves what was before: %s', patient, ([_name, verbs], context) => {
  for (const tool of tools) requireTool(tool, context)
  using host = createHost()
  prepare(host)
  for (const verb of ours(verbs, host)) {
    // A foreign plugin that is asked again chooses another MAC.
    const known = verb.includes('mac') ? withoutMacs : <T>(value: T) => value
    const state = () => known({ places: kernelState(host), files: filesToUndo(host) })
    const before = state()
    const text = nsNet(host, ...verb, '--explain').stdout
    if (!/^: <<'UNDO'/m.test(text)) continue // nothing was changed
    paste(host, undoIn(text))
    expect({ verb, ...state() }).toEqual({ verb, ...before })
    nsNet(host, ...verb)
  }
})

test.for(series)('a dry run prints what is then done, and changes nothing: %s', patient, ([_name, verbs], context) => {
  for (const tool of tools) requireTool(tool, context)
  using host = createHost()
  prepare(host)
  const state = () => ({ places: kernelState(host), files: allFiles(host) })
  for (const verb of ours(verbs, host)) {
    const before = state()
    const rehearsed = JSON.parse(nsNet(host, ...verb, '--dry-run', '--json').stdout)
    expect({ verb, ...state() }).toEqual({ verb, ...before })
    expect({ verb, differences: rehearsed.differences }).toEqual({ verb, differences: [] })
    const { steps } = JSON.parse(nsNet(host, '--explain', ...verb, '--json').stdout)
    expect({ verb, steps: timeless(rehearsed.steps) }).toEqual({ verb, steps: timeless(steps) })
  }
})

/** A record says when its lab was made. */
const timeless = (steps: object): object =>
  JSON.parse(JSON.stringify(withoutMacs(steps)).replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME'))

test('lines fit a terminal where the commands do, and JSON says the same', () => {
  using host = createHost()
  const text = withoutMacs(nsNet(host, 'add', 'web', '--dry-run').stdout)
  const { dryRun, steps, undo } = withoutMacs(JSON.parse(nsNet(host, '--json', '--dry-run', 'add', 'web').stdout))
  const commands = steps.map(({ command }: { command: string }) => command.split('\n')[0])
  const long = text
    .split('\n')
    .filter((line) => line.length > 80 && commands.some((command: string) => line.startsWith(command)))
  expect(long.filter((line) => line.includes('  # '))).toEqual([])
  expect(dryRun).toBe(true)
  for (const { command, why, place } of steps) {
    expect(text).toContain(command.split('\n')[0])
    expect(text).toContain(command.startsWith('# ') ? command : `# ${why}`)
    expect(['host', 'web']).toContain(place)
  }
  expect(undo.at(-1)).toBe('ip netns del web')
  expect(undoIn(text).trimEnd().split('\n').at(-1)).toBe('ip netns del web')
})

test('verbs that change nothing have nothing to explain; others fail as they would', () => {
  using host = createHost()
  const refused = (...args: string[]) => host.run([`${executables}/ns-net`, ...args], { expectFailure: true })
  for (const args of [
    ['ls', '--explain'],
    ['--dry-run', 'net', 'ls'],
    ['show', 'web', '--dry-run'],
  ]) {
    const { status, stderr } = refused(...args)
    expect({ args, status }).toEqual({ args, status: 2 })
    expect(stderr).toMatch(/^ns-net: (ls|net ls|show): nothing to explain or to rehearse\nhint: .+\n$/)
  }
  expect(refused('del', 'nothere', '--dry-run')).toMatchObject({
    status: 3,
    stderr: expect.stringMatching(/^ns-net: no lab/),
  })
  nsNet(host, 'add', 'web')
  expect(refused('add', 'web', '--dry-run')).toMatchObject({ status: 4 })
})

test('a dry run ends no process, and tells that a real one would be refused', () => {
  using host = createHost()
  nsNet(host, 'add', 'web')
  host.start([`${executables}/ns-net`, 'exec', 'web', '--', 'sleep', '1000'])
  host.sh('for i in $(seq 100); do [ -n "$(ip netns pids web)" ] && exit; sleep 0.05; done; exit 1')
  const pid = host.run(['ip', 'netns', 'pids', 'web']).stdout.trim()
  expect(nsNet(host, 'del', 'web', '--kill', '--dry-run').stdout).toContain(`# processes run in web (${pid})`)
  expect(host.run(['ip', 'netns', 'pids', 'web']).stdout.trim()).toBe(pid)
  expect(nsNet(host, 'del', 'web', '--kill', '--explain').stdout).toMatch(new RegExp(`^kill -TERM ${pid} `))
})

test('a lab file: --dry-run prints its plan, with --explain the commands, and starts nothing', () => {
  using host = createHost()
  const file = {
    lab: 'demo',
    networks: { lan: { subnet: '10.10.0.0/24' } },
    nodes: { a: { nets: ['lan'], exec: ['sleep 987654'] } },
  }
  writeFileSync(host.file('/run/lab.json'), JSON.stringify(file))
  const apply = (...args: string[]) => nsNet(host, 'apply', '-f', '/run/lab.json', ...args).stdout
  expect(nsNet(host, '--dry-run', 'apply', '-f', '/run/lab.json').stdout).toBe(apply('--dry-run'))
  const rehearsed = apply('--dry-run', '--explain')
  expect(rehearsed).toMatch(/^ip netns add a /m)
  expect(rehearsed).toContain("ip netns exec a setsid sh -c 'sleep 987654'")
  expect(host.json(['ip', '-j', 'netns'])).toBeUndefined()
  host.sh('for i in $(seq 100); do pgrep -f "sleep 98765[4]" || exit 0; sleep 0.05; done; exit 1')
})
