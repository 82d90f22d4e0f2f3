import { existsSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { beforeEach, expect, test } from 'vitest'
import type { Attachment } from '../config/attachment.ts'
import type { PortForwarding, PortMapping } from '../nat/forwards.ts'
import { openMasquerade } from '../nat/masquerade.ts'
import { openPortForward, type PortForward } from '../nat/port-forward.ts'
import { cidr } from '../netlink-lib/ip.ts'
import { Netns } from '../netlink-lib/netns.ts'
import { createHost, type Host, requireTool } from './host.ts'

beforeEach((context) => {
  requireTool('nft', context)
})

const attachment = (containerId: string, network = 'lab'): Attachment => ({ network, containerId, ifName: 'eth0' })
const tcp = (hostPort: number, hostIp?: string): PortMapping => ({
  protocol: 'tcp',
  hostPort,
  containerPort: 80,
  hostIp,
})

/** What attachment n asks for. */
const wish = (n: number, mappings: readonly PortMapping[], options: Partial<PortForwarding> = {}): PortForwarding => ({
  mappings,
  targets: [cidr(`10.7.0.${n}/24`), cidr(`fd00:7::${n.toString(16)}/64`)],
  masquerade: 'local',
  conditions: { 4: [], 6: [] },
  markBit: 13,
  ...options,
})

function inHost<T>(host: Host, work: (ports: PortForward) => T): T {
  using netns = Netns.open(`/proc/${host.pid}/ns/net`)
  return netns.run(() => {
    using ports = openPortForward('nftables', () => {})
    return work(ports) as never
  })
}

const ruleset = (host: Host) => host.run(['nft', 'list', 'ruleset']).stdout

/** The names behind these words in the ruleset, in order. */
const named = (host: Host, pattern: RegExp) => [...new Set(ruleset(host).match(pattern) ?? [])]

test('the rules are those that nft makes of their text', () => {
  using ours = createHost()
  using theirs = createHost()
  inHost(ours, (ports) => {
    const dns: PortMapping = { protocol: 'udp', hostPort: 53, containerPort: 5353, hostIp: '192.0.2.1' }
    const conditions = { 4: ['ip', 'saddr', '!=', '192.168.0.0/16', 'iifname "eth0"'], 6: ['oifname != "wg*"'] }
    ports.add(attachment('c1'), wish(2, [tcp(8080), dns], { conditions }))
  })
  const [hairpin4, hairpin6] = named(ours, /hairpin-lab-\w+/g)
  const [when4, when6] = named(ours, /when-lab-\w+/g)
  theirs.run(['nft', '-f', '-'], {
    input: `
      table inet ns-net {
        comment "made by ns-net"
        map ports4 {
          type inet_proto . inet_service : ipv4_addr . inet_service
          comment "protocol . host port : container address . port"
          elements = { tcp . 8080 comment "lab c1 eth0" : 10.7.0.2 . 80 }
        }
        map conditions4 {
          type inet_proto . inet_service : verdict
          comment "protocol . host port : conditions to meet"
          elements = { tcp . 8080 comment "lab c1 eth0" : goto ${when4} }
        }
        map bound-ports4 {
          type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
          comment "host address . protocol . port : container address . port"
          elements = { 192.0.2.1 . udp . 53 comment "lab c1 eth0" : 10.7.0.2 . 5353 }
        }
        map bound-conditions4 {
          type ipv4_addr . inet_proto . inet_service : verdict
          comment "host address . protocol . port : conditions to meet"
          elements = { 192.0.2.1 . udp . 53 comment "lab c1 eth0" : goto ${when4} }
        }
        map containers4 {
          type ipv4_addr : verdict
          comment "container address : sources to masquerade"
          elements = { 10.7.0.2 comment "lab c1 eth0" : goto ${hairpin4} }
        }
        map ports6 {
          type inet_proto . inet_service : ipv6_addr . inet_service
          comment "protocol . host port : container address . port"
          elements = { tcp . 8080 comment "lab c1 eth0" : fd00:7::2 . 80 }
        }
        map conditions6 {
          type inet_proto . inet_service : verdict
          comment "protocol . host port : conditions to meet"
          elements = { tcp . 8080 comment "lab c1 eth0" : goto ${when6} }
        }
        map bound-ports6 {
          type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service
          comment "host address . protocol . port : container address . port"
        }
        map bound-conditions6 {
          type ipv6_addr . inet_proto . inet_service : verdict
          comment "host address . protocol . port : conditions to meet"
        }
        map containers6 {
          type ipv6_addr : verdict
          comment "container address : sources to masquerade"
          elements = { fd00:7::2 comment "lab c1 eth0" : goto ${hairpin6} }
        }
        map owned {
          type mark . mark . mark : ipv6_addr . inet_proto . inet_service
          comment "hash of the owner, number : one of its elements"
          elements = {
            0xd3be8bed . 0x0df5831c . 0 comment "lab c1 eth0" : ::ffff:10.7.0.2 . 0 . 1,
            0xd3be8bed . 0x0df5831c . 1 comment "lab c1 eth0" : ::ffff:0.0.0.0 . tcp . 8080,
            0xd3be8bed . 0x0df5831c . 2 comment "lab c1 eth0" : ::ffff:192.0.2.1 . udp . 53,
            0xd3be8bed . 0x0df5831c . 3 comment "lab c1 eth0" : fd00:7::2 . 0 . 1,
            0xd3be8bed . 0x0df5831c . 4 comment "lab c1 eth0" : :: . tcp . 8080
          }
        }
        chain ports {
          ip daddr . meta l4proto . th dport vmap @bound-conditions4
          meta nfproto ipv4 meta l4proto . th dport vmap @conditions4
          ip6 daddr . meta l4proto . th dport vmap @bound-conditions6
          meta nfproto ipv6 meta l4proto . th dport vmap @conditions6
          dnat ip to ip daddr . meta l4proto . th dport map @bound-ports4
          dnat ip to meta l4proto . th dport map @ports4
          dnat ip6 to ip6 daddr . meta l4proto . th dport map @bound-ports6
          dnat ip6 to meta l4proto . th dport map @ports6
        }
        chain prerouting {
          type nat hook prerouting priority dstnat
          fib daddr type local ct label set 126 jump ports
          ct label 126 ct label set 127
        }
        chain output {
          type nat hook output priority -100
          ip6 daddr ::1 return
          fib daddr type local ct label set 126 jump ports
          ct label 126 ct label set 127
        }
        chain hairpin {
          type nat hook postrouting priority srcnat - 1
          ct label 127 return
          ct label 126 ip daddr vmap @containers4
          ct label 126 ip6 daddr vmap @containers6
        }
        chain ${hairpin4} {
          ip saddr 10.7.0.0/24 masquerade comment "the container and its neighbours"
          ip saddr 127.0.0.0/8 masquerade comment "localhost"
        }
        chain ${when4} {
          ip saddr != 192.168.0.0/16 iifname "eth0" dnat ip to ip daddr . meta l4proto . th dport map @bound-ports4
          ip saddr != 192.168.0.0/16 iifname "eth0" dnat ip to meta l4proto . th dport map @ports4
        }
        chain ${hairpin6} {
          ip6 saddr fd00:7::/64 masquerade comment "the container and its neighbours"
        }
        chain ${when6} {
          oifname != "wg*" dnat ip6 to ip6 daddr . meta l4proto . th dport map @bound-ports6
          oifname != "wg*" dnat ip6 to meta l4proto . th dport map @ports6
        }
      }
    `,
  })
  expect(sortedElements(ruleset(ours))).toBe(sortedElements(ruleset(theirs)))
})

/** Elements come in the order of a hash. */
const sortedElements = (text: string) =>
  text.replace(/elements = \{([^}]*)\}/g, (_, list: string) =>
    list
      .split(',')
      .map((one) => one.trim())
      .sort()
      .join('\n'),
  )

