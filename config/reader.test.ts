import { expect, test } from 'vitest'
import { ConfigError, Section, Value } from './reader.ts'

const value = (json: unknown) => new Value(json, 'ipam.mtu')

test.each<[string, (v: Value) => unknown, unknown, unknown]>([
  ['string', (v) => v.string(), 'a', 'a'],
  ['an empty string', (v) => v.string(), '', ''],
  ['boolean', (v) => v.boolean(), false, false],
  ['integer', (v) => v.integer(68, 65535), 1500, 1500],
  ['integer at the lower bound', (v) => v.integer(68, 65535), 68, 68],
  ['integer at the upper bound', (v) => v.integer(68, 65535), 65535, 65535],
  ['word', (v) => v.oneOf('auto', 'nftables'), 'nftables', 'nftables'],
  ['IPv4 address', (v) => v.ip(), '10.88.0.1', '10.88.0.1'],
  ['IPv6 address, in canonical text', (v) => v.ip(), '2001:DB8:0:0::1', '2001:db8::1'],
  ['IPv4 CIDR with host bits', (v) => v.cidr(), '10.88.3.4/16', { address: '10.88.3.4', prefix: 16, family: 4 }],
  ['IPv6 CIDR', (v) => v.cidr(), 'fd00::1/64', { address: 'fd00::1', prefix: 64, family: 6 }],
  ['MAC address', (v) => v.mac(), '02:AA:bb:00:00:01', '02:aa:bb:00:00:01'],
  ['MAC address with dashes', (v) => v.mac(), '02-AA-bb-00-00-01', '02:aa:bb:00:00:01'],
  ['list', (v) => v.list((element) => element.integer(0, 9)), [1, 2], [1, 2]],
  ['empty list', (v) => v.list((element) => element.string()), [], []],
])('reads: %s', (_, read, json, expected) => {
  expect(read(value(json))).toEqual(expected)
})

test.each<[(v: Value) => unknown, unknown, string]>([
  [(v) => v.string(), 7, 'ipam.mtu: expected a string, got 7'],
  [(v) => v.boolean(), 'true', 'ipam.mtu: expected true or false, got "true"'],
  [(v) => v.boolean(), 0, 'ipam.mtu: expected true or false, got 0'],
  [(v) => v.integer(68, 65535), '1500', 'ipam.mtu: expected an integer from 68 to 65535, got "1500"'],
  [(v) => v.integer(68, 65535), 67, 'ipam.mtu: expected an integer from 68 to 65535, got 67'],
  [(v) => v.integer(68, 65535), 65536, 'ipam.mtu: expected an integer from 68 to 65535, got 65536'],
  [(v) => v.integer(68, 65535), 1500.5, 'ipam.mtu: expected an integer from 68 to 65535, got 1500.5'],
  [(v) => v.oneOf('auto', 'nftables'), 'iptable', 'ipam.mtu: expected "auto" or "nftables", got "iptable"'],
  [(v) => v.ip(), '10.88.0', 'ipam.mtu: expected an IP address, got "10.88.0"'],
  [(v) => v.ip(), '10.88.0.1/16', 'ipam.mtu: expected an IP address, got "10.88.0.1/16"'],
  [(v) => v.ip(4), 'fd00::1', 'ipam.mtu: expected an IPv4 address, got "fd00::1"'],
  [(v) => v.ip(6), '10.88.0.1', 'ipam.mtu: expected an IPv6 address, got "10.88.0.1"'],
  [(v) => v.cidr(), '10.1', 'ipam.mtu: expected a CIDR such as 10.1.0.0/16, got "10.1"'],
  [(v) => v.cidr(), '10.1.0.0/33', 'ipam.mtu: expected a CIDR such as 10.1.0.0/16, got "10.1.0.0/33"'],
  [(v) => v.cidr(), 10, 'ipam.mtu: expected a CIDR such as 10.1.0.0/16, got 10'],
  [
    (v) => v.mac(),
    '02:00:00:00:00',
    'ipam.mtu: expected a MAC address such as 02:00:00:00:00:01, got "02:00:00:00:00"',
  ],
  [(v) => v.mac(), '01:00:5e:00:00:01', 'ipam.mtu: expected a unicast MAC address, got "01:00:5e:00:00:01"'],
  [(v) => v.mac(), '00:00:00:00:00:00', 'ipam.mtu: expected a unicast MAC address, got "00:00:00:00:00:00"'],
  [(v) => v.object(), [], 'ipam.mtu: expected an object, got []'],
  [(v) => v.object(), 'x', 'ipam.mtu: expected an object, got "x"'],
  [(v) => v.list((element) => element), {}, 'ipam.mtu: expected a list, got {}'],
])('%s refuses %j', (read, json, text) => {
  expect(() => read(value(json))).toThrow(new ConfigError('ipam.mtu', text.replace('ipam.mtu: ', '')))
})

test('the path of a refused value leads to it', () => {
  const conf = new Section({ ipam: { ranges: [[{ subnet: '10.1.0.0/16' }], [{ subnet: '10.1' }]] } })
  const subnets = () =>
    conf
      .require('ipam', 'an object')
      .object()
      .list('ranges', (set) => set.list((range) => range.object().require('subnet', 'a CIDR').cidr()))
  expect(subnets).toThrow('ipam.ranges[1][0].subnet: expected a CIDR such as 10.1.0.0/16, got "10.1"')
})

test('a long value is cut where it is shown', () => {
  const text = 'x'.repeat(1000)
  expect(() => value(text).boolean()).toThrow(/^ipam\.mtu: expected true or false, got "x{56}\.\.\.$/)
})

test('a missing key that must be there is named with what it should be', () => {
  expect(() => new Section({}, 'ipam').require('subnet', 'a CIDR')).toThrow('ipam.subnet: missing; expected a CIDR')
})

test('null counts as absent', () => {
  const section = new Section({ mtu: null, dns: null })
  expect(section.get('mtu')).toBeUndefined()
  expect(section.list('dns', (element) => element.string())).toEqual([])
  expect(() => section.require('mtu', 'a number')).toThrow('mtu: missing')
})

test('keys match without regard to case, an exact one first', () => {
  expect(new Section({ ISGATEWAY: true }).get('isGateway')?.json).toBe(true)
  expect(new Section({ ISGATEWAY: true, isGateway: false }).get('isGateway')?.json).toBe(false)
})

test('a key that names something every object has is not found in it', () => {
  expect(new Section({}).get('constructor')).toBeUndefined()
  expect(new Section({}).get('__proto__')).toBeUndefined()
})

test('keys that nobody asked for are reported as they are written', () => {
  const section = new Section({ mtu: 1500, IsGateway: true, isGatway: true })
  section.get('mtu')
  section.get('isGateway')
  section.get('hairpinMode')
  expect(section.unread()).toEqual(['isGatway'])
  expect(section.known()).toEqual(['mtu', 'isGateway', 'hairpinMode'])
})
