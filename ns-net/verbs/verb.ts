import fs from 'node:fs'
import { type Command, InvalidArgumentError } from 'commander'
import { CliError, exitCodes } from '../errors.ts'
import { formatReport, type Report } from '../output.ts'
import { tellable, told } from './telling.ts'

/** What the wiring of every verb is made of. */

/** The headings of `ns-net --help`, in their order. */
export const groups = ['Labs', 'Networks', 'See', 'Diagnose', 'Files', 'Host'] as const

/** Adds a verb, with `--json`, under a heading of the help; `usage` is its name and arguments as commander writes them. */
export function verb(
  parent: Command,
  group: (typeof groups)[number],
  usage: string,
  description: string,
  examples: readonly string[],
): Command {
  const command = parent
    .command(usage)
    .description(description)
    .helpGroup(group)
    .option('--json', 'print JSON')
    .exitOverride()
    .addHelpText('after', `\nExample:\n${examples.map((line) => `  $ ${line}\n`).join('')}`)
  return tellable(command)
}

/** Prints what a verb reports and ends with its exit code. */
export function print(report: Report, command: Command): void {
  fs.writeSync(1, formatReport(told(report), Boolean(command.optsWithGlobals().json)))
  if (report.failed) throw new CliError('failed', report.failed)
  if (report.negative) process.exit(exitCodes.negative)
}

/** Verbs that change the kernel need root; told at once, rather than as an EPERM from the middle. */
export function requireRoot(verb: string): void {
  if (process.geteuid?.() === 0) return
  throw new CliError(
    'permission',
    `${verb} needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN)`,
    `sudo ns-net ${verb} …, or on a host of your own: ns-net --rootless ${verb} …`,
  )
}

export function positiveInteger(text: string): number {
  if (!/^[1-9]\d{0,6}$/.test(text)) throw new InvalidArgumentError('expected a number from 1 to 9999999')
  return Number(text)
}

/** For options that may be given several times. */
export const collect = (text: string, before: readonly string[] = []): string[] => [...before, text]
