import { type PartlyKnown, wholly } from './packet.ts'
import type { Match } from './rules.ts'

/** Registers of nf_tables: 64 bytes that go by the numbers 1 to 4 in parts of 16, or 8 to 23 in parts of 4. */
export class Registers {
  readonly #bytes = Buffer.alloc(64)
  readonly #known = new Uint8Array(64)

  /** What is loaded is padded to whole parts of 4 bytes. */
  load(register: number | undefined, value: PartlyKnown): void {
    const at = offsetOf(register)
    const end = at + ((value.bytes.length + 3) & ~3)
    this.#bytes.fill(0, at, end)
    this.#known.fill(1, at, end)
    value.bytes.copy(this.#bytes, at)
    this.#known.set(value.known.subarray(0, this.#known.length - at), at)
  }

  read(register: number | undefined, length: number): PartlyKnown {
    const at = offsetOf(register)
    return { bytes: this.#bytes.subarray(at, at + length), known: this.#known.subarray(at, at + length) }
  }

  /** Nothing is known of what an expression that we cannot compute has loaded. */
  forget(): void {
    this.#known.fill(0)
  }
}

const offsetOf = (register = 1): number => (register < 8 ? (register - 1) * 16 : (register - 8) * 4)

export const isKnown = ({ known }: PartlyKnown): boolean => known.every((one) => one === 1)

/** `==`: one known byte that differs is enough for a no. */
export function equals({ bytes, known }: PartlyKnown, wanted: Buffer): Match {
  if (bytes.some((byte, i) => known[i] && byte !== wanted[i])) return 'no'
  return known.every((one) => one) ? 'yes' : 'maybe'
}

/** `(value & mask) ^ xor`: a byte that the mask clears is known whatever it was. */
export function masked({ bytes, known }: PartlyKnown, mask: Buffer, xor: Buffer): PartlyKnown {
  const result = Buffer.from(bytes.map((byte, i) => (byte & (mask[i] ?? 0)) ^ (xor[i] ?? 0)))
  return { bytes: result, known: known.map((one, i) => (one || (mask[i] ?? 0) === 0 ? 1 : 0)) }
}

/** Numbers as the kernel loads them: in the byte order of the machine, which is little-endian everywhere that Node runs. */
export function word(value: number): PartlyKnown {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value >>> 0)
  return wholly(bytes)
}

export const unknownBytes = (length: number): PartlyKnown => ({
  bytes: Buffer.alloc(length),
  known: new Uint8Array(length),
})
