import { suspectKeys } from '../../config/suggest.ts'
import { CniError, codes, TeardownError, toCniError } from './errors.ts'
import type { Host } from './host.ts'
import type { Plugin } from './plugin.ts'
import { type Environment, parseRequest, type Request } from './request.ts'
import { formatResult } from './result.ts'

/**
 * Carries out one verb of one plugin: the same for the executable, ns-net and the tests.
 * Returns the JSON to print on ADD, nothing otherwise.
 */
export function dispatch<Conf>(
  plugin: Plugin<Conf>,
  environment: Environment,
  document: string,
  host: Host,
): Record<string, unknown> | undefined {
  const request = parseRequest(environment, document, plugin.versions)
  if (!request.netnsOverride && (request.command === 'ADD' || request.command === 'DEL') && request.netns !== '')
    refuseOwnNetns(request.netns, host)
  const conf = plugin.parse(request)
  switch (request.command) {
    case 'ADD':
      warnOfTypos(request, host)
      return addAndFormat(plugin, conf, request, host)
    case 'DEL':
      plugin.del(conf, request, host)
      return undefined
    case 'CHECK':
      plugin.check?.(conf, request, host)
      return undefined
    case 'GC':
      plugin.gc?.(conf, request, host)
      return undefined
    case 'STATUS':
      serveable(() => plugin.status?.(conf, request, host))
      return undefined
    case 'VERSION':
      return undefined // answered by the executable, before a configuration is read
  }
}

/** What cannot be told in the version of the caller has not happened. */
function addAndFormat<Conf>(plugin: Plugin<Conf>, conf: Conf, request: Request, host: Host): Record<string, unknown> {
  const result = plugin.add(conf, request, host)
  try {
    return formatResult(result, request.cniVersion)
  } catch (error) {
    plugin.del(conf, request, host)
    throw error
  }
}

/** Not a verb of CNI: what `ns-net reload` asks of a plugin, with the configuration and result of an earlier ADD. */
export function reload<Conf>(plugin: Plugin<Conf>, environment: Environment, document: string, host: Host): void {
  if (!plugin.reload) return
  const request = parseRequest(environment, document, plugin.versions)
  plugin.reload(plugin.parse(request), request, host)
}

/** Keys that belong to the protocol or to the runtime, whether or not this plugin reads them. */
const protocolKeys = [
  'cniVersion',
  'name',
  'type',
  'capabilities',
  'args',
  'runtimeConfig',
  'prevResult',
  'ipam',
  'dns',
]

/** Unknown keys are allowed (CNI conventions); one that looks like a known key is probably a mistake. */
function warnOfTypos({ config }: Request, host: Host): void {
  const ipam = config.get('ipam')?.json ? config.get('ipam')!.object() : undefined
  for (const section of ipam ? [config, ipam] : [config]) {
    const known = [...section.known(), ...protocolKeys]
    const unread = section.unread().filter((key) => !protocolKeys.includes(key) && !key.startsWith('cni.dev/'))
    if (unread.length === 0) continue
    for (const { key, suggestion } of suspectKeys(unread, known))
      host.warn(`unknown key ${JSON.stringify(section.at(key))} is ignored; did you mean "${suggestion}"?`)
  }
}

/** Whatever keeps an ADD from being served is code 50 for a runtime that asks (CNI spec 1.1.0, STATUS). */
function serveable(status: () => void): void {
  try {
    status()
  } catch (error) {
    const { code, message, details } = toCniError(error)
    const unavailable = code === codes.unavailableLimited ? code : codes.unavailable
    throw new CniError(unavailable, `plugin not available: ${message}`, details, { cause: error })
  }
}

/** A plugin that moved links into the namespace it runs in would cut the host off. */
function refuseOwnNetns(netns: string, host: Host): void {
  if (host.isOwnNetns(netns))
    throw new CniError(
      codes.invalidNetns,
      `CNI_NETNS ${netns} is the network namespace the plugin itself runs in`,
      'give the path of the container, or set CNI_NETNS_OVERRIDE=1 if this is meant',
    )
}

/** Runs every step, whatever the others do, and throws all failures together. */
export function teardown(...steps: readonly (() => void)[]): void {
  const errors: unknown[] = []
  for (const step of steps) {
    try {
      step()
    } catch (error) {
      errors.push(error)
    }
  }
  if (errors.length === 1) throw errors[0]
  if (errors.length > 1) throw new TeardownError(errors)
}