test('the number of rules does not depend on the number of attachments; the last DEL leaves nothing', () => {
  using host = createHost()
  host.run(['nft', 'add table inet mine; add chain inet mine c; add rule inet mine c counter'])
  const before = host.snapshot()
  const rules = () => ruleset(host).match(/^\t\t(?!type|comment|elements|\s)./gm)!.length
  const mappings = (n: number) => [tcp(10_000 + n), { ...tcp(20_000 + n), protocol: 'udp' as const }]
  const targets = (n: number) => [cidr(`10.8.${n >> 8}.${n & 255}/16`), cidr(`fd00:8::${n.toString(16)}/64`)]
  const count = 200
  inHost(host, (ports) => {
    const add = (n: number) => ports.add(attachment(`c${n}`), wish(2, mappings(n), { targets: targets(n) }))
    add(1)
    const first = rules()
    for (let n = 2; n <= count; n++) add(n)
    expect(rules()).toBe(first)
    expect(ruleset(host).match(/(tcp|udp) \. \d+ comment "lab c\d+ eth0" : 10/g)).toHaveLength(2 * count)
    for (let n = 1; n <= count; n += 2) ports.del(attachment(`c${n}`))
    ports.check(attachment('c200'), wish(2, mappings(200), { targets: targets(200) }))
    for (let n = 2; n <= count; n += 2) ports.del(attachment(`c${n}`))
  })
  expect(host.snapshot()).toEqual(before)
})

