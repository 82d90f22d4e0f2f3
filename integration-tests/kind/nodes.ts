import type { ChildProcess } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { type Container, createHost, executables, type Host, type Place } from '../host.ts'
import { inside } from '../inside.ts'
import { type ApiServer, createApiServer } from './api-server.ts'

/**
 * A cluster without Kubernetes: hosts for nodes on one bridge, as kind's nodes are on a docker network, each with an agent
 * of its own, an API server on the bridge, and something outside that knows no way to the pods.
 */

/** The bridge's own address; the API server and the default routes are there. */
export const gateways = { 4: '172.18.0.1', 6: 'fc00:f853:ccd::1' } as const
/** What the API server's certificate calls it besides, as kind calls the container of a control plane. */
export const controlPlane = 'lab-control-plane'
/** An address beyond the nodes' network. */
export const outside = { 4: '203.0.113.1', 6: '2001:db8:ffff::1' } as const
/** Of the nodes' links, lower than usual, to see it taken over. */
export const mtu = 1400

export const families = [4, 6] as const
export type Family = (typeof families)[number]

export interface Pod extends Container {
  readonly address: Readonly<Record<Family, string>>
  /** What the last plugin said. */
  // biome-ignore lint/suspicious/noExplicitAny: a CNI result
  readonly result: any
  /** As containerd stops it: DEL without namespace and without a previous result. */
  stop(): void
}

export interface PodOptions {
  /** In capital letters, as containerd writes them. */
  readonly portMappings?: readonly object[]
}

export interface Node extends Disposable {
  readonly name: string
  readonly host: Host
  readonly address: Readonly<Record<Family, string>>
  readonly podCIDRs: readonly string[]
  /** Lines that the agents of this node have logged so far. */
  readonly log: readonly LogLine[]
  startAgent(...options: string[]): ChildProcess
  /** With CONTROL_PLANE_ENDPOINT, as kind's own CNI is told. */
  startAgentAt(endpoint: string, ...options: string[]): ChildProcess
  agent(): ChildProcess
  pod(name: string, options?: PodOptions): Pod
  /** Gives the host other addresses; the API server does not know yet. */
  readdress(n: number): void
}

export interface LogLine {
  readonly event: string
  readonly [fact: string]: unknown
}

/** What nodes need of an API server. */
export type NodeApi = Pick<ApiServer, 'ca' | 'setNode' | 'deleteNode'> & Disposable

export interface Cluster<Api extends NodeApi = ApiServer> extends Disposable {
  readonly api: Api
  /** Where the nodes' network ends: outside, seen from pods. */
  readonly fabric: Host
  /** A host on the network; the API server has it when `known`. */
  addNode(name: string, n: number, options?: { known?: boolean }): Node
}

export function createCluster(): Cluster {
  const fabric = createFabric()
  const api = createApiServer([...Object.values(gateways), controlPlane])
  inside(fabric, () => api.listen(6443))
  return clusterOf(fabric, api)
}

/** The nodes' network, and the addresses where their API server is to be. */
export function createFabric(): Host {
  const fabric = createHost()
  fabric.sh(`ip link add kind0 mtu ${mtu} type bridge
             ip address add ${gateways[4]}/16 dev kind0
             ip address add ${gateways[6]}/64 dev kind0 nodad
             ip link set kind0 up
             ip address add ${outside[4]}/32 dev lo
             ip address add ${outside[6]}/128 dev lo nodad`)
  return fabric
}

/** Of an API server that is in the fabric already. */
export function clusterOf<Api extends NodeApi>(fabric: Host, api: Api): Cluster<Api> {
  const parts: Disposable[] = []
  return {
    api,
    fabric,
    addNode(name, n, { known = true } = {}) {
      const node = createNode(name, n, fabric, api)
      parts.push(node)
      if (known) api.setNode(name, { podCIDRs: node.podCIDRs, addresses: addressesOf(n) })
      return node
    },
    [Symbol.dispose]() {
      for (const part of parts) part[Symbol.dispose]()
      api[Symbol.dispose]()
      fabric[Symbol.dispose]()
    },
  }
}

export const addressesOf = (n: number): string[] => [`172.18.0.${n + 1}`, `fc00:f853:ccd::${n + 1}`]
const rangesOf = (n: number): string[] => [`10.244.${n}.0/24`, `fd00:10:244:${n}::/64`]

function setAddresses(host: Host, [v4, v6]: readonly string[]): void {
  host.sh(`ip address flush dev eth0 scope global
           ip address add ${v4}/16 dev eth0
           ip address add ${v6}/64 dev eth0 nodad
           ip route replace default via ${gateways[4]}
           ip route replace default via ${gateways[6]}`)
}

/** With what the DaemonSet gives its container: no more rights than these. */
const asContainer = ['setpriv', '--inh-caps=-all', '--bounding-set=-all,+net_admin,+net_raw']

const serviceAccount = '/run/secrets/kubernetes.io/serviceaccount'

/** As the kubelet does when the old one is about to expire. */
export function writeToken(node: Node, token: string): void {
  writeFileSync(node.host.file(`${serviceAccount}/token`), `${token}\n`)
}

