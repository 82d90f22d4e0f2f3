import { expect, test } from 'vitest'
import { parseShape, type ShapeOptions } from './shape.ts'

const parse = (options: ShapeOptions) => parseShape(options, 1500)

test('units of tc: bits and bytes per second, bytes, times', () => {
  expect(parse({ rate: '10mbit', burst: '32kb' }).bucket).toEqual({ rate: 1_250_000, burst: 32_768, limit: 95_268 })
  expect(parse({ rate: '1.5gbit', burst: '10000' }).bucket).toMatchObject({ rate: 187_500_000, burst: 10_000 })
  expect(parse({ rate: '100KBps' }).bucket?.rate).toBe(100_000)
  expect(parse({ rate: '8000' }).bucket?.rate).toBe(1000)
  expect(parse({ delay: '20ms', jitter: '500us' }).lateness).toEqual({ delay: 20_000, jitter: 500 })
  expect(parse({ delay: '1s' }).lateness).toEqual({ delay: 1_000_000, jitter: 0 })
  expect([parse({ loss: '5%' }).loss, parse({ loss: '0.1' }).loss, parse({ loss: '100%' }).loss]).toEqual([50, 1, 1000])
})

test('the bucket holds 10 ms and the queue 50, and never less than some packets', () => {
  expect(parse({ rate: '1gbit' }).bucket).toEqual({ rate: 125e6, burst: 1_250_000, limit: 7_500_000 })
  expect(parse({ rate: '10kbit' }).bucket).toEqual({ rate: 1250, burst: 3036, limit: 18_216 })
})

test.each([
  [{ rate: '1furlong' }, '--rate 1furlong'],
  [{ rate: '-1mbit' }, '--rate -1mbit'],
  [{ rate: '7bit' }, '--rate 7bit'],
  [{ rate: '1mbit', burst: '1000' }, '--burst 1000: less than a packet'],
  [{ burst: '10kb' }, '--burst needs --rate'],
  [{ jitter: '1ms' }, '--jitter needs --delay'],
  [{ delay: '1ms', jitter: '2ms' }, '--jitter 2ms is more than --delay 1ms'],
  [{ delay: '10' }, '--delay 10'],
  [{ delay: '300s' }, '--delay 300s'],
  [{ loss: '0' }, '--loss 0'],
  [{ loss: '0.15%' }, '--loss 0.15%'],
  [{ loss: '100.1%' }, '--loss 100.1%'],
])('%j is refused', (options, message) => {
  expect(() => parse(options)).toThrow(message)
})
