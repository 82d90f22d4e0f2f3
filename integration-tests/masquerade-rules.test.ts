import { existsSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { beforeEach, expect, test } from 'vitest'
import type { Attachment } from '../config/attachment.ts'
import { type Masquerade, openMasquerade } from '../nat/masquerade.ts'
import { type Cidr, cidr } from '../netlink-lib/ip.ts'
import { Netns } from '../netlink-lib/netns.ts'
import { createElements, createTable } from '../netlink-lib/nftables/commands.ts'
import { NetfilterSocket } from '../netlink-lib/nftables/netfilter-socket.ts'
import { sourceSeen, tellAddress } from './echo-server.ts'
import { createHost, type Host, type Place, requireTool } from './host.ts'

beforeEach((context) => {
  requireTool('nft', context)
})

const attachment = (containerId: string, network = 'lab'): Attachment => ({ network, containerId, ifName: 'eth0' })

const addresses = (n: number): Cidr[] => [cidr(`10.7.0.${n}/24`), cidr(`fd00:7::${n.toString(16)}/64`)]
const hint = (n: number): string[] => addresses(n).map(({ address }) => address)

/** What the host's rules would be for a process that runs there. */
function inHost<T>(host: Host, work: (masquerade: Masquerade) => T): T {
  using netns = Netns.open(`/proc/${host.pid}/ns/net`)
  return netns.run(() => {
    using masquerade = openMasquerade('nftables')
    return work(masquerade) as never
  })
}

const ruleset = (host: Host) => host.run(['nft', 'list', 'ruleset']).stdout

/** The comments of all elements of a map, as nft sees them. */
function marks(host: Host, map: string): string[] {
  // biome-ignore lint/suspicious/noExplicitAny: nft's JSON
  const objects: any[] = host.json(['nft', '-j', 'list', 'map', 'inet', 'ns-net', map]).nftables
  const elements = objects.find((object) => object.map).map.elem ?? []
  return elements.map(([{ elem }]: [{ elem: { comment: string } }]) => elem.comment).sort()
}

test('the rules are those that nft makes of their text', () => {
  using ours = createHost()
  using theirs = createHost()
  inHost(ours, (masquerade) => {
    masquerade.add(attachment('c1'), addresses(2), {
      exempt: [cidr('192.168.0.0/16'), cidr('100.64.0.0/10'), cidr('fd00:8::/61')],
    })
  })
  const [four, six] = ruleset(ours).match(/masq-lab-[0-9a-f]{16}(?= \{)/g)!
  theirs.run(['nft', '-f', '-'], {
    input: `
      table inet ns-net {
        comment "made by ns-net"
        map sources4 {
          type ipv4_addr : verdict
          comment "container address : policy of its network"
          elements = { 10.7.0.2 comment "lab c1 eth0" : goto ${four} }
        }
        map sources6 {
          type ipv6_addr : verdict
          comment "container address : policy of its network"
          elements = { fd00:7::2 comment "lab c1 eth0" : goto ${six} }
        }
        chain postrouting {
          type nat hook postrouting priority srcnat
          ip saddr vmap @sources4
          ip6 saddr vmap @sources6
        }
        chain ${four} {
          ip daddr 10.7.0.0/24 return comment "inside the network"
          ip daddr 224.0.0.0/4 return comment "multicast"
          ip daddr 192.168.0.0/16 return comment "exempt"
          ip daddr 100.64.0.0/10 return comment "exempt"
          masquerade
        }
        chain ${six} {
          ip6 daddr fd00:7::/64 return comment "inside the network"
          ip6 daddr ff00::/8 return comment "multicast"
          ip6 daddr fd00:8::/61 return comment "exempt"
          masquerade
        }
      }
    `,
  })
  expect(ruleset(ours)).toBe(ruleset(theirs))
  expect(ours.snapshot().nftables).toEqual(theirs.snapshot().nftables)
})

test('a source of its own: the rule that nft makes of its text, for the family that has one', () => {
  using ours = createHost()
  using theirs = createHost()
  for (const snat of [['192.0.2.10', '2001:db8::10'], ['192.0.2.10']]) {
    inHost(ours, (masquerade) => masquerade.add(attachment('c1'), addresses(2), { snat }))
    const text = ruleset(ours)
    expect(text.match(/snat .*/g)).toEqual(snat.map((source, i) => `snat ${['ip', 'ip6'][i]} to ${source}`))
    expect(text.match(/masquerade$/gm) ?? []).toHaveLength(2 - snat.length)
    theirs.run(['nft', '-f', '-'], { input: text })
    expect(ours.snapshot().nftables).toEqual(theirs.snapshot().nftables)
    inHost(ours, (masquerade) => {
      masquerade.check(attachment('c1'), addresses(2), { snat })
      expect(() => masquerade.check(attachment('c1'), addresses(2))).toThrow('leads to masq-lab')
      expect(() => masquerade.add(attachment('c1'), addresses(2))).toThrow('it is translated already, by other rules')
      masquerade.del(attachment('c1'), hint(2))
    })
    theirs.run(['nft', 'flush', 'ruleset'])
  }
  expect(ruleset(ours)).toBe('')
})

test('ADD puts back the rules of a chain, and leaves one that is complete as it is', () => {
  using host = createHost()
  inHost(host, (masquerade) => {
    masquerade.add(attachment('c1'), addresses(2))
    const complete = ruleset(host)
    const [chain] = complete.match(/masq-lab-\w+/)!
    for (const script of [
      'flush table inet ns-net',
      `flush chain inet ns-net ${chain}`,
      `insert rule inet ns-net ${chain} accept`,
    ]) {
      host.run(['nft', script])
      masquerade.add(attachment('c1'), addresses(2))
      expect(ruleset(host), script).toBe(complete)
    }
    const handles = () => host.run(['nft', '-a', 'list', 'ruleset']).stdout
    const before = handles()
    masquerade.add(attachment('c1'), addresses(2))
    expect(handles()).toBe(before)
    masquerade.del(attachment('c1'))
  })
  expect(ruleset(host)).toBe('')
})

/** Two containers of one subnet behind a router, as ptp connects them, so that their own traffic is routed too. */
function connect(host: Host): Place[] {
  host.sh('echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding')
  return [2, 3].map((n) => {
    const container = host.addContainer(`c${n}`)
    host.sh(`ip link add v${n} type veth peer name eth0 netns c${n}
             ip address add 10.7.0.1/32 dev v${n}
             ip address add fd00:7::1/128 dev v${n} nodad
             ip link set v${n} up`)
    container.sh(`ip address add 10.7.0.${n}/32 dev eth0
                  ip address add fd00:7::${n}/128 dev eth0 nodad
                  ip link set lo up
                  ip link set eth0 up
                  ip route add 10.7.0.1 dev eth0
                  ip route add default via 10.7.0.1
                  ip route add fd00:7::1 dev eth0
                  ip route add default via fd00:7::1`)
    host.sh(`ip route add 10.7.0.${n} dev v${n}
             ip route add fd00:7::${n} dev v${n}`)
    return container
  })
}

test('outside sees the host, the own subnet and exempt ranges see the container', (context) => {
  requireTool('socat', context)
  using host = createHost()
  const outside = host.addUplink()
  const [one, two] = connect(host) as [Place, Place]
  tellAddress(outside)
  tellAddress(two)

  inHost(host, (masquerade) => masquerade.add(attachment('c2'), addresses(2)))
  expect(sourceSeen(one, '192.0.2.2')).toBe('192.0.2.1')
  expect(sourceSeen(one, '2001:db8::2')).toBe('[2001:0db8:0000:0000:0000:0000:0000:0001]')
  expect(sourceSeen(one, '10.7.0.3')).toBe('10.7.0.2')
  expect(sourceSeen(one, 'fd00:7::3')).toBe('[fd00:0007:0000:0000:0000:0000:0000:0002]')
  // The other container is not ours: outside has no way to answer it.
  two.run(['ping', '-c1', '-W1', '192.0.2.2'], { expectFailure: true })
  one.run(['ping', '-c1', '-W2', '192.0.2.2'])

  inHost(host, (masquerade) => {
    masquerade.del(attachment('c2'), hint(2))
    masquerade.add(attachment('c2'), addresses(2), { exempt: [cidr('192.0.2.0/24'), cidr('2001:db8::/32')] })
  })
  outside.sh('ip route add 10.7.0.0/24 via 192.0.2.1; ip route add fd00:7::/64 via 2001:db8::1')
  expect(sourceSeen(one, '192.0.2.2')).toBe('10.7.0.2')
  expect(sourceSeen(one, '2001:db8::2')).toBe('[fd00:0007:0000:0000:0000:0000:0000:0002]')
})

test('after the last DEL the ruleset is the one before the first ADD', () => {
  using host = createHost()
  host.run(['nft', 'add table inet mine; add chain inet mine c; add rule inet mine c counter'])
  const before = host.snapshot()
  inHost(host, (masquerade) => {
    masquerade.del(attachment('c1')) // no table yet
    for (const n of [2, 3, 4]) masquerade.add(attachment(`c${n}`), addresses(n))
    masquerade.add(attachment('c5', 'web'), [cidr('10.8.0.2/24')])
    masquerade.del(attachment('c2'), hint(2)) // by key
    masquerade.del(attachment('c2'), hint(2)) // again
    masquerade.del(attachment('c3')) // without addresses
    masquerade.del(attachment('c9'), hint(4)) // with the address of another
    expect(marks(host, 'sources4')).toEqual(['lab c4 eth0', 'web c5 eth0'])
    masquerade.del(attachment('c4'), ['10.7.0.4']) // dual stack, hint incomplete: the other address goes with GC
    masquerade.collect('lab', [])
    expect(ruleset(host)).not.toContain('masq-lab')
    masquerade.del(attachment('c5', 'web'), ['10.8.0.2', '10.8.0.99']) // more than it has
  })
  expect(host.snapshot()).toEqual(before)
})

test('an attachment may repeat its ADD; nobody takes its address, not even itself by another policy', () => {
  using host = createHost()
  inHost(host, (masquerade) => {
    masquerade.add(attachment('c1'), addresses(2))
    const first = ruleset(host)
    masquerade.add(attachment('c1'), addresses(2))
    expect(ruleset(host)).toBe(first)
    expect(() => masquerade.add(attachment('c2'), addresses(2))).toThrow(
      'masquerade 10.7.0.2 for "lab c2 eth0": the address belongs to "lab c1 eth0"',
    )
    expect(() => masquerade.add(attachment('c1', 'web'), addresses(2))).toThrow('belongs to "lab c1 eth0"')
    // Refused as a whole: the address that was free is free still.
    expect(() => masquerade.add(attachment('c2'), [cidr('10.7.0.9/24'), cidr('fd00:7::2/64')])).toThrow('belongs to')
    expect(ruleset(host)).toBe(first)

    expect(() => masquerade.add(attachment('c1'), addresses(2), { exempt: [cidr('192.168.0.0/16')] })).toThrow(
      'masquerade 10.7.0.2 for "lab c1 eth0" (network, container, interface): it is translated already, by other rules',
    )
    expect(ruleset(host)).toBe(first)
    masquerade.del(attachment('c1'))
  })
  expect(ruleset(host)).toBe('')
})

test('an address that is listed twice is one address', () => {
  using host = createHost()
  inHost(host, (masquerade) => {
    masquerade.add(attachment('c1'), [...addresses(2), ...addresses(2)])
    expect(marks(host, 'sources4')).toHaveLength(1)
    masquerade.del(attachment('c1'), [...hint(2), ...hint(2)])
  })
  expect(ruleset(host)).toBe('')
})

test.each([
  ['nft delete table inet ns-net', 'chain postrouting of table inet ns-net is missing'],
  ['nft flush chain inet ns-net postrouting', 'rule 1 of chain postrouting of table inet ns-net is missing'],
  ['nft delete element inet ns-net sources4 "{ 10.7.0.2 }"', '10.7.0.2 for "lab c1 eth0" is missing from map sources4'],
  ['nft flush map inet ns-net sources6', 'fd00:7::2 for "lab c1 eth0" is missing from map sources6'],
  ['nft flush chain inet ns-net FOUR', 'rule 1 (inside the network) of chain masq-lab-'],
  ['nft add rule inet ns-net FOUR accept', 'has 4 rules, expected 3'],
  ['nft insert rule inet ns-net FOUR accept', 'rule 1 (inside the network) of chain masq-lab-'],
])('CHECK notices: %s', (script, message) => {
  using host = createHost()
  inHost(host, (masquerade) => {
    masquerade.add(attachment('c1'), addresses(2))
    masquerade.check(attachment('c1'), addresses(2))
    host.sh(script.replace('FOUR', ruleset(host).match(/masq-lab-\w+/)![0]))
    expect(() => masquerade.check(attachment('c1'), addresses(2))).toThrow(message)
  })
})

test('CHECK notices another owner and another policy', () => {
  using host = createHost()
  inHost(host, (masquerade) => {
    masquerade.add(attachment('c1'), addresses(2))
    expect(() => masquerade.check(attachment('c2'), addresses(2))).toThrow('belongs to "lab c1 eth0", expected "lab c2')
    expect(() => masquerade.check(attachment('c1'), addresses(2), { exempt: [cidr('192.168.0.0/16')] })).toThrow(
      'leads to masq-lab',
    )
  })
})

test('GC deletes what no valid attachment owns, and only of its network', () => {
  using host = createHost()
  inHost(host, (masquerade) => {
    for (let n = 2; n < 12; n++) masquerade.add(attachment(`c${n}`), addresses(n))
    masquerade.add(attachment('c1', 'lab-2'), [cidr('10.8.0.2/24')])
    masquerade.collect('la', [])
    expect(marks(host, 'sources4')).toHaveLength(11)
    masquerade.collect('lab', [attachment('c2'), attachment('c3'), attachment('c99')])
    expect(marks(host, 'sources4')).toEqual(['lab c2 eth0', 'lab c3 eth0', 'lab-2 c1 eth0'])
    expect(marks(host, 'sources6')).toEqual(['lab c2 eth0', 'lab c3 eth0'])
    masquerade.collect('lab-2', [])
    expect(ruleset(host)).not.toContain('lab-2')
    masquerade.collect('lab', [])
  })
  expect(ruleset(host)).toBe('')
})

test('a DEL that was killed half-way is completed by the next one', () => {
  using host = createHost()
  inHost(host, (masquerade) => {
    masquerade.add(attachment('c1'), [cidr('10.7.0.2/24')])
    host.run(['nft', 'flush map inet ns-net sources4'])
    masquerade.del(attachment('c1'), ['10.7.0.2'])
  })
  expect(ruleset(host)).toBe('')
})

test('what others put into the table stays, and so does the table', () => {
  using host = createHost()
  const foreign = 'add table inet ns-net; add chain inet ns-net theirs; add rule inet ns-net theirs accept'
  host.run(['nft', foreign])
  const before = host.snapshot()
  inHost(host, (masquerade) => {
    masquerade.add(attachment('c1'), addresses(2))
    masquerade.del(attachment('c1'), hint(2))
  })
  expect(host.snapshot()).toEqual(before)
})

test('a saved ruleset loads again and still belongs to its attachments', () => {
  using host = createHost()
  inHost(host, (masquerade) => {
    const long = { network: 'n"'.repeat(60), containerId: 'ü'.repeat(70), ifName: 'eth0' }
    masquerade.add(long, addresses(2))
    const saved = ruleset(host)
    host.run(['nft', 'flush ruleset'])
    host.run(['nft', '-f', '-'], { input: saved })
    masquerade.check(long, addresses(2))
    masquerade.del(long)
  })
  expect(ruleset(host)).toBe('')
})

test('a refused transaction changes nothing and names the command', () => {
  using host = createHost()
  const table = { family: 'inet', name: 't' } as const
  using netns = Netns.open(`/proc/${host.pid}/ns/net`)
  netns.run(() => {
    using socket = new NetfilterSocket()
    const element = { key: { value: Buffer.from([10, 0, 0, 1]) } }
    const commands = [createTable(table), createElements(table, 'absent', [element], '10.0.0.1')]
    expect(() => socket.transaction(commands)).toThrow('add to absent in table inet t 10.0.0.1: ENOENT')
    expect(() => socket.transaction(commands)).toThrow(
      expect.objectContaining({ code: 'ENOENT', command: commands[1] }),
    )
    const generation = socket.generation()
    socket.transaction([createTable(table)], generation)
    expect(() => socket.transaction([createTable({ ...table, name: 'late' })], generation)).toThrow('ERESTART')
    expect(() => socket.transaction([createTable(table)])).toThrow('create table inet t: EEXIST')
  })
  expect(ruleset(host)).toBe('table inet t {\n}\n')
})

test('many processes add and delete at the same time', async (context) => {
  const bun = fileURLToPath(new URL('../node_modules/.bin/bun', import.meta.url))
  if (!existsSync(bun)) {
    if (process.env.CI) throw new Error('bun is not installed')
    return context.skip('bun is not installed')
  }
  using host = createHost()
  const source = fileURLToPath(new URL('..', import.meta.url))
  // Two networks, so that chains, maps and the table come and go all the time.
  const program = `
    import { openMasquerade } from '${source}nat/masquerade.ts'
    import { cidr } from '${source}netlink-lib/ip.ts'
    const worker = Number(process.argv[2])
    using masquerade = openMasquerade('auto')
    for (let i = 0; i < 40; i++) {
      const attachment = { network: 'lab' + (i % 2), containerId: 'w' + worker + '-' + i, ifName: 'eth0' }
      const addresses = [cidr('10.' + (i % 2) + '.0.' + (worker + 2) + '/24'), cidr('fd00:' + (i % 2) + '::' + (worker + 2) + '/64')]
      masquerade.add(attachment, addresses)
      masquerade.check(attachment, addresses)
      masquerade.del(attachment, i % 3 ? addresses.map((a) => a.address) : undefined)
    }`
  writeFileSync(host.file('/run/worker.ts'), program)
  const workers = Array.from({ length: 8 }, (_, n) => host.start([bun, '/run/worker.ts', String(n)]))
  const ends = workers.map(
    (worker) =>
      new Promise<string>((resolve) => {
        let output = ''
        for (const stream of [worker.stdout!, worker.stderr!]) stream.on('data', (text) => (output += text))
        worker.on('close', (code) => resolve(code === 0 ? '' : `exit ${code}: ${output}`))
      }),
  )
  expect((await Promise.all(ends)).filter((text) => text !== '')).toEqual([])
  expect(ruleset(host)).toBe('')
})
