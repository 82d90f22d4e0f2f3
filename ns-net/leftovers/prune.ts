import { messageOf } from '../../plugins/contract/errors.ts'
import type { Host } from '../../plugins/contract/host.ts'
import { rewriteHosts } from '../etc.ts'
import { isNetnsName, listLabs } from '../labs.ts'
import { listNetworks } from '../networks.ts'
import { removeLabs } from '../removal.ts'
import { listCache } from '../result-cache.ts'
import { findFileLeftovers } from './files.ts'
import { findIptablesLeftovers } from './iptables.ts'
import { findKernelLeftovers } from './kernel.ts'
import type { Leftover } from './leftover.ts'
import { findOwners } from './owners.ts'

/** Everything with our mark that nobody needs any more. The caller holds the lock. */
export function findLeftovers(host: Host): Leftover[] {
  const links = host.route.listLinks()
  const owners = findOwners(links)
  const names = [...listNetworks(), ...listCache().map(({ list }) => list)].map(({ name }) => name)
  const labNetworks = listLabs().flatMap(({ attachments }) => attachments.map(({ network }) => network))
  return [
    ...findLabs(host),
    ...findKernelLeftovers(links, owners, new Set([...names, ...labNetworks]), host),
    ...findIptablesLeftovers(),
    ...findFileLeftovers(owners),
  ]
}

/** Records whose namespace is gone. */
function findLabs(host: Host): Leftover[] {
  const gone = listLabs().filter(({ name }) => !isNetnsName(name))
  const remove = () => removeLabs(gone, host)
  return gone.map(({ name }) => ({ kind: 'lab', name, why: 'its namespace is gone', remove }))
}

const keyOf = ({ kind, name }: Leftover): string => `${kind} ${name}`

/** Removes what was shown and is a leftover still; tells what did not work, and goes on. */
export function removeLeftovers(shown: readonly Leftover[], host: Host): { removed: Leftover[]; failures: string[] } {
  const keys = new Set(shown.map(keyOf))
  const found = findLeftovers(host).filter((leftover) => keys.has(keyOf(leftover)))
  const failures: string[] = []
  for (const remove of new Set(found.map((leftover) => leftover.remove))) {
    try {
      remove()
    } catch (error) {
      failures.push(messageOf(error))
    }
  }
  rewriteHosts() // without the names of those who are gone
  const left = new Set(findLeftovers(host).map(keyOf))
  return { removed: found.filter((leftover) => !left.has(keyOf(leftover))), failures }
}
