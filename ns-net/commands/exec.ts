import { type ChildProcess, spawn } from 'node:child_process'
import os from 'node:os'
import type { Readable } from 'node:stream'
import { setTimeout } from 'node:timers/promises'
import { execIn, execInProcess } from '../enter.ts'
import { CliError, toCliError } from '../errors.ts'
import { isNetnsName, listLabs, netnsPath } from '../labs.ts'
import { writeWhole } from '../live.ts'
import { formatError, type Report } from '../output.ts'
import { parseTarget, type Target } from '../targets.ts'
import { hasLabels } from './del.ts'

export interface ExecOptions {
  /** All namespaces of a process, not only that of its network. */
  readonly allNs?: boolean
  /** In every lab, instead of a target. */
  readonly all?: boolean
  /** `KEY=VALUE`: in every lab with all of these labels, instead of a target. */
  readonly selector?: readonly string[]
}

/** Runs a command at a target, in place of this process. */
export function exec(text: string, command: readonly string[], { allNs = false }: ExecOptions): never {
  const target = parseTarget(text)
  try {
    if (allNs) return execInProcess(requireProcess(text, target), command)
    return execIn({ netns: target.netns, name: target.kind === 'name' ? target.name : undefined }, command)
  } catch (error) {
    throw notEntered(error, `cannot run ${command[0]} in "${text}"`)
  }
}

/** Only a process has namespaces of other kinds. */
export function requireProcess(text: string, target: Target): number {
  if (target.kind === 'process') return target.pid
  throw new CliError(
    'usage',
    `--all-ns: "${text}" is a network namespace and nothing else`,
    'ns-net ps shows the processes inside; name one of them as pid:N',
  )
}

/** Whatever kept the command from being run; 125 unless there is a better code. */
export function notEntered(error: unknown, what: string): CliError {
  const { kind, message, hint } = toCliError(error, what)
  return new CliError(kind === 'failed' ? 'exec' : kind, message, hint)
}

interface Run {
  readonly lab: string
  /** What it has said and is not printed yet. */
  readonly said: { readonly fd: 1 | 2; readonly text: string }[]
  exitCode?: number
}

const atOnce = 8

/** Runs a command in each of the labs, several at the same time, begun and told in the order of their names. */
export async function execInLabs(command: readonly string[], options: ExecOptions, json: boolean): Promise<Report> {
  const runs = chooseLabs(command, options).map((lab): Run => ({ lab, said: [] }))
  const print = json ? () => true : printerFor(runs)
  using children = startChildren()
  const waiting = [...runs]
  const tell = () => {
    if (!print()) children.stop('SIGPIPE')
  }
  const runInTurn = async () => {
    for (let run = waiting.shift(); run && !children.stoppedBy; run = waiting.shift()) {
      run.exitCode = await children.run(run, command, tell)
      tell()
    }
  }
  await Promise.all(Array.from({ length: atOnce }, runInTurn))
  if (children.stoppedBy) process.exit(128 + os.constants.signals[children.stoppedBy])
  const failed = runs.filter(({ exitCode }) => exitCode !== 0).map(({ lab, exitCode }) => `${lab} ${exitCode}`)
  if (failed.length > 0)
    writeWhole(2, formatError(new CliError('negative', `exit codes other than 0: ${failed.join(', ')}`), json))
  const textOf = ({ said }: Run, wanted: 1 | 2) => said.flatMap(({ fd, text }) => (fd === wanted ? text : [])).join('')
  return {
    json: runs.map((run) => ({ lab: run.lab, exitCode: run.exitCode, stdout: textOf(run, 1), stderr: textOf(run, 2) })),
    text: '',
    negative: failed.length > 0,
  }
}

function chooseLabs([first, ...rest]: readonly string[], { all, selector, allNs }: ExecOptions): string[] {
  const which = all ? '--all' : '-l KEY=VALUE'
  const refuse = (message: string): never => {
    throw new CliError('usage', message, `ns-net exec ${which} -- COMMAND`)
  }
  if (all && selector) refuse('--all and --selector exclude each other')
  if (allNs)
    refuse(`--all-ns is for a process: with ${which} it is labs, which are network namespaces and nothing else`)
  if (first === undefined) refuse('there is no command to run')
  // commander takes the first `--` away, so one that is left stands behind a target.
  if (isNetnsName(first!) && rest[0] === '--') refuse(`${which} and a target ("${first}") exclude each other`)
  const labs = listLabs().filter((lab) => !selector || hasLabels(lab, selector))
  if (labs.length > 0) return labs.map(({ name }) => name).sort()
  if (!selector) throw new CliError('notFound', 'there is no lab', 'ns-net add NAME makes one')
  throw new CliError('notFound', `no lab has the label ${selector.join(' and ')}`, 'ns-net ls --json shows the labels')
}

