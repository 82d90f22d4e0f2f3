import { expect, test } from 'vitest'
import { engineBuffer } from './buffer.ts'

// What engine.c does; integration-tests/libc.test.ts has it done by engine.c.
Object.assign(globalThis, {
  engine: {
    encodeUtf8: (text: string) => Uint8Array.from(Buffer.from(text)).buffer,
    decodeUtf8: (bytes: Uint8Array) => Buffer.from(bytes).toString(),
  },
})

const widths = { UInt8: 1, UInt16LE: 2, UInt16BE: 2, UInt32LE: 4, UInt32BE: 4, Int32LE: 4, Int32BE: 4 }
const bigWidths = { BigUInt64LE: 8, BigUInt64BE: 8, BigInt64LE: 8 }

// biome-ignore lint/suspicious/noExplicitAny: methods are called by their composed names
type Any = any

/** All bytes that matter to a sign, a carry or an order. */
const samples = Array.from({ length: 64 }, (_each, seed) =>
  Array.from(
    { length: 12 },
    (_byte, at) => [0, 1, 0x7f, 0x80, 0xff, (seed * 37 + at * 101) & 0xff][(seed + at * 5) % 6]!,
  ),
)

test.each(Object.entries({ ...widths, ...bigWidths }))('%s is read and written as by Node', (name) => {
  for (const bytes of samples)
    for (const at of [0, 1, 3]) {
      const value = (Buffer.from(bytes) as Any)[`read${name}`](at)
      expect((engineBuffer.from(bytes) as Any)[`read${name}`](at)).toBe(value)
      const [theirs, ours] = [Buffer.alloc(12), engineBuffer.alloc(12)]
      expect((ours as Any)[`write${name}`](value, at)).toBe((theirs as Any)[`write${name}`](value, at))
      expect([...ours]).toEqual([...theirs])
    }
})

test.each(['utf8', 'hex', 'latin1'] as const)('%s', (encoding) => {
  const text = { utf8: 'naïve €', hex: '00ff7f80a0', latin1: 'na\u00efve\u00ff' }[encoding]
  const [theirs, ours] = [Buffer.from(text, encoding), engineBuffer.from(text, encoding)]
  expect([...ours]).toEqual([...theirs])
  expect(ours.toString(encoding)).toBe(theirs.toString(encoding))
  expect(ours.toString(encoding, 1, 3)).toBe(theirs.toString(encoding, 1, 3))
})

test('parts, copies and comparisons', () => {
  const make = (buffer: Any) => {
    const whole = buffer.concat([buffer.from([1, 2, 3]), buffer.alloc(2), buffer.from('ä')])
    const copied = whole.copy(whole, 3, 1, 3)
    const part = whole.subarray(2, 4)
    part.writeUInt8(9, 0)
    return [
      [...whole],
      copied,
      [...part],
      buffer.isBuffer(part),
      buffer.isBuffer(new Uint8Array(1)),
      buffer.byteLength('ä€'),
      whole.equals(buffer.from(whole)),
      whole.equals(part),
      part.indexOf(0),
      part.includes(9),
      part.includes(77),
      buffer.allocUnsafe(3).length,
      buffer.allocUnsafeSlow(3).length,
    ]
  }
  expect(make(engineBuffer)).toEqual(make(Buffer))
})

test('a text is not looked for in vain', () => {
  expect(() => (engineBuffer.from('abc') as Any).indexOf('b')).toThrow('only a byte')
})
