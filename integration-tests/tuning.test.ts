import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { type Container, createHost, type Host, referencePlugins, requireTool } from './host.ts'

const address = '02:00:00:00:00:09'
const backup = '/run/cni/tuning/c1_eth0.json'

/** A host with a container whose eth0 some plugin has made. */
function prepare(): { host: Host; c1: Container } {
  const host = createHost()
  const c1 = host.addContainer('c1')
  host.sh(`ip link add v1 type veth peer name eth0 netns c1
           ip link set v1 up
           ip -n c1 link set eth0 up`)
  return { host, c1 }
}

const config = (keys: object, { cniVersion = '1.1.0', network = 'lab' } = {}) => ({
  cniVersion,
  name: network,
  type: 'tuning',
  ...keys,
  prevResult: {
    cniVersion,
    interfaces: [{ name: 'v1' }, { name: 'eth0', sandbox: '/run/netns/c1', mac: '02:00:00:00:00:ff', mtu: 1500 }],
    ips: [{ address: '10.7.0.2/24', interface: 1 }],
  },
})

function call(host: Host, command: string, keys: object, options: object = {}) {
  const attachment = { containerId: 'c1', netns: '/run/netns/c1', ifName: 'eth0' }
  return host.cni('tuning', command, { ...attachment, config: config(keys), ...options })
}

/** The container's link as ip shows it. */
const link = (c1: Container) => c1.json(['ip', '-j', '-d', 'link', 'show', 'eth0'])[0]

const sysctl = (c1: Container, name: string) => c1.run(['sysctl', '-n', name]).stdout.trim()

const everything = {
  sysctl: {
    'net.core.somaxconn': '500',
    'net/ipv4/conf/IFNAME/arp_filter': '1',
    'net.ipv4.ip_local_port_range': '20000 30000',
  },
  mac: address,
  promisc: true,
  mtu: 1400,
  allmulti: true,
  txQLen: 77,
}

test('ADD sets everything, CHECK verifies each of them, DEL puts the link back', () => {
  const { host, c1 } = prepare()
  using _ = host
  const before = link(c1)
  const { json } = call(host, 'ADD', everything)
  expect(json.interfaces).toEqual([{ name: 'v1' }, { name: 'eth0', sandbox: '/run/netns/c1', mac: address, mtu: 1400 }])
  expect(json.ips).toEqual([{ address: '10.7.0.2/24', interface: 1 }])
  expect(link(c1)).toMatchObject({ address, mtu: 1400, txqlen: 77, promiscuity: 1 })
  expect(link(c1).flags).toEqual(expect.arrayContaining(['PROMISC', 'ALLMULTI']))
  expect(sysctl(c1, 'net.core.somaxconn')).toBe('500')
  expect(sysctl(c1, 'net.ipv4.conf.eth0.arp_filter')).toBe('1')
  expect(sysctl(c1, 'net.ipv4.ip_local_port_range')).toBe('20000\t30000')

  const damage = [
    ['ip link set eth0 mtu 1401', 'ip link set eth0 mtu 1400', 'mtu of "eth0" is 1401, expected 1400'],
    ['ip link set eth0 address 02:00:00:00:00:01', `ip link set eth0 address ${address}`, 'mac of "eth0" is 02:'],
    ['ip link set eth0 promisc off', 'ip link set eth0 promisc on', 'promiscuous of "eth0" is false, expected true'],
    ['ip link set eth0 allmulticast off', 'ip link set eth0 allmulticast on', 'allMulticast of "eth0" is false'],
    ['ip link set eth0 txqueuelen 78', 'ip link set eth0 txqueuelen 77', 'txQueueLength of "eth0" is 78, expected 77'],
    [
      'sysctl -q net.core.somaxconn=501',
      'sysctl -q net.core.somaxconn=500',
      'sysctl net.core.somaxconn is 501, expected 500',
    ],
  ]
  call(host, 'CHECK', everything)
  for (const [break_, repair, message] of damage) {
    c1.sh(break_!)
    const failed = call(host, 'CHECK', everything, { expectFailure: true })
    expect(failed.json).toMatchObject({ code: 104, msg: expect.stringContaining(message!) })
    c1.sh(repair!)
  }
  call(host, 'CHECK', everything)

  for (const _time of [1, 2]) call(host, 'DEL', everything)
  expect(link(c1)).toEqual(before)
  expect(readdirSync(host.file('/run/cni/tuning'))).toEqual([])
})

