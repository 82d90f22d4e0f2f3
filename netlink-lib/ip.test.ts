import IPCIDR from 'ip-cidr'
import { describe, expect, test } from 'vitest'
import {
  addToIp,
  canonicalIp,
  cidr,
  contains,
  formatIp,
  integerToIp,
  ipBytes,
  ipToInteger,
  lastInteger,
  networkInteger,
  networkOf,
  parseCidr,
  parseIp,
} from './ip.ts'

// Left: RFC 5952 sections 2 and 4, RFC 4291 section 2.2, and the inputs that Go's net.ParseIP takes.
test.each([
  ['10.0.0.1', '10.0.0.1'],
  ['0.0.0.0', '0.0.0.0'],
  ['255.255.255.255', '255.255.255.255'],
  ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'], // the first of two equal runs
  ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'], // a single group stays
  ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'], // the longest run
  ['2001:DB8::AbCd', '2001:db8::abcd'],
  ['2001:db8::', '2001:db8::'],
  ['0:0:0:0:0:0:0:0', '::'],
  ['0:0:0:0:0:0:0:1', '::1'],
  ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
  ['::2:3:4:5:6:7:8', '0:2:3:4:5:6:7:8'],
  ['::ffff:10.1.2.3', '10.1.2.3'],
  ['::FFFF:0a01:0203', '10.1.2.3'],
  ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
  ['1:2:3:4:5:6:1.2.3.4', '1:2:3:4:5:6:102:304'],
])('canonical text of %s is %s', (text, canonical) => {
  expect(canonicalIp(text)).toBe(canonical)
  expect(formatIp(ipBytes(canonical))).toBe(canonical)
})

test.each([
  '',
  '10.0.0',
  '10.0.0.0.1',
  '10.0.0.256',
  '10.0.0.01',
  '10.0.0.-1',
  '10.0.0.1 ',
  '0x0a.0.0.1',
  '1:2:3:4:5:6:7',
  '1:2:3:4:5:6:7:8:9',
  '1:2:3:4:5:6:7:8::',
  '1::2::3',
  ':::',
  ':1:2:3:4:5:6:7',
  '1:2:3:4:5:6:7:',
  '12345::',
  'g::',
  'fe80::1%eth0',
  '::1.2.3',
  '1.2.3.4::',
  '1:2:3:4:5:6:7:1.2.3.4',
])('%j is no address', (text) => {
  expect(parseIp(text)).toBeUndefined()
})

test.each([
  '10.0.0.1',
  '10.0.0.1/',
  '10.0.0.1/33',
  '10.0.0.1/-1',
  '10.0.0.1/+8',
  '::/129',
  '/8',
  '10.0.0.0/8/8',
  'x/8',
])('%j is no CIDR', (text) => {
  expect(parseCidr(text)).toBeUndefined()
})

test('a CIDR keeps its host bits', () => {
  expect(parseCidr('10.1.2.3/24')).toEqual({ address: '10.1.2.3', prefix: 24, family: 4 })
  expect(networkOf(cidr('10.1.2.3/24')).address).toBe('10.1.2.0')
})

test('counting past either end of a family gives nothing', () => {
  expect(addToIp('255.255.255.255', 1n)).toBeUndefined()
  expect(addToIp('0.0.0.0', -1n)).toBeUndefined()
  expect(addToIp('10.0.0.255', 1n)).toBe('10.0.1.0')
  expect(addToIp('fd00::ffff:ffff', 1n)).toBe('fd00::1:0:0')
})

/** xorshift32: the same values in every run. */
function pseudoRandom(seed: number): () => number {
  let state = seed
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state >>> 0
  }
}

describe.each([4, 6] as const)('IPv%d sums agree with ip-cidr', (family) => {
  const random = pseudoRandom(family)
  const words = family === 4 ? 1 : 4
  const address = () => {
    const bytes = Buffer.alloc(words * 4)
    for (let i = 0; i < words; i++) bytes.writeUInt32BE(random() % 3 === 0 ? random() & 0xff : random(), i * 4)
    return formatIp(bytes)
  }
  const cases = Array.from({ length: 500 }, () => ({
    address: address(),
    prefix: random() % (words * 32 + 1),
    other: address(),
  }))

  test('first, last and membership', () => {
    for (const { address, prefix, other } of cases) {
      const ours = cidr(`${address}/${prefix}`)
      const judge = new IPCIDR(`${address}/${prefix}`)
      const [first, last] = judge.toRange<bigint>({ type: 'bigInteger' })
      expect([networkInteger(ours), lastInteger(ours)], judge.toString()).toEqual([first, last])
      expect(contains(ours, other), `${other} in ${judge}`).toBe(judge.contains(other))
      expect(contains(ours, integerToIp(last, family))).toBe(true)
    }
  })

  test('integers there and back', () => {
    for (const { address } of cases) {
      const judge = BigInt(new IPCIDR(`${address}/${words * 32}`).address.bigInteger())
      expect(ipToInteger(address)).toBe(judge)
      expect(integerToIp(judge, family)).toBe(address)
    }
  })
})
