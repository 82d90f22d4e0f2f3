import fs from 'node:fs'
import { Command, CommanderError, InvalidArgumentError } from 'commander'
import { CliError, exitCodes, toCliError } from './errors.ts'
import { formatError, formatReport, type Report } from './output.ts'

declare const NS_NET_VERSION: string | undefined // defined by scripts/build.mjs

/** The wiring of the ns-net command: arguments to verbs, reports and errors to text and exit codes. */
export async function runCli(argv: readonly string[]): Promise<void> {
  const program = createProgram()
  try {
    await program.parseAsync(argv, { from: 'user' })
  } catch (error) {
    if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? 0 : exitCodes.usage)
    const told = toCliError(error)
    fs.writeSync(2, formatError(told, wantsJson(argv)))
    process.exit(exitCodes[told.kind])
  }
}

/** Errors may come before the options are parsed, so this looks for itself; what follows `--` is not ours. */
function wantsJson(argv: readonly string[]): boolean {
  const end = argv.indexOf('--')
  return argv.slice(0, end < 0 ? undefined : end).includes('--json')
}

/** Verbs that change the kernel need root; told at once, rather than as an EPERM from the middle. */
function requireRoot(verb: string): void {
  if (process.geteuid?.() === 0) return
  throw new CliError(
    'permission',
    `${verb} needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN)`,
    `sudo ns-net ${verb} …, or try it without root: npm run quickstart`,
  )
}

function print(report: Report, command: Command): void {
  fs.writeSync(1, formatReport(report, Boolean(command.optsWithGlobals().json)))
  if (report.failed) throw new CliError('failed', report.failed)
  if (report.negative) process.exit(exitCodes.negative)
}

function positiveInteger(text: string): number {
  if (!/^[1-9]\d{0,6}$/.test(text)) throw new InvalidArgumentError('expected a number from 1 to 9999999')
  return Number(text)
}

export function createProgram(): Command {
  const version = typeof NS_NET_VERSION === 'undefined' ? 'development' : NS_NET_VERSION
  const program = new Command('ns-net')
    .description('Lab networks from network namespaces: one command, connected.')
    .version(`ns-net ${version}`, '-V, --version')
    .option('--json', 'print JSON (every verb)')
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void fs.writeSync(1, text),
      writeErr: (text) => void fs.writeSync(2, text.replace(/^error: /, 'ns-net: ')),
    })
    .showHelpAfterError('hint: ns-net --help')
    .addHelpText(
      'after',
      example('sudo ns-net add web', 'sudo ns-net exec web -- ping -c1 10.88.0.1', 'sudo ns-net del web'),
    )
  addVerbs(program)
  addInspection(program)
  for (const verb of program.commands) verb.option('--json', 'print JSON').exitOverride()
  return program
}

/** `exec NAME --json -- CMD`: what stands before `--` is ours, although everything after NAME is passed through. */
function withoutOwnOptions(command: readonly string[]): readonly string[] {
  const end = command.indexOf('--')
  return end >= 0 && command.slice(0, end).every((word) => word === '--json') ? command.slice(end + 1) : command
}

const example = (...lines: string[]) => `\nExample:\n${lines.map((line) => `  $ ${line}\n`).join('')}`

