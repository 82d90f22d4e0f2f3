import { execIn } from '../enter.ts'
import { CliError, toCliError } from '../errors.ts'
import { checkLabName, findLab, listNetnsNames } from '../labs.ts'
import { missing } from './del.ts'

/** Runs a command in a lab (or in any named namespace) in place of this process. */
export function exec(name: string, command: readonly string[]): never {
  checkLabName(name)
  if (!findLab(name) && !listNetnsNames().includes(name)) throw missing(name)
  try {
    return execIn(name, command)
  } catch (error) {
    const { kind, message, hint } = toCliError(error, `cannot run ${command[0]} in "${name}"`)
    throw new CliError(kind === 'failed' ? 'exec' : kind, message, hint)
  }
}
