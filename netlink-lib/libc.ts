import { KernelError } from './errors.ts'

/*
 * The C library calls that Node does not offer, through koffi. Nothing is loaded before the first call.
 *
 * In the compiled image koffi's binary is a file beside the image and is loaded by that absolute path: an embedded one
 * would be extracted to a predictable name in /tmp (CWE-377), and koffi's own loader costs 4 ms. Under Node it is an
 * ordinary package.
 */
declare const NS_NET_IMAGE: boolean | undefined // defined by scripts/build.mjs

interface Libc {
  socket(domain: number, type: number, protocol: number): number
  bind(fd: number, address: Uint8Array, length: number): number
  setsockopt(fd: number, level: number, name: number, value: Uint8Array, length: number): number
  send(fd: number, buffer: Uint8Array, length: number, flags: number): number
  sendto(fd: number, buffer: Uint8Array, length: number, flags: number, address: Uint8Array, size: number): number
  recv(fd: number, buffer: Uint8Array, length: number, flags: number): number
  close(fd: number): number
  ioctl(fd: number, request: number): number
  setns(fd: number, kind: number): number
  unshare(flags: number): number
  mount(source: string | null, target: string, type: string | null, flags: number, data: string | null): number
  umount2(target: string, flags: number): number
  flock(fd: number, operation: number): number
  execve(path: string, argv: (string | null)[], envp: (string | null)[]): number
  signal(signal: number, handler: number): number
}

/** Return type and parameter types in koffi's own notation, one C prototype (man pages, section 2) per line. */
const prototypes: Readonly<Record<keyof Libc, readonly [result: string, parameters: readonly string[]]>> = {
  socket: ['int', ['int', 'int', 'int']],
  bind: ['int', ['int', 'void *', 'uint32_t']],
  setsockopt: ['int', ['int', 'int', 'int', 'void *', 'uint32_t']],
  send: ['intptr_t', ['int', 'void *', 'size_t', 'int']],
  sendto: ['intptr_t', ['int', 'void *', 'size_t', 'int', 'void *', 'uint32_t']],
  recv: ['intptr_t', ['int', 'void *', 'size_t', 'int']],
  close: ['int', ['int']],
  ioctl: ['int', ['int', 'unsigned long']],
  setns: ['int', ['int', 'int']],
  unshare: ['int', ['int']],
  mount: ['int', ['const char *', 'const char *', 'const char *', 'unsigned long', 'const char *']],
  umount2: ['int', ['const char *', 'int']],
  flock: ['int', ['int', 'int']],
  execve: ['int', ['const char *', 'const char **', 'const char **']],
  signal: ['intptr_t', ['int', 'intptr_t']],
}

interface Koffi {
  load(path: null): { func(name: string, result: string, parameters: readonly string[]): unknown }
  errno(): number
}

let koffi: Koffi | undefined
let library: ReturnType<Koffi['load']>

function loadKoffi(): Koffi {
  if (koffi) return koffi
  if (typeof NS_NET_IMAGE !== 'undefined') {
    const file = `${process.execPath.slice(0, process.execPath.lastIndexOf('/'))}/koffi.node`
    const module: { exports: unknown } = { exports: {} }
    try {
      process.dlopen(module, file)
    } catch (cause) {
      throw new Error(
        `${file} cannot be loaded: it must stand beside the executable; copy the whole folder of executables`,
        {
          cause,
        },
      )
    }
    koffi = module.exports as Koffi
  } else {
    koffi = process.getBuiltinModule('node:module').createRequire(import.meta.url)('koffi') as Koffi
  }
  library = koffi.load(null)
  return koffi
}

/** Each symbol is looked up at its first use, so no plugin pays for calls it doesn't make. */
export const libc: Libc = Object.create(null)
for (const name of Object.keys(prototypes) as (keyof Libc)[]) {
  Object.defineProperty(libc, name, {
    configurable: true,
    get() {
      loadKoffi()
      const value = library.func(name, ...prototypes[name])
      Object.defineProperty(libc, name, { value })
      return value
    },
  })
}

/** errno of the libc call just made. Read it in the statement after the call. */
export function lastErrno(): number {
  return loadKoffi().errno()
}

/** Returns what the call returned, or throws the {@link KernelError} that says what was attempted. */
export function checked(returned: number, operation: string, subject: string): number {
  if (returned >= 0) return returned
  throw new KernelError(operation, subject, lastErrno())
}
