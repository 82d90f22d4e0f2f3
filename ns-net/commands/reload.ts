import { Host } from '../../plugins/contract/host.ts'
import { toCliError } from '../errors.ts'
import { exclusively } from '../labs.ts'
import type { Report } from '../output.ts'
import { type CachedAttachment, listCache } from '../result-cache.ts'
import { reloadNetwork } from '../runtime.ts'

/**
 * Puts back the rules of every live attachment that libcni's cache knows, after a flush or a firewall reload: those of
 * labs, and those that other runtimes made with our plugins.
 */
export function reload(): Report {
  const attachments = exclusively(() => {
    using host = new Host()
    return listCache()
      .filter(({ target }) => isLive(host, target.netns))
      .map((attachment) => ({ ...nameOf(attachment), ...attempt(attachment, host) }))
  })
  const failed = attachments.filter(({ error }) => error !== undefined)
  const text = attachments
    .map(
      ({ container, network, ifName, error }) =>
        `${container}  ${network}  ${ifName}  ${error ? `failed: ${error}` : 'ok'}\n`,
    )
    .join('')
  return {
    json: attachments,
    text: text || 'nothing to reload: no live attachment is recorded\n',
    failed:
      failed.length > 0 ? `rules of ${failed.length} of ${attachments.length} attachments are not back` : undefined,
  }
}

function isLive(host: Host, netns: string): boolean {
  using container = host.findContainer(netns)
  return container !== undefined
}

const nameOf = ({ target, list }: CachedAttachment) => ({
  container: target.containerId,
  network: list.name,
  ifName: target.ifName,
})

/** One attachment that cannot be helped does not keep the others waiting. */
function attempt(attachment: CachedAttachment, host: Host): { error?: string } {
  try {
    reloadNetwork(attachment, host)
    return {}
  } catch (error) {
    return { error: toCliError(error).message }
  }
}
