import { type Cidr, canonicalIp, networkOf, parseCidr } from '../../netlink-lib/ip.ts'
import type { ApiAccess } from './api-access.ts'
import { type ApiEvent, ApiRefusal, list, watch } from './api-client.ts'

/** What the agent knows of a node of the cluster. */
export interface ClusterNode {
  readonly name: string
  /** Ranges of its pods, `spec.podCIDRs`: empty until the controller manager has given it one. */
  readonly podRanges: readonly Cidr[]
  /** Its addresses of type InternalIP. */
  readonly addresses: readonly string[]
}

const path = '/api/v1/nodes'

/** Milliseconds without an event after which the whole list is asked for: a watch can be dead without a sign. */
const silence = 10_000

interface NodeObject {
  readonly metadata?: { readonly name?: string }
  readonly spec?: { readonly podCIDR?: string; readonly podCIDRs?: readonly string[] }
  readonly status?: { readonly addresses?: readonly { readonly type?: string; readonly address?: string }[] }
}

/** Reads a Node object; what makes no sense in it is as if it were not there. */
export function toClusterNode(object: unknown): ClusterNode {
  const { metadata, spec, status } = object as NodeObject
  const ranges = spec?.podCIDRs ?? (spec?.podCIDR ? [spec.podCIDR] : [])
  return {
    name: metadata?.name ?? '',
    podRanges: ranges.map(parseCidr).flatMap((range) => (range ? [networkOf(range)] : [])),
    addresses: (status?.addresses ?? [])
      .filter(({ type }) => type === 'InternalIP')
      .flatMap(({ address }) => canonicalIp(address ?? '') ?? []),
  }
}

export interface NodeWatcher {
  /** After every list and every event that changed something the agent cares for. */
  onChange(nodes: readonly ClusterNode[]): void
  /** Whenever the server has proved that it is there. */
  onContact(): void
  onTrouble(error: Error): void
}

export interface NodeFollower {
  /** Begins again with new connections: the old ones had an address that is gone. */
  renew(): void
}

/** Follows the nodes of the cluster for ever: lists, watches, and begins again whenever the watch ends, for whatever reason. */
export function followNodes(access: ApiAccess, watcher: NodeWatcher): NodeFollower {
  const following = new Following(access, watcher)
  void following.run()
  return following
}

const firstWait = 200
const longestWait = 5000

/** Ends early when the signal comes. */
const pause = (milliseconds: number, signal: AbortSignal) =>
  new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, milliseconds)
    signal.addEventListener('abort', () => {
      clearTimeout(timer)
      resolve()
    })
  })

class Following implements NodeFollower {
  readonly #nodes = new Map<string, ClusterNode>()
  /** The nodes as they were told last. */
  #told: string | undefined
  /** Aborted to begin again: list, watch, and the pause after them. */
  #round = new AbortController()

  constructor(
    private readonly access: ApiAccess,
    private readonly watcher: NodeWatcher,
  ) {}

  renew(): void {
    this.#round.abort()
  }

  async run(): Promise<never> {
    for (let wait = firstWait; ; ) {
      this.#round = new AbortController()
      const { signal } = this.#round
      try {
        const since = await this.#relist(signal)
        wait = firstWait
        await this.#watch(since, signal)
      } catch (error) {
        // The history is gone: an everyday event, after which one lists again.
        const isExpired = error instanceof ApiRefusal && error.status === 410
        if (!isExpired && !signal.aborted) {
          this.watcher.onTrouble(error as Error)
          wait = Math.min(2 * wait, longestWait)
        }
      }
      if (!signal.aborted) await pause(wait * (0.75 + Math.random() / 2), signal)
      if (signal.aborted) wait = firstWait
    }
  }

  /** Asks for all nodes; the version that a watch continues from. */
  async #relist(signal: AbortSignal): Promise<string> {
    const { items, resourceVersion } = await list(this.access, path, signal)
    this.#nodes.clear()
    for (const node of items.map(toClusterNode)) this.#nodes.set(node.name, node)
    this.#tell()
    return resourceVersion
  }

  /** Ends with the watch, or when that proves to be dead. */
  async #watch(since: string, round: AbortSignal): Promise<void> {
    const ending = new AbortController()
    const signal = AbortSignal.any([round, ending.signal])
    let trouble: Error | undefined
    const look = async () => {
      const told = this.#told
      try {
        await this.#relist(signal)
        if (this.#told === told) rest()
        else ending.abort() // the watch should have said so
      } catch (error) {
        trouble = error as Error
        ending.abort()
      }
    }
    let timer = setTimeout(look, silence)
    const rest = () => {
      clearTimeout(timer)
      if (!signal.aborted) timer = setTimeout(look, silence)
    }
    try {
      await watch(this.access, path, since, signal, (event) => {
        rest()
        this.#apply(event)
      })
    } catch (error) {
      if (trouble || !signal.aborted) throw trouble ?? error
    } finally {
      ending.abort()
      clearTimeout(timer)
    }
  }

  #apply({ type, object }: ApiEvent): void {
    const node = toClusterNode(object)
    if (type === 'DELETED') this.#nodes.delete(node.name)
    else if (type !== 'BOOKMARK') this.#nodes.set(node.name, node)
    this.#tell()
  }

  /** Kubelets write into their nodes all the time; only what the agent reads from them counts. */
  #tell(): void {
    this.watcher.onContact()
    const nodes = [...this.#nodes.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
    const text = JSON.stringify(nodes)
    if (text === this.#told) return
    this.#told = text
    this.watcher.onChange(nodes)
  }
}
