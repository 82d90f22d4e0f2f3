import { writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { createHost, executables, type Host, requireTool } from './host.ts'

interface Check {
  readonly check: string
  readonly state: 'ok' | 'warn' | 'fail' | 'unknown'
  readonly finding: string
  readonly fix?: string
  readonly advice?: string
}

/** Behind the others, since `bridge` is also a program of iproute2. */
const env = { PATH: `${process.env.PATH}:/usr/local/sbin:/usr/sbin:/sbin:${executables}` }

const nsNet = (host: Host, ...args: string[]) =>
  host.run([`${executables}/ns-net`, ...args], { expectFailure: 'maybe' })

function doctor(host: Host): { status: number; state: string; checks: Check[] } {
  const { status, stdout } = nsNet(host, 'doctor', '--json')
  return { status, ...JSON.parse(stdout) }
}

const named = (host: Host, name: string): Check[] => doctor(host).checks.filter(({ check }) => check === name)

/** What the machine that runs the tests may lack is no business of the check that is tested. */
const isOk = (host: Host, name: string): boolean => named(host, name).every(({ state }) => state === 'ok')

function labs(host: Host): void {
  for (const name of ['web', 'api']) host.run([`${executables}/ns-net`, 'add', name])
}

const cniNetwork = {
  cniVersion: '1.0.0',
  name: 'other',
  bridge: 'other0',
  isGateway: true,
  ipam: { type: 'host-local', ranges: [[{ subnet: '10.60.0.0/24' }]] },
}

/** An attachment of a container by a runtime that keeps no cache. */
function attach(host: Host, config: object, plugin: string, ifName = 'eth0'): void {
  const { path } = host.addContainer('box')
  const call = { config: { ...cniNetwork, type: plugin, ...config }, containerId: 'box', netns: path, ifName }
  host.cni(plugin, 'ADD', call)
}

interface Case {
  readonly name: string
  readonly check: string
  readonly state: 'warn' | 'fail'
  readonly finding: RegExp
  readonly provoke: (host: Host) => void
  /** Where the remedy is no command. */
  readonly mend?: (host: Host) => void
}

const cases: Case[] = [
  {
    name: 'forwarding is off although labs need it',
    check: 'ip_forward',
    state: 'fail',
    finding: /^net\.ipv4\.ip_forward = 0: labs reach no further than the host$/,
    provoke: (host) => void host.sh('echo 0 > /proc/sys/net/ipv4/ip_forward'),
  },
  ...(['nft', 'legacy'] as const).map(
    (variant): Case => ({
      name: `iptables-${variant} drops what labs send`,
      check: 'forward-policy',
      state: 'fail',
      finding: /FORWARD drops what labs of nsbr0 send/,
      provoke: (host) => void host.sh(`iptables-${variant} -P FORWARD DROP`),
    }),
  ),
  {
    name: 'a chain of nftables drops what labs send out',
    check: 'forward-policy',
    state: 'fail',
    finding: /^chain c of table inet t drops what labs of nsbr0 send out$/,
    provoke: (host) =>
      void host.sh(`nft add table inet t
                    nft add chain inet t c '{ type filter hook forward priority 0; }'
                    nft add rule inet t c iifname nsbr0 oifname eth0 drop`),
  },
  {
    name: 'both variants of iptables have rules',
    check: 'iptables',
    state: 'warn',
    finding: /^both variants have rules/,
    provoke: (host) =>
      void host.sh(`iptables-legacy -A INPUT -s 203.0.113.1 -j DROP
                    iptables-nft -A INPUT -s 203.0.113.2 -j DROP`),
  },
  {
    name: '/run/netns is a private mount',
    check: '/run/netns',
    state: 'warn',
    finding: /^a private mount/,
    provoke: (host) => void host.sh('mount --make-private /run/netns'),
  },
  {
    name: 'a lab has lost its address',
    check: 'labs',
    state: 'fail',
    finding: /^web: .*10\.88\.0\.2\/16/,
    provoke: (host) => void host.sh('ip -n web addr flush dev eth0 scope global'),
  },
  {
    name: 'the interface of a lab is down',
    check: 'labs',
    state: 'fail',
    finding: /^web: /,
    provoke: (host) => void host.sh('ip -n web link set eth0 down'),
  },
  {
    name: 'rules of a lab were flushed',
    check: 'labs',
    state: 'fail',
    finding: /^(web|api): default: /,
    provoke: (host) => void host.sh('nft flush ruleset'),
  },
  {
    name: 'the namespace of a lab is gone',
    check: 'labs',
    state: 'fail',
    finding: /^the namespace of api is gone$/,
    provoke: (host) => void host.sh('umount /run/netns/api; rm /run/netns/api'),
  },
  {
    name: 'a route of the host leads into the range of the default network',
    check: 'ranges',
    state: 'fail',
    finding:
      /^route 10\.88\.0\.0\/24 by eth0 overlaps 10\.88\.0\.0\/16 of network default: the host does not reach (web, api|api, web)$/,
    provoke: (host) => void host.sh('ip route add 10.88.0.0/24 via 192.0.2.2'),
  },
  {
    name: 'user namespaces are switched off',
    check: 'user-namespaces',
    state: 'warn',
    finding: /^user\.max_user_namespaces = 0/,
    // The real setting would be the machine's.
    provoke: (host) =>
      void host.sh(`echo 0 > /run/setting
                    mount --bind /run/setting /proc/sys/user/max_user_namespaces`),
  },
  {
    name: 'a program is missing',
    check: 'program-tcpdump',
    state: 'warn',
    finding: /^not installed/,
    provoke: (host) =>
      void host.sh(
        'for place in /usr/bin /usr/sbin; do [ ! -e $place/tcpdump ] || mount --bind /dev/null $place/tcpdump; done',
      ),
    mend: (host) => void host.sh('for place in /usr/bin /usr/sbin; do umount $place/tcpdump || true; done'),
  },
  {
    name: 'leftover: a link',
    check: 'leftovers',
    state: 'warn',
    finding: /^(link veth[0-9a-f]{11} of box in|bridge other0 of) network other$/,
    provoke: (host) => {
      attach(host, { ipam: {} }, 'bridge')
    },
  },
  {
    name: 'leftover: a bridge',
    check: 'leftovers',
    state: 'warn',
    finding: /^bridge other0 of network other$/,
    provoke: (host) => {
      attach(host, { ipam: {} }, 'bridge')
      host.sh('ip netns del box')
      host.sh('for i in $(seq 100); do ip link show master other0 | grep -q veth || exit 0; sleep 0.05; done; exit 1')
    },
  },
  {
    name: 'leftover: leases and translation of a container that is gone',
    check: 'leftovers',
    state: 'warn',
    finding:
      /^(translation of 10\.60\.0\.2 for other box eth0|lease of 10\.60\.0\.2 for box in network other|bridge other0.*)$/,
    provoke: (host) => {
      attach(host, { ipMasq: true, ipMasqBackend: 'nftables' }, 'bridge')
      host.sh('ip netns del box')
      host.sh('for i in $(seq 100); do ip link show master other0 | grep -q veth || exit 0; sleep 0.05; done; exit 1')
    },
  },
  {
    name: 'leftover: rules of iptables',
    check: 'leftovers',
    state: 'warn',
    finding: /^(rules of nat for other box eth0|lease of .*|bridge other0.*)$/,
    provoke: (host) => {
      attach(host, { ipMasq: true, ipMasqBackend: 'iptables' }, 'bridge')
      host.sh('ip netns del box')
      host.sh('for i in $(seq 100); do ip link show master other0 | grep -q veth || exit 0; sleep 0.05; done; exit 1')
    },
  },
  {
    name: 'leftover: an attachment in the cache whose namespace is gone',
    check: 'leftovers',
    state: 'warn',
    finding: /^(attachment of dead to network default: its namespace is gone|translation .*|rules .*|lease .*)$/,
    provoke: (host) => {
      nsNet(host, 'add', 'dead')
      host.sh(`umount /run/netns/dead
               rm /run/netns/dead /run/ns-net/labs/dead.json`)
    },
  },
]

test.each(cases)('$name', ({ check, state, finding, provoke, mend }) => {
  using host = createHost()
  host.addUplink()
  host.sh('echo nameserver 127.0.0.53 > /etc/resolv.conf') // nobody waits for an answer
  labs(host)
  expect(named(host, check).map((each) => [each.state, each.finding])).toEqual([['ok', expect.any(String)]])

  provoke(host)
  const { status, checks } = doctor(host)
  const found = checks.filter((each) => each.check === check)
  expect(found.map((each) => each.state)).toContain(state)
  for (const each of found) expect(each.finding).toMatch(finding)
  expect(status).toBe(checks.some((each) => each.state === 'fail') ? 1 : 0)
  expect(status).toBe(state === 'fail' ? 1 : status)

  if (mend) mend(host)
  else
    for (const { fix } of found) {
      expect(fix).toBeDefined()
      host.sh(fix!, { env })
    }
  expect(named(host, check).map((each) => [each.state, each.finding])).toEqual([['ok', expect.any(String)]])
})

test('what leftovers were made of is gone after the fixes', () => {
  using host = createHost()
  const before = host.snapshot({ ignoreLeaseMarks: true })
  attach(host, { ipMasq: true, ipMasqBackend: 'iptables' }, 'bridge')
  host.sh('ip netns del box')
  host.sh('for i in $(seq 100); do ip link show master other0 | grep -q veth || exit 0; sleep 0.05; done; exit 1')
  for (const { fix } of named(host, 'leftovers')) host.sh(fix!, { env })
  const rules = (saved: unknown) =>
    (saved as string[]).filter((line) => line.startsWith('-A') || line.includes('NS-NET'))
  const { links, files, iptables } = host.snapshot({ ignoreLeaseMarks: true })
  expect(links).toEqual(before.links)
  expect(files).toEqual(before.files)
  expect(rules(iptables)).toEqual([])
})

test('name servers: none that labs reach, one that is silent, one that answers', (context) => {
  requireTool('socat', context)
  using host = createHost()
  const outside = host.addUplink()
  const write = (text: string) => writeFileSync(host.file('/etc/resolv.conf'), text)
  write('nameserver 127.0.0.53\n')
  expect(named(host, 'name-servers')).toMatchObject([
    { state: 'warn', finding: /127\.0\.0\.53 only, which no lab can reach/ },
  ])
  write('nameserver 192.0.2.2\n')
  expect(named(host, 'name-servers')).toMatchObject([{ state: 'warn', finding: /192\.0\.2\.2 .*no answer/ }])
  // Whoever gives the question back is a server for our purposes.
  outside.start(['socat', 'UDP-LISTEN:53,fork', 'EXEC:cat'])
  outside.sh('for i in $(seq 100); do ss -Hlnu | grep -q :53 && exit; sleep 0.05; done; exit 1')
  expect(named(host, 'name-servers')).toMatchObject([{ state: 'ok' }])
})

test('what the kernel can do is what ip, tc and nft find', () => {
  using host = createHost()
  host.sh('ip link add v0 type veth peer name v1')
  const works = (command: string): boolean => host.run(['sh', '-ec', command], { expectFailure: 'maybe' }).status === 0
  const trials: Record<string, string> = {
    veth: 'ip link add t0 type veth; ip link del t0',
    bridge: 'ip link add t0 type bridge; ip link del t0',
    nf_tables: 'nft add table inet trial; nft delete table inet trial',
    'nft-masquerade':
      "nft 'add table ip trial; add chain ip trial c { type nat hook postrouting priority 100; }; add rule ip trial c masquerade'",
    vxlan: 'ip link add t0 type vxlan id 1 dstport 4789; ip link del t0',
    macvlan: 'ip link add t0 link v0 type macvlan; ip link del t0',
    ifb: 'ip link add t0 type ifb; ip link del t0',
    tbf: 'tc qdisc replace dev v0 root tbf rate 1mbit burst 10kb latency 50ms',
    htb: 'tc qdisc replace dev v0 root htb',
    netem: 'tc qdisc replace dev v0 root netem delay 1ms',
    'vlan-filtering': 'ip link add t0 type bridge; ip link set t0 type bridge vlan_filtering 1',
    '8021q': 'ip link add t1 link v0 type vlan id 7; ip link del t1',
  }
  const { checks } = doctor(host)
  const said = Object.keys(trials).map((name) => [name, checks.find(({ check }) => check === name)?.state === 'ok'])
  expect(Object.fromEntries(said)).toEqual(
    Object.fromEntries(Object.entries(trials).map(([name, command]) => [name, works(command)])),
  )
  // The trials of doctor were in a namespace of their own.
  expect(host.json(['ip', '-j', 'link']).map(({ ifname }: { ifname: string }) => ifname)).not.toContain('v2')
})

test('the text has a table, and a remedy for what is not ok', () => {
  using host = createHost()
  labs(host)
  host.sh('echo 0 > /proc/sys/net/ipv4/ip_forward')
  const { stdout, status } = nsNet(host, 'doctor')
  expect(status).toBe(1)
  expect(stdout).toMatch(/^CHECK +STATE +FINDING$/m)
  expect(stdout).toMatch(/^ip_forward +fail +net\.ipv4\.ip_forward = 0/m)
  expect(stdout).toMatch(/^fix: {5}sysctl -w net\.ipv4\.ip_forward=1 +# ip_forward$/m)
  const [, ...rows] = stdout.split('\n\n')[0]!.split('\n')
  for (const row of rows) expect(row).toMatch(/^\S+ +(ok|warn|fail|unknown) +\S/)
})

test('without root: what cannot be seen is unknown, and nothing fails for it', (context) => {
  requireTool('setpriv', context)
  using host = createHost()
  labs(host)
  if (host.run(['setpriv', '--reuid', '65534', '--clear-groups', 'true'], { expectFailure: 'maybe' }).status !== 0)
    context.skip('there is no other user in this user namespace')
  const { stdout, status } = host.run(
    ['setpriv', '--reuid', '65534', '--clear-groups', `${executables}/ns-net`, 'doctor', '--json'],
    { expectFailure: 'maybe' },
  )
  expect(status).toBe(0)
  const { checks } = JSON.parse(stdout) as { checks: Check[] }
  const state = (name: string) => checks.find(({ check }) => check === name)?.state
  expect([state('forward-policy'), state('labs'), state('leftovers')]).toEqual(['unknown', 'unknown', 'unknown'])
  expect([state('kernel'), state('ip_forward'), state('/run/netns')]).toEqual(['ok', 'ok', 'ok'])
})

test('a machine without labs: nothing is left behind by looking', () => {
  using host = createHost()
  const before = host.snapshot()
  doctor(host)
  expect(host.snapshot()).toEqual(before)
  expect(isOk(host, 'leftovers')).toBe(true)
})
