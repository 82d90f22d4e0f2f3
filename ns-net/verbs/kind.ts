import { type Command, Option } from 'commander'
import type { AgentCommandOptions } from '../commands/agent.ts'
import { collect, positiveInteger, requireRoot, verb } from './verb.ts'

/** For commander `--no-…` is the opposite of an option, unless it is told otherwise. */
const exempt = new Option('--no-masq <cidr>', 'destinations that see pods under their own addresses; may be repeated')
exempt.argParser(collect).negate = false

/** Verbs for test clusters of Kubernetes made by kind. */
export function kindVerbs(program: Command): void {
  verb(program, 'Host', 'agent', 'on a node of Kubernetes: routes, masquerading and configuration of its pods', [
    'ns-net agent --install-from /ns-net',
    'ns-net agent --node worker1 --kubeconfig /etc/kubernetes/kubelet.conf',
    'ns-net agent --cleanup',
  ])
    .option('--node <name>', 'name of this node (default: NODE_NAME)')
    .option('--kubeconfig <file>', 'how to reach the API server (default: as a pod of the cluster)')
    .option('--mode <mode>', 'how pods are connected: veth, each by a routed link, or bridge', 'veth')
    .option('--chaos', 'put the chaos plugin before the one that makes the link')
    .option('--pod-subnet <cidr>', 'range of all pods of the cluster, one for each family', collect)
    .addOption(exempt)
    .option('--install-from <folder>', 'copy the executables from there first')
    .option('--bin-dir <folder>', 'where the runtime looks for plugins', '/opt/cni/bin')
    .option('--conf-dir <folder>', 'where the runtime looks for configurations', '/etc/cni/net.d')
    .option('--health <address>', 'where /healthz and /readyz answer', '127.0.0.1:19090')
    .option('--collect-every <seconds>', 'time between two looks for leftovers of dead pods', positiveInteger, 300)
    .option('--cleanup', 'take away all that the agent made on this node, and end')
    .action(async (options: AgentCommandOptions) => {
      requireRoot('agent')
      await (await import('../commands/agent.ts')).agent(options)
    })
}