function createNode(name: string, n: number, fabric: Host, api: NodeApi): Node {
  const host = createHost()
  host.run([
    'ip',
    'link',
    'add',
    'eth0',
    'mtu',
    `${mtu}`,
    'type',
    'veth',
    'peer',
    'name',
    name,
    'netns',
    `${fabric.pid}`,
  ])
  fabric.run(['ip', 'link', 'set', name, 'mtu', `${mtu}`, 'master', 'kind0', 'up'])
  host.run(['ip', 'link', 'set', 'eth0', 'up'])
  setAddresses(host, addressesOf(n))
  mkdirSync(host.file(serviceAccount), { recursive: true })
  writeFileSync(host.file(`${serviceAccount}/ca.crt`), api.ca)
  writeFileSync(host.file(`${serviceAccount}/token`), 'first\n')

  const log: LogLine[] = []
  let running: ChildProcess | undefined
  const start = (place: readonly string[], options: readonly string[]) => {
    const agent = [`${executables}/ns-net`, 'agent', '--bin-dir', executables]
    running = host.start([...asContainer, 'env', ...place, `NODE_NAME=${name}`, ...agent, ...options])
    follow(running, log)
    return running
  }
  const [v4, v6] = addressesOf(n)
  const node: Node = {
    name,
    host,
    address: { 4: v4!, 6: v6! },
    podCIDRs: rangesOf(n),
    log,
    startAgent: (...options) => start(['KUBERNETES_SERVICE_HOST=172.18.0.1', 'KUBERNETES_SERVICE_PORT=6443'], options),
    startAgentAt: (endpoint, ...options) => start([`CONTROL_PLANE_ENDPOINT=${endpoint}`], options),
    agent: () => running!,
    pod: (pod, options) => startPod(host, pod, options),
    readdress: (other) => setAddresses(host, addressesOf(other)),
    [Symbol.dispose]: () => host[Symbol.dispose](),
  }
  return node
}

function follow(child: ChildProcess, log: LogLine[]): void {
  let rest = ''
  child.stdout!.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop()!
    for (const line of lines) log.push(JSON.parse(line))
  })
  child.stderr!.setEncoding('utf8').on('data', (text: string) => log.push({ event: 'stderr', text }))
}

/** A runtime as containerd 1.6 is one: the first configuration by name, `cniVersion` of it, every plugin in turn. */
function startPod(host: Host, name: string, { portMappings }: PodOptions = {}): Pod {
  const container = host.addContainer(`cni-${name}`)
  container.run(['ip', 'link', 'set', 'lo', 'up'])
  const containerId = `${name}0123456789abcdef`
  const folder = host.file('/etc/cni/net.d')
  const list = JSON.parse(readFileSync(`${folder}/10-ns-net.conflist`, 'utf8'))
  const args = `K8S_POD_UID=1;IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=${name};K8S_POD_INFRA_CONTAINER_ID=${containerId}`
  const call = (verb: string, plugin: Record<string, unknown>, netns: string, prevResult?: object) =>
    host.cni(String(plugin.type), verb, {
      containerId,
      netns,
      ifName: 'eth0',
      args,
      config: {
        ...plugin,
        name: list.name,
        cniVersion: list.cniVersion,
        ...(prevResult && { prevResult }),
        ...((plugin.capabilities as object | undefined) && portMappings && { runtimeConfig: { portMappings } }),
      },
    }).json
  let result: { ips: { address: string }[] } | undefined
  for (const plugin of list.plugins) result = call('ADD', plugin, container.path, result)
  const cacheFile = host.file(`/var/lib/cni/results/${list.name}-${containerId}-eth0`)
  mkdirSync(host.file('/var/lib/cni/results'), { recursive: true })
  const cache = {
    kind: 'cniCacheV1',
    containerId,
    config: Buffer.from(JSON.stringify(list)).toString('base64'),
    ifName: 'eth0',
    networkName: list.name,
    netns: container.path,
    cniArgs: args.split(';').map((pair) => pair.split('=')),
    result,
  }
  writeFileSync(cacheFile, JSON.stringify(cache))
  const addresses = result!.ips.map(({ address }) => address.split('/')[0]!)
  return {
    ...container,
    result,
    address: { 4: addresses.find((each) => each.includes('.'))!, 6: addresses.find((each) => each.includes(':'))! },
    stop() {
      host.run(['ip', 'netns', 'del', container.name])
      for (const plugin of list.plugins.toReversed()) call('DEL', plugin, '')
      host.run(['rm', '-f', `/var/lib/cni/results/${list.name}-${containerId}-eth0`])
    },
  }
}

const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds))

/**
 * Waits until `look` gives something true, and returns it with the time that took. The deadline is far away: how long it
 * took is for people to read. Another one tells what happens at once from what the next round of something brings.
 */
export async function eventually<T>(
  what: string,
  look: () => T,
  deadline = 40_000,
): Promise<{ value: NonNullable<T>; milliseconds: number }> {
  const started = performance.now()
  let last: unknown
  while (performance.now() - started < deadline) {
    try {
      const value = look()
      if (value) return { value, milliseconds: Math.round(performance.now() - started) }
      last = value
    } catch (error) {
      last = error
    }
    await sleep(20)
  }
  throw new Error(
    `not within ${deadline / 1000} s: ${what}; last: ${last instanceof Error ? last.message : JSON.stringify(last)}`,
  )
}

/** Lets this process serve its API for a while. */
export const rest = sleep

export const hasConfiguration = ({ host }: Node): boolean =>
  host.run(['test', '-e', '/etc/cni/net.d/10-ns-net.conflist'], { expectFailure: 'maybe' }).status === 0

/** The routes that agents make, as `DESTINATION GATEWAY`. */
export const agentRoutes = (place: Place): string[] =>
  (['-4', '-6'] as const)
    .flatMap((family) => place.json(['ip', '-j', '-N', family, 'route', 'show', 'proto', '114']) ?? [])
    .map(({ dst, gateway, type }: Record<string, string>) => `${dst} ${gateway ?? type ?? ''}`)
    .sort()

export const answers = (from: Place, to: string, ...options: string[]): boolean =>
  from.run(['ping', '-c1', '-W2', ...options, to], { expectFailure: 'maybe' }).status === 0
