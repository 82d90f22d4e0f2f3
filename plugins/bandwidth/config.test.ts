import { expect, test } from 'vitest'
import { parseEnvironment, parseRequest } from '../contract/request.ts'
import { parseBandwidth } from './config.ts'

function parse(json: object, command = 'ADD') {
  const environment = parseEnvironment({
    CNI_COMMAND: command,
    CNI_CONTAINERID: 'c1',
    CNI_NETNS: '/run/netns/c1',
    CNI_IFNAME: 'eth0',
    CNI_PATH: '/opt/cni/bin',
  })
  return parseBandwidth(parseRequest(environment, JSON.stringify({ cniVersion: '1.1.0', name: 'lab', ...json })))
}

const none = { ingress: undefined, egress: undefined }

test.each([
  ['nothing', {}],
  ['zeros', { ingressRate: 0, ingressBurst: 0, egressRate: 0, egressBurst: 0 }],
  ['an empty capability', { runtimeConfig: { bandwidth: {} } }],
  ['null', { runtimeConfig: { bandwidth: null } }],
  ['no subnets', { unshapedSubnets: [] }],
])('%s limits nothing', (_, json) => {
  expect(parse(json)).toEqual(none)
})

test('bits become bytes; the queue holds a burst and 25 ms', () => {
  expect(parse({ ingressRate: 10_000_000, ingressBurst: 1_000_000, egressRate: 80, egressBurst: 17 })).toEqual({
    ingress: { rate: 1_250_000, burst: 125_000, limit: 156_250 },
    egress: { rate: 10, burst: 2, limit: 2 },
  })
})

test('what containerd sends', () => {
  const bandwidth = { IngressRate: 1e6, IngressBurst: 4294967295, EgressRate: 0, EgressBurst: 0 }
  expect(parse({ runtimeConfig: { bandwidth } })).toEqual({
    ingress: { rate: 125_000, burst: 536_870_911, limit: 536_874_036 },
    egress: undefined,
  })
})

test('the configuration wins over the capability, whole', () => {
  const bandwidth = { egressRate: 8000, egressBurst: 8000 }
  expect(parse({ ingressRate: 8000, ingressBurst: 8000, runtimeConfig: { bandwidth } }).egress).toBeUndefined()
  expect(parse({ ingressRate: 0, runtimeConfig: { bandwidth } }).egress?.rate).toBe(1000)
})

test('the queue is as long as the kernel can count', () => {
  expect(parse({ ingressRate: 8e12, ingressBurst: 8 * 0xffffffff }).ingress?.limit).toBe(0xffffffff)
})

test.each([
  [{ ingressRate: 8000 }, 'ingressBurst: missing; ingressRate needs a burst'],
  [{ egressBurst: 8000 }, 'egressRate: missing; egressBurst without a rate limits nothing'],
  [{ runtimeConfig: { bandwidth: { EgressRate: 8000 } } }, 'runtimeConfig.bandwidth.egressBurst: missing'],
  [{ ingressRate: 7, ingressBurst: 8000 }, 'ingressRate: expected 0 or at least 8 bits, got 7'],
  [{ ingressRate: 8000, ingressBurst: 8 * 2 ** 32 }, 'ingressBurst: expected an integer from 0 to 34359738367'],
  [{ ingressRate: '1M', ingressBurst: 1 }, 'ingressRate: expected an integer from 0 to'],
  [{ ingressRate: -1, ingressBurst: 1 }, 'ingressRate: expected an integer from 0 to'],
  [{ unshapedSubnets: ['10.0.0.0/8'] }, 'unsupported field unshapedSubnets: ["10.0.0.0/8"]'],
])('%j is refused', (json, message) => {
  expect(() => parse(json)).toThrow(message)
})

test('DEL reads no limits', () => {
  expect(parse({ ingressRate: 'x' }, 'DEL')).toEqual(none)
})
