import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import type { Duplex } from 'node:stream'
import { CliError } from '../errors.ts'
import { netnsPath } from '../labs.ts'
import type { Container } from './options.ts'
import { requirePrograms } from './programs.ts'
import { leaveOldRoot, setupOf } from './setup.ts'

/**
 * The process of a container: programs of util-linux that become one another and last the command. ns-net stays beside
 * it, and it dies with ns-net.
 */

/** Joins the control groups given before `--`, then becomes the rest. */
const joinCgroups = `
  while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs" || exit 125; shift; done
  shift
  exec "$@"`

/**
 * Waits for the rest, the first process of a new pid namespace, and ends with its exit code or 128 and its signal. Instead
 * of `unshare --fork`, which fails when the signal is SIGKILL (util-linux 2.38). Signals are caught rather than ignored,
 * as what is ignored stays so for the command; the shell's own word about the signal is not wanted. The rest tells its pid
 * as the host counts, which only the /proc of the host says.
 */
const waitForEnd = `
  trap : INT TERM HUP QUIT
  exec 4>&2 2>/dev/null
  (read -r pid _ </proc/self/stat; printf '%s ' "$pid" >&3; exec "$@" 2>&4 4>&-)
  exit $?`

/**
 * Ends the line with the pid, waits until everything around is set up, and becomes the command. By then nothing is left
 * that a root without programs would have to offer.
 */
const waitForSetup = `
  [ "$LEAVE_ROOT" = no ] || cd /
  echo >&3
  read -r _ <&3 || exit 125
  unset LEAVE_ROOT
  command -v "$1" >/dev/null || { echo "ns-net: command not found: $1" >&2; exit 127; }
  exec "$@" 3>&-`

/** The programs, first to last; each ends in the one after it. */
function chain(container: Container, cgroups: readonly string[], command: readonly string[]): string[] {
  const { nsenter, setpriv, sh, unshare } = requirePrograms('nsenter', 'setpriv', 'sh', 'unshare')
  const { name, network, namespaces, rootfs = '', clocks, capabilities, newPrivileges } = container
  const kinds = namespaces.map((kind) => `--${kind}`)
  const times = Object.entries(clocks).flatMap(([clock, offset]) =>
    offset === undefined ? [] : [`--${clock}`, offset],
  )
  const bounds =
    capabilities === 'all' ? [] : [`--bounding-set=-all${capabilities.map((each) => `,+${each}`).join('')}`]
  const rights = [...bounds, ...(newPrivileges ? [] : ['--inh-caps=-all', '--no-new-privs'])]
  const dieWithParent = [setpriv, '--pdeathsig', 'KILL']
  return [
    ...dieWithParent,
    ...(cgroups.length > 0 ? [sh, '-c', joinCgroups, 'sh', ...cgroups, '--'] : []),
    ...(network === 'host' ? [] : [nsenter, `--net=${netnsPath(name)}`]),
    ...[unshare, ...kinds, ...(namespaces.includes('user') ? ['--map-root-user'] : []), ...times, '--'],
    ...[sh, '-c', waitForEnd, 'sh'],
    // /proc is mounted by the first process itself: from outside it would take another one in there, and a number.
    ...[unshare, '--mount', ...(namespaces.includes('pid') ? [`--mount-proc=${rootfs}/proc`] : []), '--'],
    ...[...dieWithParent, ...rights],
    ...[sh, '-c', waitForSetup, 'ns-net', ...command],
  ]
}

const rootPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** Starts the command and resolves to its exit code, 128 and the number of the signal that ended it. */
export async function runCommand(
  container: Container,
  cgroups: readonly string[],
  command: readonly string[],
  signals: Signals,
): Promise<number> {
  const [program, ...args] = chain(container, cgroups, command)
  const inRoot = container.rootfs !== undefined
  const child = spawn(program!, args, {
    stdio: ['inherit', 'inherit', 'inherit', 'pipe'],
    env: { ...process.env, LEAVE_ROOT: inRoot ? 'yes' : 'no', ...(inRoot && { PATH: rootPath }) },
  })
  const ended = new Promise<number>((resolve, reject) => {
    child.on('exit', (code, signal) => resolve(code ?? 128 + os.constants.signals[signal!]))
    child.on('error', reject)
  })
  try {
    const pid = await firstLine(child)
    if (pid === undefined) {
      await ended
      throw new CliError('exec', 'the container could not be made') // the program that failed has said why
    }
    setUp(container, pid)
    signals.passOnTo(pid, container.namespaces.includes('pid'))
    channelOf(child).write('go\n')
  } catch (error) {
    child.kill('SIGKILL')
    await ended
    throw error
  }
  const status = await ended
  return signals.killedFor === undefined ? status : 128 + os.constants.signals[signals.killedFor]
}

