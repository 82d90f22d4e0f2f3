import { expect, test } from 'vitest'
import { Ruleset } from '../ns-net/diagnosis/nft-ruleset.ts'
import { describeRule } from '../ns-net/diagnosis/nft-text.ts'
import { World } from '../ns-net/diagnosis/places.ts'
import { createHost, executables, type Host, requireTool } from './host.ts'
import { inside } from './inside.ts'

/*
 * `ns-net why` judges rules on paper. Here the kernel judges the same rules with packets, and both must say the same,
 * rule by rule.
 */

/** Two labs by hand with the host as their router; api listens on port 80 and not on 81. */
function topology(host: Host): void {
  host.sh('echo 1 > /proc/sys/net/ipv4/ip_forward')
  for (const [name, n] of [
    ['web', 1],
    ['api', 2],
  ])
    host.sh(`ip netns add ${name}
             ip link add v-${name} type veth peer name eth0 netns ${name}
             ip addr add 10.${n}.0.1/24 dev v-${name}
             ip link set v-${name} up
             ip -n ${name} addr add 10.${n}.0.2/24 dev eth0
             ip -n ${name} link set eth0 up
             ip -n ${name} route add default via 10.${n}.0.1`)
  host.start(['ip', 'netns', 'exec', 'api', 'socat', 'TCP-LISTEN:80,fork', 'SYSTEM:true'])
  host.sh('for i in $(seq 100); do ip netns exec api ss -Hlnt | grep -q :80 && exit; sleep 0.05; done; exit 1')
}

const succeeds = (host: Host, ...command: string[]): boolean =>
  host.run(['ip', 'netns', 'exec', 'web', ...command], { expectFailure: 'maybe' }).status === 0

/** What happens: an echo request, and a connection to port 80. */
const really = (host: Host): [boolean, boolean] => [
  succeeds(host, 'ping', '-c1', '-W0.3', '10.2.0.2'),
  succeeds(host, 'socat', '-T1', '-u', '/dev/null', 'TCP:10.2.0.2:80,connect-timeout=0.3'),
]

function onPaper(host: Host): { reachable: [boolean, boolean]; unknown: boolean } {
  const asked = ['10.2.0.2', '10.2.0.2:80'].map((to) => {
    const { stdout } = host.run([`${executables}/ns-net`, 'why', 'web', to, '--json'], { expectFailure: 'maybe' })
    return JSON.parse(stdout) as { reachable: boolean; hops: { state: string; finding: string }[] }
  })
  return {
    reachable: [asked[0]!.reachable, asked[1]!.reachable],
    unknown: asked.some(({ hops }) => hops.some(({ state }) => state === 'unknown')),
  }
}

/** Each is a rule of a forward chain with policy accept; `drop` where nothing else is said. */
const nftRules = [
  'ip saddr 10.1.0.2 drop',
  'ip saddr 10.1.0.3 drop',
  'ip saddr 10.1.0.0/24 ip daddr 10.2.0.0/24 drop',
  'ip saddr 10.1.0.0/25 ip daddr != 10.2.0.2 drop',
  'ip saddr 10.1.0.0/30 counter drop',
  'ip saddr & 255.0.0.255 == 10.0.0.2 drop',
  'ip saddr { 10.1.0.2, 10.9.0.1 } drop',
  'ip saddr != { 10.1.0.2, 10.2.0.2 } drop',
  'ip saddr { 10.1.0.0-10.1.0.1, 10.1.0.3-10.1.0.9 } drop',
  'ip saddr { 10.0.0.0/8 } tcp dport { 22, 80, 100-200 } drop',
  'ip daddr . tcp dport { 10.2.0.2 . 80 } drop',
  'ip daddr . tcp dport vmap { 10.2.0.2 . 80 : drop, 10.2.0.2 . 81 : accept }',
  'tcp dport 80 reject with tcp reset',
  'tcp dport 80-90 drop',
  'tcp dport != 80 drop',
  'tcp dport < 81 drop',
  'tcp dport >= 81 drop',
  'tcp sport 80 drop',
  'tcp flags syn drop',
  'tcp flags & (syn | ack) == syn | ack drop',
  'udp dport 80 drop',
  'meta l4proto tcp drop',
  'meta l4proto { tcp, udp } drop',
  'meta l4proto != tcp drop',
  'ip protocol icmp drop',
  'icmp type echo-request drop',
  'icmp type echo-reply reject',
  'icmp type { destination-unreachable } drop',
  'iifname v-web drop',
  'iifname != v-web oifname != v-web drop',
  'iifname "v-*" oifname v-api drop',
  'iifname "x-*" drop',
  'iif v-api drop',
  'iifname . oifname { "v-web" . "v-api" } drop',
  'ct state new drop',
  'ct state established,related drop',
  'ct state invalid drop',
  'ct state new tcp dport 80 drop',
  'ct state vmap { established : accept, new : drop }',
  'ct direction reply drop',
  'ct status dnat drop',
  'meta nfproto ipv6 drop',
  'ip6 saddr ::/0 drop',
  'meta protocol ip drop',
  'meta mark 1 drop',
  'fib daddr type local drop',
  'fib daddr type unicast ip daddr 10.2.0.2 drop',
  'fib saddr . iif oif missing drop',
  'fib saddr . iif oif exists drop',
  'limit rate over 1000/second drop',
  'ip ttl 1 drop',
  'log prefix "x" drop',
] as const

