/**
 * Bytes written as hex, in any grouping, with comments from `#` to the end of the line. For tests: one attribute per
 * line, and beside it what it says.
 */
export function hex(text: string): Buffer {
  const digits = text.replace(/#.*$/gm, '').replace(/\s/g, '')
  const bytes = Buffer.from(digits, 'hex')
  if (bytes.length * 2 !== digits.length) throw new Error(`not hex: ${digits.slice(bytes.length * 2)}`)
  return bytes
}