const channelOf = (child: ChildProcess) => child.stdio[3] as Duplex

/** The pid of the process that waits; undefined when it ended before. */
function firstLine(child: ChildProcess): Promise<number | undefined> {
  return new Promise((resolve) => {
    let text = ''
    channelOf(child).on('data', (bytes: Buffer) => {
      text += bytes
      if (text.endsWith('\n')) resolve(Number(text))
    })
    channelOf(child).on('close', () => resolve(undefined))
    channelOf(child).on('error', () => resolve(undefined)) // it ended before it was told to go on
    child.on('exit', () => resolve(undefined))
    child.on('error', () => resolve(undefined))
  })
}

function setUp(container: Container, pid: number): void {
  const { nsenter, sh } = requirePrograms('nsenter', 'sh', 'mount', 'umount', 'pivot_root', 'hostname')
  const { network, namespaces, rootfs } = container
  const enter = [`--target=${pid}`, '--mount', ...(network === 'host' ? [] : ['--net'])]
  // Not user: the one who sets up keeps the rights that the container has not. Not pid: the command's first child is 2.
  if (namespaces.includes('uts')) enter.push('--uts')
  const { script, env } = setupOf(container)
  must('set up the container', nsenter, [...enter, sh, '-ec', script], env)
  if (rootfs !== undefined) must('leave the old root', nsenter, [`--target=${pid}`, '--mount', ...leaveOldRoot])
}

function must(what: string, program: string, args: readonly string[], env: Record<string, string> = {}): void {
  const path = `${process.env.PATH ?? ''}:${rootPath}`
  const { status, error, stderr } = spawnSync(program, args, {
    env: { ...process.env, PATH: path, ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
  })
  if (status === 0) return
  const why = error?.message ?? stderr.trim().split('\n').at(-1)
  throw new CliError('exec', `cannot ${what}: ${why}`)
}

/** What ns-net is told to end with is for the command. */
export interface Signals extends Disposable {
  /** The command could not be ended by this signal, so it was killed in its place. */
  readonly killedFor: NodeJS.Signals | undefined
  passOnTo(pid: number, isInit: boolean): void
}

const passedOn = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const

export function catchSignals(): Signals {
  let command: { pid: number; isInit: boolean } | undefined
  /** `early`: came before there was a command. */
  const state: { early?: NodeJS.Signals; killedFor?: NodeJS.Signals } = {}
  const handlers = passedOn.map((signal) => {
    const handle = () => {
      if (!command) state.early ??= signal
      else if (command.isInit && !isHandled(command.pid, signal)) {
        state.killedFor ??= signal
        kill(command.pid, 'SIGKILL')
      } else if (!isFromTerminal(signal)) kill(command.pid, signal)
    }
    process.on(signal, handle)
    return () => process.off(signal, handle)
  })
  return {
    get killedFor() {
      return state.killedFor
    },
    passOnTo(pid, isInit) {
      command = { pid, isInit }
      if (!state.early) return
      state.killedFor = state.early
      kill(pid, 'SIGKILL')
    },
    [Symbol.dispose]: () => handlers.forEach((remove) => void remove()),
  }
}

/**
 * True when the process catches, ignores or blocks the signal. The first process of a pid namespace gets no signal that it
 * has no handler for (pid_namespaces(7)): it would never end by Ctrl-C.
 */
function isHandled(pid: number, signal: NodeJS.Signals): boolean {
  const bit = 1n << BigInt(os.constants.signals[signal] - 1)
  const status = readIfThere(`/proc/${pid}/status`)
  return ['SigBlk', 'SigIgn', 'SigCgt'].some((field) => {
    const mask = new RegExp(`^${field}:\\s+([0-9a-f]+)`, 'm').exec(status)?.[1]
    return mask !== undefined && (BigInt(`0x${mask}`) & bit) !== 0n
  })
}

/** Ctrl-C and Ctrl-\ go to the whole foreground of a terminal, so the command has them already (proc(5): pgrp, tpgid). */
function isFromTerminal(signal: NodeJS.Signals): boolean {
  if (signal !== 'SIGINT' && signal !== 'SIGQUIT') return false
  const fields = readIfThere('/proc/self/stat')
    .replace(/^.*\) /, '')
    .split(' ')
  return fields[2] === fields[5]
}

function readIfThere(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8')
  } catch {
    return '' // the process ended
  }
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // it ended by itself
  }
}
