import { mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Container, createHost, type Host, type Place, requireTool } from './host.ts'

const network = 'lab'
const inner = 7000 // where the container's servers listen

interface Mapping {
  readonly hostPort: number
  readonly containerPort?: number
  readonly protocol?: string
  readonly hostIP?: string
}

interface Attached extends Container {
  // biome-ignore lint/suspicious/noExplicitAny: a CNI result
  readonly result: any
}

/** Servers for TCP and UDP, IPv4 and IPv6, that tell each client the address they see it under. */
function serve(place: Place): void {
  const answer = 'echo $SOCAT_PEERADDR'
  for (const version of [4, 6]) {
    const options = `${inner},fork,reuseaddr${version === 6 ? ',ipv6only=1' : ''}`
    place.start(['socat', `TCP${version}-LISTEN:${options}`, `SYSTEM:${answer}`])
    place.start(['socat', `UDP${version}-RECVFROM:${options}`, `SYSTEM:read datagram; ${answer}`])
  }
  place.sh(`for i in $(seq 100); do [ $(ss -Hlntu | grep -c :${inner}) = 4 ] && exit; sleep 0.05; done; exit 1`)
}

const target = (address: string) => (address.includes(':') ? `[${address}]` : address)

/** The address that the server behind the port sees this client under; empty when nobody answers. */
function seen(client: Place, address: string, port: number, protocol = 'tcp'): string {
  const to = `${target(address)}:${port}`
  if (protocol === 'tcp') return hear(client, `TCP:${to},connect-timeout=2`)
  return tell(client, `UDP:${to}`)
}

/** What a server says to who only listens; a reset for unread data would take the answer along. */
const hear = (client: Place, connect: string) =>
  client.run(['socat', '-T2', '-u', connect, '-'], { expectFailure: 'maybe' }).stdout.trim()

/** What comes back for a datagram; its client ends with the answer, or after 2 seconds. */
function tell(client: Place, connect: string): string {
  const command = ['socat', '-t0.05', '-T2', connect, 'SYSTEM:echo hello; read answer; echo seen $answer >&2']
  return client.run(command, { expectFailure: 'maybe' }).stderr.match(/^seen (.*)$/m)?.[1] ?? ''
}

const gateway6 = '[fd00:0007:0000:0000:0000:0000:0000:0001]'
const outside6 = '[2001:0db8:0000:0000:0000:0000:0000:0002]'

beforeEach((context) => {
  for (const tool of ['socat', 'nft', 'conntrack']) requireTool(tool, context)
})

const backends = [
  ['nftables', undefined],
  ['iptables', 'nft'],
  ['iptables', 'legacy'],
] as const

