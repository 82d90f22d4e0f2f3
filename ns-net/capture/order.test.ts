import { expect, test } from 'vitest'
import { InOrder } from './order.ts'

const at = (...times: number[]) => times.map((time) => ({ time: BigInt(time) }))

test('packets of two rings come out in the order of time, although one ring gives its own later', () => {
  const order = new InOrder(40)
  expect(order.add(at(1, 4), 0)).toEqual([])
  expect(order.add(at(2, 3, 6), 20)).toEqual([]) // the other ring, 20 ms later
  expect(order.add([], 40)).toEqual(at(1, 2, 3, 4))
  expect(order.add(at(5), 50)).toEqual([])
  expect(order.add([], 80)).toEqual(at(5, 6))
})

test('whoever reads without a pause still gives the rings their time', () => {
  const order = new InOrder(40)
  for (let now = 0; now < 39; now++) expect(order.add(at(now), now)).toEqual([])
  expect(order.add([], 40)).toEqual(at(0))
})

test('at the end nothing is left behind', () => {
  const order = new InOrder(40)
  order.add(at(2), 0)
  order.add(at(1), 1)
  expect(order.rest()).toEqual(at(1, 2))
  expect(order.rest()).toEqual([])
})
