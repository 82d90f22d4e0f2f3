import { dirname } from 'node:path'
import type { AttachmentId } from '../config/attachment.ts'
import { Section } from '../config/reader.ts'
import { bandwidth } from '../plugins/bandwidth/bandwidth.ts'
import { bridge } from '../plugins/bridge/bridge.ts'
import { chaos } from '../plugins/chaos/chaos.ts'
import { delegate, findExecutable } from '../plugins/contract/delegation.ts'
import { dispatch, reload } from '../plugins/contract/dispatch.ts'
import { CniError, codes, messageOf, TeardownError } from '../plugins/contract/errors.ts'
import type { Host } from '../plugins/contract/host.ts'
import type { Plugin } from '../plugins/contract/plugin.ts'
import type { Command, Environment } from '../plugins/contract/request.ts'
import { parseResult, type Result } from '../plugins/contract/result.ts'
import { firewall } from '../plugins/firewall/firewall.ts'
import { loopback } from '../plugins/loopback/loopback.ts'
import { nat } from '../plugins/nat/nat.ts'
import { portmap } from '../plugins/portmap/portmap.ts'
import { tuning } from '../plugins/tuning/tuning.ts'
import { veth } from '../plugins/veth/veth.ts'
import type { ConfList, PluginConf } from './conflist.ts'
import { type CachedAttachment, readCache, removeCache, writeCache } from './result-cache.ts'

/**
 * A CNI runtime: what libcni does with a conflist (CNI spec, section 3). Our own plugins run in this process through
 * the same dispatch as the executables; any other is executed from the plugin path.
 */

/** Container, namespace and interface a conflist is applied to. */
export interface Target {
  readonly containerId: string
  readonly netns: string
  readonly ifName: string
  /** CNI_ARGS. */
  readonly args?: ReadonlyMap<string, string>
  /** Values for the capabilities that a plugin of the list declares, such as portMappings. */
  readonly capabilityArgs?: Json
}

type Json = Record<string, unknown>

const own: Readonly<Record<string, Plugin<never>>> = {
  bridge: bridge as Plugin<never>,
  veth: veth as Plugin<never>,
  ptp: veth as Plugin<never>,
  loopback: loopback as Plugin<never>,
  nat: nat as Plugin<never>,
  portmap: portmap as Plugin<never>,
  tuning: tuning as Plugin<never>,
  firewall: firewall as Plugin<never>,
  bandwidth: bandwidth as Plugin<never>,
  chaos: chaos as Plugin<never>,
}

/** True when every plugin of the list, and whatever gives its addresses, is ours: what their DEL needs is known. */
export const isOwnList = ({ plugins }: ConfList): boolean =>
  plugins.every(({ type, ipam }) => {
    const source = (ipam as { type?: unknown } | undefined)?.type ?? ''
    return Object.hasOwn(own, type) && ['host-local', 'static', ''].includes(String(source))
  })

declare const NS_NET_IMAGE: boolean | undefined // defined by scripts/build.mjs

/** Beside this executable are ours. */
const ownFolder = (): string[] => (typeof NS_NET_IMAGE === 'undefined' ? [] : [dirname(process.execPath)])

const pathOr = (standard: readonly string[]): readonly string[] =>
  process.env.CNI_PATH ? process.env.CNI_PATH.split(':') : standard

/**
 * Where plugins are looked for that do not run in this process: CNI_PATH, else beside this executable, and in the places
 * that distributions use.
 */
export const pluginPath = (): readonly string[] =>
  pathOr([...ownFolder(), '/opt/cni/bin', '/usr/lib/cni', '/usr/libexec/cni'])

/** Where a container runtime of this host looks: what is installed for it comes before what is ours. */
export const runtimePath = (): readonly string[] => pathOr(['/opt/cni/bin', '/usr/lib/cni', ...ownFolder()])

/** Runs ADD through the list; each result feeds the next. On failure everything is taken back by DEL. */
export function addNetwork(list: ConfList, target: Target, host: Host): Result {
  let result: Json | undefined
  try {
    for (const plugin of list.plugins) result = call('ADD', list, plugin, target, host, result) ?? result
    writeCache({ list, target, result: result ?? {} })
  } catch (error) {
    try {
      delNetwork(list, target, host)
    } catch (undo) {
      // A configuration that ADD cannot use is refused by DEL with the same words.
      if (messageOf(undo) !== messageOf(error)) host.warn(`rollback: ${messageOf(undo)}`)
    }
    throw error
  }
  return parseResult(new Section(result ?? {}), list.cniVersion)
}

