import fs from 'node:fs'
import { Command, CommanderError } from 'commander'
import { CliError, exitCodes, toCliError } from './errors.ts'
import { formatError } from './output.ts'
import { chaosVerbs } from './verbs/chaos.ts'
import { clusterVerbs } from './verbs/cluster.ts'
import { cniVerbs } from './verbs/cni.ts'
import { containerVerbs } from './verbs/containers.ts'
import { diagnosisVerbs } from './verbs/diagnosis.ts'
import { fileVerbs } from './verbs/files.ts'
import { hostVerbs } from './verbs/host.ts'
import { inspectionVerbs } from './verbs/inspection.ts'
import { kindVerbs } from './verbs/kind.ts'
import { labVerbs } from './verbs/labs.ts'
import { networkVerbs } from './verbs/networks.ts'
import { seeingVerbs } from './verbs/seeing.ts'
import { beginTelling } from './verbs/telling.ts'
import { groups } from './verbs/verb.ts'
import { version } from './version.ts'

/** The ns-net command: arguments to verbs, reports and errors to text and exit codes. */
export async function runCli(argv: readonly string[]): Promise<void> {
  const program = createProgram()
  try {
    requireLinux(process.platform)
    const rest = argv.includes('--rootless') ? (await import('./rootless.ts')).goRootless(argv) : argv
    await program.parseAsync(rest, { from: 'user' })
  } catch (error) {
    if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? 0 : exitCodes.usage)
    const told = toCliError(error)
    fs.writeSync(2, formatError(told, wantsJson(argv)))
    process.exit(exitCodes[told.kind])
  }
}

/** The image is built for Linux only; from its sources ns-net starts wherever Node does. */
export function requireLinux(platform: string): void {
  if (platform === 'linux') return
  const remedy =
    platform === 'win32' ? 'WSL 2 has one: wsl --install' : 'a virtual machine has one: podman machine init --now'
  throw new CliError(
    'unsupported',
    `ns-net needs a Linux kernel, and this is ${platform}`,
    `${remedy}; run it in there`,
  )
}

/** Errors may come before the options are parsed, so this looks for itself; what follows `--` is not ours. */
function wantsJson(argv: readonly string[]): boolean {
  const end = argv.indexOf('--')
  return argv.slice(0, end < 0 ? undefined : end).includes('--json')
}

export function createProgram(): Command {
  const program = new Command('ns-net')
    .description('Lab networks from network namespaces: one command, connected.')
    .version(`ns-net ${version()}`, '-V, --version')
    .option('--json', 'print JSON (every verb)')
    .option('--explain', 'print each step as a command, with its reason and its undo')
    .option('--dry-run', 'the same without changing anything')
    .hook('preAction', (_program, command) => beginTelling(command))
    .option('--rootless', 'without root: on a host of your own, in a user namespace; --rootless stop ends it')
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void fs.writeSync(1, text),
      writeErr: (text) => void fs.writeSync(2, text.replace(/^error: /, 'ns-net: ')),
    })
    .showHelpAfterError('hint: ns-net --help')
  for (const add of [
    labVerbs,
    containerVerbs,
    networkVerbs,
    inspectionVerbs,
    seeingVerbs,
    diagnosisVerbs,
    chaosVerbs,
    fileVerbs,
    hostVerbs,
    cniVerbs,
    clusterVerbs,
    kindVerbs,
  ])
    add(program)
  program.helpInformation = () => overview(program)
  return program
}

/** Words in lines of at most so many characters. */
function wrapped(words: readonly string[], width: number): string[] {
  const lines: string[] = []
  for (const word of words) {
    const longer = [lines.at(-1), word].filter((each) => each !== undefined).join('  ')
    if (lines.length > 0 && longer.length <= width) lines[lines.length - 1] = longer
    else lines.push(word)
  }
  return lines
}

/** All verbs on one screen: a line or two for each heading. */
function overview(program: Command): string {
  const lines = groups.map((group) => {
    const verbs = program.commands.filter((command) => command.helpGroup() === group).map((command) => command.name())
    return `  ${group.padEnd(10)}${wrapped(verbs, 66).join(`\n${' '.repeat(12)}`)}`
  })
  return `Usage: ns-net [OPTIONS] VERB [TARGET] [-- COMMAND]

${program.description()}

${lines.join('\n')}

  TARGET    NAME of a lab or namespace, pid:N, podman:NAME, docker:NAME,
            path:FILE, self, host

  --json          print JSON (every verb)
  --explain       print each step as a command, with its reason and its undo
  --dry-run       the same without changing anything
  --rootless      without root: on a host of your own, in a user namespace
  -V, --version   print the version
  -h, --help      this page; ns-net VERB --help has options and an example

Example:
  $ sudo ns-net add web
  $ sudo ns-net exec web -- ping -c1 10.88.0.1
  $ sudo ns-net del web
`
}
