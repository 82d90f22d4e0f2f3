import { expect, test } from 'vitest'
import { fnv1a, networkMark, ownerMark, ownerMarks } from './mark.ts'

const attachment = { network: 'lab', containerId: '7c1f', ifName: 'eth0' }

test('a mark reads network, container, interface', () => {
  expect(ownerMark(attachment)).toBe('lab 7c1f eth0')
  expect(networkMark('lab')).toBe('lab ')
})

test('nft can load every mark again: short, without quotes', () => {
  const names = ['x'.repeat(300), 'a"b', 'with space', '', 'ü', '~', 'a\nb', '💥'.repeat(40)]
  const marks = names.flatMap((name) => [
    ownerMark({ ...attachment, network: name }),
    ownerMark({ ...attachment, containerId: name }),
    ownerMark({ network: name, containerId: name, ifName: name }),
  ])
  for (const mark of marks) {
    expect(Buffer.byteLength(mark)).toBeLessThanOrEqual(127)
    expect(mark).toMatch(/^[\w.@:+~-]+ [\w.@:+~-]+ [\w.@:+~-]+$/)
  }
  expect(new Set(marks).size).toBe(marks.length)
})

test('names that are cut alike stay apart, and none passes for the cut of another', () => {
  const long = ownerMark({ ...attachment, containerId: `${'x'.repeat(70)}1` })
  expect(long).not.toBe(ownerMark({ ...attachment, containerId: `${'x'.repeat(70)}2` }))
  const cut = long.split(' ')[1]!
  expect(ownerMark({ ...attachment, containerId: cut })).not.toBe(long)
})

test('a network owns its own marks only', () => {
  expect(ownerMark({ ...attachment, network: 'lab-2' }).startsWith(networkMark('lab'))).toBe(false)
  expect(ownerMarks('lab', [attachment])).toEqual(new Set(['lab 7c1f eth0']))
})

test.each([
  ['', 'cbf29ce484222325'],
  ['a', 'af63dc4c8601ec8c'],
  ['foobar', '85944171f73967e8'],
])('FNV-1a of "%s" (vectors of draft-eastlake-fnv)', (text, hash) => expect(fnv1a(text)).toBe(hash))
