import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { createHost, executables, type Host, requireTool } from './host.ts'

interface Hop {
  readonly direction: 'there' | 'back'
  readonly place: string
  readonly link?: string
  readonly check: string
  readonly finding: string
  readonly state: 'ok' | 'blocked' | 'unknown'
}

interface Diagnosis {
  readonly status: number
  readonly reachable: boolean
  readonly verdict: string
  readonly fix: readonly string[]
  readonly hops: readonly Hop[]
  // biome-ignore lint/suspicious/noExplicitAny: the test says what it expects
  readonly live?: any
}

/** Behind the others, since `bridge` is also a program of iproute2. */
const env = { PATH: `${process.env.PATH}:/usr/local/sbin:/usr/sbin:/sbin:${executables}` }

const nsNet = (host: Host, ...args: string[]) =>
  host.run([`${executables}/ns-net`, ...args], { expectFailure: 'maybe' })

function why(host: Host, ...args: string[]): Diagnosis {
  const { status, stdout, stderr } = nsNet(host, 'why', ...args, '--json')
  if (stdout === '') throw new Error(stderr)
  return { status, ...JSON.parse(stdout) }
}

const pings = (host: Host, from: string, to: string, seconds = 1): boolean =>
  host.run(['ip', 'netns', 'exec', from, 'ping', '-c1', `-W${seconds}`, to], { expectFailure: 'maybe' }).status === 0

const connects = (host: Host, from: string, to: string): boolean =>
  host.run(['ip', 'netns', 'exec', from, 'socat', '-T1', '-u', '/dev/null', `TCP:${to},connect-timeout=1`], {
    expectFailure: 'maybe',
  }).status === 0

const follow = (host: Host, { fix }: Diagnosis): void => {
  for (const line of fix) host.sh(line, { env })
}

const blocks = ({ hops }: Diagnosis): Hop[] => hops.filter(({ state }) => state === 'blocked')

/** Two labs made by hand, each on a cable of its own to the host, which routes between them. */
function routedPair(host: Host): void {
  host.sh('echo 1 > /proc/sys/net/ipv4/ip_forward')
  for (const [name, n] of [
    ['web', 1],
    ['api', 2],
  ])
    host.sh(`ip netns add ${name}
             ip link add v-${name} type veth peer name eth0 netns ${name}
             ip addr add 10.${n}.0.1/24 dev v-${name}
             ip link set v-${name} up
             ip -n ${name} link set lo up
             ip -n ${name} addr add 10.${n}.0.2/24 dev eth0
             ip -n ${name} link set eth0 up
             ip -n ${name} route add default via 10.${n}.0.1`)
}

/** Two labs of the default network, on one bridge. */
function labs(host: Host): void {
  for (const name of ['web', 'api']) host.run([`${executables}/ns-net`, 'add', name])
}

const linkOf = (host: Host, lab: string): string =>
  host.json(['ip', '-j', 'link']).find(({ ifalias }: { ifalias?: string }) => ifalias?.includes(`:${lab}:`)).ifname

function listen(host: Host, lab: string, socket: string, port: number): void {
  host.start(['ip', 'netns', 'exec', lab, 'socat', `${socket},fork`, 'SYSTEM:echo hello'])
  host.sh(`for i in $(seq 100); do ip netns exec ${lab} ss -Hlntu | grep -q :${port} && exit; sleep 0.05; done; exit 1`)
}

interface Case {
  readonly name: string
  readonly topology: (host: Host) => void
  readonly damage: (host: Host) => void
  readonly to: string
  /** What ping is to reach, when it is not the destination itself. */
  readonly address?: string
  readonly check: string
  readonly verdict: RegExp
  readonly finding?: RegExp
}

const nftDrop = (place: string, hook: string, rule: string) => (host: Host) =>
  host.sh(`${place} nft add table inet t
           ${place} nft add chain inet t c '{ type filter hook ${hook} priority 0; policy accept; }'
           ${place} nft add rule inet t c ${rule}`)

