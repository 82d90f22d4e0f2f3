import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Attached, attach, bridge, type Plugin } from './attached.ts'
import { sourceSeen, tellAddress } from './echo-server.ts'
import { createHost, executables, type Host, type Place, requireTool } from './host.ts'
import { createPrograms, dropForwarded, type Programs, savedRules, useVariant, variants } from './programs.ts'

/*
 * `ns-net reload` after somebody flushed rules, for containers that a runtime connected through the executables and
 * recorded as libcni does. Judged by packets, by CHECK's silence, and by the rules before the flush.
 */

let programs: Programs
beforeEach((context) => {
  programs = createPrograms()
  for (const tool of ['nft', 'socat']) requireTool(tool, context)
})
afterEach(() => programs[Symbol.dispose]())

interface World {
  readonly host: Host
  readonly outside: Place
  readonly container: Attached
}

/** A recorded container behind a bridge and these plugins, and servers outside that tell the source they see. */
function world(plugins: readonly Plugin[], prepare: (host: Host) => void = () => {}): World {
  const host = createHost()
  host.sh('echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad')
  const outside = host.addUplink()
  prepare(host)
  tellAddress(outside)
  const container = attach(host, 'c1', 'lab1', [bridge(1), ...plugins], programs.env)
  container.record()
  return { host, outside, container }
}

/** Puts back the rules and tells of none that it could not put back. */
function reload(host: Host): void {
  const { stdout } = host.run([`${executables}/ns-net`, 'reload', '--json'], { env: programs.env })
  expect(JSON.parse(stdout)).toEqual([{ container: 'c1', network: 'lab1', ifName: 'eth0' }])
}

/** What the world sees as the container's sources; undefined when it cannot be reached. */
const sources = (container: Place) =>
  ['192.0.2.2', '2001:db8::2'].map((address) => {
    try {
      return sourceSeen(container, address)
    } catch {
      return undefined
    }
  })
const unreachable = [undefined, undefined]
const own = ['192.0.2.1', '[2001:0db8:0000:0000:0000:0000:0000:0001]']
const ten = ['192.0.2.10', '[2001:0db8:0000:0000:0000:0000:0000:0010]']

const saved = (host: Host) =>
  [...savedRules(host, programs), ...savedRules(host, programs, 'nat')].filter((line) => line.includes('NS-NET'))
const rules = (host: Host) => ({
  nftables: JSON.stringify(host.snapshot().nftables),
  iptables: saved(host).sort(),
})

function snatWorld(backend: string): World {
  return world([{ type: 'nat', backend, snat: ['192.0.2.10', '2001:db8::10'] }], (host) =>
    host.sh(`ip address add 192.0.2.10/24 dev eth0
             ip address add 2001:db8::10/128 dev eth0 nodad preferred_lft 0`),
  )
}

test.each([
  'nft flush ruleset',
  'nft flush table inet ns-net',
  'for chain in $(nft list ruleset | grep -o "masq-[^ ]* {" | cut -d" " -f1); do nft flush chain inet ns-net $chain; done',
])('snat by nftables after: %s', (flush) => {
  const { host, container } = snatWorld('nftables')
  using _ = host
  const before = host.run(['nft', 'list', 'ruleset']).stdout
  expect(sources(container)).toEqual(ten)
  host.sh(flush)
  expect(container.call('CHECK', 'nat', { expectFailure: true }).json).toMatchObject({ code: 104 })
  reload(host)
  expect(sources(container)).toEqual(ten)
  container.call('CHECK', 'nat')
  expect(host.run(['nft', 'list', 'ruleset']).stdout).toBe(before)
  reload(host)
  expect(host.run(['nft', 'list', 'ruleset']).stdout).toBe(before)
})

