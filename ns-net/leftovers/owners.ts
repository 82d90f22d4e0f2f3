import fs from 'node:fs'
import type { Attachment } from '../../config/attachment.ts'
import { ownerMark } from '../../nat/mark.ts'
import { Netns } from '../../netlink-lib/netns.ts'
import type { Link } from '../../netlink-lib/route/link.ts'
import { findNetnsId } from '../../netlink-lib/route/netns-id.ts'
import { NetlinkSocket, protocols } from '../../netlink-lib/socket.ts'
import { isNetnsName, type Lab, listLabs, listNetnsNames, netnsPath } from '../labs.ts'
import { listCache } from '../result-cache.ts'

/**
 * Whose objects are in use: those of labs, of attachments that other runtimes have in libcni's cache and whose namespace
 * lives, and of links that lead into a namespace that somebody holds. All others with our mark are leftovers.
 */
export interface Owners {
  /** By network; what GC of that network must leave alone. */
  readonly living: readonly Attachment[]
  has(owner: Attachment): boolean
  /** By the mark of a rule. */
  hasMark(mark: string): boolean
}

export function findOwners(links: readonly Link[]): Owners {
  const labs = listLabs().filter(({ name }) => isNetnsName(name))
  const known = [...labs.flatMap(attachmentsOf), ...cachedAttachments()]
  const keys = new Set(known.map(keyOf))
  const unknown = links.filter((link) => {
    const owner = ownerOf(link)
    return owner !== undefined && link.kind === 'veth' && !keys.has(keyOf(owner))
  })
  const living = [...known, ...unknown.filter(leadsSomewhere(unknown)).map((link) => ownerOf(link)!)]
  const all = new Set(living.map(keyOf))
  const marks = new Set(living.map(ownerMark))
  return { living, has: (owner) => all.has(keyOf(owner)), hasMark: (mark) => marks.has(mark) }
}

export const keyOf = ({ network, containerId, ifName }: Attachment): string => `${network} ${containerId} ${ifName}`

export const attachmentsOf = ({ name, attachments }: Lab): Attachment[] =>
  attachments.map(({ network, ifName }) => ({ network, containerId: name, ifName }))

/** The owner in a link's alias, as `linkMark` writes it. */
export function ownerOf({ alias }: Pick<Link, 'alias'>): Attachment | undefined {
  const [, network, containerId, ifName] = /^ns-net:([^:]+):([^:]+):([^:]+)$/.exec(alias ?? '') ?? []
  return network && containerId && ifName ? { network, containerId, ifName } : undefined
}

function cachedAttachments(): Attachment[] {
  return listCache().flatMap(({ list, target }) => {
    using netns = target.netns === '' ? undefined : Netns.find(target.netns)
    return netns ? [{ network: list.name, containerId: target.containerId, ifName: target.ifName }] : []
  })
}

/** Says of a link whether its other end is in a namespace with a name or with processes. */
function leadsSomewhere(links: readonly Link[]): (link: Link) => boolean {
  if (links.length === 0) return () => false
  using netlink = new NetlinkSocket(protocols.route)
  const ids = new Set<number>()
  for (const path of heldNamespaces()) {
    using netns = Netns.find(path)
    const id = netns && findNetnsId(netlink, netns)
    if (id !== undefined) ids.add(id)
  }
  return ({ peerNetnsId }) => peerNetnsId !== undefined && ids.has(peerNetnsId)
}

/** One path for each network namespace that is pinned below /run/netns or has a process. */
function heldNamespaces(): string[] {
  const found = new Map<number, string>()
  for (const pid of fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    const path = `/proc/${pid}/ns/net`
    try {
      found.set(fs.statSync(path).ino, path)
    } catch {
      // it ended, or has no namespace any more
    }
  }
  return [...listNetnsNames().map(netnsPath), ...found.values()]
}