const cases: Case[] = [
  {
    name: 'no route in the lab',
    topology: routedPair,
    damage: (host) => void host.sh('ip -n web route del default'),
    to: '10.2.0.2',
    check: 'route',
    verdict: /^web has no route to 10\.2\.0\.2$/,
  },
  {
    name: 'a route that refuses',
    topology: routedPair,
    damage: (host) => void host.sh('ip -n web route add unreachable 10.2.0.0/24'),
    to: 'api',
    address: '10.2.0.2',
    check: 'route',
    verdict: /^web has no route to/,
    finding: /kind unreachable/,
  },
  {
    name: 'the interface of a lab by hand is down',
    topology: routedPair,
    damage: (host) => void host.sh('ip -n web link set eth0 down'),
    to: 'api',
    address: '10.2.0.2',
    check: 'interface',
    verdict: /^eth0 of web is down$/,
  },
  {
    name: 'the interface of a lab is down, and took the default route along',
    topology: labs,
    damage: (host) => void host.sh('ip -n web link set eth0 down'),
    to: '10.88.0.1',
    check: 'interface',
    verdict: /^eth0 of web is down$/,
  },
  {
    name: 'the lab has lost its address',
    topology: labs,
    damage: (host) => void host.sh('ip -n web addr flush dev eth0 scope global'),
    to: 'api',
    address: '10.88.0.3',
    check: 'interface',
    verdict: /^web has no IPv4 address on eth0$/,
  },
  {
    name: 'the destination has lost its address',
    topology: labs,
    damage: (host) => void host.sh('ip -n api addr flush dev eth0 scope global'),
    to: 'api',
    address: '10.88.0.3',
    check: 'neighbour',
    verdict: /^api has lost its address 10\.88\.0\.3$/,
  },
  {
    name: 'the interface of the destination is down',
    topology: labs,
    damage: (host) => void host.sh('ip -n api link set eth0 down'),
    to: 'api',
    address: '10.88.0.3',
    check: 'interface',
    verdict: /^eth0 of api is down$/,
  },
  {
    name: 'the other end of the veth is down',
    topology: labs,
    damage: (host) => void host.sh(`ip link set ${linkOf(host, 'web')} down`),
    to: 'api',
    address: '10.88.0.3',
    check: 'link',
    verdict: /the other end of web eth0, is down$/,
  },
  {
    name: 'the bridge is down',
    topology: labs,
    damage: (host) => void host.sh('ip link set nsbr0 down'),
    to: 'api',
    address: '10.88.0.3',
    check: 'bridge',
    verdict: /^bridge nsbr0 of the host is down$/,
  },
  {
    name: 'the ports are isolated',
    topology: labs,
    damage: (host) => {
      for (const lab of ['web', 'api']) host.sh(`ip link set ${linkOf(host, lab)} type bridge_slave isolated on`)
    },
    to: 'api',
    address: '10.88.0.3',
    check: 'bridge',
    verdict: /^bridge nsbr0 keeps its isolated ports apart$/,
  },
  {
    name: 'the spanning tree keeps a new port waiting',
    topology: labs,
    damage: (host) =>
      void host.sh(`ip link set nsbr0 type bridge stp_state 1
                    ip link set ${linkOf(host, 'api')} nomaster
                    ip link set ${linkOf(host, 'api')} master nsbr0`),
    to: 'api',
    address: '10.88.0.3',
    check: 'bridge',
    verdict: /forwards nothing: the spanning tree waits$/,
  },
  {
    name: 'the veth is in no bridge',
    topology: labs,
    damage: (host) => void host.sh(`ip link set ${linkOf(host, 'api')} nomaster`),
    to: 'api',
    address: '10.88.0.3',
    check: 'neighbour',
    verdict: /is no port of bridge nsbr0$/,
  },
  {
    name: 'the bridge has lost the gateway address',
    topology: labs,
    damage: (host) => void host.sh('ip addr del 10.88.0.1/16 dev nsbr0'),
    to: '10.88.0.1',
    check: 'neighbour',
    verdict: /10\.88\.0\.1/,
  },
  {
    name: 'a neighbour entry with a wrong address',
    topology: labs,
    damage: (host) => void host.sh('ip -n web neigh replace 10.88.0.3 lladdr 02:00:00:00:00:99 dev eth0 nud permanent'),
    to: 'api',
    address: '10.88.0.3',
    check: 'neighbour',
    verdict: /MAC address that nobody has/,
  },
  {
    name: 'forwarding is off',
    topology: routedPair,
    damage: (host) => void host.sh('echo 0 > /proc/sys/net/ipv4/ip_forward'),
    to: 'api',
    address: '10.2.0.2',
    check: 'forwarding',
    verdict: /^the host forwards nothing/,
    finding: /^net\.ipv4\.ip_forward = 0$/,
  },
  {
    name: 'forwarding is off for one link',
    topology: routedPair,
    damage: (host) => void host.sh('echo 0 > /proc/sys/net/ipv4/conf/v-web/forwarding'),
    to: 'api',
    address: '10.2.0.2',
    check: 'forwarding',
    verdict: /^the host forwards nothing/,
    finding: /^net\.ipv4\.conf\.v-web\.forwarding = 0$/,
  },
  {
    name: 'the reverse path filter',
    topology: routedPair,
    damage: (host) => {
      host.sh(`ip link add v-second type veth peer name eth1 netns web
               echo 1 > /proc/sys/net/ipv4/conf/v-second/rp_filter
               ip addr add 10.3.0.1/24 dev v-second
               ip link set v-second up
               ip -n web addr add 10.3.0.2/24 dev eth1
               ip -n web link set eth1 up
               ip -n web route add 10.2.0.0/24 via 10.3.0.1 src 10.1.0.2`)
    },
    to: 'api',
    address: '10.2.0.2',
    check: 'rp_filter',
    verdict: /^dropped on the host by the reverse path filter of v-second$/,
  },
  ...(['nft', 'legacy'] as const).map(
    (variant): Case => ({
      name: `iptables-${variant}: FORWARD policy DROP`,
      topology: routedPair,
      damage: (host) => void host.sh(`iptables-${variant} -P FORWARD DROP`),
      to: 'api',
      address: '10.2.0.2',
      check: 'filter',
      verdict: /^dropped on the host in FORWARD$/,
      finding: /FORWARD policy DROP, no accept for v-web to v-api$/,
    }),
  ),
  {
    name: 'iptables: a rule in a chain of a user rejects',
    topology: routedPair,
    damage: (host) =>
      void host.sh(`iptables -N MINE
                    iptables -A MINE -s 10.1.0.0/24 -m conntrack --ctstate NEW -j REJECT
                    iptables -A FORWARD -i v-+ -j MINE`),
    to: 'api',
    address: '10.2.0.2',
    check: 'filter',
    verdict: /^rejected on the host in FORWARD$/,
    finding: /-A MINE -s 10\.1\.0\.0\/24 -m conntrack --ctstate NEW -j REJECT/,
  },
  {
    name: 'iptables: Docker lets nobody else through',
    topology: routedPair,
    damage: (host) =>
      void host.sh(`iptables -N DOCKER-USER
                    iptables -N DOCKER
                    iptables -A DOCKER-USER -j RETURN
                    iptables -A FORWARD -j DOCKER-USER
                    iptables -A FORWARD -i docker0 -j ACCEPT
                    iptables -P FORWARD DROP`),
    to: 'api',
    address: '10.2.0.2',
    check: 'filter',
    verdict: /^dropped on the host in FORWARD \(rule set owned by docker\)$/,
  },
  {
    name: 'nft: a rule of a forward chain',
    topology: routedPair,
    damage: nftDrop('', 'forward', 'iifname v-web ip daddr 10.2.0.0/24 drop'),
    to: 'api',
    address: '10.2.0.2',
    check: 'filter',
    verdict: /^dropped on the host in chain c of table inet t$/,
    finding: /iifname "v-web" ip daddr 10\.2\.0\.0\/24 drop \(handle \d+\)$/,
  },
  {
    name: 'nft: the policy of a forward chain, where answers need an accept of their own',
    topology: routedPair,
    damage: (host) =>
      void host.sh(`nft add table inet t
                    nft add chain inet t c '{ type filter hook forward priority 0; policy drop; }'
                    nft add rule inet t c tcp dport 22 accept`),
    to: 'api',
    address: '10.2.0.2',
    check: 'filter',
    verdict: /^dropped on the host in chain c of table inet t$/,
    finding: /policy DROP, no accept for v-web to v-api$/,
  },
  {
    name: 'nft: a set of ranges, by a map of verdicts',
    topology: routedPair,
    damage: (host) =>
      void host.sh(`nft add table ip t
                    nft add chain ip t c '{ type filter hook forward priority 0; }'
                    nft add map ip t m '{ type ipv4_addr : verdict; flags interval; }'
                    nft add element ip t m '{ 10.1.0.0-10.1.0.99 : drop, 10.2.0.0/24 : accept }'
                    nft add rule ip t c ip saddr vmap @m`),
    to: 'api',
    address: '10.2.0.2',
    check: 'filter',
    verdict: /^dropped on the host in chain c of table ip t$/,
    finding: /ip saddr vmap @m/,
  },
  {
    name: 'nft: the input of the destination',
    topology: routedPair,
    damage: nftDrop('ip netns exec api', 'input', 'icmp type echo-request drop'),
    to: 'api',
    address: '10.2.0.2',
    check: 'filter',
    verdict: /^dropped on api in chain c of table inet t$/,
  },
  {
    name: 'nft: the output of the lab',
    topology: routedPair,
    damage: nftDrop('ip netns exec web', 'output', 'oifname eth0 reject'),
    to: 'api',
    address: '10.2.0.2',
    check: 'filter',
    verdict: /^rejected on web in chain c of table inet t$/,
  },
  {
    name: 'bridged packets pass forward rules, because of br_netfilter',
    topology: labs,
    damage: nftDrop('', 'forward', 'iifname nsbr0 oifname nsbr0 drop'),
    to: 'api',
    address: '10.88.0.3',
    check: 'filter',
    verdict: /^dropped on the host in chain c of table inet t$/,
  },
  {
    name: 'no echo replies',
    topology: routedPair,
    damage: (host) => void host.sh('ip netns exec api sysctl -w net.ipv4.icmp_echo_ignore_all=1'),
    to: 'api',
    address: '10.2.0.2',
    check: 'echo',
    verdict: /^api does not answer echo requests$/,
  },
  {
    name: 'no route back',
    topology: routedPair,
    damage: (host) => void host.sh('ip -n api route del default'),
    to: 'api',
    address: '10.2.0.2',
    check: 'route',
    verdict: /^answers of api find no route back to 10\.1\.0\.2$/,
  },
  {
    name: 'the loopback interface is down',
    topology: routedPair,
    damage: (host) => void host.sh('ip -n web link set lo down'),
    to: '10.1.0.2',
    check: 'interface',
    verdict: /^web cannot reach itself: lo is down$/,
  },
]