test('nothing asked for, nothing done', () => {
  const { host, c1 } = prepare()
  using _ = host
  const before = [link(c1), host.snapshot()]
  const { json } = call(host, 'ADD', { capabilities: { mac: true } })
  expect(json.interfaces[1]).toEqual({ name: 'eth0', sandbox: '/run/netns/c1', mac: '02:00:00:00:00:ff', mtu: 1500 })
  for (const command of ['CHECK', 'DEL']) call(host, command, {})
  expect([link(c1), host.snapshot()]).toEqual(before)
  expect(existsSync(host.file('/run/cni'))).toBe(false)
})

test('what podman sends: --mac-address by the capability', () => {
  const { host, c1 } = prepare()
  using _ = host
  const conf = { capabilities: { mac: true }, runtimeConfig: { mac: address } }
  const args = 'IgnoreUnknown=1;K8S_POD_NAME=web'
  const old = config(conf, { cniVersion: '0.4.0' })
  expect(call(host, 'ADD', {}, { config: old, args }).json.interfaces[1]).toEqual({
    name: 'eth0',
    sandbox: '/run/netns/c1',
    mac: address,
  })
  expect(link(c1).address).toBe(address)
})

test('DEL without prevResult, and without the namespace, leaves no file', () => {
  const { host, c1 } = prepare()
  using _ = host
  const { address: before } = link(c1)
  const bare = { cniVersion: '1.1.0', name: 'lab', type: 'tuning' }
  call(host, 'ADD', { mac: address })
  call(host, 'DEL', {}, { config: bare })
  expect(link(c1).address).toBe(before)

  for (const netns of ['/run/netns/gone', undefined]) {
    call(host, 'ADD', { mac: address })
    call(host, 'DEL', {}, { config: bare, netns })
    expect(existsSync(host.file(backup))).toBe(false)
  }
  call(host, 'ADD', { mac: address })
  host.run(['ip', 'link', 'delete', 'v1'])
  call(host, 'DEL', {}, { config: bare })
  expect(existsSync(host.file(backup))).toBe(false)
})

test('GC deletes the stale backups of this network', () => {
  const { host } = prepare()
  using _ = host
  call(host, 'ADD', { mtu: 1400 })
  const collect = (network: string, valid: object[]) =>
    host.cni('tuning', 'GC', {
      config: { cniVersion: '1.1.0', name: network, type: 'tuning', 'cni.dev/valid-attachments': valid },
    })
  collect('lab', [{ containerID: 'c1', ifname: 'eth0' }])
  collect('other', [])
  expect(existsSync(host.file(backup))).toBe(true)
  collect('lab', [])
  expect(existsSync(host.file(backup))).toBe(false)
})

test('the allow-list of the administrator', () => {
  const { host, c1 } = prepare()
  using _ = host
  mkdirSync(host.file('/etc/cni/tuning'), { recursive: true })
  writeFileSync(host.file('/etc/cni/tuning/allowlist.conf'), '^net.core.somaxconn$\n')
  call(host, 'ADD', { sysctl: { 'net.core.somaxconn': '500' } })
  const before = sysctl(c1, 'net.ipv4.conf.eth0.arp_filter')
  const refused = { sysctl: { 'net.core.somaxconn': '600', 'net.ipv4.conf.eth0.arp_filter': '1' }, mtu: 1400 }
  expect(call(host, 'ADD', refused, { expectFailure: true }).json).toMatchObject({
    code: 7,
    msg: 'sysctl "net.ipv4.conf.eth0.arp_filter" is not allowed on this host',
  })
  expect(sysctl(c1, 'net.core.somaxconn')).toBe('500')
  expect(sysctl(c1, 'net.ipv4.conf.eth0.arp_filter')).toBe(before)
  expect(link(c1).mtu).toBe(1500)
  expect(call(host, 'STATUS', refused, { expectFailure: true }).json.code).toBe(50)
})

