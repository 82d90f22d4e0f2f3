import type { Engine } from '../engine/engine.ts'
import { errnoCode } from './errors.ts'

/*
 * Another program, run to its end without a shell: in the plugins' executable by the engine, elsewhere by node:child_process.
 */
declare const NS_NET_ENGINE: boolean | undefined // defined by scripts/plugins.mjs
declare const engine: Engine

export interface Program {
  /** Its path, which it is told as argument 0. */
  readonly file: string
  /** The arguments after that. */
  readonly args?: readonly string[]
  /** What it reads from its stdin. */
  readonly input: string
  /** Variables beside ours, or instead of them. */
  readonly env: Readonly<Record<string, string>>
  /** Its stderr is ours; else it is captured. */
  readonly passStderr?: boolean
  /** A descriptor of ours that it gets as its descriptor 3. */
  readonly keepFd?: number
  /** Then it is killed. */
  readonly timeoutMs?: number
}

export interface ProgramEnd {
  /** Undefined when a signal ended it, or it never ran. */
  readonly status?: number
  /** `SIGKILL` */
  readonly signal?: string
  readonly stdout: string
  readonly stderr: string
  /**
   * Why it did not run as asked: ETIMEDOUT; EPIPE when it ended, or closed its stdin, before it had read all; what execve(2)
   * says.
   */
  readonly error?: { readonly code: string }
}

/** Returns however it ends, and also when there is no such program. */
export function runProgram(program: Program): ProgramEnd {
  return typeof NS_NET_ENGINE === 'undefined' ? runByNode(program) : runByEngine(program)
}

function runByNode({ file, args = [], input, env, passStderr, keepFd, timeoutMs }: Program): ProgramEnd {
  const { spawnSync } = process.getBuiltinModule('node:child_process')
  const { error, status, signal, stdout, stderr } = spawnSync(file, args, {
    input,
    stdio: ['pipe', 'pipe', passStderr ? 2 : 'pipe', ...(keepFd === undefined ? [] : [keepFd])],
    encoding: 'utf8',
    env: { ...process.env, ...env },
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
    maxBuffer: 256 * 1024 * 1024,
  })
  return {
    status: status ?? undefined,
    signal: signal ?? undefined,
    stdout: stdout ?? '',
    stderr: stderr ?? '',
    error: error && { code: (error as { code?: string }).code ?? error.message },
  }
}

function runByEngine({ file, args = [], input, env, passStderr, keepFd = -1, timeoutMs = -1 }: Program): ProgramEnd {
  const { errno, status, signal, stdout, stderr } = engine.runProgram({
    command: [file, ...args],
    environment: Object.entries({ ...process.env, ...env }).map(([name, value]) => `${name}=${value}`),
    input: Buffer.from(input),
    passStderr: passStderr ? 1 : 0,
    keepFd,
    timeoutMs,
  })
  return {
    status: status < 0 || (errno !== 0 && errno !== EPIPE) ? undefined : status,
    signal: signal === 0 ? undefined : `SIG${signalNames[signal - 1] ?? signal}`,
    stdout,
    stderr,
    error: errno === 0 ? undefined : { code: errnoCode(errno) },
  }
}

const EPIPE = 32

/** From 1, the same on every architecture that Node runs on (signal(7)). */
const signalNames =
  'HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS'.split(
    ' ',
  )
