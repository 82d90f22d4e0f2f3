import { expect, test } from 'vitest'
import { cidr } from '../../netlink-lib/ip.ts'
import { completion, dropsForwarded, missingRules, removal, rulesOf } from './iptables-rules.ts'
import { type IngressPolicy, type Policy, policyOf } from './policy.ts'

const policy = (ingress: IngressPolicy, link: string | undefined = 'br0', network = 'lab'): Policy => ({
  ...policyOf({ network, family: 4, link, subnets: [cidr('10.7.0.0/24')], ingress }),
  mark: `ns-net:${network}:${ingress}`,
})
const fresh = [':INPUT ACCEPT [0:0]', ':FORWARD DROP [0:0]', ':OUTPUT ACCEPT [0:0]']
const marked = (name: string) => `-m comment --comment ns-net:lab:${name}`
const established = '-m conntrack --ctstate RELATED,ESTABLISHED,DNAT'

/** What iptables-save would print after the lines, as far as the rules here need it. */
function apply(saved: readonly string[], lines: readonly string[]): string[] {
  const result = [...saved]
  for (const line of lines) {
    const [command, chain] = line.split(' ') as [string, string]
    const text = line.replace(/^-[ID]( \S+)(?: \d+(?= ))?/, '-A$1')
    const rules = result.filter((each) => each.startsWith(`-A ${chain} `))
    if (command === '-N') result.push(`:${chain} - [0:0]`)
    if (command === '-A') result.push(line)
    if (command === '-D') result.splice(result.indexOf(text), 1)
    if (command === '-F') for (const rule of rules) result.splice(result.indexOf(rule), 1)
    if (command === '-X') result.splice(result.indexOf(`:${chain} - [0:0]`), 1)
    if (command === '-I') {
      const next = rules[Number(line.split(' ')[2]) - 1]
      result.splice(next ? result.indexOf(next) : result.length, 0, text)
    }
  }
  return result
}

test('the rules of each policy', () => {
  const accept = (name: string) => [
    `-A NS-NET-FORWARD -s 10.7.0.0/24 -i br0 ${marked(name)} -j ACCEPT`,
    `-A NS-NET-FORWARD -d 10.7.0.0/24 -o br0 ${established} ${marked(name)} -j ACCEPT`,
  ]
  expect(rulesOf(policy('open'))).toEqual(accept('open'))
  expect(rulesOf(policy('same-bridge'))).toEqual([
    `-A NS-NET-FORWARD -i br0 ! -o br0 ${marked('same-bridge')} -j NS-NET-ISOLATED`,
    ...accept('same-bridge'),
    `-A NS-NET-ISOLATED -o br0 ${marked('same-bridge')} -j DROP`,
  ])
  expect(rulesOf(policy('isolated'))).toContain(`-A NS-NET-FORWARD -i br0 -o br0 ${marked('isolated')} -j DROP`)
})

test('without a bridge the subnet alone matches; all of IPv4 needs no match', () => {
  const point = { ...policyOf({ ...policy('open'), link: undefined }), mark: 'ns-net:lab:open' }
  expect(rulesOf(point)[0]).toBe(`-A NS-NET-FORWARD -s 10.7.0.0/24 ${marked('open')} -j ACCEPT`)
  expect(rulesOf({ ...policy('open'), subnets: [cidr('0.0.0.0/0')] })[0]).toBe(
    `-A NS-NET-FORWARD -i br0 ${marked('open')} -j ACCEPT`,
  )
})

test('an internal network: by its bridge, without one by its subnet', () => {
  const internal = (link?: string) => ({ ...policy('open', link), link, internal: true })
  const drops = (each: Policy) => rulesOf(each).filter((rule) => rule.endsWith('DROP'))
  expect(drops(internal('br0'))).toEqual([
    `-A NS-NET-FORWARD -i br0 ! -o br0 ${marked('open')} -j DROP`,
    `-A NS-NET-FORWARD ! -i br0 -o br0 ${marked('open')} -j DROP`,
  ])
  expect(drops(internal())).toEqual([
    `-A NS-NET-FORWARD -s 10.7.0.0/24 ! -d 10.7.0.0/24 ${marked('open')} -j DROP`,
    `-A NS-NET-FORWARD ! -s 10.7.0.0/24 -d 10.7.0.0/24 ${marked('open')} -j DROP`,
  ])
  const one = apply(fresh, completion(fresh, policy('open', 'br1', 'web'), 'CNI-ADMIN'))
  const after = apply(one, completion(one, internal('br0'), 'CNI-ADMIN'))
  const targets = after.filter((line) => line.startsWith('-A NS-NET-FORWARD')).map((line) => line.split(' ').at(-1))
  expect(targets).toEqual(['CNI-ADMIN', 'DROP', 'DROP', 'ACCEPT', 'ACCEPT', 'ACCEPT', 'ACCEPT'])
  const hash = (more: object) => policyOf({ ...policy('open'), ...more }).mark
  expect(hash({ internal: false })).toBe(hash({}))
  expect(hash({ internal: true })).not.toBe(hash({}))
})

test('a fresh table gets chains, jumps and rules; administrator first, drops before accepts', () => {
  const after = apply(fresh, completion(fresh, policy('isolated'), 'CNI-ADMIN'))
  expect(after.filter((line) => line.startsWith('-A NS-NET-FORWARD')).map((line) => line.split(' ').at(-1))).toEqual([
    'CNI-ADMIN',
    'DROP',
    'NS-NET-ISOLATED',
    'ACCEPT',
    'ACCEPT',
  ])
  expect(after).toContain('-A FORWARD -m comment --comment ns-net -j NS-NET-FORWARD')
  expect(completion(after, policy('isolated'), 'CNI-ADMIN')).toEqual([])
})

