import { leases } from '../../ipam/host-local.ts'
import { Netns } from '../../netlink-lib/netns.ts'
import { release } from '../../plugins/chaos/links.ts'
import { type Host, hostLinkName } from '../../plugins/contract/host.ts'
import type { ConfList, PluginConf } from '../conflist.ts'
import { listCache } from '../result-cache.ts'
import { delNetwork, type Target } from '../runtime.ts'
import { leaseDirectory, networkName } from './configuration.ts'

/*
 * Attachments whose pods are gone: the runtime was killed before it called DEL, or its call failed. No containerd calls GC,
 * so the agent looks for itself. It asks the kernel: the host's end of a pod's link lives exactly as long as the pod's
 * network namespace. What the runtime has written down may be late, and /run/netns may not be visible from here.
 */

export interface Collected {
  readonly containerId: string
  readonly failure?: string
}

export class StaleAttachments {
  /** Leases without a link, as of the last time: an ADD takes its lease first, so one may just be on its way. */
  #suspects: ReadonlySet<string> = new Set()

  /** Runs DEL for every attachment of our network whose pod is gone. `current` is for those of which only a lease is left. */
  collect(host: Host, current: ConfList): Collected[] {
    const linkless = (target: Pick<Target, 'containerId' | 'ifName'>) =>
      !host.route.findLink(hostLinkName({ network: networkName, ...target }))
    const cached = listCache().filter(({ list }) => list.name === networkName)
    const dead = cached.filter(({ target }) => linkless(target) && !hasNetns(target.netns))

    const isCached = (one: Pick<Target, 'containerId' | 'ifName'>) =>
      cached.some(({ target }) => keyOf(target) === keyOf(one))
    const held = leases({ network: networkName, dataDir: leaseDirectory })
    const suspects = held.filter((lease) => lease.ifName !== '' && !isCached(lease) && linkless(lease))
    const seenTwice = suspects.filter((lease) => this.#suspects.has(keyOf(lease)))
    this.#suspects = new Set(suspects.map(keyOf))

    const stale = new Map(seenTwice.map((lease) => [keyOf(lease), { list: current, target: targetOf(lease) }]))
    for (const { list, target } of dead) stale.set(keyOf(target), { list, target: targetOf(target) })
    return [...stale.values()].map(({ list, target }) => detach(list, target, host))
  }
}

const keyOf = ({ containerId, ifName }: Pick<Target, 'containerId' | 'ifName'>) => `${containerId} ${ifName}`

const targetOf = ({ containerId, ifName }: Pick<Target, 'containerId' | 'ifName'>): Target => ({
  containerId,
  ifName,
  netns: '',
})

function hasNetns(path: string): boolean {
  using found = path === '' ? undefined : Netns.find(path)
  return found !== undefined
}

function detach(list: ConfList, target: Target, host: Host): Collected {
  const { containerId } = target
  try {
    if (list.plugins.some(isChaos)) release({ network: list.name, ...target }, host)
    delNetwork({ ...list, plugins: list.plugins.flatMap(withoutChaos) }, target, host)
    return { containerId }
  } catch (error) {
    return { containerId, failure: (error as Error).message }
  }
}

const isChaos = ({ type }: PluginConf): boolean => type === 'chaos'

/** A fault that drops a DEL is there to be noticed and put right, not to strike again. */
function withoutChaos(plugin: PluginConf): PluginConf[] {
  if (!isChaos(plugin)) return [plugin]
  return plugin.plugin ? [plugin.plugin as PluginConf] : []
}