test.each(cases)('$name', ({ topology, damage, to, address = to, check, verdict, finding }) => {
  using host = createHost()
  topology(host)
  expect(pings(host, 'web', address)).toBe(true)
  expect(why(host, 'web', to)).toMatchObject({ status: 0, reachable: true, fix: [] })

  damage(host)
  expect(pings(host, 'web', address, 0.3)).toBe(false)
  const diagnosis = why(host, 'web', to)
  expect(diagnosis).toMatchObject({ status: 1, reachable: false })
  expect(diagnosis.verdict).toMatch(verdict)
  expect(blocks(diagnosis)[0]).toMatchObject({ check })
  if (finding) expect(blocks(diagnosis)[0]!.finding).toMatch(finding)

  expect(diagnosis.fix).not.toEqual([])
  follow(host, diagnosis)
  host.run(['ip', '-n', 'web', 'neigh', 'flush', 'all'], { expectFailure: 'maybe' })
  expect(pings(host, 'web', address)).toBe(true)
  expect(why(host, 'web', to)).toMatchObject({ status: 0, reachable: true, fix: [] })
})

test('a lab without a network: the fix attaches it', () => {
  using host = createHost()
  const outside = host.addUplink()
  nsNet(host, 'add', 'bare', '--no-net')
  host.addContainer('foreign')
  const diagnosis = why(host, 'bare', '192.0.2.2')
  expect(diagnosis).toMatchObject({ status: 1, verdict: 'bare has no route to 192.0.2.2' })
  follow(host, diagnosis)
  expect(pings(host, 'bare', '192.0.2.2')).toBe(true)
  follow(host, why(host, 'foreign', '192.0.2.2'))
  expect(pings(host, 'foreign', '192.0.2.2')).toBe(true)
  expect(outside).toBeDefined()
})

