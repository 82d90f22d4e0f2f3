import { expect, test } from 'vitest'
import type { Moment } from './packet.ts'
import { type Action, type Match, passChain, passes, type Rule } from './rules.ts'

const moment: Moment = {
  packet: { family: 4, protocol: 'icmp', source: '10.0.0.1', destination: '10.0.0.2', reply: false },
}

const rule = (match: Match, action: Action): Rule => ({
  text: `${match} ${action.kind}`,
  place: 'a chain',
  judge: () => ({ match, action }),
})

const drop: Action = { kind: 'drop' }
const accept: Action = { kind: 'accept' }
const back: Action = { kind: 'return' }
const jump: Action = { kind: 'jump', chain: 'other' }
const leave: Action = { kind: 'goto', chain: 'other' }

const outcomes: [name: string, rules: Rule[], other: Rule[], policy: 'accept' | 'drop', passes: Match][] = [
  ['the policy where nothing matches', [rule('no', drop)], [], 'accept', 'yes'],
  ['a policy of drop', [rule('no', accept)], [], 'drop', 'no'],
  ['the first that matches', [rule('yes', accept), rule('yes', drop)], [], 'drop', 'yes'],
  ['what cannot be judged is a doubt', [rule('maybe', drop)], [], 'accept', 'maybe'],
  ['a doubt that would change nothing is none', [rule('maybe', accept)], [], 'accept', 'yes'],
  ['a doubt behind what has decided is none', [rule('yes', accept), rule('maybe', drop)], [], 'accept', 'yes'],
  ['an accept that cannot be judged before a drop', [rule('maybe', accept), rule('yes', drop)], [], 'accept', 'maybe'],
  ['a jump that comes back', [rule('yes', jump), rule('yes', drop)], [rule('no', accept)], 'accept', 'no'],
  ['a jump that decides', [rule('yes', jump), rule('yes', drop)], [rule('yes', accept)], 'drop', 'yes'],
  ['return ends the other chain', [rule('yes', jump)], [rule('yes', back), rule('yes', drop)], 'accept', 'yes'],
  ['a jump that may be taken', [rule('maybe', jump)], [rule('yes', drop)], 'accept', 'maybe'],
  ['goto does not come back', [rule('yes', leave), rule('yes', drop)], [], 'accept', 'yes'],
  ['a return that may be taken', [rule('yes', jump)], [rule('maybe', back), rule('yes', drop)], 'accept', 'maybe'],
]

test.each(outcomes)('%s', (_name, rules, other, policy, expected) => {
  const rulesOf = (chain: string) => (chain === 'base' ? rules : chain === 'other' ? other : [])
  expect(passes(passChain('base', policy, rulesOf, moment))).toBe(expected)
})

test('chains that lead to each other end', () => {
  expect(passes(passChain('other', 'accept', () => [rule('yes', jump)], moment))).toBe('yes')
})