/** What a packet's time to live will be by then is not computed. */
const cannotBeJudged = new Set<string>(['ip ttl 1 drop'])

test('rules of nft: on paper as in the kernel', (context) => {
  requireTool('socat', context)
  using host = createHost()
  topology(host)
  host.sh(`nft add table inet t
           nft add chain inet t c '{ type filter hook forward priority 0; }'`)
  const different: unknown[] = []
  for (const rule of nftRules) {
    host.run(['nft', `flush chain inet t c; add rule inet t c ${rule}`])
    const [actual, { reachable, unknown }] = [really(host), onPaper(host)]
    const agrees = actual.join() === reachable.join() && unknown === cannotBeJudged.has(rule)
    if (!agrees) different.push({ rule, actual, reachable, unknown })
  }
  expect(different).toEqual([])
}, 180_000)

const iptablesRules = [
  '-s 10.1.0.2 -j DROP',
  '-s 10.1.0.0/25 -d 10.2.0.0/16 -j DROP',
  '! -s 10.1.0.0/24 -j DROP',
  '! -d 10.2.0.2 -j DROP',
  '-i v-web -j DROP',
  '-i v-+ -o v-api -j REJECT',
  '! -i v-+ -j DROP',
  '-p tcp -j DROP',
  '-p icmp -j DROP',
  '! -p tcp -j DROP',
  '-p tcp --dport 80 -j DROP',
  '-p tcp --dport 70:90 -j DROP',
  '-p tcp ! --dport 80 -j DROP',
  '-p tcp --sport 80 -j DROP',
  '-p tcp -m multiport --dports 22,80:85 -j DROP',
  '-p tcp --syn -j DROP',
  '-p udp --dport 80 -j DROP',
  '-p icmp --icmp-type echo-request -j DROP',
  '-p icmp --icmp-type echo-reply -j DROP',
  '-m conntrack --ctstate NEW -j DROP',
  '-m conntrack --ctstate RELATED,ESTABLISHED -j DROP',
  '-m conntrack ! --ctstate NEW,ESTABLISHED -j DROP',
  '-m state --state ESTABLISHED -j DROP',
  '-m comment --comment "two words" -s 10.1.0.2 -j DROP',
  '-m addrtype --dst-type LOCAL -j DROP',
  '-m addrtype --dst-type UNICAST -d 10.2.0.2 -j DROP',
  '-j RETURN',
  '-j LOG',
  '-s 10.1.0.2 -g OTHER',
] as const

