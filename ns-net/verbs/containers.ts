import type { Command } from 'commander'
import type { ExecOptions } from '../commands/exec.ts'
import type { ShapeOptions } from '../commands/shape.ts'
import type { RunOptions } from '../run/options.ts'
import { collect, print, requireRoot, verb } from './verb.ts'

/** Containers and the way into them. */
export function containerVerbs(program: Command): void {
  shellVerb(program)
  runVerb(program)
  shapeVerb(program)
}

function shellVerb(program: Command): void {
  verb(program, 'Labs', 'shell', 'an interactive shell in a lab; its host name is the name of the lab', [
    'sudo ns-net shell web',
    'sudo ns-net shell pid:1234',
  ])
    .argument('<target>', 'lab, pid:N, podman:NAME, docker:NAME, self, path:FILE or host')
    .option('--all-ns', 'with a process: all its namespaces, not only that of its network')
    .action(async (target: string, options: ExecOptions) => {
      requireRoot('shell')
      ;(await import('../commands/shell.ts')).shell(target, options)
    })
}

function runVerb(program: Command): void {
  verb(program, 'Labs', 'run', 'a throw-away container around a command: a lab that is gone when the command ends', [
    'sudo ns-net run --hostname isolated-box -- bash',
    'sudo ns-net run --pid -- ps aux',
    'sudo ns-net run --name c1 --memory 100M --cpus 0.5 --rootfs /srv/busybox -- /bin/sh',
  ])
    .argument('<command...>')
    .passThroughOptions()
    .combineFlagAndOptionalValue(false)
    .option('-m, --mount', 'mounts of its own (always)')
    .option('-u, --uts', 'host name of its own')
    .option('-i, --ipc', 'System V IPC of its own')
    .option('-n, --net [network]', 'its network: a name, none (nothing but lo) or host (default: default)')
    .option('-p, --pid', 'process numbers of its own: the command is 1; /proc shows only what is inside')
    .option('-U, --user', 'users of its own: root inside is the caller outside')
    .option('-C, --cgroup', 'a view of its own on control groups')
    .option('-T, --time', 'clocks of its own')
    .option('--monotonic <seconds>', 'with --time: what to add to the monotonic clock')
    .option('--boottime <seconds>', 'with --time: what to add to the clock since boot')
    .option('-f, --fork', 'as always')
    .option('--mount-proc', 'as always with --pid')
    .option('-r, --map-root-user', 'as always with --user, which it implies')
    .option('--name <name>', 'of the lab (default: run- and a number)')
    .option('--hostname <name>', 'implies --uts (default with --uts: the name of the lab)')
    .option('--rootfs <directory>', 'becomes /; implies --uts --ipc --pid')
    .option('--memory <bytes>', 'at most so much, as 100M')
    .option('--cpus <n>', 'at most so much time of a processor, as 0.5')
    .option('--pids <n>', 'at most so many processes')
    .option('--cap-add <capability>', 'keep this one too, or all; may be repeated', collect)
    .option('--privileged', 'keep all capabilities, and allow new ones')
    .action(async (command: string[], options: RunOptions) => {
      requireRoot('run')
      process.exit(await (await import('../commands/run.ts')).run(options, command))
    })
}

function shapeVerb(program: Command): void {
  verb(program, 'Networks', 'shape', 'make a link slow, late or lossy, in both directions; without options: show', [
    'sudo ns-net shape web --rate 1mbit --loss 5%',
    'sudo ns-net shape web:eth0 --delay 20ms --jitter 5ms',
    'sudo ns-net shape web reset',
  ])
    .argument('<target>', 'TARGET or TARGET:IF')
    .argument('[reset]', 'take all of it away')
    .option('--rate <rate>', 'at most so much: kbit, mbit, gbit; kbps, mbps for bytes')
    .option('--burst <size>', 'with --rate: bytes at once, or kb, mb (default: 10 ms)')
    .option('--loss <percent>', 'lost packets, 0.1% to 100%')
    .option('--delay <time>', 'us, ms or s; needs netem in the kernel')
    .option('--jitter <time>', 'with --delay: more or less by at most this')
    .option('--reset', 'take all of it away')
    .action(async (target: string, action: string | undefined, options: ShapeOptions, command: Command) => {
      requireRoot('shape')
      const { json: _, ...shape } = options as ShapeOptions & { json?: boolean }
      print((await import('../commands/shape.ts')).shape(target, action, shape), command)
    })
}
