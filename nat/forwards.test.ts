import { expect, test } from 'vitest'
import { cidr } from '../netlink-lib/ip.ts'
import { forwardsOf, type PortMapping, portText } from './forwards.ts'
import { decodeRecord, encodeRecord, recordKey } from './port-forward-records.ts'

const targets = [cidr('10.7.0.2/24'), cidr('fd00:7::2/64')]
const mapping = (hostIp?: string): PortMapping => ({ protocol: 'tcp', hostPort: 8080, containerPort: 80, hostIp })
const shown = (mappings: PortMapping[], to = targets) =>
  forwardsOf({ mappings, targets: to }).map((forward) => `${portText(forward)} ${forward.target} ${forward.targetPort}`)

test('a mapping counts for the families that its host address and the container have in common', () => {
  expect(shown([mapping()])).toEqual(['tcp *:8080 10.7.0.2 80', 'tcp [*]:8080 fd00:7::2 80'])
  expect(shown([mapping('0.0.0.0')])).toEqual(['tcp *:8080 10.7.0.2 80'])
  expect(shown([mapping('::')])).toEqual(['tcp [*]:8080 fd00:7::2 80'])
  expect(shown([mapping('192.0.2.1')])).toEqual(['tcp 192.0.2.1:8080 10.7.0.2 80'])
  expect(shown([mapping('2001:db8::1')])).toEqual(['tcp [2001:db8::1]:8080 fd00:7::2 80'])
  expect(shown([mapping('::')], [targets[0]!])).toEqual([])
})

test('what is listed twice, or covered twice, is forwarded once', () => {
  expect(shown([mapping(), mapping(), mapping('0.0.0.0')])).toHaveLength(2)
})

test.each([
  [{ family: 4, protocol: 6, port: 8080 }, '00000000000000000000ffff00000000 06000000 1f900000'],
  [{ family: 6, protocol: 17, port: 53 }, '00000000000000000000000000000000 11000000 00350000'],
  [{ family: 4, address: '192.0.2.1', protocol: 6, port: 1 }, '00000000000000000000ffffc0000201 06000000 00010000'],
  [{ family: 6, address: 'fd00::2', protocol: 0, port: 1 }, 'fd000000000000000000000000000002 00000000 00010000'],
] as const)('record %j, both ways', (record, text) => {
  const bytes = Buffer.from(text.replaceAll(' ', ''), 'hex')
  expect(encodeRecord(record).toString('hex')).toBe(bytes.toString('hex'))
  expect(decodeRecord(bytes)).toEqual({ address: undefined, ...record })
})

test('the key of a record: the hash of the owner and a number in host order', () => {
  expect(recordKey('af63dc4c8601ec8c', 258).toString('hex')).toBe('af63dc4c8601ec8c02010000')
})
