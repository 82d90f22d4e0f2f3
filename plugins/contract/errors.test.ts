import { expect, test } from 'vitest'
import { BackendMissing, NatError, PortTaken, RuleMissing } from '../../nat/errors.ts'
import { codes, TeardownError, toCniError } from './errors.ts'

test.each([
  [new PortTaken('tcp *:8080', 'lab c1 eth0', 'lab c2 eth0'), codes.conflict],
  [new BackendMissing('iptables is not installed', 'install it'), codes.unavailable],
  [new RuleMissing('a rule is missing'), codes.checkFailed],
  [new NatError('invalid', 'no such link'), codes.invalidConfig],
  [new NatError('refused', 'exit 3'), codes.kernel],
  [new Error('a mistake'), codes.internal],
])('%s', (error, code) => {
  const { message, details } = error as { message: string; details?: string }
  expect(toCniError(error)).toMatchObject(
    code === codes.internal ? { code, message } : { code, message, ...(details && { details }) },
  )
})

test('several failures have the code of the first, whichever layer collected them', () => {
  const failures = [new NatError('refused', 'one', 'asked for: x'), new Error('two')]
  for (const error of [new TeardownError(failures), new AggregateError(failures, 'one; two')])
    expect(toCniError(error)).toMatchObject({ code: codes.kernel, message: 'one; two', details: 'asked for: x' })
})
