import { join } from 'node:path'
import { expect, test } from 'vitest'
import { createHost, executables, requireTool } from './host.ts'

const call = { containerId: 'c1', netns: '/run/netns/c1', ifName: 'eth0' }
const config = { cniVersion: '1.1.0', name: 'lab', type: 'portmap' }
const portMappings = [{ HostPort: 8080, ContainerPort: 80, Protocol: 'TCP', HostIP: '' }]
const prevResult = { ips: [{ address: '10.7.0.2/24' }] }

test('must be chained', () => {
  using host = createHost()
  const { json } = host.cni('portmap', 'ADD', { config, ...call, expectFailure: true })
  expect(json).toMatchObject({ code: 7, msg: 'must be called as chained plugin' })
})

test('without mappings ADD passes prevResult on and opens no socket', (context) => {
  const strace = requireTool('strace', context)
  using host = createHost()
  const env = { ...cniEnvironment('ADD'), PATH: '/nonexistent' }
  const input = JSON.stringify({ ...config, prevResult: { cniVersion: '1.1.0', ...prevResult } })
  const command = [strace, '-f', '-e', 'trace=socket,execve', join(executables, 'portmap')]
  const { stdout, stderr } = host.run(command, { env, input })
  expect(JSON.parse(stdout)).toMatchObject(prevResult)
  expect(stderr.match(/execve\(/g)).toHaveLength(1)
  expect(stderr).not.toContain('socket(')
})

test('DEL finds what an ADD made by another backend, without mappings and without prevResult', () => {
  using host = createHost()
  const before = host.snapshot().files
  const withPorts = { ...config, prevResult, runtimeConfig: { portMappings } }
  for (const [added, deleted] of [
    ['iptables', 'nftables'],
    ['iptables', undefined],
    ['nftables', undefined],
    [undefined, 'nftables'],
  ]) {
    host.cni('portmap', 'ADD', { config: { ...withPorts, backend: added }, ...call })
    expect(host.run(['nft', 'list', 'ruleset']).stdout).toContain('10.7.0.2')
    host.cni('portmap', 'DEL', { config: { ...config, backend: deleted }, ...call, netns: undefined })
    expect(host.run(['nft', 'list', 'ruleset']).stdout).not.toContain('10.7.0.2')
    expect(host.snapshot().files).toEqual(before)
  }
})

test('the next ADD puts back what somebody deleted from the shared chains, and touches them only then', () => {
  using host = createHost()
  const add = (n: number) => {
    const container = { containerId: `c${n}`, netns: `/run/netns/c${n}`, ifName: 'eth0' }
    const mappings = [{ ...portMappings[0]!, HostPort: 8000 + n }]
    const result = { ips: [{ address: `10.7.0.${n}/24` }] }
    host.cni('portmap', 'ADD', {
      config: { ...config, backend: 'nftables', prevResult: result, runtimeConfig: { portMappings: mappings } },
      ...container,
    })
  }
  const chains = ['ports', 'prerouting', 'output', 'hairpin']
  const rules = () => chains.map((chain) => host.run(['nft', '-a', 'list', 'chain', 'inet', 'ns-net', chain]).stdout)
  const withoutHandles = (texts: string[]) => texts.map((text) => text.replace(/ # handle \d+/g, ''))
  add(2)
  const whole = rules()
  add(3)
  expect(rules()).toEqual(whole)
  const changes = [
    ...chains.map((chain) => `flush chain inet ns-net ${chain}`),
    'insert rule inet ns-net ports counter',
  ]
  for (const [n, change] of changes.entries()) {
    host.run(['nft', change])
    expect(withoutHandles(rules())).not.toEqual(withoutHandles(whole))
    add(4 + n)
    expect(withoutHandles(rules())).toEqual(withoutHandles(whole))
  }
})

test('iptables: a family that cannot be served leaves nothing of the other, and a lock in time is to try again', () => {
  using host = createHost()
  const programs = '/run/programs'
  host.sh(`mkdir ${programs}
           for name in iptables iptables-save iptables-restore ip6tables ip6tables-save; do
             ln -s $(command -v $name) ${programs}/$name
           done`)
  const replace = (name: string, script: string) =>
    host.sh(
      `rm -f ${programs}/${name}; printf '#!/bin/sh\n%s\n' '${script}' >${programs}/${name}; chmod +x ${programs}/${name}`,
    )
  const env = { PATH: `${programs}:/usr/bin:/bin` }
  const dual = { ips: [{ address: '10.7.0.2/24' }, { address: 'fd00:7::2/64' }] }
  const added = { ...config, backend: 'iptables', prevResult: dual, runtimeConfig: { portMappings } }
  const before = host.snapshot().files
  const state = () =>
    host
      .run(['iptables-save'])
      .stdout.split('\n')
      .filter((line) => /NS-NET|^-A/.test(line))

  replace('ip6tables-restore', 'echo no such table >&2; exit 3')
  expect(host.cni('portmap', 'ADD', { config: added, ...call, env, expectFailure: true }).json.msg).toContain(
    'ip6tables-restore --noflush -w 5: exit 3: no such table',
  )
  expect(state()).toEqual([])
  expect(host.snapshot().files).toEqual(before)

  replace('ip6tables-restore', 'echo "Another app is currently holding the xtables lock" >&2; exit 4')
  expect(host.cni('portmap', 'ADD', { config: added, ...call, env, expectFailure: true }).json.code).toBe(11)
  expect(state()).toEqual([])
  expect(host.snapshot().files).toEqual(before)
})

test('iptables: ADD and DEL after a flush, and CHECK that names the rule', () => {
  using host = createHost()
  const added = { ...config, backend: 'iptables', prevResult, runtimeConfig: { portMappings } }
  const run = (command: string, more: object = {}) => host.cni('portmap', command, { config: added, ...call, ...more })
  run('ADD')
  run('CHECK')
  const complete = () =>
    host
      .run(['iptables-save', '-t', 'nat'])
      .stdout.split('\n')
      .filter((line) => line.startsWith('-A'))
      .sort()
  const rules = complete()
  for (const [flush, missing] of [
    ['iptables -t nat -F PREROUTING', 'nat rule "-A PREROUTING -m addrtype --dst-type LOCAL'],
    ['iptables -t nat -F NS-NET-PORTS', 'nat rule "-A NS-NET-PORTS -p tcp -m comment --comment "lab c1 eth0"'],
    ['iptables -t nat -F POSTROUTING', 'nat rule "-A POSTROUTING -m mark --mark 0x2000/0x2000'],
    ['iptables -t nat -F; iptables -t nat -X', 'nat rule "-A PREROUTING'],
  ] as const) {
    host.sh(flush)
    expect(run('CHECK', { expectFailure: true }).json).toMatchObject({
      code: 104,
      msg: expect.stringContaining(missing),
    })
    run('ADD')
    expect(complete()).toEqual(rules)
  }
  host.sh('iptables -t nat -F OUTPUT; iptables -t nat -F PREROUTING')
  run('DEL')
  expect(complete()).toEqual([])
  expect(host.run(['iptables-save', '-t', 'nat']).stdout).not.toContain('NS-NET')
})

test('STATUS is code 50 where nothing may be translated', (context) => {
  const setpriv = requireTool('setpriv', context)
  using host = createHost()
  host.cni('portmap', 'STATUS', { config })
  for (const backend of ['auto', 'nftables', 'iptables']) {
    const without = [setpriv, '--bounding-set=-net_admin', '--inh-caps=-net_admin', join(executables, 'portmap')]
    const input = JSON.stringify({ ...config, backend })
    const { stdout } = host.run(without, { env: cniEnvironment('STATUS'), input, expectFailure: true })
    expect(JSON.parse(stdout), backend).toMatchObject({ code: 50 })
  }
})

test('UDP flows that are only masqueraded stay as they are', (context) => {
  requireTool('conntrack', context)
  using host = createHost()
  // To port 53: one to this host, one through it with a new source, one to another port.
  host.sh(`conntrack -I -p udp -t 300 -s 192.0.2.2 -d 192.0.2.1 --sport 5000 --dport 53
           conntrack -I -p udp -t 300 -s 10.7.0.9 -d 192.0.2.2 --sport 5001 --dport 53 --src-nat 192.0.2.1
           conntrack -I -p udp -t 300 -s 192.0.2.2 -d 192.0.2.1 --sport 5002 --dport 54
           conntrack -I -p udp -t 300 -s 2001:db8::2 -d 2001:db8::1 --sport 5003 --dport 53`)
  const mapping = { hostPort: 53, containerPort: 53, protocol: 'udp' }
  const dual = { ips: [{ address: '10.7.0.2/24' }, { address: 'fd00:7::2/64' }] }
  const added = { ...config, prevResult: dual, runtimeConfig: { portMappings: [mapping] } }
  expect(host.cni('portmap', 'ADD', { config: added, ...call }).stderr).toBe('')
  const flows = host.run(['sh', '-c', 'conntrack -L -f ipv4; conntrack -L -f ipv6']).stdout
  expect([...flows.matchAll(/sport=(500\d)/g)].map(([, port]) => port).sort()).toEqual(['5001', '5002'])
})

function cniEnvironment(command: string): Record<string, string> {
  return {
    CNI_COMMAND: command,
    CNI_CONTAINERID: 'c1',
    CNI_NETNS: '/run/netns/c1',
    CNI_IFNAME: 'eth0',
    CNI_PATH: executables,
  }
}
