import type { Engine } from '../engine/engine.ts'
import { KernelError } from './errors.ts'

/*
 * The C library. In the plugins' executable it is linked to the engine. Under Node it is called by koffi, an ordinary
 * package, and in ns-net's by bun's own foreign function interface, which starts in a tenth of the time; then nothing is
 * loaded before the first call.
 */
// How we were compiled: defined by scripts/build.mjs and scripts/plugins.mjs.
declare const NS_NET_IMAGE: boolean | undefined
declare const NS_NET_ENGINE: boolean | undefined
declare const engine: Engine

interface Libc {
  socket(domain: number, type: number, protocol: number): number
  bind(fd: number, address: Uint8Array, length: number): number
  setsockopt(fd: number, level: number, name: number, value: Uint8Array, length: number): number
  getsockopt(fd: number, level: number, name: number, value: Uint8Array, length: Uint8Array): number
  send(fd: number, buffer: Uint8Array, length: number, flags: number): number
  sendto(fd: number, buffer: Uint8Array, length: number, flags: number, address: Uint8Array, size: number): number
  recv(fd: number, buffer: Uint8Array, length: number, flags: number): number
  open(path: string, flags: number, mode: number): number
  read(fd: number, buffer: Uint8Array, length: number): number
  write(fd: number, buffer: Uint8Array, length: number): number
  close(fd: number): number
  ftruncate(fd: number, length: number): number
  statx(directory: number, path: string, flags: number, mask: number, status: Uint8Array): number
  access(path: string, mode: number): number
  mkdir(path: string, mode: number): number
  rmdir(path: string): number
  rename(from: string, to: string): number
  getdents64(fd: number, entries: Uint8Array, length: number): number
  unlink(path: string): number
  utimensat(directory: number, path: string, times: Uint8Array, flags: number): number
  ioctl(fd: number, request: number): number
  mmap(address: null, length: number, protection: number, flags: number, fd: number, offset: number): number
  munmap(address: number, length: number): number
  setns(fd: number, kind: number): number
  unshare(flags: number): number
  mount(source: string | null, target: string, type: string | null, flags: number, data: string | null): number
  umount2(target: string, flags: number): number
  flock(fd: number, operation: number): number
  nanosleep(time: Uint8Array, rest: Uint8Array | null): number
  execve(path: string, argv: (string | null)[], envp: (string | null)[]): number
  signal(signal: number, handler: number): number
}

/** Return type and parameter types in koffi's own notation, one C prototype (man pages, section 2) per line. */
const prototypes: Readonly<Record<keyof Libc, readonly [result: string, parameters: readonly string[]]>> = {
  socket: ['int', ['int', 'int', 'int']],
  bind: ['int', ['int', 'void *', 'uint32_t']],
  setsockopt: ['int', ['int', 'int', 'int', 'void *', 'uint32_t']],
  getsockopt: ['int', ['int', 'int', 'int', 'void *', 'void *']],
  send: ['intptr_t', ['int', 'void *', 'size_t', 'int']],
  sendto: ['intptr_t', ['int', 'void *', 'size_t', 'int', 'void *', 'uint32_t']],
  recv: ['intptr_t', ['int', 'void *', 'size_t', 'int']],
  open: ['int', ['const char *', 'int', 'uint32_t']],
  read: ['intptr_t', ['int', 'void *', 'size_t']],
  write: ['intptr_t', ['int', 'void *', 'size_t']],
  close: ['int', ['int']],
  ftruncate: ['int', ['int', 'int64_t']],
  statx: ['int', ['int', 'const char *', 'int', 'uint32_t', 'void *']],
  access: ['int', ['const char *', 'int']],
  mkdir: ['int', ['const char *', 'uint32_t']],
  rmdir: ['int', ['const char *']],
  rename: ['int', ['const char *', 'const char *']],
  getdents64: ['intptr_t', ['int', 'void *', 'size_t']],
  unlink: ['int', ['const char *']],
  utimensat: ['int', ['int', 'const char *', 'void *', 'int']],
  ioctl: ['int', ['int', 'unsigned long']],
  mmap: ['intptr_t', ['void *', 'size_t', 'int', 'int', 'int', 'int64_t']],
  munmap: ['int', ['intptr_t', 'size_t']],
  setns: ['int', ['int', 'int']],
  unshare: ['int', ['int']],
  mount: ['int', ['const char *', 'const char *', 'const char *', 'unsigned long', 'const char *']],
  umount2: ['int', ['const char *', 'int']],
  flock: ['int', ['int', 'int']],
  nanosleep: ['int', ['void *', 'void *']],
  execve: ['int', ['const char *', 'const char **', 'const char **']],
  signal: ['intptr_t', ['int', 'intptr_t']],
}

// biome-ignore lint/suspicious/noExplicitAny: the signatures are those of Libc
type Call = (...parameters: any[]) => number

/** What a foreign function interface does for us. */
interface Binding {
  bind(name: string, result: string, parameters: readonly string[]): Call
  /** A text as `bind` takes it, and a list of them. */
  text(value: string): unknown
  texts(values: readonly (string | null)[]): unknown
  /** The variable itself, as it is now. */
  errno(): number
}