test('masquerading was flushed: what goes out finds no way back until ns-net reload', () => {
  using host = createHost()
  host.addUplink()
  labs(host)
  expect(pings(host, 'web', '192.0.2.2')).toBe(true)
  const before = why(host, 'web', '192.0.2.2')
  expect(before).toMatchObject({ status: 0 })
  expect(before.hops).toContainEqual(
    expect.objectContaining({
      check: 'nat',
      finding: expect.stringMatching(/^source 10\.88\.0\.2 becomes 192\.0\.2\.1/),
    }),
  )
  host.run(['nft', 'flush', 'ruleset'])
  expect(pings(host, 'web', '192.0.2.2')).toBe(false)
  const diagnosis = why(host, 'web', '192.0.2.2')
  expect(diagnosis).toMatchObject({ status: 1, fix: ['ns-net reload'] })
  expect(blocks(diagnosis)[0]!.direction).toBe('back')
  follow(host, diagnosis)
  expect(pings(host, 'web', '192.0.2.2')).toBe(true)
})

test('a lab by hand without masquerading: the fix is the rule', () => {
  using host = createHost()
  host.addUplink()
  routedPair(host)
  expect(pings(host, 'web', '192.0.2.2')).toBe(false)
  const diagnosis = why(host, 'web', '192.0.2.2')
  expect(diagnosis).toMatchObject({ status: 1 })
  expect(diagnosis.fix).toEqual([expect.stringMatching(/masquerade/i)])
  follow(host, diagnosis)
  expect(pings(host, 'web', '192.0.2.2')).toBe(true)
  expect(why(host, 'web', '192.0.2.2')).toMatchObject({ status: 0 })
})

