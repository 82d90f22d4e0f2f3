import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openFile, openFlags } from './files.ts'
import { withLock } from './flock.ts'
import { libc } from './libc.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(`${tmpdir()}/flock-`)
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

test('gives back what the work returns, and the file stays', () => {
  expect(withLock(`${folder}/lock`, 100, () => 42)).toBe(42)
  expect(existsSync(`${folder}/lock`)).toBe(true)
})

test('a lock that stays taken is EAGAIN after the time given', () => {
  const path = `${folder}/lock`
  const started = performance.now()
  expect(() => withLock(path, 1_000, () => withLock(path, 30, () => 'never'))).toThrow(`lock ${path}: EAGAIN`)
  expect(performance.now() - started).toBeGreaterThanOrEqual(30)
})

test('an error of the work comes through and the lock is free again', () => {
  const path = `${folder}/lock`
  expect(() =>
    withLock(path, 100, () => {
      throw new Error('work failed')
    }),
  ).toThrow('work failed')
  expect(withLock(path, 0, () => 'free')).toBe('free')
})

test('the lock that others see is flock(2), and it is free afterwards', () => {
  const path = `${folder}/lock`
  const tryLock = () => {
    using file = openFile(path, openFlags.readOnly)
    return libc.flock(file.fd, 2 | 4)
  }
  expect(withLock(path, 100, tryLock)).toBe(-1)
  expect(tryLock()).toBe(0)
})

test('a missing folder is the file system error', () => {
  expect(() => withLock(`${folder}/none/lock`, 100, () => 1)).toThrow('ENOENT')
})
