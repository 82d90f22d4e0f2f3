import { isKernelError, KernelError } from '../errors.ts'
import type { Cidr, Family } from '../ip.ts'
import { flags, NetlinkSocket, protocols, type Request } from '../socket.ts'
import { type Address, addAddress, deleteAddress, listAddresses, toAddress } from './address.ts'
import {
  addAltName,
  type BridgeSettings,
  bridgeMessage,
  type IfbSettings,
  ifbMessage,
  type Link,
  type LinkRef,
  type LinkSettings,
  settingsMessage,
  toLink,
  type VethSettings,
  vethMessage,
} from './link.ts'
import { deleteNeighbour, listNeighbours, type Neighbour, setNeighbour, toNeighbour } from './neighbour.ts'
import { addRoute, deleteRoute, listRoutes, type Route, type RouteSettings, routeTo, toRoute } from './route.ts'
import {
  type BucketState,
  bucketIn,
  createBucket,
  createIngress,
  createRedirect,
  deleteQdisc,
  getQdisc,
  listFilters,
  redirectIn,
  type TokenBucket,
} from './traffic-control.ts'
import { addVlans, deleteVlans, listVlans, type PortVlan, toPortVlans } from './vlan.ts'
import {
  addressMessage,
  linkMessage,
  messageTypes,
  neighbourMessage,
  portVlanMessage,
  routeMessage,
  routeTables,
  routeTypes,
} from './wire.ts'

/** RTEXT_FILTER_SKIP_STATS: counters are half of what the kernel tells of a link, and summed over all processors. */
const withoutStatistics = 8

/**
 * The verbs of rtnetlink(7) in the namespace where the socket was opened. `ensure…` is shared and idempotent,
 * `create…` must be new, `find…` may be undefined, `delete…` treats absent as done. All throw {@link KernelError}.
 */
export class RouteSocket implements Disposable {
  readonly #netlink = new NetlinkSocket(protocols.route);

  [Symbol.dispose](): void {
    this.#netlink[Symbol.dispose]()
  }