test.each(['nft', 'legacy'] as const)(
  'rules of iptables-%s: on paper as in the kernel',
  (variant) => {
    using host = createHost()
    topology(host)
    const different: unknown[] = []
    const run = (...args: string[]) => host.sh(`iptables-${variant} ${args.join(' ')}`)
    run('-N OTHER')
    run('-A OTHER -p tcp -j DROP')
    // The variants differ in what holds the rules, not in how they are written.
    const rules = variant === 'nft' ? iptablesRules : iptablesRules.filter((_, i) => i % 4 === 0)
    for (const rule of rules) {
      run('-F FORWARD')
      run(`-A FORWARD ${rule}`)
      const [actual, { reachable, unknown }] = [really(host), onPaper(host)]
      if (unknown || actual.join() !== reachable.join()) different.push({ rule, actual, reachable, unknown })
    }
    expect(different).toEqual([])
  },
  180_000,
)

test('without the programs of iptables, its nft variant is read by netlink', () => {
  using host = createHost()
  topology(host)
  const run = (rule: string) => host.sh(`iptables-nft ${rule}`)
  const hide = (what: 'mount --bind /dev/null' | 'umount') =>
    host.sh(`for file in /usr/sbin/xtables-nft-multi /usr/sbin/xtables-legacy-multi; do ${what} $file; done`)
  const different: unknown[] = []
  const readable = iptablesRules.filter((each) => !/multiport|addrtype|icmp-type|--state/.test(each))
  for (const rule of readable.filter((_, i) => i % 2 === 0)) {
    run('-F')
    run('-X')
    run('-N OTHER')
    run('-A OTHER -p tcp -j DROP')
    run(`-A FORWARD ${rule}`)
    const actual = really(host)
    hide('mount --bind /dev/null')
    const { reachable, unknown } = onPaper(host)
    hide('umount')
    if (!unknown && actual.join() !== reachable.join()) different.push({ rule, actual, reachable })
  }
  expect(different).toEqual([])
}, 180_000)

test('a rule in words is what nft prints', () => {
  using host = createHost()
  host.sh(`ip link add v-web type veth peer name v-api
           nft add table inet t
           nft add chain inet t other
           nft add chain inet t c '{ type filter hook forward priority 0; }'
           nft add set inet t s '{ type ipv4_addr; }'
           nft add map inet t m '{ type ipv4_addr : verdict; }'
           nft add chain inet t n '{ type nat hook postrouting priority 100; }'`)
  const rules = [
    'ip saddr 10.1.0.2 drop',
    'ip saddr 10.1.0.0/24 ip daddr != 10.2.0.0/16 drop',
    'ip saddr 10.1.0.0/30 accept',
    'ip6 daddr 2001:db8::1 drop',
    'ip6 saddr 2001:db8::/32 drop',
    'ip saddr @s drop',
    'ip saddr != @s jump other',
    'ip daddr vmap @m',
    'tcp dport 80 drop',
    'udp sport 53 accept',
    'tcp dport != 22 goto other',
    'iifname "v-web" oifname != "v-api" return',
    'iifname "v-*" drop',
    'ct state established,related accept',
    'ct state new drop',
    'meta l4proto tcp drop',
    'meta nfproto ipv6 drop',
    'ether saddr 02:00:00:00:00:01 drop',
  ]
  for (const rule of rules) host.run(['nft', 'add', 'rule', 'inet', 't', 'c', ...rule.split(' ')])
  host.run(['nft', 'add', 'rule', 'inet', 't', 'n', 'masquerade'])
  const printed = [...host.run(['nft', '-a', 'list', 'ruleset']).stdout.matchAll(/^\t\t(.*) # handle (\d+)$/gm)]
    .filter(([, text]) => !text!.startsWith('type '))
    .map(([, text, handle]) => [text, Number(handle)])
  const ours = inside(host, () => {
    using world = new World()
    using ruleset = new Ruleset(world.host)
    const table = { family: 'inet', name: 't' } as const
    return ['c', 'n'].flatMap((chain) =>
      ruleset.rulesOf(table, chain).map((rule) => [describeRule(rule.expressions ?? []), Number(rule.handle)]),
    )
  })
  expect(printed.length).toBe(rules.length + 1)
  expect(ours).toEqual(printed)
})