/** Runs DEL in reverse order, every plugin whatever the others say, and forgets the cached result. */
export function delNetwork(list: ConfList, target: Target, host: Host): void {
  const cached = readCache(list, target)?.result
  const failures: unknown[] = []
  for (const plugin of list.plugins.toReversed()) {
    try {
      call('DEL', list, plugin, target, host, cached)
    } catch (error) {
      failures.push(error)
    }
  }
  if (failures.length > 0) throw failures.length === 1 ? failures[0] : new TeardownError(failures)
  removeCache(list, target)
}

/** Runs CHECK in order with the cached result. */
export function checkNetwork(list: ConfList, target: Target, host: Host): void {
  if (list.disableCheck) return
  const cached = readCache(list, target)?.result
  for (const plugin of list.plugins) call('CHECK', list, plugin, target, host, cached)
}

/**
 * Runs some plugins of the list again for a live attachment whose capabilities change: DEL with the old, ADD with the
 * new. When that is refused the old ones come back.
 */
export function changeCapabilities(
  list: ConfList,
  [before, after]: readonly [Target, Target],
  concerned: (plugin: PluginConf) => boolean,
  host: Host,
): void {
  const result = readCache(list, before)?.result
  const plugins = list.plugins.filter(concerned)
  const leave = (target: Target) => {
    for (const plugin of plugins.toReversed()) call('DEL', list, plugin, target, host, result)
  }
  const enter = (target: Target) => {
    for (const plugin of plugins) call('ADD', list, plugin, target, host, result)
    writeCache({ list, target, result: result ?? {} })
  }
  leave(before)
  try {
    enter(after)
  } catch (error) {
    leave(after)
    enter(before)
    throw error
  }
}

/** Puts back the rules of a live attachment; foreign plugins have no such verb. */
export function reloadNetwork({ list, target, result }: CachedAttachment, host: Host): void {
  for (const plugin of list.plugins) {
    const known = own[plugin.type]
    if (!known) continue
    const { environment, document } = invocation('ADD', list, plugin, target, result)
    reload(known, environment, document, host)
  }
}

/**
 * GC of all our plugins for a network, whatever its configuration was: what no valid attachment owns goes. Addresses stay
 * out of it, as leases may be of runtimes that are not known here.
 */
export function collectNetwork(network: string, valid: readonly AttachmentId[], host: Host): void {
  const attachments = valid.map(({ containerId, ifName }) => ({ containerID: containerId, ifname: ifName }))
  const failures: unknown[] = []
  for (const [type, plugin] of Object.entries(own)) {
    for (const backend of ['nftables', 'iptables']) {
      const document = { type, name: network, cniVersion: '1.1.0', backend, ipMasqBackend: backend, ipam: {} }
      const environment: Environment = {
        command: 'GC',
        containerId: '',
        netns: '',
        ifName: '',
        args: new Map(),
        path: pluginPath(),
        netnsOverride: false,
      }
      try {
        dispatch(plugin, environment, JSON.stringify({ ...document, 'cni.dev/valid-attachments': attachments }), host)
      } catch (error) {
        failures.push(error)
      }
    }
  }
  if (failures.length > 0) throw failures.length === 1 ? failures[0] : new TeardownError(failures)
}

function call(
  command: Command,
  list: ConfList,
  plugin: PluginConf,
  target: Target,
  host: Host,
  prevResult: Json | undefined,
): Json | undefined {
  const { environment, document } = invocation(command, list, plugin, target, prevResult)
  const known = own[plugin.type]
  return known ? dispatch(known, environment, document, host) : execute(plugin.type, environment, document)
}

/** What a plugin gets: its part of the list, completed as the spec says (section 4, "Deriving execution configuration"). */
export function invocation(command: Command, list: ConfList, plugin: PluginConf, target: Target, prevResult?: Json) {
  const { args = new Map([['IgnoreUnknown', '1']]), capabilityArgs = {}, ...attachment } = target
  const capabilities = (plugin.capabilities ?? {}) as Json
  const granted = Object.entries(capabilityArgs).filter(([name]) => capabilities[name] === true)
  const document = JSON.stringify({
    ...plugin,
    name: list.name,
    cniVersion: list.cniVersion,
    ...(granted.length > 0 && { runtimeConfig: Object.fromEntries(granted) }),
    prevResult,
  })
  const environment: Environment = { command, ...attachment, args, path: pluginPath(), netnsOverride: false }
  return { environment, document }
}

/** Runs a plugin as a runtime does: the executable of that name in the path. */
export const execute = (type: string, environment: Environment, document: string): Json | undefined =>
  delegate(requireExecutable(type, environment.path), { ...environment, document })

export function requireExecutable(type: string, path: readonly string[]): string {
  const file = findExecutable(type, path)
  if (file) return file
  throw new CniError(
    codes.invalidConfig,
    `failed to find plugin "${type}" in path [${path.join(':')}]`,
    'install it, or set CNI_PATH',
  )
}
