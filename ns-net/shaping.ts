import { isKernelError } from '../netlink-lib/errors.ts'
import { Netns } from '../netlink-lib/netns.ts'
import {
  appendRule,
  createChain,
  createTable,
  deleteChain,
  deleteTable,
  type TableRef,
} from '../netlink-lib/nftables/commands.ts'
import { NetfilterSocket } from '../netlink-lib/nftables/netfilter-socket.ts'
import { byChance, verdict } from '../netlink-lib/nftables/statements.ts'
import type { Link } from '../netlink-lib/route/link.ts'
import { findNetnsId } from '../netlink-lib/route/netns-id.ts'
import {
  createShaping,
  deleteShaping,
  getChildQdisc,
  type Lateness,
  type Qdisc,
  qdiscIn,
  type Shaping,
} from '../netlink-lib/route/shaping.ts'
import { RouteSocket } from '../netlink-lib/route/socket.ts'
import { getQdisc, type TokenBucket } from '../netlink-lib/route/traffic-control.ts'
import { NetlinkSocket, protocols } from '../netlink-lib/socket.ts'
import type { Host } from '../plugins/contract/host.ts'
import { CliError } from './errors.ts'
import { listNetnsNames, netnsPath } from './labs.ts'

/**
 * Links made worse on purpose: a limit of the rate, a delay and lost packets, the same in both directions.
 *
 * Rate and delay are queueing disciplines of each end, where its packets leave, and vanish with the link. Packets are
 * lost where they come in, by a chain for each end in `table netdev ns-net-shape` of the end's namespace:
 *
 *   chain veth3f9a21… { type filter hook ingress device veth3f9a21… priority 0; numgen random mod 1000 < 50 drop }
 *
 * Lost where they leave, the sender would be told. Since Linux 6.16 a chain stays when its link goes, for one of the same
 * name: so it is deleted with the lab, and stale ones with the next.
 */
const table: TableRef = { family: 'netdev', name: 'ns-net-shape' }

/** One direction of a link. */
export interface Shape {
  readonly bucket?: TokenBucket
  readonly lateness?: Lateness
  /** Lost packets of a thousand. */
  readonly loss?: number
}

/** A namespace with the sockets to look at and change its links. */
class Site implements Disposable {
  readonly route: RouteSocket
  readonly netlink: NetlinkSocket
  #netfilter: NetfilterSocket | undefined

  constructor(readonly netns: Netns) {
    this.route = netns.run(() => new RouteSocket())
    this.netlink = netns.run(() => new NetlinkSocket(protocols.route))
  }

  get netfilter(): NetfilterSocket {
    this.#netfilter ??= this.netns.run(() => new NetfilterSocket())
    return this.#netfilter
  }

