import fs from 'node:fs'
import { createCgroup, removeCgroup } from '../cgroup.ts'
import { findCommand } from '../enter.ts'
import { CliError, toCliError } from '../errors.ts'
import { type Container, parseContainer, type RunOptions } from '../run/options.ts'
import { catchSignals, runCommand } from '../run/process.ts'
import { isExecutable } from '../run/programs.ts'
import { makeMountPoints } from '../run/setup.ts'
import { add } from './add.ts'
import { del } from './del.ts'

/**
 * Runs a command in a container that lasts as long as the command: a lab for its network, namespaces of its own, limits.
 * Resolves to the exit code; nothing of it is left then.
 */
export async function run(options: RunOptions, command: readonly string[]): Promise<number> {
  const container = parseContainer(options)
  const { name, network, rootfs, limits } = container
  if (rootfs === undefined) requireExecutable(command[0]!)
  using signals = catchSignals()
  const undo: (() => unknown)[] = []
  try {
    if (network !== 'host') {
      makeLab(container)
      undo.push(() => del([name], { kill: true, ignoreMissing: true }))
    }
    const cgroups = createCgroup(name, limits)
    undo.push(() => removeCgroup(name))
    if (rootfs !== undefined) {
      const points = makeMountPoints(rootfs)
      undo.push(() => points[Symbol.dispose]())
    }
    return await runCommand(container, cgroups, command, signals)
  } catch (error) {
    const { kind, message, hint } = toCliError(error, `cannot run ${command[0]} in "${name}"`)
    throw new CliError(kind === 'failed' ? 'exec' : kind, message, hint)
  } finally {
    for (const action of undo.reverse()) attempt(name, action)
  }
}

/** What the command ended with is told in any case. */
function attempt(name: string, action: () => unknown): void {
  try {
    action()
  } catch (error) {
    fs.writeSync(2, `ns-net: cannot tidy up after "${name}": ${toCliError(error).message}; try: ns-net del ${name}\n`)
  }
}

/** Told before anything is made. In a root of its own only the container can tell. */
function requireExecutable(command: string): void {
  const file = findCommand(command)
  if (!fs.existsSync(file)) throw new CliError('noCommand', `command not found: ${command}`)
  if (!isExecutable(file)) throw new CliError('notExecutable', `${command} cannot be executed`)
}

/** The label tells that the lab is for one command, and which ns-net takes it away. */
function makeLab({ name, network }: Container): void {
  const way = network === 'none' ? { noNet: true } : { net: [network] }
  add(name, { ...way, label: [`run=${process.pid}`] })
}