/**
 * Prints whole lines behind the name of their lab, lab after lab: what the first that still runs says comes at once, what
 * the ones after it say is kept until it is their turn. False when nobody reads any more.
 */
function printerFor(runs: readonly Run[]): () => boolean {
  const width = Math.max(...runs.map(({ lab }) => lab.length))
  let turn = 0
  return () => {
    for (let run = runs[turn]; run; run = runs[++turn]) {
      const ended = run.exitCode !== undefined
      const prefix = `${run.lab.padEnd(width)}  `
      for (const { fd, text } of takeLines(run, ended)) {
        const lines = text.replaceAll(/[^\n]*\n/g, (line) => prefix + line)
        if (!writeWhole(fd, lines)) return false
      }
      if (!ended) break
    }
    return true
  }
}

/** Takes the whole lines out of what a command has said; of one that has ended all, with an end to the last line. */
function takeLines({ said }: Run, ended: boolean): Run['said'] {
  const rests = { 1: '', 2: '' }
  const lines = said.splice(0).map(({ fd, text }) => {
    const all = rests[fd] + text
    const end = all.lastIndexOf('\n') + 1
    rests[fd] = all.slice(end)
    return { fd, text: all.slice(0, end) }
  })
  const left = ([1, 2] as const).flatMap((fd) => (rests[fd] === '' ? [] : { fd, text: rests[fd] }))
  if (ended) return [...lines, ...left.map(({ fd, text }) => ({ fd, text: `${text}\n` }))]
  said.push(...left)
  return lines
}

/** Commands that run now. A signal to ns-net is for all of them, and then no more are begun. */
function startChildren() {
  const children = new Set<ChildProcess>()
  let stoppedBy: NodeJS.Signals | undefined
  let tellStop: () => void
  const stopped = new Promise<void>((resolve) => (tellStop = resolve))
  const stop = (signal: NodeJS.Signals) => {
    stoppedBy ??= signal
    for (const child of children) child.kill(signal)
    tellStop()
  }
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  for (const signal of signals) process.on(signal, stop)
  return {
    get stoppedBy() {
      return stoppedBy
    },
    stop,
    /** Resolves to the exit code when nobody can say anything any more; after a signal when the command itself cannot. */
    async run(run: Run, command: readonly string[], hear: () => void): Promise<number> {
      const child = startIn(run, command, hear)
      children.add(child)
      const closed = new Promise<number>((resolve, reject) => {
        child.on('error', reject)
        child.on('close', (code, signal) => resolve(exitCodeOf(code, signal)))
      })
      const exited = new Promise<number>((resolve) => {
        child.on('exit', (code, signal) => resolve(exitCodeOf(code, signal)))
      })
      const letGo = stopped.then(() => exited).then((code) => setTimeout(lastWords, code))
      const code = await Promise.race([closed, letGo])
      children.delete(child)
      return code
    },
    [Symbol.dispose]() {
      for (const signal of signals) process.off(signal, stop)
    },
  }
}

/** Milliseconds in which what a command has said before it ended is still read. */
const lastWords = 200

const exitCodeOf = (code: number | null, signal: NodeJS.Signals | null): number =>
  code ?? 128 + os.constants.signals[signal!]

/** By `ns-net exec`, which becomes the command. */
function startIn({ lab, said }: Run, command: readonly string[], hear: () => void): ChildProcess {
  const child = spawn(process.execPath, ['exec', targetOf(lab), '--', ...command], {
    argv0: 'ns-net',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const listen = (fd: 1 | 2, stream: Readable) =>
    stream.setEncoding('utf8').on('data', (text: string) => {
      said.push({ fd, text })
      hear()
    })
  listen(1, child.stdout)
  listen(2, child.stderr)
  return child
}

/** A lab that somebody named "host" must not be taken for the host. */
const targetOf = (lab: string): string => (parseTarget(lab).kind === 'name' ? lab : `path:${netnsPath(lab)}`)
