import { isKernelError, KernelError } from '../errors.ts'
import { type Cidr, familyOf, formatCidr, ipBytes, ipToInteger, networkOf } from '../ip.ts'
import { flags, NetlinkSocket, protocols, type Request } from '../socket.ts'
import {
  type BridgeSettings,
  bridgeMessage,
  broadcastOf,
  type IfbSettings,
  ifbMessage,
  type Link,
  type LinkSettings,
  type PortVlan,
  settingsMessage,
  toLink,
  toPortVlans,
  type VethSettings,
  vethMessage,
  vlanInfos,
} from './link.ts'
import {
  type BucketState,
  bucketIn,
  createBucket,
  createIngress,
  createRedirect,
  deleteQdisc,
  getQdisc,
  type LinkRef,
  listFilters,
  redirectIn,
  type TokenBucket,
} from './traffic-control.ts'
import {
  addressFamilies,
  addressFlags,
  addressMessage,
  linkMessage,
  messageTypes,
  neighbourMessage,
  neighbourStates,
  portVlanMessage,
  routeMessage,
  routeProtocols,
  routeScopes,
  routeTables,
  routeTypes,
} from './wire.ts'

export interface Address extends Cidr {
  readonly index: number
  readonly scope: number
  readonly tentative: boolean
  readonly dadFailed: boolean
}

/** A route to add, find or delete. Destination `0.0.0.0/0` or `::/0` is the default route. */
export interface RouteSettings {
  readonly dst: Cidr
  /** Index of the outgoing link. */
  readonly link?: number
  readonly gateway?: string
  readonly source?: string
  readonly priority?: number
  readonly table?: number
  /** RT_SCOPE_*; default link without gateway, universe with one. */
  readonly scope?: number
  readonly mtu?: number
  readonly advmss?: number
}

export interface Route extends RouteSettings {
  readonly protocol: number
}

