import fs from 'node:fs'
import type { Command } from 'commander'
import type { CheckOptions, KindOptions } from '../commands/kind.ts'
import { collect, positiveInteger, print, verb } from './verb.ts'

/** Our plugins as the network of a Kubernetes kind cluster. */
export function clusterVerbs(program: Command): void {
  const kind = verb(
    program,
    'Host',
    'kind',
    'our plugins as the network of a kind cluster: up, check, down, manifest, config',
    ['ns-net kind up --archive ns-net.tar', 'ns-net kind check'],
  )
  const inCluster = (command: Command) =>
    command
      .option('--image <name:tag>', 'image of the agent (default: ns-net of this version)')
      .option('--cluster <name>', 'name of the cluster')
      .option('--mode <mode>', 'veth (routed links, the default) or bridge')
      .option('--pod-subnet <cidr>', 'range of all pods; one for each family', collect)
      .option('--no-masq <cidr>', 'destinations that see the pods themselves; may be repeated')
      .option('--chaos', 'with the plugin chaos in the conflist')
      .option('--family <family>', 'ipv4, ipv6 or dual (the default)')
  const manifest = verb(kind, 'Host', 'manifest', 'DaemonSet, account and rights as YAML', [
    'ns-net kind manifest --cluster lab | kubectl apply -f -',
  ])
  inCluster(manifest).action(async (options: Flags) => {
    fs.writeSync(1, (await import('../commands/kind.ts')).kindManifest(ofFlags(options)))
  })
  verb(kind, 'Host', 'config', 'a file for kind create cluster', ['ns-net kind config --workers 1 > cluster.yaml'])
    .option('--workers <n>', 'nodes besides the control plane (default: 2)')
    .option('--family <family>', 'ipv4, ipv6 or dual (the default)')
    .option('--pod-subnet <cidr>', 'range of all pods; one for each family', collect)
    .action(async (options: KindOptions) => {
      fs.writeSync(1, (await import('../commands/kind.ts')).kindConfig(options))
    })
  inCluster(verb(kind, 'Host', 'up', 'make a cluster with our plugins as its network', ['ns-net kind up --workers 1']))
    .option('--workers <n>', 'nodes besides the control plane (default: 2)')
    .option('--archive <file>', 'the image as npm run image makes it, not one of the engine')
    .action(async (options: Flags, command: Command) => {
      print((await import('../commands/kind.ts')).kindUp(ofFlags(options)), command)
    })
  verb(kind, 'Host', 'down', 'delete the cluster', ['ns-net kind down'])
    .option('--cluster <name>', 'name of the cluster')
    .action(async (options: KindOptions, command: Command) => {
      print((await import('../commands/kind.ts')).kindDown(options), command)
    })
  verb(kind, 'Host', 'check', "try the network of kubectl's cluster with packets between pods", ['ns-net kind check'])
    .option('--image <name:tag>', 'image of the pods (default: ns-net of this version)')
    .option('--outside <url>', 'one outside that answers; may be repeated', collect)
    .option('--keep', 'leave the pods for a look')
    .action(async (options: CheckOptions, command: Command) => {
      print((await import('../commands/kind.ts')).kindCheck(options), command)
    })
  probeVerbs(program)
}

/** commander reads `--no-masq` as `--masq` switched off, so its value comes as `masq`, the last one only. */
type Flags = Omit<KindOptions, 'noMasq'> & { readonly masq?: string | boolean }

const ofFlags = ({ masq, ...rest }: Flags): KindOptions => ({
  ...rest,
  ...(typeof masq === 'string' && { noMasq: masq.split(',') }),
})

/** What the pods of `kind check` run. */
function probeVerbs(program: Command): void {
  program
    .command('__serve', { hidden: true })
    .argument('<port>', '', positiveInteger)
    .action(async (port: number) => {
      ;(await import('../kind/probe.ts')).serveProbes(port)
    })
  program
    .command('__get', { hidden: true })
    .argument('<url>')
    .action(async (target: string) => {
      fs.writeSync(1, `${await (await import('../kind/probe.ts')).probe(target)}\n`)
    })
}
