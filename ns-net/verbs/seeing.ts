import { type Command, InvalidArgumentError, Option } from 'commander'
import type { CaptureOptions } from '../commands/capture.ts'
import type { GraphOptions } from '../commands/graph.ts'
import type { WatchOptions } from '../commands/watch.ts'
import { version } from '../version.ts'
import { positiveInteger, print, requireRoot, verb } from './verb.ts'

const target = 'lab, host, pid:N, podman:NAME, docker:NAME or path:FILE'

/** Verbs that show what there is and what happens. They change nothing. */
export function seeingVerbs(program: Command): void {
  verb(program, 'See', 'graph', 'a picture of the host and all labs as they are now, and of what connects them', [
    'sudo ns-net graph',
    'sudo ns-net graph -o labs.svg',
    'sudo ns-net graph --format mermaid',
  ])
    .addOption(new Option('--format <format>', 'what to draw').choices(['text', 'svg', 'mermaid', 'dot']))
    .option('-o, --output <file>', 'write it there; .svg, .mmd and .dot say the format')
    .action(async (options: GraphOptions, command: Command) => {
      requireRoot('graph')
      const { json } = command.optsWithGlobals()
      print((await import('../commands/graph.ts')).graph({ ...options, json }), command)
    })
  verb(program, 'See', 'watch', 'what happens to links, addresses, routes, neighbours and rules, everywhere', [
    'sudo ns-net watch',
    'sudo ns-net watch web host --json',
    'sudo ns-net watch --timeout 60 -c 1',
  ])
    .argument('[target...]', `${target} (default: all labs and the host)`)
    .option('-c, --count <n>', 'end after this many events', positiveInteger)
    .option('--timeout <seconds>', 'end after this time', positiveInteger)
    .action(async (targets: string[], options: WatchOptions, command: Command) => {
      requireRoot('watch')
      const { json } = command.optsWithGlobals()
      await (await import('../commands/watch.ts')).watch(targets, { ...options, json })
    })
  verb(program, 'See', 'capture', 'packets of several interfaces at once, as lines or into a pcapng file', [
    'sudo ns-net capture web',
    'sudo ns-net capture web:eth0 api:eth0 -w both.pcapng',
    'sudo ns-net capture web -w - | wireshark -k -i -',
    "sudo ns-net capture web -f 'host 10.88.0.3 and icmp' -c 4",
  ])
    .argument('<target[:if]...>', `${target}, and one of its interfaces (default: all that are up, but lo)`)
    .option('-w, --write <file>', 'write a pcapng file; - is stdout')
    .option('--force', 'overwrite a file that is no capture')
    .option('-c, --count <n>', 'end after this many packets', positiveInteger)
    .option('--timeout <seconds>', 'end after this time', positiveInteger)
    .option('-f, --filter <words>', 'only these: host A, port N, icmp, arp, tcp, udp, …, joined by and')
    .option('--snaplen <n>', 'bytes of each packet that are kept', snapLength, 262144)
    .option('--no-promiscuous', 'only packets for this place')
    .action(async (targets: string[], options: CaptureOptions, command: Command) => {
      requireRoot('capture')
      const { json } = command.optsWithGlobals()
      const { capture } = await import('../commands/capture.ts')
      await capture(targets, { ...options, json, application: `ns-net ${version()}` })
    })
}

function snapLength(text: string): number {
  const value = positiveInteger(text)
  if (value <= 262144) return value
  throw new InvalidArgumentError('expected a number from 1 to 262144')
}
