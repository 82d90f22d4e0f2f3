import fs from 'node:fs'
import { formatCidr } from '../../netlink-lib/ip.ts'
import { Netns } from '../../netlink-lib/netns.ts'
import type { Address } from '../../netlink-lib/route/address.ts'
import type { Link } from '../../netlink-lib/route/link.ts'
import { findNetnsId } from '../../netlink-lib/route/netns-id.ts'
import type { Route } from '../../netlink-lib/route/route.ts'
import { RouteSocket } from '../../netlink-lib/route/socket.ts'
import { NetlinkSocket, protocols } from '../../netlink-lib/socket.ts'
import { findLab, processesByNetns } from '../labs.ts'
import { listPlaces, type Place } from '../places.ts'
import { showPortMapping } from '../port-mappings.ts'
import type { Graph, GraphEdge, GraphLink, GraphPlace, LinkState } from './graph.ts'
import { translatedOf } from './translation.ts'

/** What the kernel says of one namespace. */
interface Seen {
  readonly place: Place
  readonly netns: Netns
  readonly links: readonly Link[]
  readonly addresses: readonly Address[]
  readonly defaults: readonly Route[]
}

/** Everything that is there now: the host, the named namespaces, and those of processes that a link leads to. */
export function readGraph(): Graph {
  using reader = new Reader()
  for (const place of listPlaces()) reader.look(place)
  return reader.graph()
}

class Reader implements Disposable {
  readonly #seen: Seen[] = []
  readonly #unknownPlaces = new Map<string, GraphPlace>()
  readonly #unknownLinks = new Map<string, GraphLink>();

