import { type Command, Option } from 'commander'
import { CliError } from '../errors.ts'
import type { Explanation } from '../explain/explanation.ts'
import type { Report } from '../output.ts'

/* `--explain` and `--dry-run`, of every verb that changes the network. */

/** By their whole names. */
const changing: ReadonlySet<string> = new Set([
  'add',
  'del',
  'adopt',
  'reload',
  'attach',
  'detach',
  'net create',
  'net rm',
  'link add',
  'link up',
  'link down',
  'link del',
  'port add',
  'port rm',
  'shape',
  'apply',
  'down',
])

/** These have a plan of their own to print for `--dry-run`; with `--explain` as well its commands are rehearsed. */
const planning: ReadonlySet<string> = new Set(['apply'])

/** `net rm`: with the verb that it belongs to. */
const nameOf = (command: Command): string =>
  command.parent?.parent ? `${command.parent.name()} ${command.name()}` : command.name()

/** Adds the options; verbs that change nothing take them too, to say so. */
export function tellable(command: Command): Command {
  const name = nameOf(command)
  const option = (flags: string, text: string) => new Option(flags, text).hideHelp(!changing.has(name))
  command.addOption(option('--explain', 'print each step as a command, with its reason and its undo'))
  if (planning.has(name)) return command
  return command.addOption(option('--dry-run', 'the same without changing anything'))
}

let explanation: Explanation | undefined

/** With `--explain` what the verb changes is written down from here on, with `--dry-run` on a copy of the host. */
export async function beginTelling(command: Command): Promise<void> {
  if (process.env.NS_NET_REHEARSAL) process.exit(0) // a command of a lab file, started by a rehearsal
  const { explain, dryRun } = command.optsWithGlobals<{ explain?: boolean; dryRun?: boolean }>()
  if (!explain && !dryRun) return
  const name = nameOf(command)
  if (!changing.has(name))
    throw new CliError(
      'usage',
      `${name}: nothing to explain or to rehearse`,
      `--explain and --dry-run are for verbs that change the network: ${[...changing].join(', ')}`,
    )
  const isPlan = planning.has(name) && !explain
  command.setOptionValue('explain', undefined) // no business of the verb
  command.setOptionValue('dryRun', isPlan || undefined)
  if (isPlan || process.geteuid?.() !== 0) return // the verb says what it needs
  const { conf } = command.opts<{ conf?: string }>()
  const rehearsal = dryRun ? (await import('../explain/rehearsal.ts')).beginRehearsal(conf) : undefined
  if (rehearsal && planning.has(name)) command.setOptionValue('tests', false) // of a network without an outside
  explanation = (await import('../explain/explanation.ts')).beginExplanation(rehearsal, conf)
}

/** What is to be printed in place of a verb's report. */
export const told = (report: Report): Report => explanation?.explain(report) ?? report
