import { execIn, execInProcess } from '../enter.ts'
import { CliError, toCliError } from '../errors.ts'
import { parseTarget, type Target } from '../targets.ts'

export interface ExecOptions {
  /** All namespaces of a process, not only that of its network. */
  readonly allNs?: boolean
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