  [Symbol.dispose](): void {
    for (const { netns } of this.#seen) netns[Symbol.dispose]()
  }

  /** Reads a namespace; undefined when it is gone, or is none. */
  look(place: Place): Seen | undefined {
    const netns = Netns.find(place.netns)
    if (!netns) return undefined
    try {
      using route = netns.run<RouteSocket>(() => new RouteSocket())
      const seen = {
        place,
        netns,
        links: route.listLinks(),
        addresses: route.listAddresses(),
        defaults: ([4, 6] as const).flatMap((family) => route.listRoutes(family).filter(({ dst }) => dst.prefix === 0)),
      }
      this.#seen.push(seen)
      return seen
    } catch (error) {
      netns[Symbol.dispose]()
      throw error
    }
  }

  graph(): Graph {
    // The list grows while it is walked: a link may lead to the namespace of a process.
    const edges: GraphEdge[] = []
    for (const seen of this.#seen) edges.push(...this.#edgesOf(seen))
    const translators = this.#translators()
    return {
      places: [...this.#seen.map(({ place }) => graphPlace(place)), ...this.#unknownPlaces.values()],
      nodes: [...this.#seen.flatMap((seen) => describe(seen, translators)), ...this.#unknownLinks.values()],
      edges: distinct(edges),
    }
  }

  #edgesOf(seen: Seen): GraphEdge[] {
    const edges: GraphEdge[] = []
    const idOf = (index: number) => idIn(seen, index)
    const elsewhere = new Elsewhere(seen, (id) => this.#placeBehind(seen, id))
    for (const link of seen.links) {
      if (link.master !== undefined) {
        const master = idOf(link.master)
        if (master) edges.push({ kind: 'port', a: idOf(link.index)!, b: master })
      }
      const isHere = link.peerNetnsId === undefined
      // The two ends of a cable may well have the same number, each in its own namespace.
      if (link.peerIndex === undefined || (isHere && link.peerIndex === link.index)) continue
      const other = isHere ? seen : elsewhere.find(link.peerNetnsId)
      const far = (other && idIn(other, link.peerIndex)) ?? this.#stub(seen, link)
      if (!far) continue
      edges.push({ kind: pairs.includes(link.kind ?? '') ? 'cable' : 'parent', a: idOf(link.index)!, b: far })
    }
    return edges
  }

  /** The namespace that `seen` knows by this id: one that we have looked at, else one that a process lives in. */
  #placeBehind(seen: Seen, id: number): Seen | undefined {
    using netlink = seen.netns.run<NetlinkSocket>(() => new NetlinkSocket(protocols.route))
    const known = this.#seen.find(({ netns }) => findNetnsId(netlink, netns) === id)
    if (known) return known
    const looked = new Set(this.#seen.map(({ netns }) => netns.identity))
    for (const [, [pid]] of processesByNetns()) {
      const place: Place = { name: `pid:${pid}`, kind: 'process', netns: `/proc/${pid}/ns/net` }
      using netns = Netns.find(place.netns)
      if (!netns || looked.has(netns.identity) || findNetnsId(netlink, netns) !== id) continue
      return this.look(place)
    }
    return undefined
  }

  /** The other end of a link in a namespace that cannot be found: it is drawn all the same. */
  #stub({ place: { name: from } }: Seen, { peerIndex: index, peerNetnsId: id, kind }: Link): string | undefined {
    if (index === undefined || id === undefined) return undefined
    const place: GraphPlace = { id: `unknown:${from}:${id}`, name: 'another namespace', kind: 'unknown' }
    const link: GraphLink = {
      id: `${place.id}/${index}`,
      place: place.id,
      name: `link ${index}`,
      index,
      kind: kind ?? 'device',
      state: 'up',
      mtu: 0,
      addresses: [],
      gateways: [],
      nat: [],
      ports: [],
    }
    this.#unknownPlaces.set(place.id, place)
    this.#unknownLinks.set(link.id, link)
    return link.id
  }

  /** Of each place that forwards: the addresses of others that it translates. */
  #translators(): Translators {
    const translators: Translators = new Map()
    for (const seen of this.#seen) {
      const foreign = this.#seen
        .filter((other) => other !== seen)
        .flatMap(({ addresses }) => addresses.filter(({ scope }) => scope === 0).map(({ address }) => address))
      const found = seen.netns.run<Set<string>>(() => (forwards() ? translatedOf(foreign) : new Set()))
      if (found.size > 0) translators.set(seen.place.name, found)
    }
    return translators
  }
}

type Translators = Map<string, ReadonlySet<string>>

/** Asks for each id once. */
class Elsewhere {
  readonly #found = new Map<number, Seen | undefined>()
  constructor(
    readonly seen: Seen,
    readonly lookUp: (id: number) => Seen | undefined,
  ) {}

  find(id: number): Seen | undefined {
    if (!this.#found.has(id)) this.#found.set(id, this.lookUp(id))
    return this.#found.get(id)
  }
}

/** Kinds whose IFLA_LINK is the other end; of the others it is the link below. */
const pairs = ['veth', 'netkit', 'vxcan']

/** In the namespace that the calling thread is in. */
const forwards = (): boolean =>
  ['ipv4/ip_forward', 'ipv6/conf/all/forwarding'].some((setting) => {
    const file = `/proc/sys/net/${setting}`
    return fs.existsSync(file) && fs.readFileSync(file, 'utf8').trim() !== '0'
  })

const graphPlace = ({ name, kind, netns }: Place): GraphPlace =>
  kind === 'host' ? { id: name, name, kind } : { id: name, name, kind, netns }

function idIn({ place, links }: Seen, index: number): string | undefined {
  const link = links.find((each) => each.index === index)
  return link && `${place.name}/${link.name}`
}

function describe({ place, links, addresses, defaults }: Seen, translators: Translators): GraphLink[] {
  const attachments = findLab(place.name)?.attachments ?? []
  return links.map((link) => {
    const own = addresses.filter(({ index }) => index === link.index)
    return {
      id: `${place.name}/${link.name}`,
      place: place.name,
      name: link.name,
      index: link.index,
      kind: link.kind ?? (link.loopback ? 'loopback' : 'device'),
      state: stateOf(link),
      mac: link.mac,
      mtu: link.mtu,
      addresses: own.map(formatCidr),
      gateways: defaults.filter((route) => route.link === link.index).map(({ gateway }) => gateway ?? 'direct'),
      nat: [...translators]
        .filter(([name, set]) => name !== place.name && own.some(({ address }) => set.has(address)))
        .map(([name]) => name),
      ports: attachments.find(({ ifName }) => ifName === link.name)?.ports?.map(showPortMapping) ?? [],
    }
  })
}

const stateOf = ({ up, carrier }: Link): LinkState => (up ? (carrier ? 'up' : 'no-carrier') : 'down')

/** Both ends of a cable tell of it. */
function distinct(edges: readonly GraphEdge[]): GraphEdge[] {
  const byEnds = new Map<string, GraphEdge>()
  for (const edge of edges) {
    const ends = edge.kind === 'cable' ? [edge.a, edge.b].sort() : [edge.a, edge.b]
    const key = [edge.kind, ...ends].join(' ')
    if (!byEnds.has(key)) byEnds.set(key, edge)
  }
  return [...byEnds.values()]
}
