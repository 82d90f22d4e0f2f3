import { expect, test } from 'vitest'
import { cidr } from '../netlink-lib/ip.ts'
import { addressIn, linkNamed } from '../netlink-lib/nftables/statements.ts'
import { backendOfConditions, parseConditions } from './conditions.ts'

test('matches one after the other, in tokens or in whole sentences', () => {
  const expected = [...addressIn('saddr', cidr('10.0.0.0/8'), 'neq'), ...linkNamed('iifname', 'eth0')]
  expect(parseConditions(['ip saddr != 10.0.0.0/8 iifname "eth0"'], 4)).toEqual(expected)
  expect(parseConditions(['ip', 'saddr', '!=', '10.0.0.0/8', 'iifname', 'eth0'], 4)).toEqual(expected)
  expect(parseConditions(['ip6 daddr fd00::1'], 6)).toEqual(addressIn('daddr', cidr('fd00::1/128')))
  expect(parseConditions(['oifname == wg*'], 6)).toEqual(linkNamed('oifname', 'wg*'))
  expect(parseConditions([], 4)).toEqual([])
})

test.each([
  [['tcp sport 53'], '"tcp sport" is not understood; expected ip saddr, ip daddr, iifname or oifname'],
  [['ip6 saddr fd00::/8'], '"ip6 saddr" is not understood; expected ip saddr'],
  [['ip saddr fd00::/8'], 'expected an IPv4 address or CIDR, got "fd00::/8"'],
  [['ip saddr 0.0.0.0/0'], 'expected an IPv4 address or CIDR, got "0.0.0.0/0"'],
  [['ip saddr @blocked'], 'expected an IPv4 address or CIDR, got "@blocked"'],
  [['ip saddr !='], 'expected an IPv4 address or CIDR, got nothing'],
  [['ip'], '"ip" is not understood'],
  [['iifname'], 'expected the name of a link, got nothing'],
  [['iifname a-name-too-long-for-it'], 'expected the name of a link, got a-name-too-long-for-it'],
])('%j is refused', (tokens, message) => {
  expect(() => parseConditions(tokens, 4)).toThrow(message)
})

test('the first character tells for whom conditions were written', () => {
  expect(backendOfConditions(['!', '-d', '10.0.0.0/8'])).toBe('iptables')
  expect(backendOfConditions(['-s', '10.0.0.0/8'])).toBe('iptables')
  expect(backendOfConditions(['ip saddr 10.0.0.0/8'])).toBe('nftables')
  expect(backendOfConditions([])).toBeUndefined()
  expect(backendOfConditions([''])).toBeUndefined()
})
