import { parseInfo } from 'netlink/dist/rt/ifla.js'
import {
  type AddressMessage,
  type LinkMessage,
  type NeighborMessage,
  parseMessage,
  type RouteMessage,
  type RuleMessage,
} from 'netlink/dist/rt/structs.js'
import { formatIp } from '../../netlink-lib/ip.ts'
import type { Reply } from '../../netlink-lib/socket.ts'
import type { EventKind } from './event.ts'

/*
 * Messages of rtnetlink in words. They are decoded by the package `netlink`: its tables know many kinds of objects that
 * our own, which are there for what plugins send, do not.
 */

/** An object that the kernel tells of. */
export interface Notice {
  readonly kind: EventKind
  /** The same for every message about this object. */
  readonly key: string
  readonly isDeleted: boolean
  /** As a person calls it. */
  readonly what: string
  /** Its state: when this is as before, nothing has happened that anybody asks for. */
  readonly state: readonly string[]
  readonly details: Readonly<Record<string, unknown>>
  /** Of a link: to be remembered. */
  readonly link?: { readonly index: number; readonly name: string }
}

type NameOf = (index: number | undefined) => string

/** RTM_DEL… are the odd ones: RTM_NEWLINK 16, RTM_DELLINK 17, … */
const isDeletion = (type: number): boolean => (type & 3) === 1

/** Undefined for what is left out: routes of the table `local`, multicast neighbours, what is not understood. */
export function readNotice({ type, body }: Pick<Reply, 'type' | 'body'>, nameOf: NameOf): Notice | undefined {
  const message = parse(type, body)
  const isDeleted = isDeletion(type)
  switch (message?.kind) {
    case 'link':
      return readLink(message, isDeleted, nameOf)
    case 'address':
      return readAddress(message, isDeleted, nameOf)
    case 'route':
      return readRoute(message, isDeleted, nameOf)
    case 'neighbor':
      return readNeighbour(message, isDeleted, nameOf)
    case 'rule':
      return readRule(message, isDeleted)
    default:
      return undefined
  }
}

/** A message that a newer kernel writes otherwise must not end the watch. */
function parse(type: number, body: Buffer) {
  try {
    return parseMessage(type, body)
  } catch {
    return undefined
  }
}

const bridgeFamily = 7 // AF_BRIDGE

function readLink({ data, attrs }: LinkMessage, isDeleted: boolean, nameOf: NameOf): Notice | undefined {
  // Of this family is what a bridge tells of its port; that the port is gone does not mean that the link is.
  if (data.family === bridgeFamily) return undefined
  const index = data.index ?? 0
  const name = attrs.ifname ?? nameOf(index)
  const { flags = {} } = data
  const state = flags.up ? (flags.lowerUp ? 'up' : 'no-carrier') : 'down'
  const kind = attrs.linkinfo && parseInfo(attrs.linkinfo).kind
  const master = attrs.master ? nameOf(attrs.master) : undefined
  const mac = attrs.address?.length === 6 && !flags.loopback ? macOf(attrs.address) : undefined
  const { mtu, ifalias: alias } = attrs
  return {
    kind: 'link',
    key: `link ${index}`,
    isDeleted,
    what: name,
    state: [
      kind ?? (flags.loopback ? 'loopback' : 'device'),
      state === 'no-carrier' ? 'no carrier' : state,
      ...(master ? [`port of ${master}`] : []),
      `mtu ${mtu}`,
      ...(mac ? [mac] : []),
      ...(alias ? [`alias ${alias}`] : []),
      ...(flags.promisc ? ['promiscuous'] : []),
    ],
    details: { link: name, index, linkKind: kind, state, mtu, master, mac, alias },
    link: { index, name },
  }
}

const macOf = (bytes: Buffer): string => bytes.toString('hex').replace(/..(?=.)/g, '$&:')

function readAddress({ data, attrs }: AddressMessage, isDeleted: boolean, nameOf: NameOf): Notice | undefined {
  const bytes = attrs.local ?? attrs.address
  if (!bytes) return undefined
  const address = `${formatIp(bytes)}/${data.prefixlen}`
  const link = nameOf(data.index)
  const flags = { ...data.flags, ...attrs.flags }
  const state = flags.dadfailed
    ? 'duplicate'
    : flags.tentative
      ? 'tentative'
      : flags.deprecated
        ? 'deprecated'
        : undefined
  return {
    kind: 'address',
    key: `address ${data.index} ${address}`,
    isDeleted,
    what: `${address} on ${link}`,
    state: state ? [state] : [],
    details: { address, link, state },
  }
}

