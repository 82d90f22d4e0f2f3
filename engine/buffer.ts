import type { Engine } from './engine.ts'

declare const engine: Engine

/**
 * As much of Node's Buffer as plugins use: integers of up to 8 bytes, text as UTF-8, hex or Latin-1. Offsets are not
 * checked. buffer.test.ts compares it with Node's.
 */
export class EngineBuffer extends Uint8Array {
  override toString(encoding = 'utf8', start = 0, end = this.length): string {
    const part = start === 0 && end === this.length ? this : this.subarray(start, end)
    if (encoding === 'utf8') return engine.decodeUtf8(part)
    let text = ''
    for (const byte of part)
      text += encoding === 'hex' ? (byte < 16 ? '0' : '') + byte.toString(16) : String.fromCharCode(byte)
    return text
  }

  equals(other: Uint8Array): boolean {
    return this.length === other.length && this.every((byte, at) => byte === other[at])
  }

  /** Node finds texts as well; nothing is found here in silence. */
  override indexOf(byte: number, from?: number): number {
    if (typeof byte !== 'number') throw new TypeError('only a byte can be looked for')
    return super.indexOf(byte, from)
  }

  override includes(byte: number): boolean {
    return this.indexOf(byte) >= 0
  }

  copy(target: Uint8Array, at = 0, start = 0, end = this.length): number {
    target.set(this.subarray(start, end), at)
    return end - start
  }

  readUInt8(at = 0): number {
    return this[at]!
  }
  readUInt16LE(at = 0): number {
    return this[at]! | (this[at + 1]! << 8)
  }
  readUInt16BE(at = 0): number {
    return (this[at]! << 8) | this[at + 1]!
  }
  readInt32LE(at = 0): number {
    return this[at]! | (this[at + 1]! << 8) | (this[at + 2]! << 16) | (this[at + 3]! << 24)
  }
  readInt32BE(at = 0): number {
    return (this[at]! << 24) | (this[at + 1]! << 16) | (this[at + 2]! << 8) | this[at + 3]!
  }
  readUInt32LE(at = 0): number {
    return this.readInt32LE(at) >>> 0
  }
  readUInt32BE(at = 0): number {
    return this.readInt32BE(at) >>> 0
  }
  readBigUInt64LE(at = 0): bigint {
    return (BigInt(this.readUInt32LE(at + 4)) << 32n) | BigInt(this.readUInt32LE(at))
  }
  readBigUInt64BE(at = 0): bigint {
    return (BigInt(this.readUInt32BE(at)) << 32n) | BigInt(this.readUInt32BE(at + 4))
  }
  readBigInt64LE(at = 0): bigint {
    return BigInt.asIntN(64, this.readBigUInt64LE(at))
  }

  writeUInt8(value: number, at = 0): number {
    this[at] = value
    return at + 1
  }
  writeUInt16LE(value: number, at = 0): number {
    this[at] = value
    this[at + 1] = value >> 8
    return at + 2
  }
  writeUInt16BE(value: number, at = 0): number {
    this[at] = value >> 8
    this[at + 1] = value
    return at + 2
  }
  writeUInt32LE(value: number, at = 0): number {
    this[at] = value
    this[at + 1] = value >> 8
    this[at + 2] = value >> 16
    this[at + 3] = value >> 24
    return at + 4
  }
  writeUInt32BE(value: number, at = 0): number {
    this[at] = value >> 24
    this[at + 1] = value >> 16
    this[at + 2] = value >> 8
    this[at + 3] = value
    return at + 4
  }
  writeInt32LE(value: number, at = 0): number {
    return this.writeUInt32LE(value, at)
  }
  writeInt32BE(value: number, at = 0): number {
    return this.writeUInt32BE(value, at)
  }
  writeBigUInt64LE(value: bigint, at = 0): number {
    this.writeUInt32LE(Number(value & 0xffffffffn), at)
    return this.writeUInt32LE(Number((value >> 32n) & 0xffffffffn), at + 4)
  }
  writeBigUInt64BE(value: bigint, at = 0): number {
    this.writeUInt32BE(Number((value >> 32n) & 0xffffffffn), at)
    return this.writeUInt32BE(Number(value & 0xffffffffn), at + 4)
  }
  writeBigInt64LE(value: bigint, at = 0): number {
    return this.writeBigUInt64LE(value, at)
  }
}

const alloc = (length: number): EngineBuffer => new EngineBuffer(length)

function fromHex(text: string): EngineBuffer {
  const bytes = alloc(text.length >> 1)
  for (let i = 0; i < bytes.length; i++) bytes[i] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16)
  return bytes
}

function fromLatin1(text: string): EngineBuffer {
  const bytes = alloc(text.length)
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i)
  return bytes
}

/** Beside the constructor, because those of Uint8Array have other parameters. */
const constructors = {
  alloc,
  allocUnsafe: alloc,
  allocUnsafeSlow: alloc,
  from(value: string | ArrayLike<number>, encoding?: string): EngineBuffer {
    if (typeof value !== 'string') return new EngineBuffer(value)
    if (encoding === 'hex') return fromHex(value)
    return encoding === 'latin1' ? fromLatin1(value) : new EngineBuffer(engine.encodeUtf8(value))
  },
  concat(parts: readonly Uint8Array[]): EngineBuffer {
    let length = 0
    for (const part of parts) length += part.length
    const whole = alloc(length)
    let at = 0
    for (const part of parts) {
      whole.set(part, at)
      at += part.length
    }
    return whole
  },
  byteLength: (text: string): number => engine.encodeUtf8(text).byteLength,
  isBuffer: (value: unknown): boolean => value instanceof EngineBuffer,
}
for (const [name, value] of Object.entries(constructors))
  Object.defineProperty(EngineBuffer, name, { value, writable: true, configurable: true })

export const engineBuffer = EngineBuffer as unknown as typeof EngineBuffer & typeof constructors
