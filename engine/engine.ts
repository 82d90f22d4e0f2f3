/** What engine.c gives to JavaScript, as the global `engine`; defined in the executables of the plugins only. */
export interface Engine {
  /** Calls of the C library, with the signatures of netlink-lib/libc.ts. */
  readonly libc: Readonly<Record<string, (...values: (number | string | Uint8Array | null)[]) => number>>
  /** errno of the last of these that returned -1. */
  errno(): number
  /** Environment variables. It has no prototype. */
  readonly environment: Record<string, string | undefined>
  readonly pid: number
  /** The executable, all symlinks followed. */
  readonly path: string
  /** Ends the process at once. */
  exit(status: number): never
  /** Milliseconds of a clock that nobody sets. */
  now(): number
  encodeUtf8(text: string): ArrayBuffer
  decodeUtf8(bytes: Uint8Array): string
  parseJson(text: string): unknown
  /** Runs a program to its end. */
  runProgram(given: {
    /** Path of the program and its arguments. */
    readonly command: readonly [string, ...string[]]
    /** `NAME=value` */
    readonly environment: readonly string[]
    readonly input: Uint8Array
    /** 1: it writes to our stderr. */
    readonly passStderr: 0 | 1
    /** A descriptor that is its descriptor 3, or -1. */
    readonly keepFd: number
    /** Milliseconds after which it is killed, or -1. */
    readonly timeoutMs: number
  }): {
    /** 0, or why it could not be run to its end: ETIMEDOUT, EPIPE when it closed its stdin early, what execve(2) says. */
    readonly errno: number
    /** -1 when a signal ended it. */
    readonly status: number
    readonly signal: number
    readonly stdout: string
    readonly stderr: string
  }
}
