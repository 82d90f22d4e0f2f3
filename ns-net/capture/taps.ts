import { Netns } from '../../netlink-lib/netns.ts'
import { type Packet, type PacketOptions, PacketSocket } from '../../netlink-lib/packet.ts'
import type { Link } from '../../netlink-lib/route/link.ts'
import { RouteSocket } from '../../netlink-lib/route/socket.ts'
import { CliError, toCliError } from '../errors.ts'
import type { LinkType } from '../pcapng.ts'
import { identityOf, openPlace, type Place, placeAt } from '../places.ts'

/** A packet, and the number of the tap where it passed. */
export interface TappedPacket extends Packet {
  readonly interface: number
}

/** What is to be listened on: a place, and one of its links or all that are up. */
interface End {
  readonly place: Place
  readonly ifName?: string
}

/** Targets that have a colon of their own. */
const schemes = /^(?:pid|path|docker|podman):/

/** `TARGET[:IF]`. A name of a link has no colon, so the last one ends the target. */
export function parseEnd(text: string): End {
  const scheme = schemes.exec(text)?.[0] ?? ''
  const [, target = '', ifName] = /^(.*?)(?::([^:/]*))?$/s.exec(text.slice(scheme.length)) ?? []
  if (ifName === '') throw new CliError('usage', `"${text}" names no interface`, 'as web:eth0, or web for all of them')
  return { place: placeAt(scheme + target), ifName }
}

/** ARPHRD_* whose frames begin with an Ethernet header, and those that are nothing but IP. */
const deviceTypes: Readonly<Record<number, LinkType>> = {
  1: 'ethernet',
  772: 'ethernet', // ARPHRD_LOOPBACK
  519: 'raw', // ARPHRD_RAWIP
  768: 'raw', // ARPHRD_TUNNEL
  769: 'raw', // ARPHRD_TUNNEL6
  776: 'raw', // ARPHRD_SIT
  65534: 'raw', // ARPHRD_NONE: tun, wireguard
}

/** A listener on one link. */
class Tap implements Disposable {
  readonly #identity: string | undefined

  constructor(
    readonly place: Place,
    readonly link: Link,
    readonly linkType: LinkType,
    readonly socket: PacketSocket,
  ) {
    this.#identity = identityOf(place.netns)
  }

  get name(): string {
    return `${this.place.name}:${this.link.name}`
  }

  [Symbol.dispose](): void {
    this.socket[Symbol.dispose]()
  }

  receive(): Packet[] {
    const packets = this.socket.receive()
    // What passes the loopback link leaves and arrives; once is enough, as tcpdump has it.
    return this.link.loopback ? packets.filter(({ direction }) => direction === 'in') : packets
  }

  /** What has happened to the link since the last call. */
  change(): 'down' | 'gone' | undefined {
    if (identityOf(this.place.netns) !== this.#identity) return 'gone'
    if (!this.socket.wentDown()) return undefined
    using netns = Netns.find(this.place.netns)
    using route = netns?.run<RouteSocket>(() => new RouteSocket())
    return route?.findLink(this.link.index) ? 'down' : 'gone'
  }
}

export interface InterfaceCount {
  readonly name: string
  readonly received: number
  readonly dropped: number
}

/** Of all rings together, in blocks: 64 MiB. A host may have hundreds of links, and this memory cannot be swapped out. */
const memory = 512

/** Everything that is listened on. */
export class Taps implements Disposable {
  readonly #taps: Tap[] = []
  /** Those whose link is gone, and what they had counted: our socket would keep a deleted lab alive. */
  readonly #ended = new Map<Tap, InterfaceCount>()
  readonly #ending = new Set<Tap>()

  constructor(ends: readonly End[], options: PacketOptions) {
    const chosen = ends.flatMap(linksOf)
    const blocks = Math.min(32, Math.max(4, Math.floor(memory / chosen.length)))
    try {
      for (const { place, link } of chosen) this.#open(place, link, { ...options, blocks })
    } catch (error) {
      this[Symbol.dispose]()
      throw error
    }
  }

  #open(place: Place, link: Link, options: PacketOptions): void {
    if (this.#taps.some((tap) => tap.place.netns === place.netns && tap.link.index === link.index)) return
    using netns = openPlace(place)
    try {
      const linkType = linkTypeOf(place, link)
      const socket = netns.run<PacketSocket>(() => new PacketSocket(link, options))
      this.#taps.push(new Tap(place, link, linkType, socket))
    } catch (error) {
      throw toCliError(error, `cannot capture on ${place.name}:${link.name}`)
    }
  }

  get interfaces(): readonly { readonly name: string; readonly linkType: LinkType }[] {
    return this.#taps
  }

  [Symbol.dispose](): void {
    for (const tap of this.#taps) if (!this.#ended.has(tap)) tap[Symbol.dispose]()
  }

  /** What has come since the last call, tap by tap. */
  receive(): TappedPacket[] {
    return this.#taps.flatMap((tap, number) =>
      this.#ended.has(tap) ? [] : tap.receive().map((packet) => ({ ...packet, interface: number })),
    )
  }

  /** Names of links that went down or away since the last call. What is gone is let go one call later, read to its end. */
  changes(): { readonly name: string; readonly change: 'down' | 'gone' }[] {
    for (const tap of this.#ending) {
      this.#ended.set(tap, countOf(tap))
      tap[Symbol.dispose]()
    }
    this.#ending.clear()
    return this.#taps.flatMap((tap) => {
      const change = this.#ended.has(tap) ? undefined : tap.change()
      if (change === 'gone') this.#ending.add(tap)
      return change ? { name: tap.name, change } : []
    })
  }

  get allGone(): boolean {
    return this.#ended.size === this.#taps.length
  }

  counts(): InterfaceCount[] {
    return this.#taps.map((tap) => this.#ended.get(tap) ?? countOf(tap))
  }
}

const countOf = (tap: Tap): InterfaceCount => ({ name: tap.name, ...tap.socket.statistics() })

function linkTypeOf(place: Place, { name, deviceType }: Link): LinkType {
  const found = deviceTypes[deviceType]
  if (found) return found
  throw new CliError(
    'unsupported',
    `${place.name}:${name} carries frames of type ${deviceType}, which are not known here`,
    'ip -d link shows the type; Ethernet, loopback and plain IP are known',
  )
}

/** The link of that name, or all that are up but the loopback. */
function linksOf({ place, ifName }: End): { readonly place: Place; readonly link: Link }[] {
  using netns = openPlace(place)
  using route = netns.run<RouteSocket>(() => new RouteSocket())
  const links = route.listLinks()
  const chosen = links.filter(({ name, up, loopback }) => (ifName === undefined ? up && !loopback : name === ifName))
  if (chosen.length > 0) return chosen.map((link) => ({ place, link }))
  const names = links.map(({ name }) => `${place.name}:${name}`).join(', ')
  if (ifName !== undefined)
    throw new CliError('notFound', `"${place.name}" has no interface "${ifName}"`, `there are: ${names}`)
  throw new CliError('notFound', `"${place.name}" has no interface that is up`, `name one of: ${names}`)
}
