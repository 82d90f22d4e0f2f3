import { isKernelError } from '../netlink-lib/errors.ts'
import { type Cidr, cidr } from '../netlink-lib/ip.ts'
import type { Link } from '../netlink-lib/route/link.ts'
import type { Container, Host } from '../plugins/contract/host.ts'
import { CliError, toCliError } from './errors.ts'
import { listLabs, listNetnsNames, netnsPath } from './labs.ts'
import { parseTarget } from './targets.ts'

/**
 * Direct cables between two places: a veth pair with one end in each. Nothing is recorded: both ends carry an alias that
 * names both, `ns-net-cable:web:eth1:r1:eth4`, and a cable is gone when one of its places is.
 */
export interface End {
  /** A lab, or `host`. */
  readonly place: string
  readonly ifName: string
}

export interface Cable {
  readonly a: End
  readonly b: End
  readonly up: boolean
}

const prefix = 'ns-net-cable:'

/** The group that the first end is born in and leaves when all is done: an alias can only follow (IFLA_IFALIAS). */
const unfinished = 0x6e74
const aliasOf = (a: End, b: End): string => `${prefix}${a.place}:${a.ifName}:${b.place}:${b.ifName}`

function readAlias(alias: string | undefined): [End, End] | undefined {
  if (!alias?.startsWith(prefix)) return undefined
  const [one, oneIf, other, otherIf] = alias.slice(prefix.length).split(':')
  if (!one || !oneIf || !other || !otherIf) return undefined
  return [
    { place: one, ifName: oneIf },
    { place: other, ifName: otherIf },
  ]
}

/** `PLACE` or `PLACE:IF`; without a name the first free ethN is taken. */
export function parseEnd(text: string): { place: string; ifName?: string } {
  const [place = '', ifName] = text.split(':')
  if (place !== 'host') parseTarget(place)
  if (ifName !== undefined && !/^[\w.@+-]{1,15}$/.test(ifName))
    throw new CliError('usage', `bad interface name "${ifName}"`, 'at most 15 letters, digits, "_", ".", "-"')
  return { place, ifName }
}

const pathOf = (place: string): string => (place === 'host' ? '/proc/thread-self/ns/net' : netnsPath(place))

export const openPlace = (host: Host, place: string): Container => host.openContainer(pathOf(place))

function freeName(container: Container): string {
  const names = new Set(container.route.listLinks().map(({ name }) => name))
  for (let n = 0; ; n++) if (!names.has(`eth${n}`)) return `eth${n}`
}

/** Of each end, where given. */
export interface CableSettings {
  readonly addresses?: readonly (readonly string[])[]
  readonly macs?: readonly (string | undefined)[]
  readonly mtu?: number
}

/** Plugs a cable in, both ends up, with an address for each end where given. */
export function addCable(
  host: Host,
  [one, other]: readonly [ReturnType<typeof parseEnd>, ReturnType<typeof parseEnd>],
  { addresses = [], macs = [], mtu }: CableSettings = {},
): Cable {
  const parsed = addresses.map((each) => each.map(parseAddress))
  using near = openPlace(host, one.place)
  using far = openPlace(host, other.place)
  const a = { place: one.place, ifName: one.ifName ?? freeName(near) }
  const b = { place: other.place, ifName: other.ifName ?? freeName(far) }
  if (a.place === b.place && a.ifName === b.ifName)
    throw new CliError('usage', `both ends of the cable are ${a.place}:${a.ifName}`)
  const alias = aliasOf(a, b)
  const ends = [
    [near, a.ifName],
    [far, b.ifName],
  ] as const
  try {
    for (const [{ route }, ifName] of ends) {
      const there = route.findLink(ifName)
      if (there && isUnfinished(there)) route.deleteLink(there.index)
    }
    const peer = { name: b.ifName, mtu, mac: macs[1], netnsFd: far.netns.fd }
    near.route.createVeth({ name: a.ifName, mtu, mac: macs[0], group: unfinished, peer })
  } catch (error) {
    const taken = isKernelError(error, 'EEXIST')
    const who = near.route.findLink(a.ifName) ? a : b
    throw taken ? new CliError('conflict', `"${who.place}" has an interface ${who.ifName} already`) : toCliError(error)
  }
  try {
    const [nearLink, farLink] = ends.map(([{ route }, ifName], i) => {
      const link = route.getLink(ifName)
      for (const address of parsed[i] ?? []) route.addAddress(link, address)
      return link
    })
    far.route.setLink(farLink!, { alias, up: true })
    near.route.setLink(nearLink!, { alias, up: true, group: 0 })
  } catch (error) {
    near.route.deleteLink(a.ifName)
    throw toCliError(error, `cannot connect ${a.place}:${a.ifName} and ${b.place}:${b.ifName}`)
  }
  return { a, b, up: true }
}