test('masquerading and port forwarding share the table; who leaves last takes it along', () => {
  using host = createHost()
  const { targets } = wish(2, [])
  for (const order of ['ports first', 'ports last']) {
    inHost(host, (ports) => {
      using masquerade = openMasquerade('nftables')
      masquerade.add(attachment('c1'), targets)
      const alone = ruleset(host)
      ports.add(attachment('c1'), wish(2, [tcp(8080)]))
      masquerade.check(attachment('c1'), targets)
      if (order === 'ports first') {
        ports.del(attachment('c1'))
        expect(ruleset(host)).toBe(alone)
        masquerade.del(attachment('c1'))
      } else {
        masquerade.del(attachment('c1'))
        ports.check(attachment('c1'), wish(2, [tcp(8080)]))
        ports.del(attachment('c1'))
      }
    })
    expect(ruleset(host), order).toBe('')
  }
})

test('an empty table that a killed process left is deleted by the next DEL', () => {
  using host = createHost()
  host.run(['nft', 'add table inet ns-net { comment "made by ns-net"; }'])
  inHost(host, (ports) => ports.del(attachment('c1')))
  expect(ruleset(host)).toBe('')
  host.run(['nft', 'add table inet ns-net'])
  inHost(host, (ports) => ports.del(attachment('c1')))
  expect(ruleset(host)).toBe('table inet ns-net {\n}\n') // not ours
})

test.each([
  ['nft delete table inet ns-net', 'chain ports of table inet ns-net is missing'],
  ['nft flush chain inet ns-net prerouting', 'rule 1 of chain prerouting'],
  ['nft flush chain inet ns-net hairpin', 'rule 1 of chain hairpin'],
  ['nft add rule inet ns-net ports accept', 'has 9 rules, expected 8'],
  ['nft flush map inet ns-net ports4', 'tcp *:8080 for "lab c1 eth0" is missing from map ports4'],
  [
    'nft flush map inet ns-net bound-ports6',
    'tcp [2001:db8::1]:8081 for "lab c1 eth0" is missing from map bound-ports6',
  ],
  ['nft flush map inet ns-net conditions4', 'tcp *:8080 for "lab c1 eth0" is missing from map conditions4'],
  ['nft flush map inet ns-net containers6', 'fd00:7::2 for "lab c1 eth0" is missing from map containers6'],
  ['nft flush map inet ns-net owned', 'record 0 for "lab c1 eth0" is missing from map owned'],
  ['nft flush chain inet ns-net HAIRPIN', 'rule 1 (the container and its neighbours) of chain hairpin-lab-'],
  [
    'nft delete element inet ns-net ports4 "{ tcp . 8080 }"; nft add element inet ns-net ports4 "{ tcp . 8080 comment \\"x\\" : 10.0.0.1 . 80 }"',
    'belongs to "x", expected "lab c1 eth0"',
  ],
  [
    'nft delete element inet ns-net ports4 "{ tcp . 8080 }"; nft add element inet ns-net ports4 "{ tcp . 8080 comment \\"lab c1 eth0\\" : 10.0.0.1 . 80 }"',
    'tcp *:8080 in map ports4 of table inet ns-net leads elsewhere',
  ],
])('CHECK notices: %s', (script, message) => {
  using host = createHost()
  const forwarding = wish(2, [tcp(8080), tcp(8081, '2001:db8::1')], { conditions: { 4: ['iifname eth0'], 6: [] } })
  inHost(host, (ports) => {
    ports.add(attachment('c1'), forwarding)
    ports.check(attachment('c1'), forwarding)
    host.sh(script.replace('HAIRPIN', named(host, /hairpin-lab-\w+/g)[0]!))
    expect(() => ports.check(attachment('c1'), forwarding)).toThrow(message)
  })
})

test('DEL finds by the configuration what the index has lost', () => {
  using host = createHost()
  const mappings = [tcp(8080), tcp(8081, '2001:db8::1')]
  inHost(host, (ports) => {
    ports.add(attachment('c1'), wish(2, mappings))
    host.run(['nft', 'flush map inet ns-net owned'])
    ports.del(attachment('c1'), mappings)
    expect(ruleset(host)).toBe('')

    ports.add(attachment('c1'), wish(2, mappings))
    host.run(['nft', 'flush map inet ns-net owned'])
    ports.add(attachment('c1'), wish(2, [tcp(8080)])) // and ADD takes up what is its own
    ports.del(attachment('c1'))
    ports.collect('lab', [])
  })
  expect(ruleset(host)).toBe('')
})