function addVerbs(program: Command): void {
  program
    .command('add')
    .alias('create')
    .description('create a lab: a namespace with address, gateway, NAT and DNS')
    .argument('<name>')
    .option('--conf <file>', 'a CNI conflist instead of the default network')
    .addHelpText('after', example('sudo ns-net add web', 'sudo ns-net add web --conf conf-examples/bridge.conflist'))
    .action(async (name: string, options: { conf?: string }, command: Command) => {
      requireRoot('add')
      print(await (await import('./commands/add.ts')).add(name, options), command)
    })
  program
    .command('del')
    .alias('rm')
    .alias('delete')
    .description('detach and remove a lab; nothing is left behind')
    .argument('<name>')
    .option('--kill', 'end the processes inside first')
    .option('--force', 'delete although processes run inside')
    .addHelpText('after', example('sudo ns-net del web'))
    .action(async (name: string, options: { kill?: boolean; force?: boolean }, command: Command) => {
      requireRoot('del')
      print(await (await import('./commands/del.ts')).del(name, options), command)
    })
  program
    .command('ls')
    .alias('list')
    .description('list labs and other named namespaces')
    .addHelpText('after', example('ns-net ls', 'ns-net ls --json'))
    .action(async (_options: object, command: Command) => {
      print(await (await import('./commands/ls.ts')).ls(), command)
    })
  program
    .command('show')
    .alias('inspect')
    .description('links, addresses, routes, DNS, processes and drift of a lab')
    .argument('<name>')
    .addHelpText('after', example('sudo ns-net show web'))
    .action(async (name: string, _options: object, command: Command) => {
      requireRoot('show')
      print(await (await import('./commands/show.ts')).show(name), command)
    })
  program
    .command('exec')
    .description('run a command in a lab, in place of ns-net: terminal, signals and exit code are its own')
    .argument('<name>')
    .argument('<command...>')
    .passThroughOptions()
    .addHelpText('after', example('sudo ns-net exec web -- ip addr'))
    .action(async (name: string, command: string[]) => {
      requireRoot('exec')
      ;(await import('./commands/exec.ts')).exec(name, withoutOwnOptions(command))
    })
  program
    .command('ping')
    .description('ICMP echo from a lab to an address, another lab, or its gateway')
    .argument('<name>')
    .argument('[to]', 'address or lab (default: the gateway)')
    .option('-c, --count <n>', 'echo requests', positiveInteger, 3)
    .addHelpText('after', example('sudo ns-net ping web', 'sudo ns-net ping web 192.0.2.1 -c 1'))
    .action(async (name: string, to: string | undefined, options: { count: number }, command: Command) => {
      requireRoot('ping')
      print(await (await import('./commands/ping.ts')).ping(name, to, options), command)
    })
  program
    .command('reload')
    .description('put back translation, port and firewall rules after a flush or a firewall reload')
    .addHelpText('after', example('sudo nft flush ruleset', 'sudo ns-net reload'))
    .action(async (_options: object, command: Command) => {
      requireRoot('reload')
      print((await import('./commands/reload.ts')).reload(), command)
    })
}

/** Verbs that only look. They read /proc, work without root and mark what they cannot see. */
function addInspection(program: Command): void {
  program
    .command('ps')
    .description('processes outside your namespaces, with their numbers inside')
    .argument('[lab]', 'only those of a lab, pid:N, self, path:FILE or host')
    .option('-t, --type <kind>', 'only where this kind of namespace is not yours (net, mnt, pid, …)')
    .option('-p, --pid <n>', 'only this process', positiveInteger)
    .option('--tree', 'indent children')
    .addHelpText('after', example('ns-net ps', 'ns-net ps web', 'ns-net ps --type pid'))
    .action(async (lab: string | undefined, options: object, command: Command) => {
      print((await import('./commands/ps.ts')).ps(lab, options), command)
    })
  program
    .command('same')
    .description('compare the namespaces of two targets; exit code 1 when not all are shared')
    .argument('<a>', 'lab, pid:N, self, path:FILE or host')
    .argument('<b>')
    .addHelpText('after', example('ns-net same self pid:1234', 'ns-net same web host'))
    .action(async (a: string, b: string, _options: object, command: Command) => {
      print((await import('./commands/same.ts')).same(a, b), command)
    })
  program
    .command('ss')
    .description('sockets of one place, or of every named namespace, in one table')
    .argument('[target]', 'lab, pid:N, self, path:FILE or host')
    .addHelpText('after', example('ns-net ss', 'ns-net ss web'))
    .action(async (target: string | undefined, _options: object, command: Command) => {
      print((await import('./commands/ss.ts')).ss(target), command)
    })
  program
    .command('whose')
    .description('the lab or container that a process belongs to')
    .argument('<pid>', 'process id', positiveInteger)
    .addHelpText('after', example('ns-net whose 1234'))
    .action(async (pid: number, _options: object, command: Command) => {
      print((await import('./commands/whose.ts')).whose(pid), command)
    })
}
