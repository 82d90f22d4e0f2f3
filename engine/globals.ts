import { engineBuffer } from './buffer.ts'
import type { Engine } from './engine.ts'

/*
 * What the plugins expect to find: of Node, Buffer, process and performance; of the language, what has come to it since
 * the engine was made. Imported first by the main.ts of every plugin.
 */

declare const engine: Engine

function define(object: object, name: string | symbol, value: unknown): void {
  if (!(name in object)) Object.defineProperty(object, name, { value, writable: true, configurable: true })
}

define(Symbol, 'dispose', Symbol.for('Symbol.dispose')) // what the bundler's part of `using` takes where there is none
define(
  Object,
  'hasOwn',
  (object: object, key: PropertyKey) => Object.getOwnPropertyDescriptor(object, key) !== undefined,
)
define(Array.prototype, 'at', function at<T>(this: T[], index: number): T | undefined {
  return this[index < 0 ? this.length + index : index]
})
define(Array.prototype, 'findLastIndex', function findLastIndex<
  T,
>(this: T[], matches: (value: T, index: number, all: T[]) => unknown): number {
  let index = this.length - 1
  while (index >= 0 && !matches(this[index]!, index, this)) index--
  return index
})
define(Array.prototype, 'findLast', function findLast<
  T,
>(this: T[], matches: (value: T, index: number, all: T[]) => unknown): T | undefined {
  return this[this.findLastIndex(matches)]
})

JSON.parse = engine.parseJson // without its limit on depth the engine's own ends in a crash
define(globalThis, 'Buffer', engineBuffer)
define(globalThis, 'performance', { now: engine.now })
define(globalThis, 'process', { env: engine.environment, exit: engine.exit, pid: engine.pid, execPath: engine.path })
