import { CniError, codes, TeardownError } from './errors.ts'
import type { Host } from './host.ts'
import type { Plugin } from './plugin.ts'
import { type Environment, parseRequest } from './request.ts'
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
      return formatResult(plugin.add(conf, request, host), request.cniVersion)
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
      plugin.status?.(conf, request, host)
      return undefined
    case 'VERSION':
      return undefined // answered by the executable, before a configuration is read
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
