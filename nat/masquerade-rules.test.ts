import { expect, test } from 'vitest'
import { cidr } from '../netlink-lib/ip.ts'
import { masquerade, newSource } from '../netlink-lib/nftables/statements.ts'
import { masquerading, policyChain } from './masquerade-rules.ts'
import { policyOf } from './policy.ts'

const exempt = [cidr('192.168.0.0/16'), cidr('fd00::/8')]

test('a policy: inside, multicast, exempt of its family, and the rest is translated', () => {
  const chain = policyChain(policyOf('lab', cidr('10.7.0.2/24'), { exempt }))
  expect(chain.rules.map((rule) => rule.comment)).toEqual(['inside the network', 'multicast', 'exempt', undefined])
  expect(chain.rules.at(-1)!.expressions).toEqual(masquerade())
  const six = policyChain(policyOf('lab', cidr('fd00:7::2/64'), {}))
  expect(six.rules).toHaveLength(3)
})

test('containers of a subnet share a chain; another network, subnet or exemption has its own', () => {
  const nameOf = (network: string, address: string, ranges = exempt) =>
    policyChain(policyOf(network, cidr(address), { exempt: ranges })).name
  const name = nameOf('lab', '10.7.0.2/24')
  expect(nameOf('lab', '10.7.0.3/24')).toBe(name)
  expect(nameOf('lab', '10.7.0.2/24', [cidr('192.168.1.0/16')])).toBe(name) // host bits and the other family don't count
  const others = [
    nameOf('web', '10.7.0.2/24'),
    nameOf('lab', '10.7.1.2/24'),
    nameOf('lab', '10.7.0.2/25'),
    nameOf('lab', '10.7.0.2/24', []),
  ]
  expect(new Set([name, ...others]).size).toBe(5)
  expect([name, ...others].every(masquerading.isPolicyChain)).toBe(true)
})

test('a source of its own family is the end of a chain of its own; without one all is as it was', () => {
  const chainOf = (address: string, snat?: string[]) => policyChain(policyOf('lab', cidr(address), { exempt, snat }))
  const [four, six] = ['10.7.0.2/24', 'fd00:7::2/64']
  expect(chainOf(four, ['2001:db8::10', '192.0.2.10']).rules.at(-1)!.expressions).toEqual(newSource('192.0.2.10'))
  expect(chainOf(six, ['2001:db8::10', '192.0.2.10']).rules.at(-1)!.expressions).toEqual(newSource('2001:db8::10'))
  expect(chainOf(six, ['192.0.2.10'])).toEqual(chainOf(six))
  const names = [chainOf(four), chainOf(four, ['192.0.2.10']), chainOf(four, ['192.0.2.11'])].map(({ name }) => name)
  expect(new Set(names).size).toBe(3)
  // Containers of an earlier version have this chain: theirs must stay the same.
  expect(policyOf('lab', cidr('10.7.0.2/24'), {}).hash).toBe('3c434fa6acaa6cb3')
  expect(policyOf('lab', cidr('10.7.0.2/24'), { exempt }).hash).toBe('1aa7a5c5f0e7dfe0')
})

test('a chain name is readable, short, and one word to nft', () => {
  expect(policyChain(policyOf('lab', cidr('10.7.0.2/24'), {})).name).toMatch(/^masq-lab-[0-9a-f]{16}$/)
  expect(policyChain(policyOf(`a b"${'x'.repeat(200)}`, cidr('10.7.0.2/24'), {})).name).toMatch(
    /^masq-a_b_x{20}-[0-9a-f]{16}$/,
  )
})

test('what is created as the base is deleted again, in an order the kernel accepts', () => {
  const operations = (commands: readonly { operation: string; subject: string }[]) =>
    commands.map(({ operation, subject }) => `${operation} ${subject.split(' ')[0]}`)
  expect(operations(masquerading.create())).toEqual([
    'create map sources4',
    'create map sources6',
    'create chain postrouting',
    'append rule to chain postrouting',
    'append rule to chain postrouting',
  ])
  expect(operations(masquerading.delete())).toEqual([
    'flush chain postrouting',
    'delete set sources4',
    'delete set sources6',
    'delete chain postrouting',
  ])
})