const familyNumber = (address: string) => (familyOf(address) === 4 ? addressFamilies.ipv4 : addressFamilies.ipv6)

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
      const [reply] = this.#netlink.request({
        type: messageTypes.getLink,
        body: linkMessage.encode(which),
        operation: 'get link',
        subject: String(nameOrIndex),
      })
      return reply && toLink(linkMessage.decode(reply.body))
    } catch (error) {
      if (isKernelError(error, 'ENODEV')) return undefined
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
      .dump({ type: messageTypes.getLink, body: linkMessage.encode(filter), operation: 'list', subject: 'links' })
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
  setLink(link: { readonly index: number; readonly name: string }, settings: LinkSettings): void {
    this.#netlink.request({
      type: messageTypes.newLink, // RTM_SETLINK takes no port settings
      body: linkMessage.encode({ index: link.index, ...settingsMessage(settings) }),
      operation: `set ${Object.keys(settings).join(', ')} of`,
      subject: link.name,
    })
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

  /** The VLANs of a bridge's port, by id. Empty where the kernel has no CONFIG_BRIDGE_VLAN_FILTERING. */
  listPortVlans(port: { readonly index: number; readonly name: string }): PortVlan[] {
    return this.#netlink
      .dump({
        type: messageTypes.getLink,
        body: portVlanMessage.encode({ family: addressFamilies.bridge, extensionMask: 2 }),
        operation: 'list VLANs of',
        subject: port.name,
      })
      .map((reply) => portVlanMessage.decode(reply.body))
      .filter((message) => message.index === port.index)
      .flatMap((message) => toPortVlans(message.vlans ?? []))
  }

  /** Makes a port a member of VLANs: all in one request. */
  addPortVlans(port: { readonly index: number; readonly name: string }, vlans: readonly PortVlan[]): void {
    this.#netlink.request(this.#portVlanRequest('add', messageTypes.setLink, port, vlans))
  }

  deletePortVlans(port: { readonly index: number; readonly name: string }, vlans: readonly PortVlan[]): void {
    this.#netlink.request(this.#portVlanRequest('delete', messageTypes.deleteLink, port, vlans))
  }

  #portVlanRequest(
    verb: string,
    type: number,
    port: { readonly index: number; readonly name: string },
    vlans: readonly PortVlan[],
  ): Request {
    return {
      type,
      body: portVlanMessage.encode({
        family: addressFamilies.bridge,
        index: port.index,
        vlans: vlans.flatMap(vlanInfos),
      }),
      operation: `${verb} VLAN ${vlans.map(({ first, last }) => (last === first ? first : `${first}-${last}`)).join(', ')} of`,
      subject: port.name,
    }
  }

  /** Adds an address without duplicate address detection unless `dad` asks for it; EEXIST when it is there. */
  addAddress(
    link: { readonly index: number; readonly name: string },
    address: Cidr,
    options: { dad?: boolean } = {},
  ): void {
    const bytes = ipBytes(address.address)
    this.#netlink.request({
      type: messageTypes.newAddress,
      flags: flags.create | flags.exclusive,
      body: addressMessage.encode({
        family: familyNumber(address.address),
        prefix: address.prefix,
        index: link.index,
        local: address.address,
        address: address.address,
        broadcast: broadcastOf(bytes, address.prefix),
        flags: address.family === 6 && !options.dad ? addressFlags.noDad : undefined,
      }),
      operation: `add address ${formatCidr(address)} to`,
      subject: link.name,
    })
  }

  deleteAddress(link: { readonly index: number; readonly name: string }, address: Cidr): void {
    this.#absentIsDone(
      {
        type: messageTypes.deleteAddress,
        body: addressMessage.encode({
          family: familyNumber(address.address),
          prefix: address.prefix,
          index: link.index,
          local: address.address,
        }),
        operation: `delete address ${formatCidr(address)} from`,
        subject: link.name,
      },
      'EADDRNOTAVAIL',
      'ENODEV',
    )
  }

  /** The addresses of one link, both families. */
  listAddresses(link: { readonly index: number; readonly name: string }): Address[] {
    return this.#netlink
      .dump({
        type: messageTypes.getAddress,
        body: addressMessage.encode({ index: link.index }),
        operation: 'list addresses of',
        subject: link.name,
      })
      .map((reply) => addressMessage.decode(reply.body))
      .filter((message) => message.index === link.index)
      .map((message) => {
        const address = message.local ?? message.address!
        const state = message.flags ?? message.shortFlags!
        return {
          address,
          prefix: message.prefix!,
          family: familyOf(address),
          index: message.index!,
          scope: message.scope!,
          tentative: (state & addressFlags.tentative) !== 0,
          dadFailed: (state & addressFlags.dadFailed) !== 0,
        }
      })
  }

  /**
   * Adds a route before those of the same destination, as a further next hop with IPv6; EEXIST when the same one is
   * there. A container with two networks has two default routes, and one must stay when the other's link goes.
   */
  addRoute(route: RouteSettings): void {
    this.#netlink.request({
      ...this.#routeRequest('add route', route),
      type: messageTypes.newRoute,
      flags: flags.create,
    })
  }

  deleteRoute(route: RouteSettings): void {
    this.#absentIsDone({ ...this.#routeRequest('delete route', route), type: messageTypes.deleteRoute }, 'ESRCH')
  }

  #routeRequest(operation: string, route: RouteSettings): Omit<Request, 'type'> {
    const { dst } = route
    const isDefault = dst.prefix === 0 && ipToInteger(dst.address) === 0n
    return {
      body: routeMessage.encode({
        family: familyNumber(dst.address),
        dstPrefix: dst.prefix,
        protocol: operation === 'delete route' ? 0 : routeProtocols.boot,
        scope:
          route.scope ?? (operation === 'delete route' ? 255 : route.gateway ? routeScopes.universe : routeScopes.link), // 255 RT_SCOPE_NOWHERE matches any
        type: operation === 'delete route' ? 0 : routeTypes.unicast,
        shortTable: (route.table ?? routeTables.main) < 256 ? (route.table ?? routeTables.main) : 0,
        dst: isDefault ? undefined : networkOf(dst).address,
        table: route.table !== undefined && route.table > 255 ? route.table : undefined,
        gateway: route.gateway,
        outLink: route.link,
        preferredSource: route.source,
        priority: route.priority,
        metrics:
          route.mtu || route.advmss ? { mtu: route.mtu || undefined, advmss: route.advmss || undefined } : undefined,
      }),
      operation: `${operation} ${formatCidr(dst)}${route.gateway ? ` via ${route.gateway}` : ''}`,
      subject: route.link === undefined ? '' : `on link ${route.link}`,
    }
  }

  /** The routes of one family, of one link or table when asked (main by default). */
  listRoutes(family: 4 | 6, filter: { link?: number; table?: number } = {}): Route[] {
    const unspecified = family === 4 ? '0.0.0.0' : '::'
    return this.#netlink
      .dump({
        type: messageTypes.getRoute,
        body: routeMessage.encode({ family: familyNumber(unspecified), outLink: filter.link }),
        operation: 'list',
        subject: 'routes',
      })
      .map((reply) => routeMessage.decode(reply.body))
      .map((message) => ({
        dst: { address: message.dst ?? unspecified, prefix: message.dstPrefix!, family },
        link: message.outLink,
        gateway: message.gateway,
        source: message.preferredSource,
        priority: message.priority,
        table: message.table ?? message.shortTable,
        scope: message.scope,
        mtu: message.metrics?.mtu,
        advmss: message.metrics?.advmss,
        protocol: message.protocol!,
      }))
      .filter((route) => route.table === (filter.table ?? routeTables.main))
      .filter((route) => filter.link === undefined || route.link === filter.link)
  }

  /** Puts a permanent entry into the ARP or ND table. */
  setNeighbour(link: { readonly index: number; readonly name: string }, address: string, mac: string): void {
    this.#netlink.request({
      type: messageTypes.newNeighbour,
      flags: flags.create | flags.replace,
      body: neighbourMessage.encode({
        family: familyNumber(address),
        index: link.index,
        state: neighbourStates.permanent,
        dst: address,
        mac,
      }),
      operation: `set neighbour ${address} ${mac} on`,
      subject: link.name,
    })
  }

  deleteNeighbour(link: { readonly index: number; readonly name: string }, address: string): void {
    this.#absentIsDone(
      {
        type: messageTypes.deleteNeighbour,
        body: neighbourMessage.encode({ family: familyNumber(address), index: link.index, dst: address }),
        operation: `delete neighbour ${address} from`,
        subject: link.name,
      },
      'ENOENT',
    )
  }

  listNeighbours(link: {
    readonly index: number
    readonly name: string
  }): { address: string; mac?: string; state: number }[] {
    return this.#netlink
      .dump({
        type: messageTypes.getNeighbour,
        body: neighbourMessage.encode({ link: link.index }),
        operation: 'list neighbours of',
        subject: link.name,
      })
      .map((reply) => neighbourMessage.decode(reply.body))
      .filter((message) => message.index === link.index && message.dst !== undefined)
      .map((message) => ({ address: message.dst!, mac: message.mac, state: message.state! }))
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
