import type { End, Place, World } from './places.ts'

/** A bridge that a frame goes through: in by one port or from the host itself, out by another or up to the host. */
export interface Crossing {
  readonly bridge: End
  readonly entry?: End
  readonly exit?: End
}

/** Somebody that a frame can reach without a router. */
export interface Station {
  readonly end: End
  readonly crossings: readonly Crossing[]
  /** The other end of the sender's own link, when it is a veth. */
  readonly peer?: End
}

/** What hangs together on the link layer, as seen from one link. */
export interface Segment {
  readonly stations: readonly Station[]
  /** Links beyond which nobody can see from here. */
  readonly exits: readonly End[]
  /** The other end of the link itself. */
  readonly peer?: End
}

export function segmentOf(world: World, start: End): Segment {
  const stations: Station[] = []
  const exits: End[] = []
  const seen = new Set<string>()
  const peer = world.peerOf(start)

  const arrive = (end: End, crossings: readonly Crossing[]) => {
    const bridge = bridgeOf(end)
    if (bridge) flood(bridge, end, crossings)
    else stations.push({ end, crossings, peer })
  }
  const leave = (end: End, crossings: readonly Crossing[]) => {
    const other = world.peerOf(end)
    if (other) arrive(other, crossings)
    else exits.push(end)
  }
  const flood = (bridge: End, entry: End | undefined, before: readonly Crossing[]) => {
    const key = `${bridge.place.label} ${bridge.link.index}`
    if (seen.has(key)) return
    seen.add(key)
    if (entry) stations.push({ end: bridge, crossings: [...before, { bridge, entry }], peer })
    for (const link of bridge.place.links)
      if (link.master === bridge.link.index && link.index !== entry?.link.index) {
        const exit = { place: bridge.place, link }
        leave(exit, [...before, { bridge, entry, exit }])
      }
  }

  if (start.link.kind === 'bridge') flood(start, undefined, [])
  else leave(start, [])
  return { stations, exits, peer }
}

/** The bridge that a link is a port of. */
export function bridgeOf({ place, link }: End): End | undefined {
  const master = link.master === undefined ? undefined : place.link(link.master)
  return master?.kind === 'bridge' ? { place, link: master } : undefined
}

/** Who has the address; somebody with it on the very link comes before one with it on another, who answers as well. */
export function ownersIn({ stations }: Segment, address: string): Station[] {
  const owners = stations.filter(({ end }) => end.place.linkWith(address) !== undefined)
  const exact = owners.filter(({ end }) => end.place.linkWith(address)?.index === end.link.index)
  return exact.length > 0 ? exact : distinctPlaces(owners)
}

const distinctPlaces = (stations: readonly Station[]): Station[] => [
  ...new Map<Place, Station>(stations.map((station) => [station.end.place, station])).values(),
]
