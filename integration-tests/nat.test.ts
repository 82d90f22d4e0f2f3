import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Attached, addressesOf, attach, bridge, type Plugin } from './attached.ts'
import { sourceSeen, tellAddress } from './echo-server.ts'
import { createHost, executables, type Host, type Place, requireTool } from './host.ts'
import { createPrograms, dropForwarded, type Programs, savedRules, useVariant, variants } from './programs.ts'

/*
 * The nat plugin behind bridge: the source that the world sees, and getting through where iptables drops what is
 * forwarded. Judged by packets, and by what nft and both variants of iptables print before and after.
 */

let programs: Programs
beforeEach((context) => {
  programs = createPrograms()
  for (const tool of ['nft', 'ping', 'socat']) requireTool(tool, context)
})
afterEach(() => programs[Symbol.dispose]())

const nat = (keys: object = {}): Plugin => ({ type: 'nat', ...keys })

const attachTo = (host: Host, name: string, n: number, ...plugins: readonly Plugin[]): Attached =>
  attach(host, name, `lab${n}`, [bridge(n), ...plugins], programs.env)

interface World {
  readonly host: Host
  readonly outside: Place
}

/** New links have their addresses at once: the host forwards IPv6 to none whose own is still tentative. */
function hostWithUplink(): World {
  const host = createHost()
  host.sh('echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad')
  return { host, outside: host.addUplink() }
}

/** Which of the addresses answer within 2 s, all asked at the same time. */
function pings(from: Place, ...addresses: readonly string[]): boolean[] {
  const asked = addresses.map((to) => `ping -c1 -i0.2 -w2 ${to} >/dev/null 2>&1 && echo ${to} &`)
  const answered = from.sh(`${asked.join('\n')}\nwait`).stdout.split('\n')
  return addresses.map((to) => answered.includes(to))
}

const outsideAddresses = ['192.0.2.2', '2001:db8::2']
const reachesOutside = (container: Place) => pings(container, ...outsideAddresses)
const [yes, no] = [
  [true, true],
  [false, false],
]

/** What rules and records there are; the bridge, forwarding and marks of leases stay after the last container. */
function rulesOf(host: Host) {
  const { nftables, files } = host.snapshot({ ignoreLeaseMarks: true })
  const records = Object.keys(files).filter((path) => path.startsWith('/run/ns-net'))
  return { nftables, records, filter: savedRules(host, programs), nat: savedRules(host, programs, 'nat') }
}

