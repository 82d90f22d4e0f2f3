import type { Neighbour } from '../../netlink-lib/route/neighbour.ts'
import type { Place } from './places.ts'

/**
 * Neighbour entries that a measurement has made. The table is one for all network namespaces and has room for about a
 * thousand entries (net.ipv4.neigh.default.gc_thresh3), fewer than a hundred labs need to reach each other. So entries
 * that were not there before are deleted again.
 */
export class Neighbours {
  readonly #before = new Map<Place, ReadonlySet<string>>()

  constructor(places: readonly Place[]) {
    for (const place of places) this.#before.set(place, new Set(entriesOf(place).map(({ key }) => key)))
  }

  /** Deletes what has come since. */
  forgetNew(): void {
    for (const [place, before] of this.#before)
      for (const { key, link, address } of entriesOf(place))
        if (!before.has(key)) place.route.deleteNeighbour({ index: link, name: place.link(link)?.name ?? '' }, address)
  }
}

interface Entry extends Neighbour {
  readonly key: string
  readonly link: number
}

function entriesOf(place: Place): Entry[] {
  return place.links
    .filter(({ loopback, up }) => up && !loopback)
    .flatMap((link) =>
      place.route
        .listNeighbours(link)
        .map((entry) => ({ ...entry, link: link.index, key: `${link.index} ${entry.address}` })),
    )
}
