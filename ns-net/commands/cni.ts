import { createHash } from 'node:crypto'
import path from 'node:path'
import { type CniError, messageOf, toCniError } from '../../plugins/contract/errors.ts'
import { type Command, parseEnvironment } from '../../plugins/contract/request.ts'
import { atLeast, gateVerb } from '../../plugins/contract/versions.ts'
import type { ConfList, PluginConf } from '../conflist.ts'
import { CliError } from '../errors.ts'
import { netnsPath } from '../labs.ts'
import { loadNetConf } from '../netconf.ts'
import { type Report, table } from '../output.ts'
import { listCache, readCache, removeCache, writeCache } from '../result-cache.ts'
import { execute, invocation, runtimePath, type Target } from '../runtime.ts'
import { parseTarget } from '../targets.ts'

/**
 * A configuration applied to a namespace as libcni does it for a container runtime: every plugin is executed, also ours.
 * An ADD that fails is not taken back: what was there before has the same names, and DEL would not spare it.
 */

export interface CniOptions {
  readonly if?: string
  readonly containerId?: string
  /** `K=V;K=V` */
  readonly args?: string
  /** JSON */
  readonly capabilityArgs?: string
}

type Json = Record<string, unknown>

/** ADD through the list; each result feeds the next, and the last one is cached for DEL and CHECK. */
export function cniAdd(which: string, where: string, options: CniOptions): Report {
  const { list } = loadNetConf(which)
  const target = targetAt(requireNetns(where), options)
  let result: Json | undefined
  for (const plugin of list.plugins) {
    result = call('ADD', list, plugin, target, result) ?? {}
    result.cniVersion ??= list.cniVersion
  }
  writeCache({ list, target, result: result ?? {} })
  return { json: result, text: `${JSON.stringify(result, undefined, 4)}\n` }
}

/** DEL in reverse order; the cached result goes when all have succeeded. */
export function cniDel(which: string, where: string, options: CniOptions): void {
  delList(loadNetConf(which).list, targetAt(netnsThatWas(where), options))
}

function delList(list: ConfList, target: Target): void {
  const cached = atLeast(list.cniVersion, '0.4.0') ? readCache(list, target)?.result : undefined
  for (const plugin of list.plugins.toReversed()) call('DEL', list, plugin, target, cached)
  removeCache(list, target)
}

export function cniCheck(which: string, where: string, options: CniOptions): void {
  const { list } = loadNetConf(which)
  requireVerb('CHECK', list)
  if (list.disableCheck) return
  const target = targetAt(requireNetns(where), options)
  const cached = readCache(list, target)?.result
  for (const plugin of list.plugins) call('CHECK', list, plugin, target, cached)
}

/** DEL for every cached attachment of the network that is not among the valid ones, then GC of every plugin. */
export function cniGc(which: string, valid: readonly string[] = []): Report {
  const attachments = valid.map(parseAttachment)
  const { list, disableGC } = loadNetConf(which)
  if (disableGC) return { json: [], text: '' }
  const isValid = ({ containerId, ifName }: Target) =>
    attachments.some(({ containerID, ifname }) => containerID === containerId && ifname === ifName)
  const stale = listCache().filter((cached) => cached.list.name === list.name && !isValid(cached.target))
  const failures: unknown[] = []
  const attempt = (work: () => unknown): boolean => {
    try {
      work()
      return true
    } catch (error) {
      failures.push(error)
      return false
    }
  }
  const gone = stale.filter(({ target }) => attempt(() => delList(list, target)))
  if (atLeast(list.cniVersion, '1.1.0')) {
    const told = { 'cni.dev/valid-attachments': attachments, 'cni.dev/attachments': attachments }
    for (const plugin of list.plugins) attempt(() => call('GC', list, { ...plugin, ...told }, nowhere))
  }
  if (failures.length > 0) throw together(failures)
  const json = gone.map(({ target: { containerId, ifName } }) => ({ containerId, ifName }))
  return { json, text: json.map(({ containerId, ifName }) => `deleted ${containerId} ${ifName}\n`).join('') }
}

/** What each plugin says of whether it could serve an ADD. */
export function cniStatus(which: string): Report {
  const { list } = loadNetConf(which)
  requireVerb('STATUS', list)
  const json = list.plugins.map((plugin) => {
    try {
      call('STATUS', list, plugin, nowhere)
      return { plugin: plugin.type, available: true }
    } catch (error) {
      const { code, message: msg, details } = toCniError((error as Error).cause)
      return { plugin: plugin.type, available: false, error: { code, msg, details } }
    }
  })
  const rows = json.map(({ plugin, available, error }) => [
    plugin,
    available ? 'available' : 'not available',
    error ? `${error.code}: ${[error.msg, error.details].filter(Boolean).join('; ')}` : '',
  ])
  return { json, text: table(['PLUGIN', 'STATUS', 'ERROR'], rows), negative: json.some(({ available }) => !available) }
}