test('a failed ADD leaves nothing: a sysctl that the kernel does not have, an MTU that it refuses', () => {
  const { host, c1 } = prepare()
  using _ = host
  const before = [link(c1), sysctl(c1, 'net.core.somaxconn')]
  const missing = { ...everything, sysctl: { 'net.core.somaxconn': '500', 'net.ipv4.no_such': '1' } }
  for (const [keys, message] of [
    [missing, 'write 1 to sysctl net.ipv4.no_such: ENOENT'],
    [{ ...everything, mtu: 20 }, 'EINVAL'],
  ] as const) {
    const failed = call(host, 'ADD', keys, { expectFailure: true })
    expect(failed.json.msg).toContain(message)
    expect([link(c1), sysctl(c1, 'net.core.somaxconn')]).toEqual(before)
    expect(existsSync(host.file(backup))).toBe(false)
  }
})

test('a sysctl that can only be written: set by ADD, nothing to compare for CHECK', (context) => {
  requireTool('ping', context)
  const { host, c1 } = prepare()
  using _ = host
  const file = '/proc/sys/net/ipv4/route/flush'
  if (c1.run(['test', '-e', file], { expectFailure: 'maybe' }).status !== 0)
    context.skip(`${file} is kept from user namespaces`)
  // What it flushes: the container has learnt that the way to 10.8.0.2 takes packets of 1300 bytes only.
  host.sh(`ip link add narrow mtu 1300 type veth peer name other
           ip link set other up
           ip link set narrow up
           ip address add 10.7.0.1/24 dev v1
           ip address add 10.8.0.1/24 dev narrow
           echo 1 >/proc/sys/net/ipv4/ip_forward`)
  c1.sh(`ip address add 10.7.0.2/24 dev eth0
         ip route add 10.8.0.0/24 via 10.7.0.1`)
  const learnt = () => c1.run(['ip', 'route', 'get', '10.8.0.2']).stdout
  c1.run(['ping', '-c1', '-W1', '-Mdo', '-s1350', '10.8.0.2'], { expectFailure: true })
  expect(learnt()).toContain('mtu 1300')

  const writeOnly = { sysctl: { 'net.ipv4.route.flush': '1' }, txQLen: 77 }
  call(host, 'ADD', writeOnly)
  expect(learnt()).not.toContain('mtu')
  call(host, 'CHECK', writeOnly)
  call(host, 'DEL', writeOnly)
  expect(link(c1).txqlen).toBe(1000)
  // What comes after it fails: there is no old value to put back.
  const failing = { sysctl: { ...writeOnly.sysctl, 'net.ipv4.no_such': '1' } }
  expect(call(host, 'ADD', failing, { expectFailure: true })).toMatchObject({
    stderr: '',
    json: { msg: expect.stringContaining('net.ipv4.no_such: ENOENT') },
  })
})

test('an interface that is not there, and no result before', () => {
  const { host } = prepare()
  using _ = host
  expect(call(host, 'ADD', { mtu: 1400 }, { ifName: 'eth7', expectFailure: true }).json).toMatchObject({
    code: 103,
    msg: 'interface "eth7" is not in /run/netns/c1',
  })
  const bare = { cniVersion: '1.1.0', name: 'lab', type: 'tuning', mtu: 1400 }
  expect(call(host, 'ADD', {}, { config: bare, expectFailure: true }).json.code).toBe(7)
})

test.runIf(existsSync(`${referencePlugins}/tuning`))('the reference plugin and ours undo what the other did', () => {
  const { host, c1 } = prepare()
  using _ = host
  const before = link(c1)
  const keys = { mac: address, promisc: true, mtu: 1400, allmulti: true }
  const conf = config(keys, { cniVersion: '1.0.0' })
  const reference = { config: conf, path: referencePlugins }
  const contents: object[] = []
  const results: object[] = []
  for (const [first, second] of [
    [{ config: conf }, reference],
    [reference, { config: conf }],
  ]) {
    results.push(call(host, 'ADD', {}, first).json)
    contents.push(JSON.parse(readFileSync(host.file(backup), 'utf8')))
    call(host, 'CHECK', {}, second)
    call(host, 'DEL', {}, second)
    expect(link(c1)).toEqual(before)
    expect(existsSync(host.file(backup))).toBe(false)
  }
  expect(contents[0]).toEqual({ ...contents[1], network: 'lab' })
  expect(results[0]).toMatchObject({ interfaces: (results[1] as { interfaces: object[] }).interfaces })
})
