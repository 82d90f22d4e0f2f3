import { existsSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { sourceSeen, tellAddress } from './echo-server.ts'
import { type Container, createHost, type Host, type Place, requireTool } from './host.ts'

/*
 * A rule of somebody else leads to a container whose ports we publish as well: a Kubernetes service. Only who comes by a
 * published port is masqueraded.
 */

beforeEach((context) => {
  for (const tool of ['socat', 'nft']) requireTool(tool, context)
})

/** Before ours, and after ours. */
const priorities = ['dstnat - 1', 'dstnat + 1']

/**
 * In the manner of kube-proxy: addresses that no host has, and a port of this host, lead to the container. Port 7000 is
 * what the container listens on, and published under the same number: no port tells the two ways apart.
 */
const services = (priority: string) => `
  table inet service {
    chain prerouting {
      type nat hook prerouting priority ${priority}
      ip daddr 10.96.0.1 tcp dport 7000 dnat ip to 10.7.0.2:7000
      ip6 daddr fd00:96::1 tcp dport 7000 dnat ip6 to [fd00:7::2]:7000
      fib daddr type local meta nfproto ipv4 tcp dport 30080 dnat ip to 10.7.0.2:7000
      fib daddr type local meta nfproto ipv6 tcp dport 30080 dnat ip6 to [fd00:7::2]:7000
    }
  }`

const gateway6 = '[fd00:0007:0000:0000:0000:0000:0000:0001]'
const client6 = '[fd00:0007:0000:0000:0000:0000:0000:0003]'
const outside6 = '[2001:0db8:0000:0000:0000:0000:0000:0002]'

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
      programs = mkdtempSync(join(tmpdir(), 'ns-net-service-'))
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

  const call = (name: string) => {
    const env: Record<string, string> = programs ? { PATH: `${programs}:/usr/sbin:/usr/bin:/sbin:/bin` } : {}
    return { containerId: name, netns: `/run/netns/${name}`, ifName: 'eth0', env }
  }

  /** Connected, with these keys of portmap and port 7000 of the host when it has any. */
  function connect(name: string, type: string, options?: object): Container {
    const container = host.addContainer(name)
    const ipam = { type: 'host-local', ranges: [[{ subnet: '10.7.0.0/24' }], [{ subnet: 'fd00:7::/64' }]] }
    const isBridge = type === 'bridge' && { bridge: 'br0', isDefaultGateway: true, hairpinMode: true }
    const routes = type === 'bridge' ? {} : { routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }] }
    const network = { cniVersion: '1.1.0', name: 'lab' }
    const link = { ...network, type, ...isBridge, ipam: { ...ipam, ...routes } }
    const prevResult = host.cni(type, 'ADD', { config: link, ...call(name) }).json
    if (!options) return container
    const runtimeConfig = { portMappings: [{ hostPort: 7000, containerPort: 7000 }] }
    const ports = { ...network, type: 'portmap', backend, runtimeConfig, prevResult, ...options }
    host.cni('portmap', 'ADD', { config: ports, ...call(name) })
    host.cni('portmap', 'CHECK', { config: ports, ...call(name) })
    return container
  }

  const serve = (priority: string) => host.run(['nft', '-f', '-'], { input: services(priority) })

  const nodePort = (client: Place, address: string) =>
    client.run(['socat', '-T3', '-u', `TCP:${address}:30080,connect-timeout=3`, '-']).stdout.trim()

  describe.each(['bridge', 'ptp'])('%s', (type) => {
    test.for(priorities)(
      'a neighbour keeps its address by a service at %s, and not by the port',
      (priority, context) => {
        // The answer to a neighbour's own address passes the host only with br_netfilter, as Kubernetes has it.
        if (type === 'bridge' && !existsSync('/proc/sys/net/bridge'))
          return context.skip('no br_netfilter in this kernel')
        host.addUplink()
        const one = connect('c1', type, {})
        const two = connect('c2', type)
        if (type === 'bridge')
          host.sh('sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1')
        tellAddress(one)
        serve(priority)
        expect(sourceSeen(two, '10.96.0.1')).toBe('10.7.0.3')
        expect(sourceSeen(two, 'fd00:96::1')).toBe(client6)
        expect(nodePort(two, '192.0.2.1')).toBe('10.7.0.3')
        expect(nodePort(two, '[2001:db8::1]')).toBe(client6)
        expect(sourceSeen(two, '192.0.2.1')).not.toBe('10.7.0.3')
        expect(sourceSeen(two, '2001:db8::1')).not.toBe(client6)
        for (const client of type === 'bridge' ? [one, two] : []) {
          expect(sourceSeen(client, '10.7.0.1')).toBe('10.7.0.1')
          expect(sourceSeen(client, 'fd00:7::1')).toBe(gateway6)
        }
      },
    )
  })

  test.each(priorities)('masqAll: who comes from outside by a service at %s is not masqueraded', (priority) => {
    const outside = host.addUplink()
    outside.sh('ip route add 10.96.0.1 via 192.0.2.1; ip route add fd00:96::1 via 2001:db8::1')
    const one = connect('c1', 'bridge', { masqAll: true })
    tellAddress(one)
    serve(priority)
    expect(sourceSeen(outside, '10.96.0.1')).toBe('192.0.2.2')
    expect(sourceSeen(outside, 'fd00:96::1')).toBe(outside6)
    expect(nodePort(outside, '192.0.2.1')).toBe('192.0.2.2')
    expect(sourceSeen(outside, '192.0.2.1')).toBe('10.7.0.1')
    expect(sourceSeen(outside, '2001:db8::1')).toBe(gateway6)
  })
})
