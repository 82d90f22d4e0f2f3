import { expect, test } from 'vitest'
import { editDistance, suspectKeys } from './suggest.ts'

test.each([
  ['isGatway', 'isGateway', 1],
  ['ipmasq', 'ipMasq', 1],
  ['hairpnimode', 'hairpinmode', 1],
  ['', 'abc', 3],
  ['same', 'same', 0],
])('%s and %s are %i apart', (a, b, distance) => expect(editDistance(a, b)).toBe(distance))

test('only what resembles a known key is suspicious', () => {
  const known = ['isGateway', 'isDefaultGateway', 'ipMasq', 'mtu']
  expect(suspectKeys(['isGatway', 'kubernetes', 'mt', '_comment', 'ipMask'], known)).toEqual([
    { key: 'isGatway', suggestion: 'isGateway' },
    { key: 'ipMask', suggestion: 'ipMasq' },
  ])
})
