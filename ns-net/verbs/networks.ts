import type { Command } from 'commander'
import type { AttachOptions } from '../commands/attach.ts'
import type { LinkAddOptions } from '../commands/link.ts'
import type { NetCreateOptions } from '../commands/net.ts'
import { collect, positiveInteger, print, requireRoot, verb } from './verb.ts'

const port = '[HOSTIP:]HOSTPORT:PORT[/tcp|udp|sctp]; may be repeated'

/** Networks, and how labs are connected to them and to each other. */
export function networkVerbs(program: Command): void {
  netVerbs(program)
  verb(program, 'Networks', 'attach', 'connect a lab to one network more', [
    'sudo ns-net net create back --subnet 10.20.0.0/24 --internal',
    'sudo ns-net attach web back --ip 10.20.0.9',
  ])
    .argument('<name>')
    .argument('<network>')
    .option('--ip <address>', 'a fixed address')
    .option('--mac <mac>', 'a fixed MAC address')
    .option('--mtu <n>', 'bytes', positiveInteger)
    .option('--if <name>', 'the interface inside (default: the first free ethN)')
    .option('--host-if <name>', 'one name more for its end on the host, up to 127 bytes')
    .option('-p, --publish <port>', port, collect)
    .action(async (name: string, network: string, options: AttachOptions, command: Command) => {
      requireRoot('attach')
      print((await import('../commands/attach.ts')).attach(name, network, options), command)
    })
  verb(program, 'Networks', 'detach', 'disconnect a lab from a network', ['sudo ns-net detach web back'])
    .argument('<name>')
    .argument('<network>', 'its name, or that of the interface inside')
    .action(async (name: string, network: string, _options: object, command: Command) => {
      requireRoot('detach')
      print((await import('../commands/attach.ts')).detach(name, network), command)
    })
  linkVerbs(program)
  portVerbs(program)
}

function netVerbs(program: Command): void {
  const net = verb(program, 'Networks', 'net', 'networks that labs are attached to: create, ls, show, rm', [
    'sudo ns-net net create lan --subnet 10.10.0.0/24',
    'sudo ns-net add web --net lan',
  ])
  verb(net, 'Networks', 'create', 'make a network; its bridge comes with the first lab', [
    'sudo ns-net net create lan --subnet 10.10.0.0/24 --ipv6',
    'sudo ns-net net create back --internal',
  ])
    .argument('<name>')
    .option('--subnet <cidr>', 'its range, one for each family (default: a free one)', collect)
    .option('--gateway <address>', 'address of the host in it (default: the first)')
    .option('--ipv6', 'an IPv6 range as well')
    .option('--driver <name>', 'bridge, ptp (routed links), l2 (no addresses) or macvlan')
    .option('--internal', 'no way out and none in: only the host and its own labs')
    .option('--isolated', 'its labs do not reach each other')
    .option('--mtu <n>', 'bytes', positiveInteger)
    .option('--bridge <name>', 'name of the bridge (default: ns-NAME)')
    .option('--parent <link>', 'link of the host, for macvlan')
    .action(async (name: string, options: NetCreateOptions, command: Command) => {
      requireRoot('net create')
      print((await import('../commands/net.ts')).createNet(name, options), command)
    })
  verb(net, 'Networks', 'ls', 'list networks', ['ns-net net ls'])
    .alias('list')
    .action(async (_options: object, command: Command) => {
      print((await import('../commands/net.ts')).lsNets(), command)
    })
  verb(net, 'Networks', 'show', 'a network, with --json its conflist', ['ns-net net show default --json'])
    .alias('inspect')
    .argument('<name>')
    .action(async (name: string, _options: object, command: Command) => {
      print((await import('../commands/net.ts')).showNet(name), command)
    })
  verb(net, 'Networks', 'rm', 'remove networks that no lab uses', ['sudo ns-net net rm lan'])
    .alias('del')
    .argument('<name...>')
    .action(async (names: string[], _options: object, command: Command) => {
      requireRoot('net rm')
      print((await import('../commands/net.ts')).rmNets(names), command)
    })
}

function linkVerbs(program: Command): void {
  const link = verb(
    program,
    'Networks',
    'link',
    'cables between two labs, and links broken and mended: add, ls, up, down, del',
    ['sudo ns-net link add r1 r2 --addr 172.16.0.1/30,172.16.0.2/30', 'sudo ns-net link down r1:eth0'],
  )
  verb(link, 'Networks', 'add', 'a direct cable between two places (labs, or host)', [
    'sudo ns-net link add r1:eth9 web:eth9 --addr 172.16.0.1/30,172.16.0.2/30',
  ])
    .argument('<a>', 'NAME or NAME:IF (default: the first free ethN)')
    .argument('<b>')
    .option('--addr <a,b>', 'an address with prefix length for each end; either may be empty')
    .option('--mtu <n>', 'bytes', positiveInteger)
    .action(async (a: string, b: string, options: LinkAddOptions, command: Command) => {
      requireRoot('link add')
      print((await import('../commands/link.ts')).addLink(a, b, options), command)
    })
  verb(link, 'Networks', 'ls', 'list cables', ['sudo ns-net link ls'])
    .alias('list')
    .action(async (_options: object, command: Command) => {
      requireRoot('link ls')
      print((await import('../commands/link.ts')).lsLinks(), command)
    })
  for (const state of ['up', 'down'] as const)
    verb(link, 'Networks', state, state === 'up' ? 'mend a link' : 'break a link, to see what happens', [
      `sudo ns-net link ${state} web:eth0`,
    ])
      .argument('<end>', 'NAME:IF')
      .action(async (end: string, _options: object, command: Command) => {
        requireRoot(`link ${state}`)
        print((await import('../commands/link.ts')).setLinkState(end, state === 'up'), command)
      })
  verb(link, 'Networks', 'del', 'remove a cable', ['sudo ns-net link del r1:eth9'])
    .alias('rm')
    .argument('<end>', 'NAME:IF, either end')
    .action(async (end: string, _options: object, command: Command) => {
      requireRoot('link del')
      print((await import('../commands/link.ts')).delLink(end), command)
    })
}

function portVerbs(program: Command): void {
  const ports = verb(program, 'Networks', 'port', 'published ports of a lab that runs: add, rm, ls', [
    'sudo ns-net port add web 8080:80',
    'ns-net port ls',
  ])
  verb(ports, 'Networks', 'add', 'publish ports', ['sudo ns-net port add web 8080:80 127.0.0.1:5353:53/udp'])
    .argument('<name>')
    .argument('<port...>', port)
    .action(async (name: string, texts: string[], _options: object, command: Command) => {
      requireRoot('port add')
      print((await import('../commands/port.ts')).addPorts(name, texts), command)
    })
  verb(ports, 'Networks', 'rm', 'take published ports back', ['sudo ns-net port rm web 8080'])
    .alias('del')
    .argument('<name>')
    .argument('<port...>', 'as published, or the port of the host')
    .action(async (name: string, texts: string[], _options: object, command: Command) => {
      requireRoot('port rm')
      print((await import('../commands/port.ts')).rmPorts(name, texts), command)
    })
  verb(ports, 'Networks', 'ls', 'list published ports', ['ns-net port ls'])
    .alias('list')
    .argument('[name]')
    .action(async (name: string | undefined, _options: object, command: Command) => {
      const { lsPorts } = await import('../commands/port.ts')
      const { requireLab } = await import('../commands/attach.ts')
      print(lsPorts(name === undefined ? undefined : requireLab(name)), command)
    })
}
