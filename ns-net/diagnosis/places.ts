import { type Ended, run } from '../../nat/iptables.ts'
import { isKernelError } from '../../netlink-lib/errors.ts'
import { Netns } from '../../netlink-lib/netns.ts'
import type { Address } from '../../netlink-lib/route/address.ts'
import {
  type Decision,
  decide,
  type NoRoute,
  type RouteKind,
  type RouteQuery,
} from '../../netlink-lib/route/decision.ts'
import type { Link } from '../../netlink-lib/route/link.ts'
import type { Neighbour } from '../../netlink-lib/route/neighbour.ts'
import { findNetnsId } from '../../netlink-lib/route/netns-id.ts'
import { RouteSocket } from '../../netlink-lib/route/socket.ts'
import { NetlinkSocket, protocols } from '../../netlink-lib/socket.ts'
import { findSysctl, type SysctlName } from '../../netlink-lib/sysctl.ts'
import { listNetnsNames, netnsPath, processesByNetns } from '../labs.ts'
import { parseTarget } from '../targets.ts'

type NotAPromise<T> = T extends PromiseLike<unknown> ? never : T

/** How a shell gets into a place. */
type Door =
  | { readonly kind: 'own' }
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'process'; readonly pid: number }
  | { readonly kind: 'path'; readonly path: string }

/**
 * A network namespace that packets come by, opened to be looked at. What has been read is kept: a diagnosis is about one
 * moment.
 */
export class Place implements Disposable {
  #route: RouteSocket | undefined
  #netlink: NetlinkSocket | undefined
  #links: readonly Link[] | undefined
  #addresses: readonly Address[] | undefined

  constructor(
    /** `host`, the name of a lab, `pid:N`, `path:FILE`. */
    readonly label: string,
    readonly door: Door,
    readonly netns: Netns,
  ) {}

  [Symbol.dispose](): void {
    this.#route?.[Symbol.dispose]()
    this.#netlink?.[Symbol.dispose]()
    this.netns[Symbol.dispose]()
  }

  get isHost(): boolean {
    return this.door.kind === 'own'
  }

  /** Runs `work` in there; to stay where one is needs no privilege. */
  inside<T>(work: () => NotAPromise<T> & T): T {
    return this.isHost ? work() : this.netns.run<T>(work)
  }

  get netlink(): NetlinkSocket {
    this.#netlink ??= this.inside(() => new NetlinkSocket(protocols.route))
    return this.#netlink
  }

  get route(): RouteSocket {
    this.#route ??= this.inside(() => new RouteSocket())
    return this.#route
  }

  get links(): readonly Link[] {
    this.#links ??= this.route.listLinks()
    return this.#links
  }

  get addresses(): readonly Address[] {
    this.#addresses ??= this.route.listAddresses()
    return this.#addresses
  }

  link(nameOrIndex: string | number | undefined): Link | undefined {
    return this.links.find(({ name, index }) => name === nameOrIndex || index === nameOrIndex)
  }

  /** The link that has the address. */
  linkWith(address: string): Link | undefined {
    return this.link(this.addresses.find((each) => each.address === address)?.index)
  }

  addressesOf(link: Link): readonly Address[] {
    return this.addresses.filter(({ index }) => index === link.index)
  }

  neighbour(link: Link, address: string): Neighbour | undefined {
    return this.route.listNeighbours(link).find((each) => each.address === address)
  }

  decide(query: RouteQuery): Decision | NoRoute {
    return decide(this.netlink, query)
  }

  /** What the routes say of an address: `local`, `unicast`, … */
  kindOf(address: string): RouteKind {
    const decision = this.decide({ destination: address })
    return 'refused' in decision ? 'unreachable' : decision.kind
  }

  sysctl(...name: SysctlName): string | undefined {
    return this.inside<string | undefined>(() => findSysctl(name))
  }

  /** Runs a program inside, to its end. */
  run(program: string, args: readonly string[]): Ended {
    return this.inside<Ended>(() => run(program, args))
  }

