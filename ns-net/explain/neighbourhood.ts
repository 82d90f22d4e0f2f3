import { Netns } from '../../netlink-lib/netns.ts'
import { findNetnsId } from '../../netlink-lib/route/netns-id.ts'
import type { LinkMessage } from '../../netlink-lib/route/wire.ts'
import type { NetlinkSocket } from '../../netlink-lib/socket.ts'
import { listNetnsNames } from '../labs.ts'
import { findLink, imageOf } from './images.ts'
import type { Names } from './ip-link.ts'
import { host, isSame, labPlace, type Place, type Places } from './place.ts'
import type { LinkThere } from './recreate-link.ts'

/** How the place that a socket is in calls its links. */
export const namesIn = (places: Places, netlink: NetlinkSocket): Names => ({
  link: (index) => findLink(netlink, index)?.name ?? `if${index}`,
  behind: (fd) => places.behind(fd),
})

/** Finds the other ends of the links of one place. */
export class Peers {
  /** By the ids that this place has for others. */
  readonly #known = new Map<number, Place>()
  #left: Place[] | undefined

  constructor(
    readonly places: Places,
    readonly netlink: NetlinkSocket,
    readonly here: Place,
  ) {}

  /** Undefined when it is in a namespace that has no name. */
  of(link: LinkMessage): LinkThere | undefined {
    const { places, here } = this
    if (link.info?.kind !== 'veth' || !link.peerIndex) return undefined
    const place = link.peerNetnsId === undefined ? here : this.#find(link.peerNetnsId)
    if (!place) return undefined
    using there = places.connect(place)
    const peer = there && findLink(there, link.peerIndex)
    if (!there || !peer) return undefined
    // Read now: the socket and perhaps the place are gone when the names are asked for.
    const master = peer.master ? findLink(there, peer.master)?.name : undefined
    const known = new Map([
      [peer.index, peer.name],
      [peer.master, master],
    ])
    const names = {
      link: (index: number) => known.get(index) ?? `if${index}`,
      behind: (fd: number) => places.behind(fd),
    }
    return { place, names, image: places.run(place, () => imageOf(there, peer)) }
  }

  /** Each place is asked for once; of a lab it is nearly always the host, which comes first. */
  #find(id: number): Place | undefined {
    const { places, netlink, here } = this
    this.#left ??= [host, ...listNetnsNames().map(labPlace)].filter((place) => !isSame(place, here))
    while (!this.#known.has(id)) {
      const place = this.#left.shift()
      if (!place) return undefined
      using netns = place.netns === undefined ? places.openHost() : Netns.find(place.netns)
      const found = netns && findNetnsId(netlink, netns)
      if (found !== undefined) this.#known.set(found, place)
    }
    return this.#known.get(id)
  }
}