test('an iptables that forwards nothing any more: the rules of the labs come back by ns-net reload', () => {
  using host = createHost()
  host.addUplink()
  labs(host)
  host.run(['iptables', '-P', 'FORWARD', 'DROP'])
  expect(pings(host, 'web', '192.0.2.2')).toBe(false)
  const diagnosis = why(host, 'web', '192.0.2.2')
  expect(diagnosis).toMatchObject({ status: 1, fix: ['ns-net reload'] })
  expect(diagnosis.verdict).toMatch(/^dropped on the host in FORWARD/)
  follow(host, diagnosis)
  expect(pings(host, 'web', '192.0.2.2')).toBe(true)
  expect(why(host, 'web', '192.0.2.2')).toMatchObject({ status: 0 })
})

test('what a network was made for is no mistake: isolated, internal', () => {
  using host = createHost()
  host.addUplink()
  host.sh(
    `ns-net net create apart --isolated
           ns-net net create back --internal
           ns-net add a --net apart
           ns-net add b --net apart
           ns-net add c --net back`,
    { env },
  )
  const apart = why(host, 'a', 'b')
  expect(apart).toMatchObject({ status: 1, verdict: 'network "apart" keeps its labs apart, as it was made', fix: [] })
  const doctor = JSON.parse(nsNet(host, 'doctor', '--json').stdout)
  expect(doctor.checks.find(({ check }: { check: string }) => check === 'forward-policy')).toMatchObject({
    state: 'ok',
  })
  expect(pings(host, 'c', '192.0.2.2', 0.3)).toBe(false)
  const inner = why(host, 'c', '192.0.2.2')
  expect(inner).toMatchObject({ status: 1, verdict: 'c has no route to 192.0.2.2', fix: ['ns-net attach c default'] })
  follow(host, inner)
  expect(pings(host, 'c', '192.0.2.2')).toBe(true)
})

test("nobody's address", () => {
  using host = createHost()
  labs(host)
  expect(pings(host, 'web', '10.88.0.99')).toBe(false)
  const diagnosis = why(host, 'web', '10.88.0.99')
  expect(diagnosis).toMatchObject({ status: 1, verdict: "10.88.0.99 is nobody's address", fix: [] })
})

