import { type Cidr, networkOf, parseCidr } from '../../netlink-lib/ip.ts'
import { accessInCluster, accessOf } from '../agent/api-access.ts'
import { CliError } from '../errors.ts'

export interface AgentCommandOptions {
  readonly node?: string
  readonly kubeconfig?: string
  readonly mode: string
  readonly chaos?: boolean
  readonly podSubnet?: readonly string[]
  readonly noMasq?: readonly string[]
  readonly confDir: string
  readonly binDir: string
  readonly installFrom?: string
  readonly health: string
  readonly collectEvery: number
  readonly cleanup?: boolean
}

/** The node agent: ends with SIGTERM. With `cleanup` it takes back what it made and ends at once. */
export async function agent(options: AgentCommandOptions): Promise<void> {
  const { kubeconfig, mode, podSubnet = [], noMasq = [], cleanup, ...rest } = options
  if (cleanup) return (await import('../agent/cleanup.ts')).cleanUp(options)
  const node = options.node ?? process.env.NODE_NAME
  if (!node)
    throw new CliError(
      'usage',
      'the name of this node is not known',
      'set NODE_NAME (fieldPath: spec.nodeName) or --node',
    )
  if (mode !== 'veth' && mode !== 'bridge')
    throw new CliError('usage', `there is no mode "${mode}"`, 'expected veth or bridge')
  const access = kubeconfig ? await accessOf(kubeconfig) : accessInCluster()
  const { runAgent } = await import('../agent/agent.ts')
  await runAgent(access, { ...rest, node, mode, unmasqueraded: [...podSubnet, ...noMasq].map(range) })
}

function range(text: string): Cidr {
  const parsed = parseCidr(text)
  if (!parsed) throw new CliError('usage', `"${text}" is no range of addresses`, 'expected a CIDR, as 10.0.0.0/8')
  return networkOf(parsed)
}
