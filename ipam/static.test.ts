import { expect, test } from 'vitest'
import { Section } from '../config/reader.ts'
import { cidr, formatCidr } from '../netlink-lib/ip.ts'
import type { IpamInput } from './input.ts'
import { checkStatic, parseStatic, staticResult } from './static.ts'

const parse = (
  ipam: object,
  more: { args?: object; runtimeConfig?: object; cniArgs?: object } & Partial<Pick<IpamInput, 'cniVersion'>> = {},
) =>
  parseStatic({
    network: 'n',
    ipam: new Section({ ...ipam }, 'ipam'),
    args: more.args && new Section({ ...more.args }, 'args.cni'),
    runtimeConfig: more.runtimeConfig && new Section({ ...more.runtimeConfig }, 'runtimeConfig'),
    cniArgs: new Map(Object.entries(more.cniArgs ?? {})),
    cniVersion: more.cniVersion ?? '1.0.0',
  })
const shown = (conf: ReturnType<typeof parse>) =>
  conf.addresses.map(({ address, gateway }) => `${formatCidr(address)}${gateway ? ` via ${gateway}` : ''}`)

const configured = { addresses: [{ address: '10.1.0.5/24', gateway: '10.1.0.1' }, { address: 'fd00::5/64' }] }

test('addresses, routes and dns become the result', () => {
  const conf = parse({
    ...configured,
    routes: [{ dst: '0.0.0.0/0' }, { dst: '10.9.0.0/16', gw: '10.1.0.2', mtu: 1400, table: 0, scope: 0, priority: 0 }],
    dns: { nameservers: ['10.1.0.1'], domain: 'x.example', search: [], options: ['ndots:2'] },
  })
  expect(staticResult(conf)).toEqual({
    ips: [{ address: cidr('10.1.0.5/24'), gateway: '10.1.0.1' }, { address: cidr('fd00::5/64') }],
    routes: [{ dst: cidr('0.0.0.0/0') }, { dst: cidr('10.9.0.0/16'), gw: '10.1.0.2', mtu: 1400, table: 0, scope: 0 }],
    dns: { nameservers: ['10.1.0.1'], domain: 'x.example', options: ['ndots:2'] },
  })
})

test('no address at all is a result', () => {
  expect(staticResult(parse({}))).toEqual({ ips: [], routes: [] })
})

test('CNI_ARGS addresses are appended; their gateways go to them alone', () => {
  const cniArgs = { IP: '10.1.0.6/24, 10.2.0.6/24', GATEWAY: '10.2.0.1,10.1.0.254' }
  expect(shown(parse(configured, { cniArgs }))).toEqual([
    '10.1.0.5/24 via 10.1.0.1',
    'fd00::5/64',
    '10.1.0.6/24 via 10.1.0.254',
    '10.2.0.6/24 via 10.2.0.1',
  ])
})

test('args.cni.ips replace what is configured, runtimeConfig.ips replace those', () => {
  const args = { ips: ['10.3.0.3/24'] }
  expect(shown(parse(configured, { args }))).toEqual(['10.3.0.3/24'])
  expect(shown(parse(configured, { args, runtimeConfig: { ips: ['10.4.0.4/24'] } }))).toEqual(['10.4.0.4/24'])
  expect(shown(parse(configured, { args, runtimeConfig: { ips: [] } }))).toEqual(['10.3.0.3/24'])
})

test.each([
  [{ addresses: [{ address: '10.1.0.5' }] }, {}, 'ipam.addresses[0].address: expected a CIDR'],
  [{ addresses: [{}] }, {}, 'ipam.addresses[0].address: missing'],
  [{}, { cniArgs: { IP: '10.1.0.5' } }, 'CNI_ARGS IP: expected a CIDR'],
  [{}, { cniArgs: { GATEWAY: 'x' } }, 'CNI_ARGS GATEWAY: expected an IP address'],
  [{}, { args: { ips: ['10.1.0.5'] } }, 'args.cni.ips[0]: expected a CIDR'],
  [{ routes: [{ gw: '10.1.0.1' }] }, {}, 'ipam.routes[0].dst: missing'],
  [
    { addresses: [{ address: '10.1.0.5/24' }, { address: '10.2.0.5/24' }] },
    { cniVersion: '0.2.0' },
    'ipam.addresses: CNI version 0.2.0 does not support more than 1 address per family',
  ],
])('%j with %j is refused', (ipam, more, message) => {
  expect(() => parse(ipam, more)).toThrow(message)
})

test('CHECK compares the gateways of addresses present on both sides', () => {
  const conf = parse(configured)
  checkStatic(conf, [{ address: cidr('10.1.0.5/24'), gateway: '10.1.0.1' }])
  checkStatic(conf, [{ address: cidr('10.9.9.9/24') }])
  checkStatic(conf, [{ address: cidr('fd00::5/64'), gateway: 'fd00::99' }])
  expect(() => checkStatic(conf, [{ address: cidr('10.1.0.5/24'), gateway: '10.1.0.2' }])).toThrow(
    '10.1.0.5 has gateway 10.1.0.1 in ipam.addresses, but 10.1.0.2 in the previous result',
  )
  expect(() => checkStatic(conf, [{ address: cidr('10.1.0.5/24') }])).toThrow('but none in the previous result')
})
