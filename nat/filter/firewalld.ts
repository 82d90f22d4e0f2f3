import { BackendMissing, NatError, type NatErrorKind, RuleMissing } from '../errors.ts'
import { type Ended, hasProgram, run } from '../iptables.ts'

/*
 * firewalld drops what no zone of its own accepts, and no rule elsewhere can undo that. So the containers' subnets become
 * sources of a zone, in the running configuration only, by its own program.
 */

const program = 'firewall-cmd'

const ask = (...args: string[]): Ended => run(program, args)

const isRunning = (): boolean => hasProgram(program) && ask('--state').status === 0

/** Throws when the daemon cannot be asked. */
export function requireFirewalld(): void {
  if (isRunning()) return
  throw new BackendMissing(
    'backend "firewalld" was asked for, and firewalld is not running',
    `${hasProgram(program) ? 'start it' : `install ${program}`}, or choose another backend`,
  )
}

/** Repeating it is fine; a subnet that belongs to another zone is refused. */
export function addSource(zone: string, subnet: string): void {
  const ended = ask(`--zone=${zone}`, `--add-source=${subnet}`)
  if (ended.status === 0 || says(ended, 'ALREADY_ENABLED', 'ZONE_ALREADY_SET')) return
  throw failed(ended, says(ended, 'ZONE_CONFLICT') ? 'duplicate' : 'refused')
}

/** Absent is done, also when the daemon has ended and forgotten it. */
export function deleteSource(zone: string, subnet: string): void {
  if (!hasProgram(program)) return
  const ended = ask(`--zone=${zone}`, `--remove-source=${subnet}`)
  if (ended.status === 0 || says(ended, 'NOT_ENABLED', 'UNKNOWN_SOURCE', 'NOT_RUNNING', 'not running')) return
  throw failed(ended, 'refused')
}

export function checkSource(zone: string, subnet: string): void {
  if (ask(`--zone=${zone}`, `--query-source=${subnet}`).status === 0) return
  throw new RuleMissing(`${subnet} is no source of firewalld's zone "${zone}"`, 'forwarding')
}

const says = ({ stdout, stderr }: Ended, ...words: string[]): boolean =>
  words.some((word) => `${stdout}${stderr}`.includes(word))

const failed = ({ command, status, stdout, stderr }: Ended, kind: NatErrorKind): NatError =>
  new NatError(kind, `${command.join(' ')}: exit ${status}: ${`${stderr}${stdout}`.trim() || 'no explanation'}`)
