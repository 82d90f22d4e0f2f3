import { fileURLToPath } from 'node:url'
import { credentials, loadPackageDefinition, type ServiceClientConstructor } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'

/** What a kubelet asks of a container runtime to make and unmake pods: cri.proto by the names of JavaScript. */

export interface PortMapping {
  readonly protocol?: 'TCP' | 'UDP' | 'SCTP'
  readonly containerPort: number
  readonly hostPort: number
  readonly hostIp?: string
}

export interface PodConfig {
  readonly metadata: {
    readonly name: string
    readonly uid: string
    readonly namespace: string
    readonly attempt?: number
  }
  readonly hostname?: string
  readonly portMappings?: readonly PortMapping[]
  readonly annotations?: Readonly<Record<string, string>>
  /** Present for every pod of Linux, even if empty. */
  readonly linux: object
}

export interface PodStatus {
  readonly state: 'SANDBOX_READY' | 'SANDBOX_NOTREADY'
  /** Of all families; none when the pod is stopped. */
  readonly addresses: readonly string[]
  /** Path of its network namespace. */
  readonly netns?: string
  /** Of its first process; 0 when that has ended. */
  readonly pid: number
}

export interface Condition {
  readonly type: string
  readonly status: boolean
  readonly message: string
}

export interface Cri extends Disposable {
  conditions(): Promise<readonly Condition[]>
  hasImage(name: string): Promise<boolean>
  runPod(config: PodConfig, patience?: number): Promise<string>
  podStatus(id: string): Promise<PodStatus>
  listPods(): Promise<readonly string[]>
  stopPod(id: string, patience?: number): Promise<void>
  removePod(id: string): Promise<void>
}

const proto = fileURLToPath(new URL('cri.proto', import.meta.url))

/** A client on the socket of a runtime. Calls fail after 30 seconds, or `patience` milliseconds. */
export function connectCri(socket: string): Cri {
  const definition = loadSync(proto, { enums: String, defaults: true, longs: Number })
  // biome-ignore lint/suspicious/noExplicitAny: the tree of packages is made at run time
  const services = (loadPackageDefinition(definition) as any).runtime.v1
  const connect = (service: ServiceClientConstructor) =>
    new service(`unix:${socket}`, credentials.createInsecure(), { 'grpc.enable_http_proxy': 0 })
  const [runtime, images] = [connect(services.RuntimeService), connect(services.ImageService)]
  // biome-ignore lint/suspicious/noExplicitAny: as above; each call below says what comes back
  const call = (client: typeof runtime, method: string, request: object, patience = 30_000): Promise<any> =>
    new Promise((resolve, reject) => {
      const deadline = Date.now() + patience
      client[method]!(request, { deadline }, (error: Error | null, response: unknown) =>
        error ? reject(new Error(`${method}: ${error.message}`)) : resolve(response),
      )
    })
  return {
    conditions: async () => (await call(runtime, 'Status', {})).status.conditions,
    hasImage: async (name) => Boolean((await call(images, 'ImageStatus', { image: { image: name } })).image),
    runPod: async (config, patience) => (await call(runtime, 'RunPodSandbox', { config }, patience)).podSandboxId,
    async podStatus(podSandboxId) {
      const { status, info } = await call(runtime, 'PodSandboxStatus', { podSandboxId, verbose: true })
      const { ip, additionalIps } = status.network ?? { ip: '', additionalIps: [] }
      const all: string[] = [ip, ...additionalIps.map((address: { ip: string }) => address.ip)]
      const { runtimeSpec, pid } = JSON.parse(info.info)
      const netns = runtimeSpec?.linux.namespaces.find(({ type }: { type: string }) => type === 'network')
      return { state: status.state, addresses: all.filter((address) => address !== ''), netns: netns?.path, pid }
    },
    listPods: async () => (await call(runtime, 'ListPodSandbox', {})).items.map(({ id }: { id: string }) => id),
    stopPod: (podSandboxId, patience) => call(runtime, 'StopPodSandbox', { podSandboxId }, patience),
    removePod: (podSandboxId) => call(runtime, 'RemovePodSandbox', { podSandboxId }),
    [Symbol.dispose]() {
      for (const client of [runtime, images]) client.close()
    },
  }
}
