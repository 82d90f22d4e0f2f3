import { spawn } from 'node:child_process'
import { expect, test } from 'vitest'
import { pause } from './pause.ts'

const elapsed = (milliseconds: number) => {
  const start = performance.now()
  pause(milliseconds)
  return performance.now() - start
}

test.each([0, 0.2, 1, 30, 1001.5])('%d ms pass', (milliseconds) => {
  expect(elapsed(milliseconds)).toBeGreaterThanOrEqual(milliseconds)
})

test('a signal does not end it', () => {
  let heard = 0
  const hear = () => heard++
  process.on('SIGUSR2', hear)
  spawn('sh', ['-c', `sleep 0.1; kill -USR2 ${process.pid}`], { stdio: 'ignore' })
  expect(elapsed(1500)).toBeGreaterThanOrEqual(1500)
  return expect.poll(() => heard, { timeout: 20_000 }).toBe(1)
})