  [Symbol.dispose](): void {
    for (const resource of [this.#netfilter, this.netlink, this.route, this.netns]) resource?.[Symbol.dispose]()
  }
}

/** A link of a target with its other end, wherever that is. Take it with `using`. */
export interface Cable extends Disposable {
  readonly inner: End
  readonly outer: End
}

interface End {
  readonly site: Site
  readonly link: Link
}

/** Names of the links of a namespace but lo. */
export function linkNames(netns: string): string[] {
  using site = new Site(Netns.open(netns))
  return site.route.listLinks().flatMap(({ loopback, name }) => (loopback ? [] : [name]))
}

export function openCable(netns: string, ifName: string): Cable {
  const site = new Site(Netns.open(netns))
  try {
    const link = site.route.findLink(ifName)
    if (!link) throw new CliError('notFound', `no link "${ifName}" in ${netns}`)
    if (link.kind !== 'veth')
      throw new CliError(
        'unsupported',
        `"${ifName}" is ${link.kind ? `of kind ${link.kind}` : 'a link of the machine'}: what it receives cannot be shaped`,
        'only veth links have a second end; networks of the drivers bridge and ptp are made of them',
      )
    const outer = findOtherEnd({ site, link })
    if (!outer)
      throw new CliError(
        'unsupported',
        `the other end of "${ifName}" is in a namespace without a name below /run/netns`,
      )
    const dispose = () => {
      if (outer.site !== site) outer.site[Symbol.dispose]()
      site[Symbol.dispose]()
    }
    return { inner: { site, link }, outer, [Symbol.dispose]: dispose }
  } catch (error) {
    site[Symbol.dispose]()
    throw error
  }
}

/** On the host mostly, of a cable between labs in the other lab; undefined in a namespace without a name. */
function findOtherEnd({ site, link }: End): End | undefined {
  const { peerIndex = 0, peerNetnsId } = link
  if (peerNetnsId === undefined) return { site, link: site.route.getLink(peerIndex) }
  const candidates = [() => Netns.own(), ...listNetnsNames().map((name) => () => Netns.find(netnsPath(name)))]
  for (const open of candidates) {
    const netns = open()
    if (!netns) continue
    if (findNetnsId(site.netlink, netns) === peerNetnsId) {
      const there = new Site(netns)
      return { site: there, link: there.route.getLink(peerIndex) }
    }
    netns[Symbol.dispose]()
  }
  return undefined
}

/** What the target sends, and what it receives. */
export interface Directions {
  readonly sends: Shape
  readonly receives: Shape
}

export const readDirections = ({ inner, outer }: Cable): Directions => ({
  sends: { ...readQdiscs(inner), loss: readLoss(outer) },
  receives: { ...readQdiscs(outer), loss: readLoss(inner) },
})

function rootQdisc({ site, link }: End): Qdisc | undefined {
  const [reply] = site.netlink.request(getQdisc(link, 'root'))
  return reply && qdiscIn(reply)
}

function readQdiscs(end: End): Shaping {
  const root = rootQdisc(end)
  if (root?.owner !== 'us') return {}
  if (!root.lateness) return { bucket: root.bucket }
  return { lateness: root.lateness, bucket: readChildBucket(end) }
}

/** The bucket below netem, which has nothing there when only a delay was asked for. */
function readChildBucket({ site, link }: End): TokenBucket | undefined {
  try {
    const [reply] = site.netlink.request(getChildQdisc(link))
    return reply && qdiscIn(reply).bucket
  } catch (error) {
    if (isKernelError(error, 'ENOENT')) return undefined
    throw error
  }
}

/** A rule without a condition loses everything. */
function readLoss({ site, link }: End): number | undefined {
  const [rule] = site.netfilter.listRules(table, link.name)
  if (!rule) return undefined
  const compared = rule.expressions?.map((each) => ('cmp' in each ? each.cmp.data?.value : undefined)).find(Boolean)
  return compared ? compared.readUInt32BE() : 1000
}

/** Gives both directions a shape in place of the one they have: whole, or not at all. */
export function setShape(cable: Cable, shape: Shape): void {
  for (const end of [cable.inner, cable.outer]) refuseForeign(end)
  const before = readDirections(cable)
  clearShape(cable)
  try {
    put(cable, { sends: shape, receives: shape })
  } catch (error) {
    clearShape(cable)
    put(cable, before)
    throw error
  }
}

/** A qdisc that somebody else put there decides about the link's packets already. */
function refuseForeign(end: End): void {
  const root = rootQdisc(end)
  if (root?.owner !== 'somebody') return
  const { name } = end.link
  throw new CliError(
    'conflict',
    `"${name}" is shaped by somebody else: it has a root qdisc ${root.kind}`,
    `plugin bandwidth limits with tbf; of another program: tc qdisc delete dev ${name} root`,
  )
}

function put({ inner, outer }: Cable, { sends, receives }: Directions): void {
  putQdiscs(inner, sends)
  putQdiscs(outer, receives)
  putLoss(outer, sends)
  putLoss(inner, receives)
}

function putQdiscs({ site, link }: End, shape: Shaping): void {
  for (const request of createShaping(link, shape)) {
    try {
      site.netlink.request(request)
    } catch (error) {
      if (!isKernelError(error, 'ENOENT')) throw error
      throw missing(request.operation.startsWith('delay') ? ['--delay', 'NET_SCH_NETEM'] : ['--rate', 'NET_SCH_TBF'])
    }
  }
}

function putLoss({ site, link }: End, { loss }: Shape): void {
  if (!loss) return
  const rule = [...(loss < 1000 ? byChance(loss) : []), verdict('drop')]
  const chain = [
    createChain(table, link.name, { type: 'filter', number: 0, priority: 0, device: link.name }), // NF_NETDEV_INGRESS
    appendRule(table, link.name, rule, `loses ${loss / 10} %`),
  ]
  const create = site.netfilter.findTable(table) ? [] : [createTable(table, 'made by ns-net')]
  try {
    site.netfilter.transaction([...create, ...chain])
  } catch (error) {
    if (!isKernelError(error, 'ENOENT', 'EOPNOTSUPP')) throw error
    throw missing(['--loss', 'NF_TABLES_NETDEV and CONFIG_NFT_NUMGEN'])
  }
}

const missing = ([option, name]: readonly [string, string]): CliError =>
  new CliError('unsupported', `${option}: this kernel has no CONFIG_${name}`, 'nothing was changed')

/** Takes away what {@link setShape} made. Absent is done. */
export function clearShape({ inner, outer }: Cable): void {
  for (const end of [inner, outer]) {
    if (rootQdisc(end)?.owner === 'us') end.site.netlink.request(deleteShaping(end.link))
    deleteChains(end.site.netfilter, [end.link.name])
  }
}

/** Deletes these chains, and the table with its last one. */
function deleteChains(netfilter: NetfilterSocket, names: readonly string[]): void {
  const there = new Set(netfilter.listChains(table).map(({ name }) => name))
  netfilter.transaction(names.filter((name) => there.has(name)).map((name) => deleteChain(table, name)))
  deleteEmptyTable(netfilter)
}

function deleteEmptyTable(netfilter: NetfilterSocket): void {
  if (netfilter.findTable(table)?.use === 0) netfilter.transaction([deleteTable(table)])
}

/** Before a link of a lab is unplugged: else its chains would wait for the next link of that name. */
export function unshape(lab: string, ifName: string): void {
  using site = openIfThere(lab)
  if (site?.route.findLink(ifName)?.kind !== 'veth') return
  using cable = openCable(netnsPath(lab), ifName)
  clearShape(cable)
}

/** Names of the host's links that lose packets on purpose. */
export const lossyLinks = (host: Host): string[] => host.netfilter.listChains(table).flatMap(({ name }) => name ?? [])

/** Whether anything of a host's links loses packets, or did: before Linux 6.16 a chain goes with its link, the table stays. */
export const hasShapeTable = (host: Host): boolean => host.netfilter.findTable(table) !== undefined

/** Takes away the chains of the host whose links went without us. */
export function clearGoneShapes(host: Host): void {
  deleteChains(
    host.netfilter,
    lossyLinks(host).filter((name) => !host.route.findLink(name)),
  )
}

/**
 * Before a lab goes: takes away the chains for the other ends of its links, and those whose links went without us. What is
 * inside the lab goes with it.
 */
export function forgetShapes(lab: string, host: Host): void {
  const shaped = lossyLinks(host)
  const gone = shaped.filter((name) => !host.route.findLink(name))
  using site = openIfThere(lab)
  for (const link of site?.route.listLinks() ?? []) {
    const end = site && link.kind === 'veth' ? findOtherEnd({ site, link }) : undefined
    if (!end || end.site === site) continue
    using there = end.site
    if (host.isOwnNetns(there.netns.path)) gone.push(end.link.name)
    else deleteChains(there.netfilter, [end.link.name])
  }
  if (gone.some((name) => shaped.includes(name))) deleteChains(host.netfilter, gone)
  else deleteEmptyTable(host.netfilter)
}

function openIfThere(lab: string): Site | undefined {
  const netns = Netns.find(netnsPath(lab))
  return netns && new Site(netns)
}
