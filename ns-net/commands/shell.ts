import { execIn, execInProcess } from '../enter.ts'
import { isExecutable } from '../run/programs.ts'
import { parseTarget } from '../targets.ts'
import { type ExecOptions, notEntered, requireProcess } from './exec.ts'

/** An interactive shell at a target; prompt and host name tell where one is. */
export function shell(text: string, { allNs = false }: ExecOptions): never {
  const target = parseTarget(text)
  try {
    const env = { ...process.env, PS1: `[${text}] $ ` }
    // Whether a container has bash only shows inside.
    if (allNs)
      return execInProcess(
        requireProcess(text, target),
        ['sh', '-c', 'command -v bash >/dev/null && exec bash; exec sh'],
        env,
      )
    const program = [process.env.SHELL, '/bin/bash', '/bin/sh'].find((file) => file && isExecutable(file)) ?? '/bin/sh'
    if (program.endsWith('/bash')) env.PS1 = `[${text}] \\w\\$ `
    const { netns } = target
    if (target.kind !== 'name') return execIn({ netns }, [program], env)
    return execIn({ netns, name: target.name, hostname: target.name }, [program], env)
  } catch (error) {
    throw notEntered(error, `cannot run a shell in "${text}"`)
  }
}