describe.each(backends)('%s %s', (backend, variant) => {
  let programs: string | undefined
  let host: Host

  beforeEach((context) => {
    if (variant) {
      const program = requireTool(`xtables-${variant}-multi`, context)
      programs = mkdtempSync(join(tmpdir(), 'ns-net-portmap-'))
      for (const name of ['iptables', 'ip6tables'])
        for (const suffix of ['', '-save', '-restore']) symlinkSync(program, join(programs, name + suffix))
    }
    host = createHost()
  })

  afterEach(() => {
    host[Symbol.dispose]()
    if (programs) rmSync(programs, { recursive: true })
    programs = undefined
  })

  const env = (): Record<string, string> => (programs ? { PATH: `${programs}:/usr/sbin:/usr/bin:/sbin:/bin` } : {})

  const call = (name: string) => ({ containerId: name, netns: `/run/netns/${name}`, ifName: 'eth0', env: env() })

  const portmapConfig = (mappings: readonly Mapping[] | undefined, more: object = {}) => ({
    cniVersion: '1.1.0',
    name: network,
    type: 'portmap',
    backend,
    ...(mappings && {
      runtimeConfig: { portMappings: mappings.map((mapping) => ({ containerPort: inner, ...mapping })) },
    }),
    ...more,
  })

  function connect(name: string): Attached {
    const container = host.addContainer(name)
    const ranges = [[{ subnet: '10.7.0.0/24' }], [{ subnet: 'fd00:7::/64' }]]
    const config = {
      cniVersion: '1.1.0',
      name: network,
      type: 'bridge',
      bridge: 'br0',
      hairpinMode: true, // the container itself needs it where br_netfilter is loaded
      isDefaultGateway: true,
      ipMasq: true,
      ipMasqBackend: backend,
      ipam: { type: 'host-local', ranges },
    }
    return { ...container, result: host.cni('bridge', 'ADD', { config, ...call(name) }).json }
  }

  function map(container: Attached, mappings: readonly Mapping[], more: object = {}) {
    const config = portmapConfig(mappings, { prevResult: container.result, ...more })
    const added = host.cni('portmap', 'ADD', { config, ...call(container.name) })
    expect(added.stderr).toBe('')
    return added
  }

  /** Everything; iptables-nft leaves its empty chains in the ruleset of nft. */
  function state() {
    const { nftables, ...rest } = host.snapshot()
    if (!programs) return { ...rest, nftables }
    const saved = ['iptables-save', 'ip6tables-save'].flatMap((name) =>
      host.run([join(programs!, name), '-t', 'nat']).stdout.split('\n'),
    )
    const rules = saved.filter((line) => line.startsWith('-A') || line.startsWith(':NS-NET'))
    return { ...rest, iptables: rules, ip6tables: [] }
  }

  const unmap = (name: string) => host.cni('portmap', 'DEL', { config: portmapConfig(undefined), ...call(name) })

  test('from outside, from the host, from neighbours and from the container itself; gone after DEL', () => {
    const outside = host.addUplink()
    const [one, two] = [connect('c1'), connect('c2')] as const
    serve(one)
    const before = state()
    expect(map(one, [{ hostPort: 8080 }, { hostPort: 8053, protocol: 'UDP' }]).json.ips).toEqual(one.result.ips)

    for (const [port, protocol] of [
      [8080, 'tcp'],
      [8053, 'udp'],
    ] as const) {
      const by = (client: Place, address: string) => seen(client, address, port, protocol)
      expect(by(outside, '192.0.2.1'), protocol).toBe('192.0.2.2')
      expect(by(outside, '2001:db8::1'), protocol).toBe(outside6)
      expect(by(host, '127.0.0.1'), protocol).toBe('10.7.0.1')
      expect(by(host, '192.0.2.1'), protocol).toBe('192.0.2.1')
      expect(by(host, '10.7.0.1'), protocol).toBe('10.7.0.1')
      expect(by(host, '2001:db8::1'), protocol).not.toBe('')
      for (const client of [one, two]) {
        expect(by(client, '192.0.2.1'), protocol).toBe('10.7.0.1')
        expect(by(client, '10.7.0.1'), protocol).toBe('10.7.0.1')
        expect(by(client, 'fd00:7::1'), protocol).toBe(gateway6)
      }
      // Not by the port, so not changed.
      expect(seen(two, '10.7.0.2', inner, protocol)).toBe('10.7.0.3')
    }

    unmap('c1')
    expect(state()).toEqual(before)
    expect(seen(outside, '192.0.2.1', 8080)).toBe('')
    expect(seen(outside, '192.0.2.1', 8053, 'udp')).toBe('')
    unmap('c1')
  })

  test('hostIP: only that address; of two containers each has its own', () => {
    const outside = host.addUplink()
    host.sh('ip address add 192.0.2.11/24 dev eth0; ip address add 2001:db8::11/64 dev eth0 nodad')
    const [one, two] = [connect('c1'), connect('c2')] as const
    for (const container of [one, two]) serve(container)
    map(one, [
      { hostPort: 8080, hostIP: '192.0.2.1' },
      { hostPort: 8080, hostIP: '2001:db8::1' },
      { hostPort: 8081, hostIP: '127.0.0.1' },
      { hostPort: 8082, hostIP: '0.0.0.0' },
    ])
    map(two, [{ hostPort: 8080, hostIP: '192.0.2.11' }], { masqAll: true })
    expect(seen(outside, '192.0.2.1', 8080)).toBe('192.0.2.2')
    expect(seen(outside, '2001:db8::1', 8080)).toBe(outside6)
    expect(seen(outside, '192.0.2.11', 8080)).toBe('10.7.0.1') // masqAll: the other container
    expect(seen(outside, '2001:db8::11', 8080)).toBe('')
    expect(seen(host, '127.0.0.1', 8080)).toBe('')
    expect(seen(host, '127.0.0.1', 8081)).toBe('10.7.0.1')
    expect(seen(outside, '192.0.2.1', 8081)).toBe('')
    expect(seen(outside, '192.0.2.11', 8082)).toBe('192.0.2.2')
    expect(seen(outside, '2001:db8::1', 8082)).toBe('')
    unmap('c1')
    expect(seen(outside, '192.0.2.11', 8080)).toBe('10.7.0.1')
  })

  test('what is only routed through the host is left alone', () => {
    const outside = host.addUplink()
    const [one, two] = [connect('c1'), connect('c2')] as const
    serve(outside)
    serve(one)
    map(one, [{ hostPort: inner }, { hostPort: inner, protocol: 'udp' }])
    expect(seen(two, '192.0.2.2', inner)).toBe('192.0.2.1') // the server outside, by ipMasq
    expect(seen(two, '192.0.2.2', inner, 'udp')).toBe('192.0.2.1')
    expect(seen(two, '192.0.2.1', inner)).toBe('10.7.0.1') // the container
  })

  test('snat false: nothing is masqueraded, 127.0.0.1 does not reach the container', () => {
    const outside = host.addUplink()
    const one = connect('c1')
    serve(one)
    map(one, [{ hostPort: 8080 }], { snat: false, masqAll: true })
    expect(seen(outside, '192.0.2.1', 8080)).toBe('192.0.2.2')
    expect(seen(host, '127.0.0.1', 8080)).toBe('')
    expect(host.run(['sysctl', '-n', 'net.ipv4.conf.br0.route_localnet']).stdout.trim()).toBe('0')
  })

  test('conditions decide who gets through; the others reach the host', () => {
    const outside = host.addUplink()
    outside.sh('ip address add 192.0.2.3/24 dev eth0')
    const one = connect('c1')
    serve(one)
    serve(host)
    const conditionsV4 =
      backend === 'iptables' ? ['!', '-s', '192.0.2.3/32'] : ['ip saddr != 192.0.2.3', 'iifname', 'eth0']
    map(one, [{ hostPort: inner, containerPort: inner }], { conditionsV4 })
    const from = (source: string) => hear(outside, `TCP:192.0.2.1:${inner},bind=${source}`)
    const heard = () =>
      host.run(['conntrack', '-L', '-p', 'tcp', '--reply-src', '10.7.0.2']).stdout.match(/src=192.0.2.\d/g)
    expect(from('192.0.2.2')).toBe('192.0.2.2')
    expect(from('192.0.2.3')).toBe('192.0.2.3')
    expect(new Set(heard())).toEqual(new Set(['src=192.0.2.2']))
    host.cni('portmap', 'CHECK', {
      config: portmapConfig([{ hostPort: inner, containerPort: inner }], { conditionsV4, prevResult: one.result }),
      ...call('c1'),
    })
    unmap('c1')
    expect(host.run(['nft', 'list', 'ruleset']).stdout).not.toContain('when-')
  })

  test('a UDP client that goes on sending from one port follows ADD and DEL', () => {
    const outside = host.addUplink()
    const [one, two] = [connect('c1'), connect('c2')] as const
    for (const container of [one, two]) serve(container)
    const answer = () => tell(outside, 'UDP:192.0.2.1:8053,bind=192.0.2.2:5353')
    const flows = () =>
      host.run(['conntrack', '-L', '-p', 'udp', '--orig-port-dst', '8053']).stdout.match(/src=10\.7\.0\.\d/g)
    host.start(['socat', 'UDP4-RECVFROM:8053,fork', 'EXEC:true']) // so that the first flow is accepted
    expect(answer()).toBe('')
    map(one, [{ hostPort: 8053, protocol: 'udp' }])
    expect(answer()).toBe('192.0.2.2')
    expect(flows()).toEqual(['src=10.7.0.2'])
    unmap('c1')
    expect(flows()).toBeNull()
    map(two, [{ hostPort: 8053, protocol: 'udp' }])
    expect(answer()).toBe('192.0.2.2')
    expect(flows()).toEqual(['src=10.7.0.3'])
  })

  test('a taken port is refused, naming the holder, and the refused ADD leaves nothing', () => {
    const [one, two] = [connect('c1'), connect('c2')] as const
    map(one, [{ hostPort: 8080 }, { hostPort: 8081, hostIP: '127.0.0.1' }])
    const before = state()
    const refused = (mappings: readonly Mapping[]) => {
      const config = portmapConfig(mappings, { prevResult: two.result })
      return host.cni('portmap', 'ADD', { config, ...call('c2'), expectFailure: true }).json
    }
    for (const mapping of [
      { hostPort: 8080 },
      { hostPort: 8080, hostIP: '127.0.0.1' },
      { hostPort: 8080, hostIP: '::' },
      { hostPort: 8081 },
      { hostPort: 8081, hostIP: '0.0.0.0' },
      { hostPort: 8081, hostIP: '127.0.0.1' },
    ]) {
      const error = refused([{ hostPort: 9000 }, mapping])
      expect(error, JSON.stringify(mapping)).toMatchObject({ code: 103 })
      expect(error.msg).toContain('belongs to "lab c1 eth0"')
      expect(state()).toEqual(before)
    }
    map(two, [
      { hostPort: 8080, protocol: 'udp' },
      { hostPort: 8081, hostIP: '192.0.2.1' },
      { hostPort: 8081, hostIP: '::' },
    ])
    unmap('c2')
    expect(state()).toEqual(before)
  })

  test('DEL and GC: by owner, others untouched, nothing left in the end', () => {
    const containers = ['c1', 'c2', 'c3', 'c4'].map(connect)
    const before = state()
    for (const [i, container] of containers.entries())
      map(container, [{ hostPort: 8000 + i }, { hostPort: 8000 + i, protocol: 'sctp' }])
    const foreign = {
      ...portmapConfig([{ hostPort: 9000 }]),
      name: 'lab-2',
      prevResult: { ips: [{ address: '10.9.0.2/24' }] },
    }
    host.cni('portmap', 'ADD', { config: foreign, ...call('c1') })
    const check = (i: number, more: object = {}) => {
      const mappings = [{ hostPort: 8000 + i }, { hostPort: 8000 + i, protocol: 'sctp' }]
      const config = portmapConfig(mappings, { prevResult: containers[i]!.result })
      return host.cni('portmap', 'CHECK', { config, ...call(containers[i]!.name), ...more })
    }
    unmap('c1')
    for (const i of [1, 2, 3]) check(i)
    host.sh('echo 0 >/proc/sys/net/ipv4/conf/br0/route_localnet')
    expect(check(1, { expectFailure: true }).json.msg).toBe(
      'CHECK: sysctl net.ipv4.conf.br0.route_localnet is 0, expected 1',
    )
    host.sh('echo 1 >/proc/sys/net/ipv4/conf/br0/route_localnet')
    expect(check(0, { expectFailure: true }).json).toMatchObject({ code: 104 })
    const valid = [{ containerID: 'c3', ifname: 'eth0' }]
    const gc = (more: object) => host.cni('portmap', 'GC', { config: portmapConfig(undefined, more), env: env() })
    gc({ 'cni.dev/valid-attachments': valid })
    check(2)
    for (const i of [1, 3]) check(i, { expectFailure: true })
    gc({ 'cni.dev/valid-attachments': [] })
    gc({ 'cni.dev/valid-attachments': [], name: 'lab-2' })
    expect(state()).toEqual(before)
  })

  test('ADD again: the same changes nothing, another list of ports replaces the first', () => {
    const one = connect('c1')
    const before = state()
    map(one, [{ hostPort: 8080 }, { hostPort: 8081 }])
    const first = state()
    map(one, [{ hostPort: 8080 }, { hostPort: 8081 }])
    expect(state()).toEqual(first)
    map(one, [{ hostPort: 8081, containerPort: 81 }], { masqAll: true })
    const config = portmapConfig([{ hostPort: 8081, containerPort: 81 }], { masqAll: true, prevResult: one.result })
    host.cni('portmap', 'CHECK', { config, ...call('c1') })
    map(one, [{ hostPort: 8080 }, { hostPort: 8081 }])
    unmap('c1')
    expect(state()).toEqual(before)
  })
})
