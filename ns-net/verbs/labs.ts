import type { Command } from 'commander'
import { positiveInteger, print, requireRoot, verb } from './verb.ts'

/** The daily verbs: labs made, looked at, entered and removed. */
export function labVerbs(program: Command): void {
  verb(program, 'Labs', 'add', 'create a lab: a namespace with address, gateway, NAT and DNS', [
    'sudo ns-net add web',
    'sudo ns-net add web --conf conf-examples/bridge.conflist',
  ])
    .alias('create')
    .argument('<name>')
    .option('--conf <file>', 'a CNI conflist instead of the default network')
    .action(async (name: string, options: { conf?: string }, command: Command) => {
      requireRoot('add')
      print(await (await import('../commands/add.ts')).add(name, options), command)
    })
  verb(program, 'Labs', 'del', 'detach and remove a lab; nothing is left behind', ['sudo ns-net del web'])
    .alias('rm')
    .alias('delete')
    .argument('<name>')
    .option('--kill', 'end the processes inside first')
    .option('--force', 'delete although processes run inside')
    .action(async (name: string, options: { kill?: boolean; force?: boolean }, command: Command) => {
      requireRoot('del')
      print(await (await import('../commands/del.ts')).del(name, options), command)
    })
  verb(program, 'Labs', 'ls', 'list labs and other named namespaces', ['ns-net ls', 'ns-net ls --json'])
    .alias('list')
    .action(async (_options: object, command: Command) => {
      print(await (await import('../commands/ls.ts')).ls(), command)
    })
  verb(program, 'Labs', 'show', 'links, addresses, routes, DNS, processes and drift of a lab', ['sudo ns-net show web'])
    .alias('inspect')
    .argument('<name>')
    .action(async (name: string, _options: object, command: Command) => {
      requireRoot('show')
      print(await (await import('../commands/show.ts')).show(name), command)
    })
  verb(program, 'Labs', 'exec', 'run a command in a lab, in place of ns-net: terminal, signals, exit code', [
    'sudo ns-net exec web -- ip addr',
  ])
    .argument('<name>')
    .argument('<command...>')
    .passThroughOptions()
    .action(async (name: string, command: string[]) => {
      requireRoot('exec')
      ;(await import('../commands/exec.ts')).exec(name, withoutOwnOptions(command))
    })
  verb(program, 'Diagnose', 'ping', 'ICMP echo from a lab to an address, another lab, or its gateway', [
    'sudo ns-net ping web',
    'sudo ns-net ping web 192.0.2.1 -c 1',
  ])
    .argument('<name>')
    .argument('[to]', 'address or lab (default: the gateway)')
    .option('-c, --count <n>', 'echo requests', positiveInteger, 3)
    .action(async (name: string, to: string | undefined, options: { count: number }, command: Command) => {
      requireRoot('ping')
      print(await (await import('../commands/ping.ts')).ping(name, to, options), command)
    })
  verb(program, 'Host', 'reload', 'put back translation, port and firewall rules after a flush or a firewall reload', [
    'sudo nft flush ruleset',
    'sudo ns-net reload',
  ]).action(async (_options: object, command: Command) => {
    requireRoot('reload')
    print((await import('../commands/reload.ts')).reload(), command)
  })
}

/** `exec NAME --json -- CMD`: what stands before `--` is ours, although everything after NAME is passed through. */
function withoutOwnOptions(command: readonly string[]): readonly string[] {
  const end = command.indexOf('--')
  return end >= 0 && command.slice(0, end).every((word) => word === '--json') ? command.slice(end + 1) : command
}