  findLink(nameOrIndex: string | number): Link | undefined {
    const which = typeof nameOrIndex === 'number' ? { index: nameOrIndex } : { name: nameOrIndex }
    try {
      const reply = this.#netlink.get({
        type: messageTypes.getLink,
        body: linkMessage.encode({ ...which, extensionMask: withoutStatistics }),
        operation: 'get link',
        subject: String(nameOrIndex),
      })
      return reply && toLink(linkMessage.decode(reply.body))
    } catch (error) {
      if (isKernelError(error, 'ENODEV')) return undefined
      throw error
    }
  }

  /** Index of the link that packets to this address leave by; undefined when there is no route, or it is the host's own. */
  findLinkTowards(address: string): number | undefined {
    try {
      const reply = this.#netlink.get(routeTo(address))
      const route = reply && routeMessage.decode(reply.body)
      return route?.type === routeTypes.unicast ? route.outLink : undefined
    } catch (error) {
      if (isKernelError(error, 'ENETUNREACH', 'EHOSTUNREACH', 'EACCES', 'EINVAL')) return undefined // kinds of no route
      throw error
    }
  }

  getLink(nameOrIndex: string | number): Link {
    const link = this.findLink(nameOrIndex)
    if (!link) throw new KernelError('get link', String(nameOrIndex), 19) // ENODEV
    return link
  }

  /** All links, or only those that are ports of a bridge. */
  listLinks(filter: { master?: number } = {}): Link[] {
    return this.#netlink
      .dump({
        type: messageTypes.getLink,
        body: linkMessage.encode({ ...filter, extensionMask: withoutStatistics }),
        operation: 'list',
        subject: 'links',
      })
      .map((reply) => toLink(linkMessage.decode(reply.body)))
      .filter((link) => filter.master === undefined || link.master === filter.master)
  }

  createVeth(settings: VethSettings): void {
    this.#create('create veth', settings.name, vethMessage(settings))
  }

  createBridge(settings: BridgeSettings): void {
    this.#create('create bridge', settings.name, bridgeMessage(settings))
  }

  #create(operation: string, subject: string, body: Buffer): void {
    this.#netlink.request({
      type: messageTypes.newLink,
      flags: flags.create | flags.exclusive,
      body,
      operation,
      subject,
    })
  }

  /** Changes settings of a link that exists; what is left out stays. */
  setLink(link: LinkRef, settings: LinkSettings): void {
    this.#netlink.request({
      type: messageTypes.newLink, // RTM_SETLINK takes no port settings
      body: linkMessage.encode({ index: link.index, ...settingsMessage(settings) }),
      operation: `set ${Object.keys(settings).join(', ')} of`,
      subject: link.name,
    })
  }

  /** One name more for a link, of up to 127 bytes; EEXIST when any link has it. */
  addAltName(link: LinkRef, altName: string): void {
    this.#netlink.request(addAltName(link, altName))
  }

  /** An intermediate functional block: a link that lends its queue to what is redirected to it. */
  createIfb(settings: IfbSettings): void {
    this.#create('create ifb', settings.name, ifbMessage(settings))
  }

  deleteLink(nameOrIndex: string | number): void {
    const which = typeof nameOrIndex === 'number' ? { index: nameOrIndex } : { name: nameOrIndex }
    this.#absentIsDone(
      {
        type: messageTypes.deleteLink,
        body: linkMessage.encode(which),
        operation: 'delete link',
        subject: String(nameOrIndex),
      },
      'ENODEV',
    )
  }

  /** Deletes all links of a group in one request: the kernel waits once for all of them (RCU). No link is done. */
  deleteLinkGroup(group: number): void {
    const body = linkMessage.encode({ group })
    const request = { type: messageTypes.deleteLink, body, operation: 'delete link group', subject: String(group) }
    this.#absentIsDone(request, 'ENODEV')
  }

  /** The VLANs of a bridge's port, by id. Empty where the kernel has no CONFIG_BRIDGE_VLAN_FILTERING. */
  listPortVlans(port: LinkRef): PortVlan[] {
    return this.#netlink
      .dump(listVlans(port))
      .map((reply) => portVlanMessage.decode(reply.body))
      .filter((message) => message.index === port.index)
      .flatMap((message) => toPortVlans(message.vlans ?? []))
  }

  /** Makes a port a member of VLANs: all in one request. */
  addPortVlans(port: LinkRef, vlans: readonly PortVlan[]): void {
    this.#netlink.request(addVlans(port, vlans))
  }

  deletePortVlans(port: LinkRef, vlans: readonly PortVlan[]): void {
    this.#netlink.request(deleteVlans(port, vlans))
  }

  /** Adds an address without duplicate address detection unless `dad` asks for it; EEXIST when it is there. */
  addAddress(link: LinkRef, address: Cidr, { dad = false }: { dad?: boolean } = {}): void {
    this.#netlink.request(addAddress(link, address, dad))
  }

  deleteAddress(link: LinkRef, address: Cidr): void {
    this.#absentIsDone(deleteAddress(link, address), 'EADDRNOTAVAIL', 'ENODEV')
  }

  /** The addresses of one link or of all, both families. */
  listAddresses(link?: LinkRef, family?: Family): Address[] {
    return this.#netlink
      .dump(listAddresses(link, family))
      .map((reply) => toAddress(addressMessage.decode(reply.body)))
      .filter(({ index }) => !link || index === link.index)
  }

  /**
   * Adds a route before those of the same destination, as a further next hop with IPv6; EEXIST when the same one is
   * there. A container with two networks has two default routes, and one must stay when the other's link goes.
   */
  addRoute(route: RouteSettings): void {
    this.#netlink.request(addRoute(route))
  }

  deleteRoute(route: RouteSettings): void {
    this.#absentIsDone(deleteRoute(route), 'ESRCH')
  }

  /** The routes of one family, of one link or table when asked (main by default). */
  listRoutes(family: Family, { link, table = routeTables.main }: { link?: number; table?: number } = {}): Route[] {
    return this.#netlink
      .dump(listRoutes(family, link))
      .map((reply) => toRoute(routeMessage.decode(reply.body), family))
      .filter((route) => route.table === table && (link === undefined || route.link === link))
  }

  /** Puts a permanent entry into the ARP or ND table. */
  setNeighbour(link: LinkRef, address: string, mac: string): void {
    this.#netlink.request(setNeighbour(link, address, mac))
  }

  deleteNeighbour(link: LinkRef, address: string): void {
    this.#absentIsDone(deleteNeighbour(link, address), 'ENOENT')
  }

  listNeighbours(link: LinkRef): Neighbour[] {
    return this.#netlink
      .dump(listNeighbours(link))
      .map((reply) => neighbourMessage.decode(reply.body))
      .filter((message) => message.index === link.index && message.dst !== undefined)
      .map(toNeighbour)
  }

  /** Limits what leaves through the link; EEXIST when somebody gave it a root qdisc already. */
  createBucket(link: LinkRef, bucket: TokenBucket): void {
    this.#netlink.request(createBucket(link, bucket))
  }

  /** The token bucket at the root of the link; undefined when there is none. */
  findBucket(link: LinkRef): BucketState | undefined {
    return this.#noneIfAbsent(() => bucketIn(this.#netlink.request(getQdisc(link, 'root'))[0]))
  }

  /** Lets `target` have everything that comes in through the link. */
  createRedirect(link: LinkRef, target: LinkRef): void {
    this.#netlink.request(createIngress(link))
    try {
      this.#netlink.request(createRedirect(link, target))
    } catch (error) {
      this.deleteRedirect(link)
      throw error
    }
  }

  /** Index of the link that gets everything that comes in; undefined when nobody does. */
  findRedirect(link: LinkRef): number | undefined {
    return this.#noneIfAbsent(() => redirectIn(this.#netlink.dump(listFilters(link))))
  }

  deleteBucket(link: LinkRef): void {
    this.#absentIsDone(deleteQdisc(link, 'root'), 'ENOENT', 'ENODEV', 'EINVAL')
  }

  deleteRedirect(link: LinkRef): void {
    this.#absentIsDone(deleteQdisc(link, 'ingress'), 'ENOENT', 'ENODEV', 'EINVAL')
  }

  #noneIfAbsent<T>(find: () => T): T | undefined {
    try {
      return find()
    } catch (error) {
      // EINVAL: the link has no ingress qdisc that filters could hang from.
      if (isKernelError(error, 'ENOENT', 'ENODEV', 'EINVAL')) return undefined
      throw error
    }
  }

  #absentIsDone(request: Request, ...absent: string[]): void {
    try {
      this.#netlink.request(request)
    } catch (error) {
      if (!isKernelError(error, ...absent)) throw error
    }
  }
}