test('a range of ports beyond one transaction', () => {
  using host = createHost()
  const range = Array.from({ length: 1000 }, (_, i) => tcp(10_000 + i))
  inHost(host, (ports) => {
    ports.add(attachment('c1'), wish(2, range))
    expect(ruleset(host).match(/comment "lab c1 eth0" : fd00:7::2 \. 80/g)).toHaveLength(1000)
    expect(() => ports.add(attachment('c2'), wish(3, range.slice(0, 900).reverse()))).toThrow(
      'belongs to "lab c1 eth0"',
    )
    expect(ruleset(host)).not.toContain('lab c2')
    ports.check(attachment('c1'), wish(2, range))
    ports.del(attachment('c1'))
  })
  expect(ruleset(host)).toBe('')
})

test('a saved ruleset loads again and still belongs to its attachments', () => {
  using host = createHost()
  inHost(host, (ports) => {
    const long = { network: 'n"'.repeat(60), containerId: 'ü'.repeat(70), ifName: 'eth0' }
    const forwarding = wish(2, [tcp(8080), tcp(8081, '192.0.2.1')], {
      conditions: { 4: ['ip saddr 10.0.0.0/8'], 6: [] },
    })
    ports.add(long, forwarding)
    const saved = ruleset(host)
    host.run(['nft', 'flush ruleset'])
    host.run(['nft', '-f', '-'], { input: saved })
    ports.check(long, forwarding)
    ports.del(long)
  })
  expect(ruleset(host)).toBe('')
})

test('many processes want the same ports: each goes to one of them at a time, and nothing is left', async (context) => {
  const bun = fileURLToPath(new URL('../node_modules/.bin/bun', import.meta.url))
  if (!existsSync(bun)) {
    if (process.env.CI) throw new Error('bun is not installed')
    return context.skip('bun is not installed')
  }
  using host = createHost()
  const source = fileURLToPath(new URL('..', import.meta.url))
  // Every second one binds the port to an address, so that the two kinds meet, in two networks that come and go.
  const program = `
    import { readdirSync, rmSync, writeFileSync } from 'node:fs'
    import { openPortForward } from '${source}nat/port-forward.ts'
    import { openMasquerade } from '${source}nat/masquerade.ts'
    import { cidr } from '${source}netlink-lib/ip.ts'
    const worker = Number(process.argv[2])
    using ports = openPortForward('nftables', console.error)
    using masquerade = openMasquerade('nftables')
    let taken = 0
    for (let i = 0; i < 30; i++) {
      const attachment = { network: 'lab' + (i % 2), containerId: 'w' + worker + '-' + i, ifName: 'eth0' }
      const targets = [cidr('10.' + (i % 2) + '.0.' + (worker + 2) + '/24'), cidr('fd00:' + (i % 2) + '::' + (worker + 2) + '/64')]
      const hostPort = 8000 + (i % 3)
      const mappings = [{ protocol: 'tcp', hostPort, containerPort: 80, hostIp: (i + worker) % 2 ? '192.0.2.1' : undefined }]
      const wish = { mappings, targets, masquerade: 'local', conditions: { 4: [], 6: [] }, markBit: 13 }
      masquerade.add(attachment, targets)
      try {
        ports.add(attachment, wish)
        writeFileSync('/run/held-' + hostPort + '-4', attachment.containerId, { flag: 'wx' }) // fails when two have it
        ports.check(attachment, wish)
        rmSync('/run/held-' + hostPort + '-4')
      } catch (error) {
        if (error.kind !== 'duplicate') throw error
        taken++
      }
      ports.del(attachment)
      masquerade.del(attachment)
    }
    console.log(taken)`
  writeFileSync(host.file('/run/worker.ts'), program)
  const workers = Array.from({ length: 6 }, (_, n) => host.start([bun, '/run/worker.ts', String(n)]))
  const ends = workers.map(
    (worker) =>
      new Promise<string>((resolve) => {
        let output = ''
        for (const stream of [worker.stdout!, worker.stderr!])
          stream.on('data', (text) => {
            output += text
          })
        worker.on('close', (code) => resolve(code === 0 ? output.trim() : `exit ${code}: ${output}`))
      }),
  )
  const taken = await Promise.all(ends)
  expect(taken.filter((text) => !/^\d+$/.test(text))).toEqual([])
  expect(Math.max(...taken.map(Number))).toBeGreaterThan(0)
  expect(ruleset(host)).toBe('')
})
