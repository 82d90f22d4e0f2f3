import { expect, test } from 'vitest'
import { Value } from '../config/reader.ts'
import { candidates, parseInterval, parseRangeSet, rangeOf, rangeSetText } from './range.ts'

const setOf = (...ranges: object[]) => parseRangeSet(new Value(ranges, 'set'))
const walk = (set: ReturnType<typeof setOf>, after?: string, excluded: string[] = []) => {
  const intervals = excluded.map((text) => parseInterval(new Value(text, 'exclude')))
  return [...candidates(set, after, intervals)].map(({ address }) => address)
}

test('defaults: gateway and start are the first address, the end leaves out an IPv4 broadcast address', () => {
  const [v4] = setOf({ subnet: '10.1.0.0/24' })
  expect(v4!.gateway).toBe('10.1.0.1')
  expect(rangeSetText([v4!])).toBe('10.1.0.1-10.1.0.254')
  const [v6] = setOf({ subnet: 'fd00::/120' })
  expect(v6!.gateway).toBe('fd00::1')
  expect(rangeSetText([v6!])).toBe('fd00::1-fd00::ff')
})

test('null and "" are absent', () => {
  expect(setOf({ subnet: '10.1.0.0/29', rangeStart: '', rangeEnd: null, gateway: '' })).toEqual(
    setOf({ SUBNET: '10.1.0.0/29' }),
  )
})

test.each([
  [[{}], 'set[0].subnet: missing; expected a CIDR such as 10.1.0.0/16'],
  [[{ subnet: '10.1' }], 'set[0].subnet: expected a CIDR such as 10.1.0.0/16, got "10.1"'],
  [[{ subnet: '10.1.0.0/31' }], 'set[0].subnet: Network 10.1.0.0/31 too small to allocate from'],
  [[{ subnet: '10.1.0.0/32' }], 'set[0].subnet: Network 10.1.0.0/32 too small'],
  [[{ subnet: 'fd00::/127' }], 'set[0].subnet: Network fd00::/127 too small'],
  [[{ subnet: 'fd00::/128' }], 'set[0].subnet: Network fd00::/128 too small'],
  [[{ subnet: '10.1.0.7/24' }], 'set[0].subnet: Network has host bits set, expected 10.1.0.0/24'],
  [
    [{ subnet: '10.1.0.0/24', rangeStart: '10.2.0.1' }],
    'set[0].rangeStart: RangeStart 10.2.0.1 not in network 10.1.0.0/24',
  ],
  [[{ subnet: '10.1.0.0/24', rangeEnd: 'fd00::1' }], 'set[0].rangeEnd: RangeEnd fd00::1 not in network 10.1.0.0/24'],
  [
    [{ subnet: '10.1.0.0/24', rangeStart: '10.1.0.9', rangeEnd: '10.1.0.8' }],
    'set[0].rangeEnd: 10.1.0.8 is below rangeStart 10.1.0.9',
  ],
  [[{ subnet: '10.1.0.0/24', gateway: 'x' }], 'set[0].gateway: expected an IP address, got "x"'],
  [[], 'set: empty range set'],
  [[{ subnet: '10.1.0.0/24' }, { subnet: 'fd00::/64' }], 'set: mixed address families'],
  [
    [{ subnet: '10.1.0.0/24' }, { subnet: '10.1.0.0/16' }],
    'set: subnets 10.1.0.1-10.1.0.254 and 10.1.0.1-10.1.255.254 overlap',
  ],
])('%j is refused', (ranges, message) => {
  expect(() => setOf(...ranges)).toThrow(message)
})

test('ranges of one subnet that share no address are no overlap', () => {
  const set = setOf(
    { subnet: '10.1.0.0/24', rangeEnd: '10.1.0.9' },
    { subnet: '10.1.0.0/24', rangeStart: '10.1.0.10', rangeEnd: '10.1.0.12' },
  )
  expect(walk(set, '10.1.0.8')).toEqual(expect.arrayContaining(['10.1.0.9', '10.1.0.10', '10.1.0.8']))
})

// The cases of the reference's iterator tests: start, middle, end, across ranges, outside.
const two = setOf({ subnet: '10.1.0.0/29' }, { subnet: '10.2.0.0/30' })
test.each([
  [undefined, '1.2 1.3 1.4 1.5 1.6 2.2'],
  ['10.1.0.3', '1.4 1.5 1.6 2.2 1.2 1.3'],
  ['10.1.0.6', '2.2 1.2 1.3 1.4 1.5 1.6'],
  ['10.2.0.1', '2.2 1.2 1.3 1.4 1.5 1.6'],
  ['10.2.0.2', '1.2 1.3 1.4 1.5 1.6 2.2'],
  ['10.9.9.9', '1.2 1.3 1.4 1.5 1.6 2.2'],
  ['fd00::1', '1.2 1.3 1.4 1.5 1.6 2.2'],
])('the walk behind %s', (after, expected) => {
  const short = walk(two, after).map((address) => address.slice(3).replace('.0.', '.'))
  expect(short.join(' ')).toBe(expected)
})

test('broadcast and network addresses are given out when the range names them', () => {
  const set = setOf({ subnet: '10.1.0.0/30', rangeStart: '10.1.0.0', rangeEnd: '10.1.0.3' })
  expect(walk(set)).toEqual(['10.1.0.0', '10.1.0.2', '10.1.0.3'])
})

test('a gateway in the middle and excluded addresses are left out, wherever the walk starts', () => {
  const set = setOf({ subnet: '10.1.0.0/28', gateway: '10.1.0.5' })
  const excluded = ['10.1.0.8/30', '10.1.0.2', '10.1.0.10/31', 'fd00::/8']
  expect(walk(set, undefined, excluded).map((a) => Number(a.split('.')[3]))).toEqual([1, 3, 4, 6, 7, 12, 13, 14])
  expect(walk(set, '10.1.0.9', excluded).map((a) => Number(a.split('.')[3]))).toEqual([12, 13, 14, 1, 3, 4, 6, 7])
})

test('a range with nothing but its gateway has no candidate', () => {
  expect(walk(setOf({ subnet: '10.1.0.0/30', rangeEnd: '10.1.0.1' }))).toEqual([])
})

test('an excluded IPv6 block is stepped over, not counted through', () => {
  const set = setOf({ subnet: 'fd00::/64' })
  const intervals = [parseInterval(new Value('fd00::/65', 'exclude'))]
  expect(candidates(set, undefined, intervals).next().value).toMatchObject({ address: 'fd00::8000:0:0:0' })
})

test('addresses above 127.255.255.255 keep their sign', () => {
  expect(walk(setOf({ subnet: '192.168.255.248/29' }), '192.168.255.252')[0]).toBe('192.168.255.253')
})

test('the range of an address', () => {
  expect(rangeOf(two, '10.2.0.2')).toBe(two[1])
  expect(rangeOf(two, '10.2.0.3')).toBeUndefined()
  expect(rangeOf(two, 'fd00::1')).toBeUndefined()
})