test('ports: nothing listens, only on 127.0.0.1, on all addresses, UDP', (context) => {
  requireTool('socat', context)
  using host = createHost()
  labs(host)
  expect(connects(host, 'web', '10.88.0.3:80')).toBe(false)
  expect(why(host, 'web', 'api:80')).toMatchObject({ status: 1, verdict: 'nothing listens on tcp port 80 in api' })
  listen(host, 'api', 'TCP-LISTEN:80,bind=127.0.0.1', 80)
  expect(connects(host, 'web', '10.88.0.3:80')).toBe(false)
  expect(why(host, 'web', '10.88.0.3:80')).toMatchObject({
    status: 1,
    verdict: 'the server in api listens on 127.0.0.1 only',
  })
  listen(host, 'api', 'TCP-LISTEN:81', 81)
  expect(connects(host, 'web', '10.88.0.3:81')).toBe(true)
  expect(why(host, 'web', 'api:81')).toMatchObject({ status: 0 })
  expect(why(host, 'web', 'api:53/udp')).toMatchObject({ status: 1, verdict: 'nothing listens on udp port 53 in api' })
  listen(host, 'api', 'UDP-LISTEN:53', 53)
  expect(why(host, 'web', 'api:53/udp')).toMatchObject({ status: 0 })
})

test('a published port, seen from outside, with the translation on its way', (context) => {
  requireTool('socat', context)
  using host = createHost()
  const outside = host.addUplink()
  nsNet(host, 'add', 'web', '-p', '8080:80')
  const inode = outside.run(['stat', '-Lc', '%i', '/proc/self/ns/net']).stdout.trim()
  const pid = nsNet(host, 'ps', '--json').stdout
  const { pid: outer } = JSON.parse(pid).find(
    ({ namespaces }: { namespaces: { net: number } }) => String(namespaces.net) === inode,
  )
  listen(host, 'web', 'TCP-LISTEN:80', 80)
  expect(outside.run(['socat', '-T2', '-u', 'TCP:192.0.2.1:8080', '-']).stdout).toBe('hello\n')
  const diagnosis = why(host, `pid:${outer}`, '192.0.2.1:8080')
  expect(diagnosis).toMatchObject({ status: 0 })
  expect(diagnosis.hops).toContainEqual(
    expect.objectContaining({
      place: 'host',
      check: 'nat',
      finding: expect.stringMatching(/^destination 192\.0\.2\.1:8080 becomes 10\.88\.0\.2:80/),
    }),
  )
  expect(why(host, `pid:${outer}`, '192.0.2.1:8081')).toMatchObject({ status: 1 })
})

test('IPv6: forwarding is off', (context) => {
  requireTool('socat', context)
  using host = createHost()
  for (const [name, n] of [
    ['web', 1],
    ['api', 2],
  ])
    host.sh(`ip netns add ${name}
             ip link add v-${name} type veth peer name eth0 netns ${name}
             ip addr add 2001:db8:${n}::1/64 dev v-${name} nodad
             ip link set v-${name} up
             ip -n ${name} addr add 2001:db8:${n}::2/64 dev eth0 nodad
             ip -n ${name} link set eth0 up
             ip -n ${name} route add default via 2001:db8:${n}::1`)
  // The host's link-local addresses, from which it asks for neighbours, are tentative at first.
  const ping = () =>
    host.run(['ip', 'netns', 'exec', 'web', 'ping', '-c4', '-W1', '2001:db8:2::2'], { expectFailure: 'maybe' }).status
  expect(ping()).not.toBe(0)
  const diagnosis = why(host, 'web', '[2001:db8:2::2]')
  expect(diagnosis).toMatchObject({ status: 1 })
  expect(blocks(diagnosis)[0]).toMatchObject({ check: 'forwarding', finding: 'net.ipv6.conf.all.forwarding = 0' })
  follow(host, diagnosis)
  expect(ping()).toBe(0)
  expect(why(host, 'web', '2001:db8:2::2', '--live')).toMatchObject({
    status: 0,
    live: { answers: [{ kind: 'reply' }] },
  })
  listen(host, 'api', 'TCP6-LISTEN:80', 80)
  for (const [port, status] of [
    [80, 0],
    [81, 1],
  ])
    expect(why(host, 'web', `[2001:db8:2::2]:${port}`, '--live')).toMatchObject({ status })
  expect(nsNet(host, 'matrix', 'web', 'api').status).toBe(0)
  expect(nsNet(host, 'matrix', 'web', '--to', '2001:db8:2::2', '--port', '80').status).toBe(0)
})

