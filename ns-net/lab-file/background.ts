import { spawn } from 'node:child_process'
import fs from 'node:fs'
import { pause } from '../../netlink-lib/pause.ts'
import { removeIfEmpty, stateDirectory } from '../labs.ts'

/**
 * Commands of a lab file's `exec`, in the background inside their lab: each has a session of its own and a log,
 *
 *   /run/ns-net/exec/web/commands.json
 *   /run/ns-net/exec/web/0.log
 *
 * They are started once and not kept alive. A process is known again by its start time, as its number may belong to
 * somebody else by now; where we were killed before it was written down, by a variable in its environment.
 */
export interface BackgroundCommand {
  readonly command: string
  /** Value of {@link marker}. */
  readonly id: string
  readonly log: string
  readonly pid?: number
  /** In clock ticks since boot, field 22 of /proc/PID/stat. */
  readonly started?: string
}

const marker = 'NS_NET_COMMAND'
const root = `${stateDirectory}/exec`
const recordOf = (lab: string) => `${root}/${lab}/commands.json`

/** What was started in a lab; what was about to be started when we were killed, if it was. */
export function listCommands(lab: string): BackgroundCommand[] {
  return readCommands(lab).flatMap((command) => {
    if (command.pid !== undefined) return command
    const pid = findLeader(command.id)
    return pid === undefined ? [] : { ...command, pid, started: startTime(pid) }
  })
}

function readCommands(lab: string): BackgroundCommand[] {
  try {
    return JSON.parse(fs.readFileSync(recordOf(lab), 'utf8')) as BackgroundCommand[]
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return []
    throw error
  }
}

export const listLabsWithCommands = (): string[] => (fs.existsSync(root) ? fs.readdirSync(root).sort() : [])

function writeCommands(lab: string, commands: readonly BackgroundCommand[]): void {
  fs.writeFileSync(`${recordOf(lab)}.new`, JSON.stringify(commands))
  fs.renameSync(`${recordOf(lab)}.new`, recordOf(lab))
}

/** The first process of the session that a command was started as. */
function findLeader(id: string): number | undefined {
  const isLeader = (pid: string) => {
    try {
      const environment = fs.readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0')
      return environment.includes(`${marker}=${id}`) && statOf(Number(pid))?.[3] === pid
    } catch {
      return false // it ended
    }
  }
  const found = fs.readdirSync('/proc').find((name) => /^\d+$/.test(name) && isLeader(name))
  return found === undefined ? undefined : Number(found)
}

/** The fields of /proc/PID/stat from the state on, undefined when it has ended. The name before may hold anything. */
function statOf(pid: number): string[] | undefined {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' ? undefined : fields
  } catch {
    return undefined // it ended
  }
}

const startTime = (pid: number): string | undefined => statOf(pid)?.[19]

export const isRunning = ({ pid, started }: BackgroundCommand): boolean =>
  pid !== undefined && started !== undefined && startTime(pid) === started

/** Starts a command by `ns-net exec`, which becomes it: so the number of the process is known, and stays. */
export function startCommand(lab: string, command: string): void {
  fs.mkdirSync(`${root}/${lab}`, { recursive: true, mode: 0o755 })
  const before = listCommands(lab)
  let n = before.length
  while (before.some(({ log }) => log.endsWith(`/${n}.log`))) n++
  const begun = { command, id: `${lab}.${process.pid}.${Date.now()}.${n}`, log: `${root}/${lab}/${n}.log` }
  writeCommands(lab, [...before, begun])
  const output = fs.openSync(begun.log, 'w', 0o644)
  try {
    const child = spawn(process.execPath, ['exec', lab, '--', 'sh', '-c', command], {
      argv0: 'ns-net',
      cwd: '/',
      detached: true,
      env: { ...process.env, [marker]: begun.id },
      stdio: ['ignore', output, output],
    })
    child.unref()
    const pid = child.pid!
    writeCommands(lab, [...before, { ...begun, pid, started: startTime(pid) }])
  } finally {
    fs.closeSync(output)
  }
}

/** Ends commands with all that they have started: SIGTERM, two seconds, SIGKILL. */
export function endCommands(commands: readonly BackgroundCommand[]): void {
  // The number of a process group is not given away while one of the group is left.
  let groups = commands.filter(isRunning).map(({ pid }) => pid!)
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    groups = groups.filter((group) => send(group, signal))
    for (let waited = 0; waited < 2000 && groups.length > 0; waited += 20) {
      pause(20)
      groups = groups.filter((group) => send(group, 0))
    }
  }
}

/** False when nobody of the group is left. */
function send(group: number, signal: 'SIGTERM' | 'SIGKILL' | 0): boolean {
  try {
    return process.kill(-group, signal)
  } catch {
    return false
  }
}

/** Ends one command of a lab and forgets it. */
export function removeCommand(lab: string, command: BackgroundCommand): void {
  endCommands([command])
  fs.rmSync(command.log, { force: true })
  const rest = listCommands(lab).filter(({ id }) => id !== command.id)
  if (rest.length > 0) writeCommands(lab, rest)
  else forgetCommands(lab)
}

/** Removes what was recorded for a lab that goes. */
export function forgetCommands(lab: string): void {
  fs.rmSync(`${root}/${lab}`, { recursive: true, force: true })
  removeIfEmpty(root)
}