test('a second policy drops before anything is accepted, and keeps what is there', () => {
  const one = apply(fresh, completion(fresh, policy('open', 'br1', 'web'), 'CNI-ADMIN'))
  const lines = completion(one, policy('same-bridge'), 'CNI-ADMIN')
  expect(lines[0]).toBe(`-I NS-NET-FORWARD 2 -i br0 ! -o br0 ${marked('same-bridge')} -j NS-NET-ISOLATED`)
  expect(lines.slice(1).every((line) => line.startsWith('-A'))).toBe(true)
  const other = completion(apply(one, lines), policy('same-bridge'), 'OTHER')
  expect(other).toEqual(['-N OTHER', '-I NS-NET-FORWARD 1 -m comment --comment ns-net -j OTHER'])
})

test("behind Docker's own place for rules", () => {
  const docker = [...fresh, '-A FORWARD -j DOCKER-USER', '-A FORWARD -j DOCKER-FORWARD']
  const lines = completion(docker, policy('open'), 'CNI-ADMIN')
  expect(lines).toContain('-I FORWARD 2 -m comment --comment ns-net -j NS-NET-FORWARD')
})

test('quotes of iptables-save do not matter; what was flushed comes back', () => {
  const after = apply(fresh, completion(fresh, policy('same-bridge'), 'CNI-ADMIN'))
  const quoted = after.map((line) => line.replace(/--comment (\S+)/, '--comment "$1"'))
  expect(missingRules(quoted, policy('same-bridge'), 'CNI-ADMIN')).toEqual([])
  const flushed = quoted.filter((line) => !line.startsWith('-A FORWARD'))
  expect(completion(flushed, policy('same-bridge'), 'CNI-ADMIN')).toEqual([
    '-I FORWARD 1 -m comment --comment ns-net -j NS-NET-FORWARD',
  ])
})

test('removal leaves the other policy, and after the last one nothing', () => {
  const [one, two] = [policy('isolated'), policy('same-bridge', 'br1', 'web')]
  const first = apply(fresh, completion(fresh, one, 'CNI-ADMIN'))
  const both = apply(first, completion(first, two, 'CNI-ADMIN'))
  expect(apply(both, removal(both, two.mark)).sort()).toEqual([...first].sort())
  const rest = apply(both, removal(both, one.mark))
  expect(missingRules(rest, two, 'CNI-ADMIN')).toEqual([])
  expect(apply(rest, removal(rest, two.mark))).toEqual(fresh)
  expect(removal(fresh, one.mark)).toEqual([])
})

test("the administrator's chain stays when it has rules, or somebody else leads to it", () => {
  const after = apply(fresh, completion(fresh, policy('open'), 'CNI-ADMIN'))
  for (const rule of ['-A CNI-ADMIN -s 10.9.0.0/16 -j DROP', '-A CNI-FORWARD -j CNI-ADMIN']) {
    const saved = [...after, rule]
    expect(apply(saved, removal(saved, 'ns-net:lab:open'))).toEqual([...fresh, ':CNI-ADMIN - [0:0]', rule])
  }
})

test('without an administrator of its own a policy makes no chain for one, and keeps to the one that is there', () => {
  const after = apply(fresh, completion(fresh, policy('open'), undefined))
  expect(after.filter((line) => line.startsWith(':')).map((line) => line.split(' ')[0])).toEqual([
    ':INPUT',
    ':FORWARD',
    ':OUTPUT',
    ':NS-NET-FORWARD',
    ':NS-NET-ISOLATED',
  ])
  expect(apply(after, removal(after, 'ns-net:lab:open'))).toEqual(fresh)
  const withAdmin = apply(fresh, completion(fresh, policy('open'), 'CNI-ADMIN'))
  expect(completion(withAdmin, policy('open'), undefined)).toEqual([])
})

test.each([
  [true, [':FORWARD DROP [0:0]']],
  [true, [':FORWARD ACCEPT [0:0]', '-A FORWARD -j REJECT --reject-with icmp-host-prohibited']],
  [true, [':FORWARD ACCEPT [0:0]', '-A FORWARD -g ONE', '-A ONE -i eth0 -j TWO', '-A TWO -j ONE', '-A TWO -j DROP']],
  [false, [':FORWARD ACCEPT [0:0]', '-A FORWARD -g ONE', '-A ONE -i eth0 -j TWO', '-A TWO -j ONE']],
  [false, [':FORWARD ACCEPT [0:0]', ':INPUT DROP [0:0]', '-A INPUT -j DROP', '-A FORWARD -j ACCEPT']],
  [false, [':FORWARD ACCEPT [0:0]', '-A FORWARD -m comment --comment "a \\" -j DROP" -j RETURN']],
  [false, [':FORWARD ACCEPT [0:0]', '-A FORWARD -j NS-NET-FORWARD', '-A NS-NET-FORWARD -i br0 -o br0 -j DROP']],
  [false, [':FORWARD ACCEPT [0:0]', '-A FORWARD -m conntrack --ctstate NEW']],
])('forwarded packets are dropped: %s by %j', (dropped, saved) => {
  expect(dropsForwarded(saved)).toBe(dropped)
})