  /** A command line that does it in this place. */
  command(line: string): string {
    switch (this.door.kind) {
      case 'own':
        return line
      case 'name':
        return line.startsWith('ip ')
          ? `ip -n ${this.door.name} ${line.slice(3)}`
          : `ip netns exec ${this.door.name} ${line}`
      case 'process':
        return `nsenter -t ${this.door.pid} -n ${line}`
      case 'path':
        return `nsenter --net=${this.door.path} ${line}`
    }
  }
}

/** One end of a link, in the place where it is. */
export interface End {
  readonly place: Place
  readonly link: Link
}

/** All network namespaces that can be seen from here: this one, the named ones, those of processes. */
export class World implements Disposable {
  readonly host: Place
  readonly #places = new Map<string, Place>()
  #named = false
  #all = false

  constructor() {
    this.host = this.#keep(new Place('host', { kind: 'own' }, Netns.own()))
  }

  [Symbol.dispose](): void {
    for (const place of this.#places.values()) place[Symbol.dispose]()
  }

  /** The place of a target; `host` and `self` are the namespace that ns-net was called in. */
  open(text: string): Place {
    if (text === 'host' || text === 'self') return this.host
    const target = parseTarget(text)
    const door: Door =
      target.kind === 'name'
        ? { kind: 'name', name: target.name }
        : target.kind === 'process'
          ? { kind: 'process', pid: target.pid }
          : { kind: 'path', path: target.netns }
    return this.#keep(new Place(text, door, Netns.open(target.netns)))
  }

  /** The first ones cost least, so that whoever finds what it looks for opens no more. */
  *places(): Generator<Place> {
    yield* [...this.#places.values()]
    if (!this.#named) yield* this.#openNamed()
    if (!this.#all) yield* this.#openProcesses()
  }

  /** The namespaces with a name. */
  named(): Place[] {
    if (!this.#named) this.#openNamed()
    return [...this.#places.values()].filter(({ door }) => door.kind === 'name')
  }

  /** The other end of a veth; undefined when it is no veth, or its other end is in a place that nobody can see. */
  peerOf({ place, link }: End): End | undefined {
    if (link.kind !== 'veth' || link.peerIndex === undefined) return undefined
    if (link.peerNetnsId === undefined) return endIn(place, link.peerIndex)
    for (const candidate of this.places())
      if (findNetnsId(place.netlink, candidate.netns) === link.peerNetnsId) return endIn(candidate, link.peerIndex)
    return undefined
  }

  /** Everybody who has the address, among those with a name: containers of others may use the same ranges. */
  ownersOf(address: string): End[] {
    return [this.host, ...this.named()].flatMap((place) => {
      const link = place.linkWith(address)
      return link && !link.loopback ? [{ place, link }] : []
    })
  }

  #keep(place: Place): Place {
    const known = this.#places.get(place.netns.identity)
    if (known) {
      place[Symbol.dispose]()
      return known
    }
    this.#places.set(place.netns.identity, place)
    return place
  }

  #openNamed(): Place[] {
    this.#named = true
    return this.#openAll(listNetnsNames().map((name) => [name, { kind: 'name', name }, netnsPath(name)] as const))
  }

  #openProcesses(): Place[] {
    this.#all = true
    const inodes = new Set([...this.#places.keys()].map((identity) => Number(identity.split(':')[1])))
    return this.#openAll(
      [...processesByNetns()]
        .filter(([inode]) => !inodes.has(inode))
        .map(([, [pid = 0]]) => [`pid:${pid}`, { kind: 'process', pid }, `/proc/${pid}/ns/net`] as const),
    )
  }

  #openAll(found: readonly (readonly [label: string, door: Door, path: string])[]): Place[] {
    const before = new Set(this.#places.values())
    return found.flatMap(([label, door, path]) => {
      const netns = ifAllowed(() => Netns.find(path))
      const place = netns && this.#keep(new Place(label, door, netns))
      return place && !before.has(place) ? [place] : []
    })
  }
}

function endIn(place: Place, index: number): End | undefined {
  const link = ifAllowed(() => place.link(index))
  return link && { place, link }
}

/** In a user namespace other users' network namespaces can be seen and not entered. */
function ifAllowed<T>(look: () => T | undefined): T | undefined {
  try {
    return look()
  } catch (error) {
    if (isKernelError(error, 'EACCES', 'EPERM')) return undefined
    throw error
  }
}
