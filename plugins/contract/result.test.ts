import { expect, test } from 'vitest'
import { Section } from '../../config/reader.ts'
import { cidr } from '../../netlink-lib/ip.ts'
import { formatResult, mergeDns, parsePrevResult, parseResult, type Result } from './result.ts'
import { specVersions } from './versions.ts'

const result: Result = {
  interfaces: [
    { name: 'br0', mac: '02:00:00:00:00:01', mtu: 1500 },
    { name: 'eth0', mac: '02:00:00:00:00:02', mtu: 1500, sandbox: '/run/netns/c1' },
  ],
  ips: [
    { address: cidr('10.77.0.2/24'), gateway: '10.77.0.1', interface: 1 },
    { address: cidr('fd00::2/64'), gateway: 'fd00::1', interface: 1 },
  ],
  routes: [
    { dst: cidr('0.0.0.0/0'), gw: '10.77.0.1', mtu: 1400 },
    { dst: cidr('::/0'), gw: 'fd00::1' },
  ],
}

const plain = (json: unknown) => JSON.parse(JSON.stringify(json))

// The shapes are those of the golden example in the CNI spec's history: see docs/results.md.
test.each(['0.1.0', '0.2.0'] as const)('%s: one address per family, routes with their family', (version) => {
  expect(plain(formatResult(result, version))).toEqual({
    cniVersion: version,
    ip4: { ip: '10.77.0.2/24', gateway: '10.77.0.1', routes: [{ dst: '0.0.0.0/0', gw: '10.77.0.1' }] },
    ip6: { ip: 'fd00::2/64', gateway: 'fd00::1', routes: [{ dst: '::/0', gw: 'fd00::1' }] },
    dns: {},
  })
})

test.each(['0.3.0', '0.3.1', '0.4.0'] as const)('%s: version in ips, dns always', (version) => {
  expect(plain(formatResult(result, version))).toEqual({
    cniVersion: version,
    interfaces: [
      { name: 'br0', mac: '02:00:00:00:00:01' },
      { name: 'eth0', mac: '02:00:00:00:00:02', sandbox: '/run/netns/c1' },
    ],
    ips: [
      { version: '4', interface: 1, address: '10.77.0.2/24', gateway: '10.77.0.1' },
      { version: '6', interface: 1, address: 'fd00::2/64', gateway: 'fd00::1' },
    ],
    routes: [
      { dst: '0.0.0.0/0', gw: '10.77.0.1' },
      { dst: '::/0', gw: 'fd00::1' },
    ],
    dns: {},
  })
})

test('1.0.0: no version in ips, no empty dns; 1.1.0: mtu and route attributes', () => {
  const v100 = plain(formatResult(result, '1.0.0'))
  expect(v100.ips[0]).toEqual({ interface: 1, address: '10.77.0.2/24', gateway: '10.77.0.1' })
  expect(v100.interfaces[0]).toEqual({ name: 'br0', mac: '02:00:00:00:00:01' })
  expect(v100.routes[0]).toEqual({ dst: '0.0.0.0/0', gw: '10.77.0.1' })
  expect(v100).not.toHaveProperty('dns')
  const v110 = plain(formatResult(result, '1.1.0'))
  expect(v110.interfaces[0]).toEqual({ name: 'br0', mac: '02:00:00:00:00:01', mtu: 1500 })
  expect(v110.routes[0]).toEqual({ dst: '0.0.0.0/0', gw: '10.77.0.1', mtu: 1400 })
})

test('without an address there is no 0.2.0 result', () => {
  const bare = { interfaces: result.interfaces, ips: [], routes: [] }
  expect(() => formatResult(bare, '0.2.0')).toThrow('cannot convert: no valid IP addresses')
  expect(plain(formatResult(bare, '0.3.1'))).toEqual({
    cniVersion: '0.3.1',
    interfaces: plain(formatResult(result, '0.3.1')).interfaces,
    dns: {},
  })
})

test.each(specVersions)('%s: what is printed reads back as the same addresses and routes', (version) => {
  const read = parseResult(new Section(plain(formatResult(result, version))), version)
  expect(read.ips.map(({ address, gateway }) => ({ address, gateway }))).toEqual(
    result.ips.map(({ address, gateway }) => ({ address, gateway })),
  )
  expect(read.routes.map(({ dst, gw }) => ({ dst, gw }))).toEqual(result.routes.map(({ dst, gw }) => ({ dst, gw })))
})

test('a prevResult of another shape than the configuration is refused', () => {
  expect(() => parsePrevResult({ cniVersion: '0.2.0', ip4: { ip: '10.0.0.2/24' } }, '1.0.0')).toThrow(
    'could not parse prevResult',
  )
  expect(parsePrevResult({ cniVersion: '1.0.0', ips: [{ address: '10.0.0.2/24' }] }, '1.1.0').ips).toHaveLength(1)
  expect(parsePrevResult({ ips: [{ address: '10.0.0.2/24', version: '4' }] }, '0.4.0').ips).toHaveLength(1)
})

test('configured dns wins as soon as one field is set, be it empty', () => {
  const ipam = { nameservers: ['10.0.0.53'] }
  expect(mergeDns(undefined, ipam)).toEqual(ipam)
  expect(mergeDns({ nameservers: undefined }, ipam)).toEqual(ipam)
  expect(mergeDns({ nameservers: [] }, ipam)).toEqual({ nameservers: [] })
})