const localTable = 255
const mainTable = 254

function readRoute({ data, attrs }: RouteMessage, isDeleted: boolean, nameOf: NameOf): Notice | undefined {
  const table = attrs.table ?? data.table ?? mainTable
  if (table === localTable) return undefined
  const dst = attrs.dst ? `${formatIp(attrs.dst)}/${data.dstLen}` : 'default'
  const gateway = attrs.gateway ? formatIp(attrs.gateway) : undefined
  const link = attrs.oif ? nameOf(attrs.oif) : undefined
  const source = attrs.prefsrc && formatIp(attrs.prefsrc)
  const type = data.type === 'UNICAST' ? undefined : String(data.type).toLowerCase()
  const metric = attrs.priority || undefined
  const family = data.family === 10 && dst === 'default' ? 'IPv6' : undefined
  const words = [type, family, dst, gateway && `via ${gateway}`, link && `on ${link}`, metric && `metric ${metric}`]
  const what = [...words, table === mainTable ? undefined : `table ${table}`].filter(Boolean).join(' ')
  return {
    kind: 'route',
    key: `route ${what}`,
    isDeleted,
    what,
    state: [...(source ? [`from ${source}`] : []), ...(attrs.multipath ? ['several next hops'] : [])],
    details: { dst, family: data.family === 10 ? 6 : 4, gateway, link, source, metric, table, type: type ?? 'unicast' },
  }
}

const neighbourStates = ['permanent', 'reachable', 'stale', 'delay', 'probe', 'incomplete', 'failed'] as const

function readNeighbour({ data, attrs }: NeighborMessage, isDeleted: boolean, nameOf: NameOf): Notice | undefined {
  const { state: flags = {}, ifindex } = data
  const link = nameOf(ifindex)
  const mac = attrs.lladdr && macOf(attrs.lladdr)
  if (data.family === bridgeFamily) {
    if (!mac) return undefined
    const bridge = attrs.master ? nameOf(attrs.master) : undefined
    return {
      kind: 'fdb',
      key: `fdb ${attrs.master} ${mac} ${ifindex}`,
      isDeleted,
      what: `${mac} at ${link}`,
      state: bridge ? [`bridge ${bridge}`] : [],
      details: { mac, link, bridge, vlan: attrs.vlan },
    }
  }
  // Permanent entries that the kernel makes for multicast and loopback addresses.
  if (!attrs.dst || flags.noarp) return undefined
  const address = formatIp(attrs.dst)
  const state = neighbourStates.find((name) => flags[name])
  return {
    kind: 'neighbour',
    key: `neighbour ${ifindex} ${address}`,
    isDeleted,
    what: `${address} on ${link}`,
    state: [state, mac].filter((word) => word !== undefined),
    details: { address, link, mac, state },
  }
}

function readRule({ data, attrs }: RuleMessage, isDeleted: boolean): Notice {
  const table = attrs.table ?? data.table
  const prefix = (bytes: Buffer | undefined, length: number | undefined) => bytes && `${formatIp(bytes)}/${length}`
  const [from, to] = [prefix(attrs.src, data.srcLen), prefix(attrs.dst, data.dstLen)]
  const { priority = 0, iifname, oifname, fwmark } = attrs
  const action = data.action === 'toTbl' ? `table ${table}` : String(data.action).toLowerCase()
  const words = [
    data.family === 10 && 'IPv6',
    `priority ${priority}`,
    from && `from ${from}`,
    to && `to ${to}`,
    iifname && `in by ${iifname}`,
    oifname && `out by ${oifname}`,
    fwmark !== undefined && `mark ${fwmark}`,
    action,
  ]
  const what = words.filter(Boolean).join(' ')
  const family = data.family === 10 ? 6 : 4
  const details = { family, priority, from, to, iif: iifname, oif: oifname, mark: fwmark, action }
  return { kind: 'rule', key: `rule ${what}`, isDeleted, what, state: [], details }
}