/** Of the verbs that are about no attachment. */
const nowhere: Target = { containerId: '', netns: '', ifName: '', args: new Map() }

function call(command: Command, list: ConfList, plugin: PluginConf, target: Target, prevResult?: Json) {
  const { environment, document } = invocation(command, list, plugin, target, prevResult)
  try {
    return execute(plugin.type, { ...environment, path: runtimePath() }, document)
  } catch (error) {
    throw failure(`plugin "${plugin.type}" failed (${command.toLowerCase()})`, error)
  }
}

/** The plugin's own code, message and details, whatever the code is. */
function failure(what: string, error: unknown): CliError {
  const cni = toCniError(error)
  return new CliError('negative', `${what}: ${cni.message} (CNI error ${cni.code})`, cni.details, { cause: cni })
}

function together(failures: readonly unknown[]): CliError {
  const [first] = failures as CliError[]
  return new CliError('negative', failures.map(messageOf).join('; '), first!.hint, { cause: first!.cause })
}

function requireVerb(command: Command, { name, cniVersion }: ConfList): void {
  try {
    gateVerb(command, cniVersion)
  } catch (error) {
    throw failure(`network "${name}"`, error)
  }
}

/** Container id, interface and arguments, checked before the first plugin runs. */
function targetAt(netns: string, options: CniOptions): Target {
  const containerId = options.containerId ?? containerIdOf(netns)
  const ifName = options.if ?? (process.env.CNI_IFNAME || 'eth0')
  try {
    parseEnvironment({
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: containerId,
      CNI_NETNS: netns,
      CNI_IFNAME: ifName,
      CNI_PATH: '/',
    })
  } catch (error) {
    const { message, details } = error as CniError
    throw new CliError('usage', message, details, { cause: error })
  }
  const args = parseArgs(options.args ?? process.env.CNI_ARGS ?? '')
  const capabilityArgs = parseCapabilityArgs(options.capabilityArgs ?? process.env.CAP_ARGS ?? '')
  return { containerId, netns, ifName, args, ...(capabilityArgs && { capabilityArgs }) }
}

/** As cnitool has it, so that each finds what the other made. */
const containerIdOf = (netns: string): string =>
  `cnitool-${createHash('sha512').update(netns).digest('hex').slice(0, 20)}`

function parseArgs(text: string): Map<string, string> {
  const pairs = text.split(';').filter((part) => part !== '')
  return new Map(
    pairs.map((pair) => {
      const [, name, value] = /^([^=]+)=([^=]+)$/.exec(pair) ?? []
      if (name !== undefined) return [name, value!]
      throw new CliError('usage', `CNI_ARGS: "${pair}" is not understood`, 'expected KEY=VALUE;KEY=VALUE')
    }),
  )
}

function parseCapabilityArgs(text: string): Json | undefined {
  if (text === '') return undefined
  try {
    const json: unknown = JSON.parse(text)
    if (typeof json === 'object' && json !== null && !Array.isArray(json)) return json as Json
  } catch {
    // told below
  }
  throw new CliError(
    'usage',
    `capability arguments: expected a JSON object, got ${text}`,
    `such as '{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}'`,
  )
}

function parseAttachment(text: string) {
  const [, containerID, ifname] = /^([^:]+):([^:]+)$/.exec(text) ?? []
  if (containerID !== undefined) return { containerID, ifname: ifname! }
  throw new CliError('usage', `--valid ${text} is not understood`, 'expected CONTAINER-ID:INTERFACE')
}

/** A path is told as it stands, as cnitool takes it: its words are part of the default container id. */
function schemeAndRest(where: string): { scheme: string; rest: string } {
  if (where.includes('/') && !where.startsWith('path:')) return { scheme: 'path', rest: path.resolve(where) }
  const [, scheme = '', rest = where] = /^(path|pid):(.*)$/.exec(where) ?? []
  return { scheme, rest: scheme === 'path' ? path.resolve(rest) : rest }
}

function requireNetns(where: string): string {
  if (where === 'host' || where === 'self')
    throw new CliError('usage', `${where} is no container`, 'give the namespace of one: NAME, path:FILE or pid:N')
  const { scheme, rest } = schemeAndRest(where)
  return parseTarget(scheme ? `${scheme}:${rest}` : where).netns
}

/** For a DEL the namespace may be gone. */
function netnsThatWas(where: string): string {
  const { scheme, rest } = schemeAndRest(where)
  if (scheme === 'path') return rest
  if (scheme === 'pid' && /^[1-9]\d*$/.test(rest)) return `/proc/${rest}/ns/net`
  return /^[a-zA-Z0-9][\w.-]*$/.test(where) && where !== 'host' && where !== 'self'
    ? netnsPath(where)
    : requireNetns(where)
}
