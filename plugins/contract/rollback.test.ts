import { expect, test } from 'vitest'
import { teardown } from './dispatch.ts'
import { toCniError } from './errors.ts'
import { Rollback } from './rollback.ts'

test('what is not committed is undone, newest first', () => {
  const done: string[] = []
  {
    using rollback = new Rollback(() => {})
    rollback.onFailure('a', () => done.push('a'))
    rollback.onFailure('b', () => done.push('b'))
  }
  expect(done).toEqual(['b', 'a'])
})

test('a commit keeps everything', () => {
  const done: string[] = []
  {
    using rollback = new Rollback(() => {})
    rollback.onFailure('a', () => done.push('a'))
    rollback.commit()
  }
  expect(done).toEqual([])
})

test('a failing undo is reported, stops nothing and hides no error', () => {
  const done: string[] = []
  const warnings: string[] = []
  const work = () => {
    using rollback = new Rollback((message) => warnings.push(message))
    rollback.onFailure('first', () => done.push('first'))
    rollback.onFailure('delete veth', () => {
      throw new Error('busy')
    })
    throw new Error('the cause')
  }
  expect(work).toThrow('the cause')
  expect(done).toEqual(['first'])
  expect(warnings).toEqual(['rollback: cannot delete veth: busy'])
})

test('a teardown goes on past failures and reports all', () => {
  const done: string[] = []
  const work = () =>
    teardown(
      () => {
        throw new Error('one')
      },
      () => done.push('two'),
      () => {
        throw new Error('three')
      },
    )
  expect(work).toThrow('one; three')
  expect(done).toEqual(['two'])
  try {
    work()
  } catch (error) {
    expect(toCniError(error).message).toBe('one; three')
  }
})
