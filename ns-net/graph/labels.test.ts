import { expect, test } from 'vitest'
import { labelLines, printable, translationWords } from './labels.ts'
import { sample } from './sample.ts'

test.each([
  ['eth0', 'eth0'],
  ['Bürö-网', 'Bürö-网'],
  ['a\u001b[2J', 'a\\u{1b}[2J'],
  ['a\nb', 'a\\u{a}b'],
  ['\u202egpj.exe', '\\u{202e}gpj.exe'], // turns the direction of writing
])('%j is shown as %s', (name, expected) => {
  expect(printable(name)).toBe(expected)
})

test('the lines of a link leave out the address that every link has', () => {
  expect(labelLines(sample.nodes[1]!)).toEqual(['eth0', '192.0.2.1/24', 'default via 192.0.2.254'])
})

test('a range of ports is not told port by port', () => {
  const ports = Array.from({ length: 100 }, (_, i) => `${8000 + i}->${i + 1}/tcp`)
  expect(translationWords({ nat: [], ports })).toEqual([...ports.slice(0, 8), '92 more ports'])
})