describe.each(['nftables', 'iptables'] as const)('snat with %s', (backend) => {
  const sources = ['192.0.2.10', '2001:db8::10']
  const seenFrom = (container: Place, ...addresses: readonly string[]) =>
    addresses.map((address) => sourceSeen(container, address))
  // As socat prints them.
  const [ten4, ten6] = ['192.0.2.10', '[2001:0db8:0000:0000:0000:0000:0000:0010]']
  const [own4, own6] = ['192.0.2.1', '[2001:0db8:0000:0000:0000:0000:0000:0001]']

  function hostWithSources(): World {
    const world = hostWithUplink()
    // The others stay those that a masqueraded packet gets.
    world.host.sh(`ip address add 192.0.2.10/24 dev eth0
                   ip address add 2001:db8::10/128 dev eth0 nodad preferred_lft 0
                   iptables -t nat -P POSTROUTING ACCEPT
                   ip6tables -t nat -P POSTROUTING ACCEPT`)
    tellAddress(world.outside)
    return world
  }

  test('outside sees the source, neighbours and the gateway see the container; after DEL the rules are as before', () => {
    const { host, outside } = hostWithSources()
    using _ = host
    const before = rulesOf(host)
    const keys = { backend, snat: sources, nonMasqueradeCIDRs: ['198.51.100.0/24'] }
    const [one, two] = ['c1', 'c2'].map((name) => attachTo(host, name, 1, nat(keys))) as [Attached, Attached]
    tellAddress(two)
    tellAddress(host)
    outside.sh('ip address add 198.51.100.1/24 dev eth0; ip route add 10.1.0.0/24 via 192.0.2.1')

    expect(seenFrom(one, ...outsideAddresses)).toEqual([ten4, ten6])
    expect(reachesOutside(one)).toEqual(yes)
    const itself = ['10.1.0.2', '[fd00:0001:0000:0000:0000:0000:0000:0002]']
    expect(addressesOf(one)).toEqual(['10.1.0.2', 'fd00:1::2'])
    expect(seenFrom(one, ...addressesOf(two))).toEqual(itself)
    expect(seenFrom(one, '10.1.0.1', 'fd00:1::1')).toEqual(itself)
    expect(seenFrom(one, '198.51.100.1')).toEqual(['10.1.0.2'])

    for (const container of [one, two]) container.call('CHECK', 'nat')
    one.delByName('nat')
    expect(seenFrom(two, ...outsideAddresses)).toEqual([ten4, ten6])
    two.delByName('nat')
    expect(rulesOf(host)).toEqual(before)
  })

  test('a family without a source of its own is masqueraded', () => {
    const { host } = hostWithSources()
    using _ = host
    const four = attachTo(host, 'c1', 1, nat({ backend, snat: '192.0.2.10' }))
    expect(seenFrom(four, ...outsideAddresses)).toEqual([ten4, own6])
    const six = attachTo(host, 'c2', 2, nat({ backend, snat: ['2001:db8::10'] }))
    expect(seenFrom(six, ...outsideAddresses)).toEqual([own4, ten6])
  })

  test('CHECK notices another source, and a rule that somebody removed', () => {
    const { host } = hostWithSources()
    using _ = host
    const container = attachTo(host, 'c1', 1, nat({ backend, snat: sources }))
    const check = (keys: object = {}) => {
      const config = { cniVersion: '1.1.0', name: 'lab1', ...nat({ backend, snat: sources, ...keys }) }
      const prevResult = container.result
      return container.call('CHECK', 'nat', { config: { ...config, prevResult }, expectFailure: 'maybe' }).json
    }
    expect(check()).toBeUndefined()
    for (const snat of [['192.0.2.11', '2001:db8::10'], '192.0.2.10', undefined])
      expect(check({ snat }), String(snat)).toMatchObject({ code: 104 })
    if (backend === 'nftables') {
      const chain = host.run(['nft', 'list', 'table', 'inet', 'ns-net']).stdout.match(/masq-lab1-\w+(?= \{)/)![0]
      host.run(['nft', 'flush', 'chain', 'inet', 'ns-net', chain])
    } else {
      const rule = savedRules(host, programs, 'nat').find((line) => line.includes('SNAT'))!
      host.sh(`iptables -t nat ${rule.replace('-A', '-D')}`)
    }
    expect(check()).toMatchObject({ code: 104, msg: expect.stringMatching(/^masquerade: rule . /) })
  })
})

describe.each(variants)('where iptables drops what is forwarded, variant %s', (variant) => {
  const iptables = (host: Host, ...args: string[]) => {
    for (const name of ['iptables', 'ip6tables']) host.run([name, ...args], { env: programs.env })
  }
  const accepting = (host: Host) => savedRules(host, programs).filter((line) => line.startsWith('-A NS-NET-FORWARD'))

  /** A host whose tables are there, as iptables makes them at the first use and keeps them. */
  function hostWithTables(): World {
    const world = hostWithUplink()
    iptables(world.host, '-P', 'FORWARD', 'ACCEPT')
    iptables(world.host, '-t', 'nat', '-P', 'POSTROUTING', 'ACCEPT')
    return world
  }

  beforeEach((context) => useVariant(programs, variant, context))

  test('containers get out and answers come back; the last DEL, with names only, takes the rules along', () => {
    const { host } = hostWithTables()
    using _ = host
    dropForwarded(host, programs)
    const before = rulesOf(host)
    const off = attachTo(host, 'c0', 1, nat({ forward: false }))
    expect(reachesOutside(off)).toEqual(no)
    off.delByName('nat')
    expect(rulesOf(host)).toEqual(before)

    const [one, two] = ['c1', 'c2'].map((name) => attachTo(host, name, 1, nat())) as [Attached, Attached]
    expect(accepting(host)).toHaveLength(2 * 2) // for the network, whatever the number of containers
    expect(reachesOutside(one)).toEqual(yes)
    for (const container of [one, two]) container.call('CHECK', 'nat')
    one.delByName('nat')
    expect(reachesOutside(two)).toEqual(yes)
    for (const _time of [1, 2]) two.delByName('nat')
    expect(rulesOf(host)).toEqual(before)
  })

  test.each([
    ['-j REJECT', 'a rule'],
    ['-j DROP', 'a rule'],
    ['-j OTHERS', 'a chain that a rule leads to'],
  ])('%s in FORWARD: %s drops', (rule) => {
    const { host } = hostWithTables()
    using _ = host
    iptables(host, '-N', 'OTHERS')
    iptables(host, '-A', 'OTHERS', '-j', 'DROP')
    iptables(host, '-A', 'FORWARD', ...rule.split(' '))
    const before = rulesOf(host)
    const container = attachTo(host, 'c1', 1, nat())
    expect(reachesOutside(container)).toEqual(yes)
    container.delByName('nat')
    expect(rulesOf(host)).toEqual(before)
  })

  test('nothing is made where nobody drops', () => {
    const { host } = hostWithTables()
    using _ = host
    iptables(host, '-N', 'OTHERS')
    iptables(host, '-A', 'OTHERS', '-m', 'comment', '--comment', 'no -j DROP', '-j', 'RETURN')
    iptables(host, '-A', 'FORWARD', '-j', 'OTHERS')
    iptables(host, '-A', 'FORWARD', '-j', 'ACCEPT')
    iptables(host, '-A', 'INPUT', '-p', 'udp', '--dport', '9', '-j', 'DROP')
    const { filter, records } = rulesOf(host)
    const container = attachTo(host, 'c1', 1, nat())
    expect(rulesOf(host)).toMatchObject({ filter, records })
    expect(reachesOutside(container)).toEqual(yes)
    container.call('CHECK', 'nat')
  })

  test("behind Docker's place for an administrator's rules", () => {
    const { host } = hostWithTables()
    using _ = host
    dropForwarded(host, programs)
    iptables(host, '-N', 'DOCKER-USER')
    iptables(host, '-N', 'DOCKER-FORWARD')
    for (const chain of ['DOCKER-USER', 'DOCKER-FORWARD']) iptables(host, '-A', 'FORWARD', '-j', chain)
    host.run(['iptables', '-A', 'DOCKER-USER', '-d', '192.0.2.0/24', '-j', 'DROP'], { env: programs.env })
    const before = rulesOf(host)
    const container = attachTo(host, 'c1', 1, nat())
    const inForward = savedRules(host, programs).filter((line) => line.startsWith('-A FORWARD'))
    const jump = '-A FORWARD -m comment --comment ns-net -j NS-NET-FORWARD'
    const wanted = ['-A FORWARD -j DOCKER-USER', jump, '-A FORWARD -j DOCKER-FORWARD']
    expect(inForward).toEqual([...wanted, ...wanted])
    expect(reachesOutside(container)).toEqual([false, true])
    container.delByName('nat')
    expect(rulesOf(host)).toEqual(before)
  })

  test.each(['open', 'same-bridge'])('nat and firewall (%s) in one list: each takes away its own', (ingressPolicy) => {
    const { host } = hostWithTables()
    using _ = host
    dropForwarded(host, programs)
    const before = rulesOf(host)
    const firewall: Plugin = { type: 'firewall', backend: 'iptables', ingressPolicy }
    for (const order of [
      ['nat', 'firewall'],
      ['firewall', 'nat'],
    ] as const) {
      const container = attachTo(host, `c-${order[0]}`, 1, nat(), firewall)
      if (ingressPolicy === 'open') expect(accepting(host)).toHaveLength(2 * (1 + 2)) // CNI-ADMIN, and two for both
      for (const plugin of order) container.call('CHECK', plugin)
      expect(reachesOutside(container)).toEqual(yes)
      container.delByName(order[0])
      // The translation is gone with nat: now outside needs a route back.
      container.call('CHECK', order[1])
      expect(pings(container, '10.1.0.1')).toEqual([true])
      expect(accepting(host).some((line) => / -s 10\.1\.0\.0\/24 .*-j ACCEPT$/.test(line))).toBe(true)
      container.delByName(order[1])
      expect(rulesOf(host)).toEqual(before)
    }
  })

  test('CHECK fails after somebody removed a rule or came to drop; GC takes what is stale', () => {
    const { host } = hostWithTables()
    using _ = host
    const before = rulesOf(host)
    const [one, two] = ['c1', 'c2'].map((name) => attachTo(host, name, 1, nat())) as [Attached, Attached]
    const check = (container: Attached) => container.call('CHECK', 'nat', { expectFailure: 'maybe' }).json
    expect(check(one)).toBeUndefined()
    dropForwarded(host, programs)
    const open = rulesOf(host)
    expect(check(one)).toMatchObject({ code: 104, msg: expect.stringContaining('is not among the users') })
    const third = attachTo(host, 'c3', 1, nat())
    expect(check(third)).toBeUndefined()
    for (const script of ['iptables -D NS-NET-FORWARD 1', 'ip6tables -F FORWARD']) {
      host.sh(script, { env: programs.env })
      expect(check(third), script).toMatchObject({ code: 104, msg: expect.stringContaining('is missing') })
      host.cni('nat', 'ADD', {
        config: { cniVersion: '1.1.0', name: 'lab1', type: 'nat', prevResult: third.result },
        ...{ containerId: 'c3', netns: third.path, ifName: 'eth0', env: programs.env },
      })
      expect(check(third)).toBeUndefined()
    }
    const collect = (...valid: string[]) => {
      const attachments = valid.map((containerID) => ({ containerID, ifname: 'eth0' }))
      const config = { cniVersion: '1.1.0', name: 'lab1', type: 'nat', 'cni.dev/valid-attachments': attachments }
      host.cni('nat', 'GC', { config, env: programs.env })
    }
    collect('c1', 'c3')
    expect(check(third)).toBeUndefined()
    collect('c1', 'c2')
    expect(rulesOf(host).filter).toEqual(open.filter)
    for (const container of [one, two]) container.delByName('nat')
    iptables(host, '-P', 'FORWARD', 'ACCEPT')
    expect(rulesOf(host)).toEqual(before)
  })

  test('an ADD that fails leaves no rule: for one family, or as somebody else has the address', () => {
    const { host } = hostWithTables()
    using _ = host
    dropForwarded(host, programs)
    const container = attachTo(host, 'c1', 1)
    const before = rulesOf(host)
    const add = (containerId: string, expectFailure = true) =>
      host.cni('nat', 'ADD', {
        config: { cniVersion: '1.1.0', name: 'lab1', type: 'nat', backend: 'nftables', prevResult: container.result },
        ...{ containerId, netns: container.path, ifName: 'eth0', env: programs.env, expectFailure },
      }).json
    const working = `exec $(command -v xtables-${variant}-multi) ip6tables-restore "$@"`
    programs.replace('ip6tables-restore', 'echo no module >&2; exit 3')
    expect(add('c1')).toMatchObject({ code: 100, msg: expect.stringContaining('exit 3: no module') })
    expect(rulesOf(host)).toEqual(before)
    programs.replace('ip6tables-restore', working)

    const [four] = addressesOf(container)
    host.sh(`nft -f - <<'EOF'
table inet ns-net {
  map sources4 { type ipv4_addr : verdict; elements = { ${four} comment "lab9 c9 eth0" : accept }; }
}
EOF`)
    const taken = rulesOf(host)
    expect(add('c1')).toMatchObject({ code: 103, msg: expect.stringContaining('belongs to "lab9 c9 eth0"') })
    expect(rulesOf(host)).toEqual(taken)
    host.run(['nft', 'delete', 'table', 'inet', 'ns-net'])
    add('c1', false)
    expect(reachesOutside(container)).toEqual(yes)
  })

  test('nat and firewall of many containers at the same time: rules once, and none after the last', () => {
    const { host } = hostWithTables()
    using _ = host
    dropForwarded(host, programs)
    host.run(['ip', 'link', 'add', 'br1', 'type', 'bridge'])
    const before = rulesOf(host)
    const config = (n: number) => ({
      ...{ cniVersion: '1.1.0', name: 'lab1', type: n % 2 ? 'nat' : 'firewall' },
      prevResult: { cniVersion: '1.1.0', interfaces: [{ name: 'br1' }], ips: [{ address: `10.1.0.${n + 2}/24` }] },
    })
    const calls = Array.from({ length: 12 }, (_each, n) => {
      const { type } = config(n)
      return `(echo '${JSON.stringify(config(n))}' | CNI_CONTAINERID=c${n} ${executables}/${type} >/run/out.${n} || cat /run/out.${n} >>/run/failed) &`
    })
    const all = (command: string) =>
      host.sh(
        `export CNI_COMMAND=${command} CNI_IFNAME=eth0 CNI_NETNS=/run/netns/none CNI_PATH=${executables}
         ${calls.join('\n')}
         wait; [ ! -s /run/failed ] || { cat /run/failed; exit 1; }`,
        { env: programs.env },
      )
    for (const _time of [1, 2, 3]) {
      all('ADD')
      expect(accepting(host)).toHaveLength(1 + 2) // CNI-ADMIN of firewall, and two for both
      all('DEL')
      expect(rulesOf(host)).toEqual(before)
    }
  })

  test('killed at any time: the DEL that follows leaves nothing', () => {
    const { host } = hostWithTables()
    using _ = host
    dropForwarded(host, programs)
    const container = attachTo(host, 'c1', 1)
    const before = rulesOf(host)
    const config = { cniVersion: '1.1.0', name: 'lab1', type: 'nat', prevResult: container.result }
    const call = (command: string, id: string, ...wrapper: string[]) =>
      host.run([...wrapper, `${executables}/nat`], {
        env: {
          ...{ ...programs.env, CNI_COMMAND: command, CNI_CONTAINERID: id, CNI_NETNS: container.path },
          ...{ CNI_IFNAME: 'eth0', CNI_PATH: executables },
        },
        input: JSON.stringify(config),
        expectFailure: 'maybe',
      })
    const del = () => {
      orphansEnd(host)
      const { status, stdout } = call('DEL', 'c1')
      expect(status, stdout).toBe(0)
    }
    const start = performance.now()
    call('ADD', 'c1')
    const longest = (performance.now() - start) / 1000
    call('DEL', 'c1')
    for (let step = 1; step <= 12; step++) {
      const deadline = ['timeout', '--foreground', '-s', 'KILL', ((longest * step) / 12).toFixed(4)]
      call('ADD', 'c1', ...deadline)
      del()
      expect(rulesOf(host), `ADD killed at ${step}/12`).toEqual(before)
      call('ADD', 'c1')
      call('DEL', 'c1', ...deadline)
      del()
      expect(rulesOf(host), `DEL killed at ${step}/12`).toEqual(before)
    }
  })
})

/** Whose caller is killed, iptables goes on, and may come later than a DEL that follows at once. */
function orphansEnd(host: Host): void {
  host.sh(`for i in $(seq 200); do
             left=
             for process in /proc/[0-9]*; do
               case "$(cat $process/comm 2>/dev/null)" in
                 nat | *tables*) [ "$(readlink $process/ns/net)" != "$(readlink /proc/self/ns/net)" ] || left=1 ;;
               esac
             done
             [ "$left" ] || exit 0
             sleep 0.02
           done
           exit 1`)
}

test('without the programs of iptables the container is translated, and told of on stderr', () => {
  const { host } = hostWithUplink()
  using _ = host
  host.sh(`iptables -P FORWARD DROP; ip6tables -P FORWARD DROP
           mkdir /run/empty; for bin in /usr/sbin /sbin /usr/local/sbin; do mount --bind /run/empty $bin; done`)
  const container = host.addContainer('c1')
  const call = { containerId: 'c1', netns: container.path, ifName: 'eth0' }
  const prevResult = { cniVersion: '1.1.0', ips: [{ address: '10.1.0.2/24' }] }
  const config = { cniVersion: '1.1.0', name: 'lab', type: 'nat', prevResult }
  const { stderr, json } = host.cni('nat', 'ADD', { config, ...call })
  expect(json.ips).toHaveLength(1)
  expect(stderr).toContain('iptables may drop what the containers send')
  expect(host.cni('nat', 'ADD', { config: { ...config, forward: false }, ...call }).stderr).toBe('')
  host.cni('nat', 'DEL', { config, ...call })
})
