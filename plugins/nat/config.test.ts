import { expect, test } from 'vitest'
import { cidr } from '../../netlink-lib/ip.ts'
import { parseEnvironment, parseRequest } from '../contract/request.ts'
import { parseNat } from './config.ts'

function parse(json: object, command = 'ADD') {
  const environment = parseEnvironment({
    CNI_COMMAND: command,
    CNI_CONTAINERID: 'c1',
    CNI_NETNS: '/run/netns/c1',
    CNI_IFNAME: 'eth0',
    CNI_PATH: '/opt/cni/bin',
  })
  return parseNat(parseRequest(environment, JSON.stringify({ cniVersion: '1.1.0', name: 'lab', ...json })))
}

const standard = { backend: 'auto', translation: { exempt: [], snat: [] }, forward: true }

test('defaults, and every key', () => {
  expect(parse({})).toEqual(standard)
  const keys = { backend: 'iptables', nonMasqueradeCIDRs: ['192.168.0.0/16'], snat: '192.0.2.10', forward: false }
  expect(parse(keys)).toEqual({
    backend: 'iptables',
    translation: { exempt: [cidr('192.168.0.0/16')], snat: ['192.0.2.10'] },
    forward: false,
  })
})

test.each([
  [[], []],
  [['192.0.2.10'], ['192.0.2.10']],
  [
    ['2001:DB8:0::10', '192.0.2.10'],
    ['2001:db8::10', '192.0.2.10'],
  ],
])('snat %j', (snat, expected) => {
  expect(parse({ snat }).translation.snat).toEqual(expected)
})

test.each([
  [{ snat: '192.0.2.10/24' }, 'snat: expected an IP address, got "192.0.2.10/24"'],
  [{ snat: 7 }, 'snat: expected an IP address, got 7'],
  [{ snat: ['192.0.2.10', 'eth0'] }, 'snat[1]: expected an IP address, got "eth0"'],
  [{ snat: ['192.0.2.10', '192.0.2.11'] }, 'snat: expected at most one IPv4 and one IPv6 address, got ["192.0.2.10"'],
  [{ snat: ['192.0.2.10', '::ffff:192.0.2.11'] }, 'snat: expected at most one IPv4 and one IPv6 address'],
  [{ snat: ['192.0.2.10', '2001:db8::1', '2001:db8::2'] }, 'snat: expected at most one IPv4 and one IPv6 address'],
  [{ snat: '0.0.0.0' }, 'snat: expected an address that the world can answer, got "0.0.0.0"'],
  [{ snat: ['::1'] }, 'snat[0]: expected an address that the world can answer, got "::1"'],
  [{ snat: '224.0.0.1' }, 'snat: expected an address that the world can answer'],
  [{ snat: 'ff02::1' }, 'snat: expected an address that the world can answer'],
  [{ forward: 'no' }, 'forward: expected true or false, got "no"'],
  [{ backend: 'ufw' }, 'backend: expected "auto" or "nftables" or "iptables", got "ufw"'],
])('%j is refused', (json, message) => {
  expect(() => parse(json)).toThrow(message)
})

test('DEL reads none of them', () => {
  expect(() => parse({ snat: 7, forward: 'no', backend: 'ufw' }, 'DEL')).not.toThrow()
})
