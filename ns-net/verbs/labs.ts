import type { Command } from 'commander'
import type { AddOptions } from '../commands/add.ts'
import type { DelOptions } from '../commands/del.ts'
import type { ExecOptions } from '../commands/exec.ts'
import type { LsOptions } from '../commands/ls.ts'
import { CliError } from '../errors.ts'
import { collect, positiveInteger, print, requireRoot, verb } from './verb.ts'

/** commander tells `--no-net` as false, and its absence as true. */
type AddFlags = Omit<AddOptions, 'net' | 'noNet'> & { readonly net: readonly string[] | boolean }

/** The daily verbs: labs made, looked at, entered and removed. */
export function labVerbs(program: Command): void {
  verb(program, 'Labs', 'add', 'create a lab: a namespace with address, gateway, NAT and DNS', [
    'sudo ns-net add web',
    'sudo ns-net add db --net back:ip=10.20.0.9 --net default -p 5432:5432',
    'sudo ns-net add pair --ptp --subnet 10.0.0.0/24 --ip 10.0.0.2 --host-if veth-host',
  ])
    .alias('create')
    .argument('<name>')
    .option(
      '--net <network>',
      'NAME[:ip=A,if=NAME,host-if=NAME,mac=M,mtu=N]; may be repeated (default: default)',
      collect,
    )
    .option('--no-net', 'no network: nothing but lo')
    .option('--subnet <cidr>', 'a network of its own with this range')
    .option('--ptp', 'with --subnet: a routed link instead of a bridge')
    .option('--conf <file>', 'a CNI conflist instead of a network')
    .option('--ip <address>', 'a fixed address')
    .option('--mac <mac>', 'a fixed MAC address')
    .option('--mtu <n>', 'bytes', positiveInteger)
    .option('--if <name>', 'the interface inside (default: eth0)')
    .option('--host-if <name>', 'one name more for its end on the host, up to 127 bytes')
    .option('-p, --publish <port>', '[HOSTIP:]HOSTPORT:PORT[/tcp|udp|sctp]; may be repeated', collect)
    .option('--internal', 'no way out: neither default route nor NAT')
    .option('--dns <address>', 'name server; may be repeated', collect)
    .option('--label <key=value>', 'for ls -l and del -l; may be repeated', collect)
    .option('--if-not-exists', 'leave a lab of that name as it is')
    .action(async (name: string, { net, ...options }: AddFlags, command: Command) => {
      requireRoot('add')
      const networks = net === false ? { noNet: true } : { net: net === true ? undefined : net }
      print((await import('../commands/add.ts')).add(name, { ...options, ...networks }), command)
    })
  verb(program, 'Labs', 'del', 'detach and remove labs; nothing is left behind', [
    'sudo ns-net del web',
    'sudo ns-net del --all',
  ])
    .alias('rm')
    .alias('delete')
    .argument('[name...]')
    .option('--kill', 'end the processes inside first')
    .option('--force', 'delete although processes run inside')
    .option('--all', 'every lab')
    .option('-l, --selector <key=value>', 'labs with this label; may be repeated', collect)
    .option('--ignore-missing', 'a name that is no lab is no error')
    .action(async (names: string[], options: DelOptions, command: Command) => {
      requireRoot('del')
      print((await import('../commands/del.ts')).del(names, options), command)
    })
  verb(program, 'Labs', 'ls', 'list labs and other named namespaces', [
    'ns-net ls',
    'ns-net ls --json',
    'sudo ns-net ls --all --type net',
  ])
    .alias('list')
    .option('-l, --selector <key=value>', 'labs with this label; may be repeated', collect)
    .option('--all', 'instead every namespace of the machine, of all kinds, and what keeps it alive')
    .option('-t, --type <kind>', 'with --all: only of this kind (net, mnt, pid, …)')
    .action(async (options: LsOptions, command: Command) => {
      print((await import('../commands/ls.ts')).ls(options), command)
    })
  verb(program, 'Labs', 'adopt', 'take over a namespace that somebody else made', [
    'sudo ns-net adopt old',
    'sudo ns-net adopt pid:1234 box',
  ])
    .argument('<target>', 'NAME as ip netns lists it, pid:N or path:FILE')
    .argument('[name]', 'the name of the lab')
    .action(async (target: string, name: string | undefined, _options: object, command: Command) => {
      requireRoot('adopt')
      print((await import('../commands/adopt.ts')).adopt(target, name), command)
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
    'sudo ns-net exec pid:1234 -- ss -tlnp',
    'sudo ns-net exec docker:demo --all-ns -- ls /',
    'sudo ns-net exec --all -- ip -br addr',
    'sudo ns-net exec -l tier=web -- ping -c1 10.88.0.1',
  ])
    .usage('[options] <target> -- <command...>\n       ns-net exec --all|-l <key=value> [options] -- <command...>')
    .argument('[target]', 'lab, pid:N, podman:NAME, docker:NAME, self, path:FILE or host')
    .argument('[command...]')
    .option('--all-ns', 'with a process: all its namespaces, not only that of its network')
    .option('--all', 'instead of a target: in every lab, 8 at a time; each line begins with the name of its lab')
    .option('-l, --selector <key=value>', 'the same in labs with this label; may be repeated', collect)
    .passThroughOptions()
    .action(async (target: string | undefined, words: string[], options: ExecOptions, verb: Command) => {
      requireRoot('exec')
      const { exec, execInLabs } = await import('../commands/exec.ts')
      if (options.all || options.selector) {
        const all = target === undefined ? [] : [target, ...words]
        return print(await execInLabs(all, options, Boolean(verb.optsWithGlobals().json)), verb)
      }
      const { command, own } = splitOwnOptions(words)
      if (target === undefined || command.length === 0)
        throw new CliError(
          'usage',
          `missing required argument '${target === undefined ? 'target' : 'command'}'`,
          'ns-net exec TARGET -- COMMAND, or in every lab: ns-net exec --all -- COMMAND',
        )
      exec(target, command, { allNs: options.allNs || own.includes('--all-ns') })
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

/** `exec TARGET --all-ns -- CMD`: what stands before `--` is ours, although everything after TARGET is passed through. */
function splitOwnOptions(words: readonly string[]): { own: readonly string[]; command: readonly string[] } {
  const end = words.indexOf('--')
  const own = words.slice(0, Math.max(end, 0))
  const isOurs = end >= 0 && own.every((word) => word === '--json' || word === '--all-ns')
  return isOurs ? { own, command: words.slice(end + 1) } : { own: [], command: words }
}
