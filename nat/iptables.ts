import { spawnSync } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { KernelError } from '../netlink-lib/errors.ts'
import type { Family } from '../netlink-lib/ip.ts'

/*
 * The nat table of iptables, by its own programs: they alone know whether this machine keeps it in nf_tables or in the
 * older xtables. Nothing passes through a shell.
 */

/** Seconds to wait for the lock that the xtables variant takes; the reference plugins wait for ever. */
const lockWait = '5'

/** Where the programs are when PATH does not say; a container runtime's plugin may be started without one. */
const usualPlaces = ['/usr/sbin', '/sbin', '/usr/bin', '/bin', '/usr/local/sbin']

export class IptablesFailed extends Error {
  override readonly name = 'IptablesFailed'
  constructor(
    readonly command: readonly string[],
    readonly status: number,
    /** What it printed on stderr. */
    readonly output: string,
  ) {
    super(`${command.join(' ')}: exit ${status}: ${output.trim() || 'no explanation'}`)
  }
}

function findProgram(name: string): string {
  const places = [...(process.env.PATH ?? '').split(':').filter((place) => place.startsWith('/')), ...usualPlaces]
  for (const place of places) {
    try {
      accessSync(`${place}/${name}`, constants.X_OK)
      return `${place}/${name}`
    } catch {
      // Not in this place.
    }
  }
  throw new Error(
    `${name} is not installed (looked in ${places.join(', ')}); install iptables, or choose the backend "nftables"`,
  )
}

interface Ended {
  readonly command: readonly string[]
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

function run(name: string, args: readonly string[], input = ''): Ended {
  const { error, status, stdout, stderr } = spawnSync(findProgram(name), args, {
    input,
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C' },
    timeout: 30_000,
    killSignal: 'SIGKILL',
    maxBuffer: 256 * 1024 * 1024,
  })
  const command = [name, ...args]
  // EPIPE: it ended before it had read its input; what it printed says why.
  const endedEarly = (error as { code?: string } | undefined)?.code === 'EPIPE' && (status ?? 0) !== 0
  if (error && !endedEarly) throw new Error(`${command.join(' ')}: ${error.message}`, { cause: error })
  // Exit 4 is "resource problem" and says no more; only the text tells a taken lock from a missing privilege.
  if (status === 4 && stderr.includes('xtables lock'))
    throw new KernelError(command.join(' '), 'nat', 11, stderr.trim())
  return { command, status: status ?? 128, stdout, stderr }
}

function succeeded(ended: Ended): string {
  if (ended.status !== 0) throw new IptablesFailed(ended.command, ended.status, ended.stderr)
  return ended.stdout
}

const programOf = (family: Family): 'iptables' | 'ip6tables' => (family === 4 ? 'iptables' : 'ip6tables')

/** True when the rule is there. It is written as iptables-save prints it, without quotes: `-A CHAIN …`. */
export function hasNatRule(family: Family, rule: string): boolean {
  const specification = rule.replace(/^-A /, '-C ').split(' ')
  // Exit 1: no such rule; 2: the chain that it leads to is not there.
  return run(programOf(family), ['-w', lockWait, '-t', 'nat', ...specification]).status === 0
}

/** The lines of the nat table: `:CHAIN …` and `-A CHAIN …`. */
export function listNat(family: Family): string[] {
  return succeeded(run(`${programOf(family)}-save`, ['-t', 'nat'])).split('\n')
}

/** Changes the nat table by these lines, all of them or none. `:CHAIN -` empties a chain or creates it. */
export function changeNat(family: Family, lines: readonly string[]): void {
  const input = ['*nat', ...lines, 'COMMIT', ''].join('\n')
  succeeded(run(`${programOf(family)}-restore`, ['--noflush', '-w', lockWait], input))
}
