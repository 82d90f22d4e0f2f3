import { KernelError } from '../netlink-lib/errors.ts'
import { isExecutable } from '../netlink-lib/files.ts'
import type { Family } from '../netlink-lib/ip.ts'
import { journal } from '../netlink-lib/journal.ts'
import { runProgram } from '../netlink-lib/program.ts'
import { BackendMissing, NatError } from './errors.ts'
import { heldLock } from './users.ts'

/*
 * The tables of iptables, by its own programs: they alone know whether this machine keeps it in nf_tables or in the
 * older xtables. Nothing passes through a shell.
 */

/** Seconds to wait for the lock that the xtables variant takes; the reference plugins wait for ever. */
const lockWait = '5'

/** Where the programs are when PATH does not say; a container runtime's plugin may be started without one. */
const usualPlaces = ['/usr/sbin', '/sbin', '/usr/bin', '/bin', '/usr/local/sbin']

/** A program of iptables did not do what it was asked for. */
export class IptablesFailed extends NatError {
  override readonly name = 'IptablesFailed'
  readonly status: number
  constructor({ command, status, stderr }: Ended, details?: string) {
    super('refused', `${command.join(' ')}: exit ${status}: ${stderr.trim() || 'no explanation'}`, details)
    this.status = status
  }
}

const placesToLook = (): string[] => [
  ...(process.env.PATH ?? '').split(':').filter((place) => place.startsWith('/')),
  ...usualPlaces,
]

/** Path of an installed program. */
function placeOf(name: string): string | undefined {
  return placesToLook()
    .map((place) => `${place}/${name}`)
    .find(isExecutable)
}

/** Throws unless everything is there that a change of the nat table needs. */
export function requirePrograms(): void {
  for (const name of ['iptables-save', 'iptables-restore', 'ip6tables-save', 'ip6tables-restore']) findProgram(name)
}

export const hasProgram = (name: string): boolean => placeOf(name) !== undefined

function findProgram(name: string): string {
  const found = placeOf(name)
  if (found !== undefined) return found
  throw new BackendMissing(
    `${name} is not installed (looked in ${placesToLook().join(', ')})`,
    'install iptables, or choose the backend "nftables"',
  )
}

export interface Ended {
  readonly command: readonly string[]
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

/** Runs a program to its end, whatever its status. */
export function run(name: string, args: readonly string[], input = ''): Ended {
  const command = [name, ...args]
  const obeyed = journal?.before({ kind: 'program', command, input })
  const { error, status, stdout, stderr } = runProgram({
    file: findProgram(name),
    args,
    input,
    env: { LC_ALL: 'C' },
    keepFd: heldLock(),
    timeoutMs: 30_000,
  })
  // EPIPE: it ended before it had read its input; what it printed says why.
  const endedEarly = error?.code === 'EPIPE' && (status ?? 0) !== 0
  if (error && !endedEarly) throw new Error(`${command.join(' ')}: ${error.code}`)
  // Exit 4 is "resource problem" and says no more; only the text tells a taken lock from a missing privilege.
  if (status === 4 && stderr.includes('xtables lock'))
    throw new KernelError(command.join(' '), 'rules', 11, stderr.trim())
  if (status === 0) obeyed?.()
  return { command, status: status ?? 128, stdout, stderr }
}

/** `details` of the error when it has failed. */
function succeeded(ended: Ended, details?: string): string {
  if (ended.status !== 0) throw new IptablesFailed(ended, details)
  return ended.stdout
}

const programOf = (family: Family): 'iptables' | 'ip6tables' => (family === 4 ? 'iptables' : 'ip6tables')

/** Throws when there is no nat table, or no right to look at it. */
export function probeNat(family: Family): void {
  succeeded(run(programOf(family), ['-w', lockWait, '-t', 'nat', '-S', 'OUTPUT']))
}

export type Table = 'nat' | 'filter'

/** The lines of a table: `:CHAIN …` and `-A CHAIN …`. */
export function listTable(table: Table, family: Family): string[] {
  return succeeded(run(`${programOf(family)}-save`, ['-t', table])).split('\n')
}

/** Changes a table by these lines, all of them or none. `:CHAIN -` empties a chain or creates it. */
export function changeTable(table: Table, family: Family, lines: readonly string[]): void {
  const input = [`*${table}`, ...lines, 'COMMIT', ''].join('\n')
  succeeded(
    run(`${programOf(family)}-restore`, ['--noflush', '-w', lockWait], input),
    `asked for:\n${lines.join('\n')}`,
  )
}

export const listNat = (family: Family): string[] => listTable('nat', family)

export const changeNat = (family: Family, lines: readonly string[]): void => changeTable('nat', family, lines)

/** False when a rule or chain that the lines speak of is not there: then nothing was changed. */
export function tryChangeNat(family: Family, lines: readonly string[]): boolean {
  try {
    changeNat(family, lines)
    return true
  } catch (error) {
    if (error instanceof IptablesFailed && error.status < 3) return false
    throw error
  }
}

/** Rules as iptables-save prints them, but without its quotes, so that they can be compared. */
export const withoutQuotes = (line: string): string => line.replaceAll('"', '')
