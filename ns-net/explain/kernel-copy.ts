import { isKernelError, KernelError } from '../../netlink-lib/errors.ts'
import { checked, libc } from '../../netlink-lib/libc.ts'
import { createNamedNetns, Netns } from '../../netlink-lib/netns.ts'
import {
  addressFlags,
  addressMessage,
  bridgeData,
  type LinkMessage,
  linkFlags,
  linkMessage,
  messageTypes,
  neighbourMessage,
  type RouteMessage,
  routeMessage,
  vethData,
} from '../../netlink-lib/route/wire.ts'
import { flags, NetlinkSocket, protocols, type Request } from '../../netlink-lib/socket.ts'
import { findSysctl, type SysctlName, trySysctl } from '../../netlink-lib/sysctl.ts'
import { imageOf, isOwnRoute, isUp, type LinkImage, linkSysctls, listLinks, listRoutesOf } from './images.ts'
import { Peers } from './neighbourhood.ts'
import { isSame, type Place, type Places } from './place.ts'
import { birth, namedToo } from './recreate-link.ts'

/*
 * Namespaces taken down as messages and made again elsewhere. Links keep their numbers, so that all that speaks of them
 * can be sent as it was read.
 */

interface LinkCopy {
  readonly image: LinkImage
  /** Where the other end of a veth is. */
  readonly peer?: { readonly place: Place; readonly index: number }
}

export interface PlaceCopy {
  readonly place: Place
  readonly links: readonly LinkCopy[]
  readonly routes: readonly RouteMessage[]
  readonly sysctls: readonly (readonly [SysctlName, string])[]
}

/** Settings of a whole namespace; forwarding first, as it changes others. */
const placeSysctls = (): SysctlName[] => [
  ['ipv4', 'ip_forward'],
  ['ipv6', 'conf', 'all', 'forwarding'],
  ...linkSysctls('all'),
  ...linkSysctls('default'),
]

export function takeDown(place: Place, places: Places): PlaceCopy | undefined {
  using netlink = places.connect(place)
  if (!netlink) return undefined
  const peers = new Peers(places, netlink, place)
  const links = listLinks(netlink).map((link): LinkCopy => {
    const peer = peers.of(link)
    const image = places.run(place, () => imageOf(netlink, link))
    return { image, ...(peer && { peer: { place: peer.place, index: link.peerIndex! } }) }
  })
  const sysctls = places.run(place, () =>
    placeSysctls().flatMap((name): [SysctlName, string][] => {
      const value = findSysctl(name)
      return value === undefined ? [] : [[name, value]]
    }),
  )
  return { place, links, routes: listRoutesOf(netlink).filter((route) => !isOwnRoute(route)), sysctls }
}

const create = flags.create | flags.exclusive
const message = (type: number, body: Buffer, operation: string, sent = 0): Request => ({
  type,
  flags: sent,
  body,
  operation,
  subject: '',
})

/** Makes the copies again around this process, which has begun a new network namespace. Returns what did not work. */
export function rebuild(copies: readonly PlaceCopy[], places: Places): string[] {
  using site = new Site(copies, places)
  for (const { place, sysctls } of copies) places.run(place, () => setAll(sysctls))
  for (const copy of copies) for (const link of copy.links) site.createLink(copy, link)
  for (const copy of copies) for (const link of copy.links) site.configure(copy, link)
  for (const copy of copies) site.addRoutes(copy)
  return site.failures
}

function setAll(sysctls: readonly (readonly [SysctlName, string])[]): void {
  for (const [name, value] of sysctls) trySysctl(name, value)
}

class Site implements Disposable {
  readonly failures: string[] = []
  readonly #sockets = new Map<string | undefined, NetlinkSocket>()
  readonly #namespaces = new Map<string | undefined, Netns>()
  /** Where the other ends of links are that lead to what is not copied. */
  readonly #elsewhere = createUnnamed()
  readonly #created = new Set<string>()