test('a rule that cannot be judged is named, and does not make the answer no', () => {
  using host = createHost()
  routedPair(host)
  host.sh(`nft add table inet t
           nft add chain inet t c '{ type filter hook forward priority 0; }'
           nft add rule inet t c numgen random mod 1000000 0 drop`)
  const diagnosis = why(host, 'web', 'api')
  expect(diagnosis).toMatchObject({ status: 0, reachable: true })
  expect(diagnosis.hops).toContainEqual(
    expect.objectContaining({ state: 'unknown', check: 'filter', finding: expect.stringMatching(/may drop.*numgen/) }),
  )
})

/** The handle that nft prints behind the rule of that chain. */
const handleOf = (host: Host, text: string): number =>
  Number(
    new RegExp(`^\\s*.*${text}.* # handle (\\d+)$`, 'm').exec(host.run(['nft', '-a', 'list', 'ruleset']).stdout)?.[1],
  )

const tables = (host: Host): string =>
  ['', 'ip netns exec web ', 'ip netns exec api '].map((place) => host.sh(`${place}nft list tables`).stdout).join('')

test('--live: a reply, the rule that dropped, and nothing left behind', () => {
  using host = createHost()
  routedPair(host)
  const before = tables(host)
  const open = why(host, 'web', 'api', '--live')
  expect(open).toMatchObject({ status: 0, reachable: true })
  expect(open.verdict).toMatch(/^reachable: answered after [\d.]+ ms$/)
  expect(open.live.places.map(({ place, there, back }: Record<string, unknown>) => [place, there, back])).toEqual([
    ['web', 1, 1],
    ['host', 1, 1],
    ['api', 1, 1],
  ])
  expect(tables(host)).toBe(before)

  nftDrop('', 'forward', 'ip daddr 10.2.0.2 drop')(host)
  const handle = handleOf(host, 'ip daddr 10.2.0.2 drop')
  const dropped = why(host, 'web', 'api', '--live')
  expect(dropped).toMatchObject({ status: 1, reachable: false })
  expect(dropped.live.places.find(({ place }: { place: string }) => place === 'host').drops).toEqual([
    {
      direction: 'there',
      table: 'inet t',
      chain: 'c',
      handle,
      packets: 3,
      rule: expect.stringContaining('ip daddr 10.2.0.2 drop'),
    },
  ])
  expect(dropped.verdict).toContain(`3 packets dropped by handle ${handle} of chain c of table inet t`)
})

test('--live: the drop of an answer, and of a policy', () => {
  using host = createHost()
  routedPair(host)
  nftDrop('', 'forward', 'ip saddr 10.2.0.2 drop')(host)
  const handle = handleOf(host, 'ip saddr 10.2.0.2 drop')
  const { live, status } = why(host, 'web', 'api', '--live')
  expect(status).toBe(1)
  const [, onHost] = live.places
  expect(onHost).toMatchObject({ place: 'host', there: 3, back: 3, drops: [{ direction: 'back', handle, packets: 3 }] })
  host.sh(`nft delete table inet t
           ip netns exec api nft add table ip t
           ip netns exec api nft add chain ip t in '{ type filter hook input priority 0; policy drop; }'`)
  expect(why(host, 'web', 'api', '--live').verdict).toBe(
    '3 packets dropped by chain in of table ip t: policy drop, on api',
  )
})

test('--live: iptables of the older kind is not traced, but counts', (context) => {
  requireTool('iptables-legacy', context)
  using host = createHost()
  routedPair(host)
  host.sh('iptables-legacy -A FORWARD -d 10.2.0.2 -j DROP')
  const { live, status, verdict } = why(host, 'web', 'api', '--live')
  expect(status).toBe(1)
  expect(live.places[1].legacyDrops).toEqual([
    {
      program: 'iptables-legacy',
      table: 'filter',
      chain: 'FORWARD',
      what: '-A FORWARD -d 10.2.0.2/32 -j DROP',
      packets: 3,
    },
  ])
  expect(verdict).toContain('iptables-legacy FORWARD')
})