/** True for an end of a cable that we were killed over; its other end goes with it. */
const isUnfinished = ({ kind, alias, group }: Link): boolean =>
  kind === 'veth' && alias === undefined && group === unfinished

function parseAddress(text: string): Cidr {
  try {
    return cidr(text)
  } catch {
    throw new CliError('usage', `"${text}" is no address with prefix length`, 'as 172.16.0.1/30')
  }
}

/** Every cable, found by the aliases in the labs. */
export function listCables(host: Host): Cable[] {
  const pinned = new Set(listNetnsNames())
  const found = new Map<string, Cable>()
  for (const name of listLabs()
    .map((lab) => lab.name)
    .filter((each) => pinned.has(each))) {
    using container = openPlace(host, name)
    for (const { alias, up } of container.route.listLinks()) {
      const ends = readAlias(alias)
      if (!ends || !alias) continue
      const other = found.get(alias)
      found.set(alias, { a: ends[0], b: ends[1], up: up && (other?.up ?? true) })
    }
  }
  return [...found.values()]
}

/** Pulls a cable out for good; a link that is no cable of ours is refused. */
export function deleteCable(host: Host, end: End): void {
  using container = openPlace(host, end.place)
  const link = requireLink(container, end)
  if (!readAlias(link.alias))
    throw new CliError(
      'conflict',
      `${end.place}:${end.ifName} is no cable of ns-net`,
      'ns-net link ls shows cables; an attachment goes with ns-net detach',
    )
  container.route.deleteLink(link.index)
}

/** The cables that have an end in a lab, one for each end. */
export function findCables(host: Host, place: string): Cable[] {
  using container = host.findContainer(netnsPath(place))
  return (container?.route.listLinks() ?? []).flatMap((link) => readCable(link) ?? [])
}

/** The cable that a link is an end of; undefined when it is none of ours. */
export function readCable({ alias, up }: Link): Cable | undefined {
  const ends = readAlias(alias)
  return ends && { a: ends[0], b: ends[1], up }
}

/** All cables of a lab that goes; the end of a namespace would take them too, but only some time later. */
export function unplugCables(host: Host, place: string): void {
  using container = host.findContainer(netnsPath(place))
  for (const { alias, index } of container?.route.listLinks() ?? [])
    if (readAlias(alias)) container?.route.deleteLink(index)
}

/**
 * A failed and a mended link. Of an attachment the end on the host goes down, so that inside addresses and routes stay
 * and only the carrier is lost; of any other link the end itself.
 */
export function switchLink(host: Host, end: End, up: boolean): void {
  using container = openPlace(host, end.place)
  const link = requireLink(container, end)
  const outer = link.alias || end.place === 'host' ? undefined : outerEnd(host, end, link)
  if (outer) host.route.setLink(outer, { up })
  else container.route.setLink(link, { up })
}

/** The end on the host of an attachment's link: it carries the attachment's mark. */
function outerEnd(host: Host, { place, ifName }: End, { peerIndex }: Link): Link | undefined {
  const outer = peerIndex === undefined ? undefined : host.route.findLink(peerIndex)
  return outer?.alias?.startsWith('ns-net:') && outer.alias.endsWith(`:${place}:${ifName}`) ? outer : undefined
}

function requireLink(container: Container, { place, ifName }: End): Link {
  const link = container.route.findLink(ifName)
  if (link) return link
  throw new CliError('notFound', `"${place}" has no interface "${ifName}"`, `ns-net show ${place}`)
}
