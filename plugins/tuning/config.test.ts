import { expect, test } from 'vitest'
import { parseEnvironment, parseRequest } from '../contract/request.ts'
import { parseTuning } from './config.ts'

function parse(config: object | string, { command = 'ADD', args = '', ifName = 'eth0' } = {}) {
  const environment = parseEnvironment({
    CNI_COMMAND: command,
    CNI_CONTAINERID: 'c1',
    CNI_NETNS: '/run/netns/c1',
    CNI_IFNAME: ifName,
    CNI_PATH: '/opt/cni/bin',
    CNI_ARGS: args,
  })
  const text = typeof config === 'string' ? config : JSON.stringify(config)
  const document = `{ "cniVersion": "1.1.0", "name": "lab", "type": "tuning", ${text.slice(1)}`
  return parseTuning(parseRequest(environment, document.replace(', }', ' }')))
}

test('without keys there is nothing to do', () => {
  expect(parse('{}')).toEqual({ dataDir: '/run/cni/tuning', sysctls: [], link: {} })
})

test('every setting', () => {
  const json = { mac: '02:00:00:00:00:0A', promisc: true, mtu: 1400, txQLen: 0, allmulti: false, dataDir: '/run/x' }
  expect(parse(json)).toEqual({
    dataDir: '/run/x',
    sysctls: [],
    link: { mac: '02:00:00:00:00:0a', promiscuous: true, mtu: 1400, txQueueLength: 0, allMulticast: false },
  })
})

test('zero, false and the empty string ask for nothing, where the reference plugin has it so', () => {
  expect(parse({ mac: '', promisc: false, mtu: 0 }).link).toEqual({})
})

test.each([
  ['the configuration', { mac: '02:00:00:00:00:01' }, '', '02:00:00:00:00:01'],
  ['CNI_ARGS', { mac: '02:00:00:00:00:01' }, 'MAC=02:00:00:00:00:02', '02:00:00:00:00:02'],
  [
    'the capability',
    { mac: '02:00:00:00:00:01', runtimeConfig: { Mac: '02:00:00:00:00:03' } },
    'MAC=02:00:00:00:00:02',
    '02:00:00:00:00:03',
  ],
  [
    'args.cni',
    { runtimeConfig: { mac: '02:00:00:00:00:03' }, args: { cni: { mac: '02:00:00:00:00:04' } } },
    'MAC=02:00:00:00:00:02',
    '02:00:00:00:00:04',
  ],
  [
    'the capability when args.cni has none',
    { runtimeConfig: { mac: '02:00:00:00:00:03' }, args: { cni: { mac: '' } } },
    '',
    '02:00:00:00:00:03',
  ],
])('the MAC address comes from %s', (_, json, args, mac) => {
  expect(parse(json, { args }).link.mac).toBe(mac)
})

test('args.cni wins over the configuration, sysctl by sysctl', () => {
  const { link, sysctls } = parse({
    mtu: 1400,
    promisc: true,
    sysctl: { 'net.core.somaxconn': '500', 'net.ipv4.ip_forward': '1' },
    args: { cni: { mtu: 1300, promisc: false, allmulti: true, txQLen: 7, sysctl: { 'net/core/somaxconn': '600' } } },
  })
  expect(link).toEqual({ mtu: 1300, allMulticast: true, txQueueLength: 7 })
  expect(sysctls.map(({ name, value }) => [name.join('/'), value])).toEqual([
    ['core/somaxconn', '600'],
    ['ipv4/ip_forward', '1'],
  ])
})

test('sysctls in args.cni alone', () => {
  expect(parse({ args: { cni: { sysctl: { 'net.core.somaxconn': '600' } } } }).sysctls).toHaveLength(1)
})

test.each([
  ['net.ipv4.conf.IFNAME.arp_filter', ['ipv4', 'conf', 'eth0.100', 'arp_filter']],
  ['net/ipv4/conf/IFNAME/arp_filter', ['ipv4', 'conf', 'eth0.100', 'arp_filter']],
  ['net.ipv4.conf.eth1/7.arp_filter', ['ipv4', 'conf', 'eth1.7', 'arp_filter']],
  ['net/ipv4/conf/eth1.7/arp_filter', ['ipv4', 'conf', 'eth1.7', 'arp_filter']],
])('%s', (key, name) => {
  expect(parse({ sysctl: { [key]: '1' } }, { ifName: 'eth0.100' }).sysctls).toEqual([{ key, name, value: '1' }])
})

test.each([
  [{ sysctl: { 'kernel.shmmax': '1' } }, 'sysctl.kernel.shmmax: expected a sysctl below net'],
  [{ sysctl: { 'net/../kernel/shmmax': '1' } }, 'sysctl.net/../kernel/shmmax: expected a sysctl below net'],
  [{ sysctl: { 'net.ipv4.conf.//.x': '1' } }, 'expected a sysctl below net'],
  [{ sysctl: { net: '1' } }, 'sysctl.net: expected a sysctl below net'],
  [{ sysctl: { 'net.core.somaxconn': 500 } }, 'sysctl.net.core.somaxconn: expected a string, got 500'],
  [{ sysctl: { 'net.core.x': '1', 'net/core/x': '2' } }, 'sysctl.net/core/x: the same sysctl as "net.core.x"'],
  ['{ "sysctl": { "net.core.x": "1", "net.core.x": "2" } }', 'sysctl: "net.core.x" stands in it more than once'],
  [{ sysctl: ['net.core.x'] }, 'sysctl: expected an object, got ["net.core.x"]'],
  [{ args: { cni: { sysctl: { 'vm.x': '1' } } } }, 'args.cni.sysctl.vm.x: expected a sysctl below net'],
  [{ mtu: '1400' }, 'mtu: expected an integer from 0 to 65535, got "1400"'],
  [{ args: { cni: { mtu: -1 } } }, 'args.cni.mtu: expected an integer from 0 to 65535, got -1'],
  [{ mac: '01:00:5e:00:00:01' }, 'mac: expected a unicast MAC address'],
  [{ txQLen: -1 }, 'txQLen: expected an integer from 0 to 4294967295, got -1'],
  [{ promisc: 'yes' }, 'promisc: expected true or false, got "yes"'],
  [{ dataDir: 'tuning' }, 'dataDir: expected an absolute path, got "tuning"'],
])('%j is refused', (json, message) => {
  expect(() => parse(json)).toThrow(message)
})

test('DEL reads where the backup is and nothing else', () => {
  expect(parse({ mtu: 'x', sysctl: 7, dataDir: '/run/x' }, { command: 'DEL' })).toEqual({
    dataDir: '/run/x',
    sysctls: [],
    link: {},
  })
})
