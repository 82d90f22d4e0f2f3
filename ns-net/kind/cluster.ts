import { spawnSync } from 'node:child_process'
import { hasProgram } from '../../nat/iptables.ts'
import { CliError } from '../errors.ts'

/** The programs that make and fill a cluster: kind, kubectl, and docker or podman. */

const remedies: Readonly<Record<string, string>> = {
  kind: 'https://kind.sigs.k8s.io/docs/user/quick-start/#installation',
  kubectl: 'https://kubernetes.io/docs/tasks/tools/',
  docker: 'install docker or podman',
  podman: 'KIND_EXPERIMENTAL_PROVIDER asks for it',
}

export type Engine = 'docker' | 'podman'

/** Throws, naming every program that is missing at once. */
export function requirePrograms(names: readonly string[]): void {
  const missing = names.filter((name) => !hasProgram(name))
  if (missing.length === 0) return
  throw new CliError(
    'unsupported',
    `not installed: ${missing.join(', ')}`,
    missing.map((name) => `${name}: ${remedies[name] ?? 'install it'}`).join('; '),
  )
}

const provider = 'KIND_EXPERIMENTAL_PROVIDER'

/** docker when it is there, else podman, which kind has to be told; or what kind has been told already. */
export function requireEngine(): Engine {
  const candidates = process.env[provider] === 'podman' ? (['podman'] as const) : (['docker', 'podman'] as const)
  const engine = candidates.find((name) => hasProgram(name))
  if (!engine) requirePrograms([candidates[0]])
  return engine!
}

export interface Ran {
  readonly status: number
  readonly stdout: string
}

export interface RunOptions {
  readonly input?: string
  readonly env?: Readonly<Record<string, string>>
}

/** Runs a program; its stderr goes to ours, so that a person sees what kind does. */
export function run(command: readonly string[], options: RunOptions = {}): Ran {
  const [program, ...args] = command
  const child = spawnSync(program!, args, {
    input: options.input,
    env: { ...process.env, ...options.env },
    encoding: 'utf8',
    stdio: ['pipe', 'pipe', 'inherit'],
    maxBuffer: 64 * 1024 * 1024,
  })
  if (child.error) throw new CliError('failed', `cannot run ${program}: ${child.error.message}`)
  return { status: child.status ?? 128, stdout: child.stdout }
}

/** Runs a program that has to succeed; `hint` is what helps when it does not. */
export function must(command: readonly string[], { hint, ...options }: RunOptions & { hint?: string } = {}): string {
  const { status, stdout } = run(command, options)
  if (status !== 0) throw new CliError('failed', `${command.join(' ')} failed with exit code ${status}`, hint)
  return stdout
}

/** kind's environment for the engine. */
export const kindEnvironment = (engine: Engine): Record<string, string> =>
  engine === 'podman' ? { [provider]: 'podman' } : {}