  constructor(
    readonly copies: readonly PlaceCopy[],
    readonly places: Places,
  ) {
    for (const { place } of copies) {
      if (place.netns !== undefined) createNamedNetns(place.name)
      this.#namespaces.set(place.netns, place.netns === undefined ? places.openHost() : Netns.open(place.netns))
      this.#sockets.set(
        place.netns,
        places.run(place, () => new NetlinkSocket(protocols.route)),
      )
    }
  }

  [Symbol.dispose](): void {
    for (const resource of [...this.#sockets.values(), ...this.#namespaces.values(), this.#elsewhere])
      resource[Symbol.dispose]()
  }

  #send({ name, netns }: Place, request: Request, ...harmless: string[]): void {
    try {
      this.#sockets.get(netns)!.request(request)
    } catch (error) {
      if (isKernelError(error, ...harmless)) return
      if (!(error instanceof KernelError)) throw error
      this.failures.push(`${name}: ${error.message}`)
    }
  }

  #find(place: Place, index: number): LinkMessage | undefined {
    const copy = this.copies.find((each) => isSame(each.place, place))
    return copy?.links.find(({ image }) => image.link.index === index)?.image.link
  }

  createLink({ place }: PlaceCopy, { image: { link }, peer }: LinkCopy): void {
    const key = `${place.name} ${link.index}`
    if (link.name === 'lo' || this.#created.has(key)) return
    this.#created.add(key)
    if (peer) this.#created.add(`${peer.place.name} ${peer.index}`)
    const born = { index: link.index, ...birth(link), info: this.#kindOf(place, link, peer) }
    this.#send(place, message(messageTypes.newLink, linkMessage.encode(born), `make ${link.name}`, create))
  }

  /** What leads to elsewhere, be it a veth or a card, becomes a cable to nowhere. */
  #kindOf(place: Place, { info, index }: LinkMessage, peer: LinkCopy['peer']): LinkMessage['info'] {
    if (info?.kind === 'ifb') return { kind: 'ifb' }
    if (info?.kind === 'bridge') {
      const filtering = info.data && bridgeData.decode(info.data).vlanFiltering
      return { kind: 'bridge', data: filtering ? bridgeData.encode({ vlanFiltering: filtering }) : undefined }
    }
    const other = peer && this.#find(peer.place, peer.index)
    const netnsFd = (peer && other ? this.#namespaces.get(peer.place.netns)! : this.#elsewhere).fd
    const far = other
      ? { index: other.index, ...birth(other), netnsFd }
      : { name: `far${place.netns === undefined ? '' : place.name.slice(0, 6)}${index}`, netnsFd }
    return { kind: 'veth', data: vethData.encode({ peer: far }) }
  }

  configure({ place }: PlaceCopy, { image }: LinkCopy): void {
    const { link, addresses, neighbours, traffic, sysctls, absentRoutes } = image
    const { index, name, alias, master, info } = link
    const set = (settings: LinkMessage) =>
      this.#send(place, message(messageTypes.newLink, linkMessage.encode({ index, ...settings }), `set ${name}`))
    if (link.altNames?.length) this.#send(place, namedToo(link))
    set({ alias, master: master || undefined })
    const port = info?.portKind === 'bridge' ? info.portData : undefined
    if (port) set({ info: { portKind: 'bridge', portData: { hairpin: port.hairpin, isolated: port.isolated } } })
    this.places.run(place, () => setAll(sysctls))
    for (const address of addresses) {
      const isIpv6 = (address.local ?? address.address ?? '').includes(':')
      const body = addressMessage.encode({ ...address, flags: isIpv6 ? addressFlags.noDad : undefined })
      this.#send(place, message(messageTypes.newAddress, body, `address ${name}`, create), 'EEXIST')
    }
    for (const request of traffic) this.#send(place, request)
    if (isUp(link)) set({ flags: linkFlags.up, change: linkFlags.up })
    for (const route of absentRoutes)
      this.#send(place, message(messageTypes.deleteRoute, routeMessage.encode(route), `unroute ${name}`), 'ESRCH')
    for (const each of neighbours)
      this.#send(
        place,
        message(messageTypes.newNeighbour, neighbourMessage.encode(each), `neighbour of ${name}`, create),
      )
  }

  addRoutes({ place, routes }: PlaceCopy): void {
    for (const route of routes)
      this.#send(place, message(messageTypes.newRoute, routeMessage.encode(route), 'add route', create), 'EEXIST')
  }
}

const newNetwork = 0x40000000 // CLONE_NEWNET

/** A namespace that lives as long as its descriptor. */
function createUnnamed(): Netns {
  using home = Netns.own()
  checked(libc.unshare(newNetwork), 'create network namespace', 'of what is not copied')
  try {
    return Netns.own()
  } finally {
    checked(libc.setns(home.fd, newNetwork), 'return to', 'the rehearsal')
  }
}