describe.each(variants)('iptables, variant %s', (variant) => {
  beforeEach((context) => useVariant(programs, variant, context))

  /** Each line for both programs. */
  const iptables = (host: Host, ...lines: readonly string[]) =>
    host.sh(lines.flatMap((line) => [`iptables ${line}`, `ip6tables ${line}`]).join('\n'), { env: programs.env })

  test.each([
    ['everything', '-t nat -F', '-t nat -X'],
    ['what leads to the chain', '-t nat -F POSTROUTING'],
    ['the rules of the chain', '-t nat -F $(iptables -t nat -S | grep -o "NS-NET-[0-9a-f]*" | head -1)'],
  ])('snat after a flush of %s', (_what, ...lines) => {
    const { host, container } = snatWorld('iptables')
    using _ = host
    const before = rules(host)
    const [perFamily] = lines.filter((line) => line.includes('$('))
    if (perFamily)
      host.sh(`iptables ${perFamily}; ip6tables ${perFamily.replace('(ip', '(ip6')}`, { env: programs.env })
    else iptables(host, ...lines)
    expect(container.call('CHECK', 'nat', { expectFailure: true }).json).toMatchObject({ code: 104 })
    reload(host)
    expect(sources(container)).toEqual(ten)
    container.call('CHECK', 'nat')
    expect(rules(host).iptables).toEqual(before.iptables)
  })

  test('forwarding of nat, after a flush and when Docker came later', () => {
    const { host, container } = world([{ type: 'nat' }], (each) => dropForwarded(each, programs))
    using _ = host
    const before = rules(host)
    for (const flush of [['-F FORWARD'], ['-F', '-X'], ['-D NS-NET-FORWARD 1'], ['-D NS-NET-FORWARD 2']]) {
      iptables(host, ...flush)
      expect(container.call('CHECK', 'nat', { expectFailure: true }).json).toMatchObject({ code: 104 })
      if (flush.length === 2) expect(sources(container)).toEqual(unreachable)
      reload(host)
      expect(sources(container)).toEqual(own)
      container.call('CHECK', 'nat')
      expect(rules(host).iptables).toEqual(before.iptables)
    }
    container.delByName('nat')
    iptables(host, '-P FORWARD ACCEPT')
    const later = attach(host, 'c2', 'lab2', [bridge(2), { type: 'nat' }], programs.env)
    later.record()
    expect(sources(later)).toEqual(own)
    dropForwarded(host, programs)
    expect(later.call('CHECK', 'nat', { expectFailure: true }).json).toMatchObject({ code: 104 })
    host.run([`${executables}/ns-net`, 'reload'], { env: programs.env })
    expect(sources(later)).toEqual(own)
    later.call('CHECK', 'nat')
  })

  test.each(['iptables', 'nftables'])('the firewall plugin with backend %s', (backend) => {
    const firewall = { type: 'firewall', backend, ingressPolicy: 'same-bridge' }
    const { host, container } = world([{ type: 'nat', forward: false }, firewall], (each) =>
      dropForwarded(each, programs),
    )
    using _ = host
    const before = rules(host)
    expect(sources(container)).toEqual(own)
    iptables(host, '-F', '-X')
    host.sh('nft delete table inet ns-net-firewall 2>/dev/null || true')
    expect(sources(container)).toEqual(unreachable)
    expect(container.call('CHECK', 'firewall', { expectFailure: true }).json).toMatchObject({ code: 104 })
    reload(host)
    expect(sources(container)).toEqual(own)
    container.call('CHECK', 'firewall')
    expect(rules(host).iptables).toEqual(before.iptables)
    expect(before.nftables.includes('ns-net-firewall')).toBe(backend === 'nftables')
    expect(rules(host).nftables.includes('ns-net-firewall')).toBe(backend === 'nftables')
  })
})

test.each([
  ['nftables', 'nft flush ruleset'],
  ['nftables', 'nft flush table inet ns-net'],
  ['iptables', 'nft flush ruleset'],
  ['iptables', 'for each in iptables ip6tables; do $each -t nat -F PREROUTING; $each -t nat -F OUTPUT; done'],
])('portmap with %s after: %s', (backend, flush) => {
  const { host, outside, container } = world([
    {
      ...{ type: 'portmap', backend, capabilities: { portMappings: true } },
      runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 7000, protocol: 'tcp' }] },
    },
  ])
  using _ = host
  tellAddress(container)
  outside.sh('ip route add 10.1.0.0/24 via 192.0.2.1')
  const asked = () =>
    outside.run(['socat', '-T3', '-u', 'TCP:192.0.2.1:8080,connect-timeout=1', '-'], { expectFailure: 'maybe' }).stdout
  expect(asked()).toBe('192.0.2.2\n')
  host.sh(flush)
  expect(asked()).toBe('')
  expect(container.call('CHECK', 'portmap', { expectFailure: true }).json).toMatchObject({ code: 104 })
  reload(host)
  expect(asked()).toBe('192.0.2.2\n')
  container.call('CHECK', 'portmap')
})