function openKoffi(): Binding {
  const koffi = process.getBuiltinModule('node:module').createRequire(import.meta.url)('koffi')
  const library = koffi.load(null)
  return {
    bind: (name, result, parameters) => library.func(name, result, parameters),
    text: (value) => value,
    texts: (values) => values,
    errno: koffi.errno,
  }
}

/** What the module bun:ffi is made of; its classes for strings and callbacks would cost 0.25 ms more. */
declare const Bun: {
  readonly FFI: {
    dlopen(
      library: string,
      symbols: Readonly<Record<string, { readonly args: readonly string[]; readonly returns: string }>>,
    ): Error | { readonly symbols: Readonly<Record<string, Call>> }
    ptr(bytes: Uint8Array): number
    readonly read: { i32(address: number): number }
  }
}

const bunTypes: Readonly<Record<string, string>> = {
  int: 'i32',
  uint32_t: 'u32',
  int64_t: 'i64_fast', // `fast`: a number where it is a safe integer
  intptr_t: 'i64_fast',
  size_t: 'u64_fast',
  'unsigned long': 'u64_fast',
  'void *': 'ptr',
  'const char *': 'ptr',
  'const char **': 'ptr',
}

function openBun(): Binding {
  const { dlopen, ptr, read } = Bun.FFI
  const text = (value: string) => Buffer.from(`${value}\0`)
  const bind: Binding['bind'] = (name, result, parameters) => {
    const symbol = { args: parameters.map((type) => bunTypes[type]!), returns: bunTypes[result]! }
    return symbolOf(() => dlopen('libc.so.6', { [name]: symbol }), name)
  }
  const location = bind('__errno_location', 'intptr_t', [])()
  return {
    bind,
    text,
    texts(values) {
      const list = values.map((value) => (value === null ? null : text(value)))
      pointedTo.push(list)
      return BigUint64Array.from(list, (bytes) => (bytes ? BigInt(ptr(bytes)) : 0n))
    },
    errno: () => read.i32(location),
  }
}

/** A list of pointers keeps nothing alive: this does. Only execve(2) has such lists. */
const pointedTo: unknown[] = []

/** Each call is compiled, which some places refuse. Bun returns some of its errors and throws others. */
function symbolOf(open: () => ReturnType<typeof Bun.FFI.dlopen>, name: string): Call {
  let cause: unknown
  try {
    const opened = open()
    if (!(opened instanceof Error)) return opened.symbols[name]!
    cause = opened
  } catch (error) {
    cause = error
  }
  throw new Error(
    `the C library cannot be called (${(cause as Error).message}): memory that is written and then executed is refused here; allow it, with MemoryDenyWriteExecute=no in the systemd unit of the runtime for instance`,
    { cause },
  )
}

let binding: Binding | undefined
let errno = 0

function open(): Binding {
  binding = typeof NS_NET_IMAGE === 'undefined' ? openKoffi() : openBun()
  // Also the rehearsal of the code that reads errno: what runs for the first time allocates, which may change errno.
  if (libc.close(-1) !== -1 || errno !== 9) throw new Error('the C library does not tell errno') // EBADF
  return binding
}

const hasZero = (value: string | null): boolean => value?.includes('\0') ?? false

function lookUp(name: keyof Libc): Call {
  const { bind, text, texts, errno: readErrno } = binding ?? open()
  const [result, parameters] = prototypes[name]
  const native = bind(name, result, parameters)
  return (...values) => {
    for (let i = 0; i < values.length; i++) {
      const value = values[i]
      const isText = typeof value === 'string'
      if (!isText && !Array.isArray(value)) continue
      // For C the text would end at the zero and be another one.
      if (isText ? hasZero(value) : value.some(hasZero)) {
        errno = 22 // EINVAL
        return -1
      }
      values[i] = isText ? text(value) : texts(value)
    }
    const returned = native(...values)
    if (returned === -1) errno = readErrno()
    return returned
  }
}

/** Each is looked up at its first use, so nobody pays for calls that are not made. */
function foreignCalls(): Libc {
  const calls: Partial<Record<keyof Libc, Call>> = {}
  for (const name of Object.keys(prototypes) as (keyof Libc)[])
    calls[name] = (...values) => {
      const call = lookUp(name)
      calls[name] = call
      return call(...values)
    }
  return calls as Libc
}

export const libc: Libc = typeof NS_NET_ENGINE === 'undefined' ? foreignCalls() : (engine.libc as unknown as Libc)

/** errno of the call just made. Read it in the statement after the call. */
export function lastErrno(): number {
  return typeof NS_NET_ENGINE === 'undefined' ? errno : engine.errno()
}

/** Returns what the call returned, or throws the {@link KernelError} that says what was attempted. */
export function checked(returned: number, operation: string, subject: string): number {
  if (returned >= 0) return returned
  throw new KernelError(operation, subject, lastErrno())
}