test('--live: TCP and UDP, through masquerading, without anybody noticing', (context) => {
  requireTool('socat', context)
  using host = createHost()
  const outside = host.addUplink()
  labs(host)
  // Takes one connection and ends: a probe that is a connection would use it up.
  const server = outside.start(['socat', '-u', 'TCP-LISTEN:80', 'OPEN:/dev/null'])
  outside.sh('for i in $(seq 100); do ss -Hlnt | grep -q :80 && exit; sleep 0.05; done; exit 1')
  const tcp = why(host, 'web', '192.0.2.2:80', '--live')
  expect(tcp).toMatchObject({ status: 0, reachable: true, live: { answers: [{ kind: 'reply' }] } })
  expect(outside.run(['ss', '-Hlnt']).stdout).toContain(':80')
  expect(server.exitCode).toBeNull()
  expect(why(host, 'web', '192.0.2.2:81', '--live')).toMatchObject({
    status: 1,
    live: { answers: [{ kind: 'refused' }] },
  })
  listen(host, 'api', 'UDP-LISTEN:53', 53)
  expect(why(host, 'web', 'api:53/udp', '--live')).toMatchObject({ status: 0, live: { answers: [{ kind: 'reply' }] } })
  expect(why(host, 'web', 'api:54/udp', '--live')).toMatchObject({
    status: 1,
    live: { answers: [{ kind: 'refused' }] },
  })
})

test('--live: killed at any moment, nothing stays', () => {
  using host = createHost()
  routedPair(host)
  nftDrop('', 'forward', 'drop')(host)
  const before = tables(host)
  const child = host.start([`${executables}/ns-net`, 'why', 'web', 'api', '--live'])
  host.sh('for i in $(seq 200); do nft list tables | grep -q ns-net-why && exit; sleep 0.01; done; exit 1')
  child.kill('SIGKILL')
  host.sh('for i in $(seq 200); do nft list tables | grep -q ns-net-why || exit 0; sleep 0.01; done; exit 1')
  expect(tables(host)).toBe(before)
})

test('the text: numbered hops, verdict, fix', () => {
  using host = createHost()
  routedPair(host)
  host.sh('echo 0 > /proc/sys/net/ipv4/ip_forward')
  const { stdout, status } = nsNet(host, 'why', 'web', 'api')
  expect(status).toBe(1)
  expect(stdout).toMatch(/^ +1 web eth0 +interface +up, 10\.1\.0\.2\/24 +ok$/m)
  expect(stdout).toMatch(/^ +2 web +route +default via 10\.1\.0\.1 dev eth0 +ok$/m)
  expect(stdout).toMatch(/^ +\d host v-web +forwarding +net\.ipv4\.ip_forward = 0 +BLOCKED$/m)
  expect(stdout).toMatch(/^verdict: the host forwards nothing: the packet to 10\.2\.0\.2 ends there$/m)
  expect(stdout).toMatch(/^fix: {5}sysctl -w net\.ipv4\.ip_forward=1$/m)
})

test('refusals', () => {
  using host = createHost()
  labs(host)
  const cases: [args: string[], status: number, message: RegExp][] = [
    [['why', 'nope', 'web'], 3, /^ns-net: no lab "nope"/],
    [['why', 'web', 'nope'], 3, /^ns-net: no lab "nope"/],
    [['why', 'web', 'api:99999'], 2, /^ns-net: bad destination "api:99999"/],
    [['why', 'web', 'api/udp'], 2, /^ns-net: bad destination "api\/udp"/],
    [['why', 'web', '10.1.2.300'], 2, /^ns-net: bad destination "10\.1\.2\.300"/],
  ]
  for (const [args, status, message] of cases) {
    const result = nsNet(host, ...args)
    expect(result.stderr).toMatch(message)
    expect(result.status).toBe(status)
  }
})

test('nothing of the machine was looked at', () => {
  // The process that is 1 here is the machine's; its namespace must not be taken for the host.
  using host = createHost()
  labs(host)
  const { hops } = why(host, 'host', 'web')
  expect(hops[0]).toMatchObject({ place: 'host', link: 'nsbr0' })
  expect(readFileSync(`/proc/${host.pid}/net/dev`, 'utf8')).toContain('nsbr0')
})
