import { type Cidr, contains, familyOf } from '../../netlink-lib/ip.ts'
import { routeScopes } from '../../netlink-lib/route/wire.ts'
import { messageOf } from '../../plugins/contract/errors.ts'
import { Host } from '../../plugins/contract/host.ts'
import { parseConfList } from '../conflist.ts'
import { version } from '../version.ts'
import type { ApiAccess } from './api-access.ts'
import { type ConfigurationSettings, configurationFor } from './configuration.ts'
import { configurationBefore, writeConfiguration } from './configuration-file.ts'
import { installExecutables } from './executables.ts'
import { type Health, serveHealth } from './health.ts'
import { Journal } from './journal.ts'
import { followKernel } from './kernel-events.ts'
import { describePolicy, reconcileMasquerade } from './masquerade.ts'
import { type ClusterNode, followNodes, type NodeFollower } from './nodes.ts'
import { type Plan, planFor } from './plan.ts'
import { reconcileRoutes } from './routes.ts'
import { StaleAttachments } from './stale-attachments.ts'

export interface AgentOptions extends Pick<ConfigurationSettings, 'mode' | 'chaos'> {
  readonly node: string
  readonly confDir: string
  readonly binDir: string
  /** Folder of the executables to install. */
  readonly installFrom?: string
  /** Ranges that see a pod's own address, besides pods and nodes. */
  readonly unmasqueraded: readonly Cidr[]
  /** Address of the probes. */
  readonly health: string
  /** Seconds between two looks for attachments of pods that are gone. */
  readonly collectEvery: number
}

/** Milliseconds after which the kernel is looked at without an event: others change rules too, and events can be lost. */
const period = 10_000
/** Milliseconds that the API server may be silent; it is asked every ten seconds. */
const longestSilence = 60_000

/** Keeps this node's part of the cluster's network, until SIGTERM. What it made stays then: pods go on. */
export async function runAgent(access: ApiAccess, options: AgentOptions): Promise<never> {
  const agent = new Agent(access.server, options)
  process.on('SIGTERM', () => process.exit(0))
  process.on('SIGINT', () => process.exit(0))
  agent.start()
  await serveHealth(options.health, agent)
  agent.follow(access)
  for (;;) await agent.pass()
}

class Agent implements Health {
  readonly #journal = new Journal()
  readonly #stale = new StaleAttachments()
  readonly #failing = new Set<string>()
  #follower: NodeFollower | undefined
  #nodes: readonly ClusterNode[] | undefined
  #addresses: readonly string[] = []
  #contact = Number.NEGATIVE_INFINITY
  #passed = performance.now()
  #collected = Number.NEGATIVE_INFINITY
  #configured = false
  #wake: () => void = () => {}

  constructor(
    private readonly server: string,
    private readonly options: AgentOptions,
  ) {}

  start(): void {
    const { node, mode, installFrom, binDir } = this.options
    this.#journal.write('started', { version: version(), node, mode, server: this.server })
    // Faults of a chaos plugin apart, all plugins run in this process; that one looks for what it stands in for.
    process.env.CNI_PATH ??= binDir
    if (!installFrom) return
    const installed = installExecutables(installFrom, binDir)
    if (installed.length > 0) this.#journal.write('installed', { folder: binDir, executables: installed })
  }

