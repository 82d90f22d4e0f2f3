import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import { Section } from '../config/reader.ts'
import { bridge } from '../plugins/bridge/bridge.ts'
import { findExecutable } from '../plugins/contract/delegation.ts'
import { dispatch } from '../plugins/contract/dispatch.ts'
import { CniError, codes, messageOf, TeardownError } from '../plugins/contract/errors.ts'
import type { Host } from '../plugins/contract/host.ts'
import type { Plugin } from '../plugins/contract/plugin.ts'
import type { Command, Environment } from '../plugins/contract/request.ts'
import { parseResult, type Result } from '../plugins/contract/result.ts'
import { loopback } from '../plugins/loopback/loopback.ts'
import { nat } from '../plugins/nat/nat.ts'
import { tuning } from '../plugins/tuning/tuning.ts'
import { veth } from '../plugins/veth/veth.ts'
import type { ConfList, PluginConf } from './conflist.ts'

/**
 * A CNI runtime: what libcni does with a conflist (CNI spec, section 3). Our own plugins run in this process through
 * the same dispatch as the executables; any other is executed from the plugin path.
 */

/** Container, namespace and interface a conflist is applied to. */
export interface Target {
  readonly containerId: string
  readonly netns: string
  readonly ifName: string
}

type Json = Record<string, unknown>

const own: Readonly<Record<string, Plugin<never>>> = {
  bridge: bridge as Plugin<never>,
  veth: veth as Plugin<never>,
  ptp: veth as Plugin<never>,
  loopback: loopback as Plugin<never>,
  nat: nat as Plugin<never>,
  tuning: tuning as Plugin<never>,
}

/** Where foreign plugins are looked for: CNI_PATH, else the places that distributions use. */
export function pluginPath(): string[] {
  return (process.env.CNI_PATH || '/opt/cni/bin:/usr/lib/cni:/usr/libexec/cni').split(':')
}

/** Runs ADD through the list; each result feeds the next. On failure everything is taken back by DEL. */
export function addNetwork(list: ConfList, target: Target, host: Host): Result {
  let result: Json | undefined
  try {
    for (const plugin of list.plugins) result = call('ADD', list, plugin, target, host, result) ?? result
    writeCache(list, target, result ?? {})
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
  const cached = readCache(list, target)
  const failures: unknown[] = []
  for (const plugin of list.plugins.toReversed()) {
    try {
      call('DEL', list, plugin, target, host, cached)
    } catch (error) {
      failures.push(error)
    }
  }
  if (failures.length > 0) throw failures.length === 1 ? failures[0] : new TeardownError(failures)
  fs.rmSync(cacheFile(list, target), { force: true })
}

/** Runs CHECK in order with the cached result. */
export function checkNetwork(list: ConfList, target: Target, host: Host): void {
  if (list.disableCheck) return
  const cached = readCache(list, target)
  for (const plugin of list.plugins) call('CHECK', list, plugin, target, host, cached)
}

function call(
  command: Command,
  list: ConfList,
  plugin: PluginConf,
  target: Target,
  host: Host,
  prevResult: Json | undefined,
): Json | undefined {
  const document = JSON.stringify({ ...plugin, name: list.name, cniVersion: list.cniVersion, prevResult })
  const environment: Environment = {
    command,
    ...target,
    args: new Map([['IgnoreUnknown', '1']]),
    path: pluginPath(),
    netnsOverride: false,
  }
  const known = own[plugin.type]
  return known ? dispatch(known, environment, document, host) : execute(plugin.type, environment, document)
}

/** Runs a foreign plugin as a runtime does. */
function execute(type: string, environment: Environment, document: string): Json | undefined {
  const file = findExecutable(type, environment.path)
  if (!file)
    throw new CniError(
      codes.invalidConfig,
      `failed to find plugin "${type}" in path [${environment.path.join(':')}]`,
      'install it, or set CNI_PATH',
    )
  const { status, stdout, error } = spawnSync(file, {
    input: document,
    stdio: ['pipe', 'pipe', 'inherit'],
    env: {
      ...process.env,
      CNI_COMMAND: environment.command,
      CNI_CONTAINERID: environment.containerId,
      CNI_NETNS: environment.netns,
      CNI_IFNAME: environment.ifName,
      CNI_ARGS: 'IgnoreUnknown=1',
      CNI_PATH: environment.path.join(':'),
    },
  })
  if (error) throw new CniError(codes.delegate, `cannot run ${file}: ${error.message}`)
  const printed = stdout.toString('utf8').trim()
  const json = printed === '' ? undefined : (JSON.parse(printed) as Json)
  if (status !== 0)
    throw new CniError(
      Number(json?.code ?? codes.delegate),
      `${type}: ${json?.msg ?? `exit code ${status}`}`,
      json?.details as string,
    )
  return json
}

const cacheDirectory = '/var/lib/cni/results'

const cacheFile = (list: ConfList, { containerId, ifName }: Target) =>
  `${cacheDirectory}/${list.name}-${containerId}-${ifName}`

/** The result cache in libcni's format, so that its tools find our attachments. */
function writeCache(list: ConfList, { containerId, netns, ifName }: Target, result: Json): void {
  fs.mkdirSync(cacheDirectory, { recursive: true, mode: 0o700 })
  const content = {
    kind: 'cniCacheV1',
    containerId,
    config: Buffer.from(JSON.stringify(list)).toString('base64'),
    ifName,
    networkName: list.name,
    netns,
    cniArgs: [['IgnoreUnknown', '1']],
    result,
  }
  const file = cacheFile(list, { containerId, netns, ifName })
  fs.writeFileSync(`${file}.new`, JSON.stringify(content), { mode: 0o600 })
  fs.renameSync(`${file}.new`, file)
}

function readCache(list: ConfList, target: Target): Json | undefined {
  try {
    return (JSON.parse(fs.readFileSync(cacheFile(list, target), 'utf8')) as { result?: Json }).result
  } catch {
    return undefined // no cache is as good as an unreadable one: every plugin's DEL works without
  }
}