  follow(access: ApiAccess): void {
    this.#follower = followNodes(access, this)
    followKernel(() => this.#wake())
  }

  onChange(nodes: readonly ClusterNode[]): void {
    this.#nodes = nodes
    this.#wake()
  }

  onContact(): void {
    this.#contact = performance.now()
    this.#journal.problem('API server', undefined)
  }

  onTrouble(error: Error): void {
    this.#journal.problem('API server', `${this.server}: ${error.message}`)
  }

  alive(): string | undefined {
    const since = performance.now() - this.#passed
    return since > 6 * period ? `the last pass was ${Math.round(since / 1000)} s ago` : undefined
  }

  ready(): string | undefined {
    if (performance.now() - this.#contact > longestSilence) return `no contact to the API server ${this.server}`
    if (!this.#configured) return 'no configuration written yet'
    return this.#failing.size > 0 ? `not in order: ${[...this.#failing].join(', ')}` : undefined
  }

  /** Puts everything right once, then waits for an event or the clock. */
  async pass(): Promise<void> {
    const woken = new Promise<void>((resolve) => {
      this.#wake = resolve
    })
    if (this.#nodes) this.#reconcile(this.#nodes)
    this.#passed = performance.now()
    const clock = new AbortController()
    const tick = new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, period)
      clock.signal.addEventListener('abort', () => clearTimeout(timer))
    })
    await Promise.race([woken, tick])
    clock.abort()
  }

  #reconcile(nodes: readonly ClusterNode[]): void {
    const { node, unmasqueraded } = this.options
    const plan = planFor(nodes, node, unmasqueraded)
    const strange = plan
      ? undefined
      : `the cluster has no node "${node}" (but ${nodes.map(({ name }) => name).join(', ') || 'none'})`
    this.#journal.problem('own node', strange ?? (plan?.podRanges.length ? undefined : 'it has no podCIDRs yet'))
    if (!plan) return
    this.#journal.problem('nodes', plan.problems.join('; ') || undefined)
    using host = new Host()
    this.#noticeLostAddresses(host, plan)
    this.#step('routes', () => this.#routes(host, plan))
    this.#step('masquerade', () => this.#masquerade(host, plan))
    // Last: with it the node is ready, and pods come.
    if (plan.podRanges.length > 0) this.#step('configuration', () => this.#configure(host, plan))
  }

  /** Connections from an address that is gone are dead, and nobody says so. */
  #noticeLostAddresses({ route }: Host, { podRanges }: Plan): void {
    const isOfPods = (address: string) => podRanges.some((range) => contains(range, address))
    const present = route
      .listAddresses()
      .filter(({ scope, address }) => scope === routeScopes.universe && !isOfPods(address))
      .map(({ address }) => address)
    const isLost = this.#addresses.some((address) => !present.includes(address))
    this.#addresses = present
    if (isLost) this.#follower?.renew()
  }

  /** What fails is tried again in the next pass, and told once. */
  #step(subject: string, work: () => string | undefined): void {
    let trouble: string | undefined
    try {
      trouble = work()
      this.#failing.delete(subject)
    } catch (error) {
      trouble = messageOf(error)
      this.#failing.add(subject)
    }
    this.#journal.problem(subject, trouble)
  }

  #routes(host: Host, plan: Plan): string | undefined {
    const { added, removed, problems } = reconcileRoutes(host.route, plan)
    for (const route of removed) this.#journal.write('route removed', { route })
    for (const route of added) this.#journal.write('route added', { route })
    return problems.join('; ') || undefined
  }

  #masquerade(host: Host, plan: Plan): undefined {
    const reason = reconcileMasquerade(host.netfilter, plan)
    if (reason) this.#journal.write('masquerade replaced', { reason, ...describePolicy(plan) })
  }

  #configure(host: Host, plan: Plan): string | undefined {
    const { mode, chaos, confDir, collectEvery } = this.options
    const content = configurationFor(plan.podRanges, { mode, chaos, mtu: mtuOf(host, plan) })
    if (writeConfiguration(confDir, content)) this.#journal.write('configuration written', { folder: confDir })
    this.#configured = true
    if (performance.now() - this.#collected >= collectEvery * 1000) {
      this.#collected = performance.now()
      for (const collected of this.#stale.collect(host, parseConfList(JSON.parse(content))))
        this.#journal.write('stale attachment', { ...collected })
    }
    const first = configurationBefore(confDir)
    return first && `the runtime takes ${confDir}/${first}, not ours: it is first by name`
  }
}

/** Of the link that the default route leads to, else of the one with the node's address. */
function mtuOf(host: Host, { podRanges, addresses }: Plan): number | undefined {
  const families = [...new Set(podRanges.map(({ family }) => family))]
  const defaults = families.flatMap((family) => host.route.listRoutes(family).filter(({ dst }) => dst.prefix === 0))
  const first = defaults.toSorted((a, b) => (a.priority ?? 0) - (b.priority ?? 0))[0]
  const own = addresses.filter((address) => families.includes(familyOf(address)))
  const index = first?.link ?? host.route.listAddresses().find(({ address }) => own.includes(address))?.index
  return index === undefined ? undefined : host.route.findLink(index)?.mtu
}
