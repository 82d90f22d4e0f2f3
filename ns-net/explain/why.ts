import type { Change } from '../../netlink-lib/journal.ts'
import { elementsMessage, families, messageTypes as nftTypes } from '../../netlink-lib/nftables/messages.ts'
import {
  addressGeneration,
  addressMessage,
  type LinkMessage,
  linkFlags,
  linkMessage,
  messageTypes,
  type RouteMessage,
  routeMessage,
  routeScopes,
} from '../../netlink-lib/route/wire.ts'
import { flags, type Request } from '../../netlink-lib/socket.ts'
import type { SysctlName } from '../../netlink-lib/sysctl.ts'
import { familySettings } from './ip-link.ts'
import { readRestoration } from './iptables.ts'
import { host, isSame, type Place } from './place.ts'
import { tableOf } from './undo-nft.ts'

/** One line of why for each change: what a lab has of it, not what the command says already. */

/** The link that a request is about, as it is before. */
export type Subject = LinkMessage | undefined

export function whyOf(change: Change, place: Place, subject: Subject, peer?: Place): string {
  switch (change.kind) {
    case 'netns':
      return netnsReasons[change.verb]
    case 'sysctl':
      return sysctlReason(change.name, change.value)
    case 'transaction':
      return rulesReason(change.commands)
    case 'program':
      return programReason(change.command, change.input)
    case 'request':
      return requestReason(change.request, place, subject, peer)
  }
}

const netnsReasons = {
  create: 'a network stack of its own',
  name: 'a name for that namespace',
  delete: 'ends with the last process inside',
}

const sysctlReasons: Readonly<Record<string, string>> = {
  ip_forward: 'the host passes packets on',
  forwarding: 'the host passes IPv6 packets on',
  accept_ra: 'no lab may configure the host',
  accept_dad: 'no wait for other owners of it',
  enhanced_dad: 'hears its own question as such',
  route_localnet: 'ports published at 127.0.0.1 too',
  keep_addr_on_down: 'addresses outlive a link down',
}

function sysctlReason(name: SysctlName, value: string): string {
  const key = name.at(-1) ?? ''
  if (key === 'accept_dad' && value === '1') return 'somebody else may have it'
  if (key === 'disable_ipv6') return value === '1' ? 'a port has no use for IPv6' : 'IPv6 is wanted here'
  return sysctlReasons[key] ?? 'asked for by the network'
}

function requestReason(request: Request, place: Place, subject: Subject, peer: Place | undefined): string {
  const { type, body, flags: sent = 0 } = request
  const isOnHost = isSame(place, host)
  switch (type) {
    case messageTypes.newLink:
    case messageTypes.setLink: {
      const message = linkMessage.decode(body)
      return sent & flags.create ? newLinkReason(message, place, peer) : settingsReason(message, subject)
    }
    case messageTypes.deleteLink:
      return subject?.info?.kind === 'bridge' ? 'nobody is plugged in any more' : 'both ends go, with what they had'
    case messageTypes.newLinkProperty:
      return 'a name to call it by on the host'
    case messageTypes.newAddress: {
      const { prefix } = addressMessage.decode(body)
      if (!isOnHost) return `the address of ${place.name}`
      return prefix === 32 || prefix === 128 ? 'the gateway, for this cable' : 'the gateway of the labs'
    }
    case messageTypes.deleteAddress:
      return 'nobody answers here any more'
    case messageTypes.newRoute:
      return routeReason(routeMessage.decode(body), isOnHost)
    case messageTypes.deleteRoute:
      return subject?.info?.kind === 'veth' && !isOnHost ? 'no neighbour but the gateway' : 'this way is closed'
    case messageTypes.newNeighbour:
      return 'no need to ask for this MAC'
    case messageTypes.deleteNeighbour:
      return 'its MAC is asked for again'
    default:
      return trafficReason(type, body)
  }
}

function newLinkReason({ info }: LinkMessage, place: Place, peer: Place | undefined): string {
  if (info?.kind === 'bridge') return 'a switch to plug labs into'
  if (info?.kind === 'ifb') return 'a queue for what comes in'
  const far = peer && !isSame(peer, host) ? peer : place
  return isSame(far, host) ? 'a cable' : `a cable, one end in ${far.name}`
}

function macReason(mac: string, subject: Subject): string {
  if (subject?.info?.kind === 'bridge') return 'else each new port changes it'
  return subject?.mac === mac ? 'neighbours hear of it once more' : 'its MAC'
}

/** Alone in full, with others in a word. */
function settingsReason(message: LinkMessage, subject: Subject): string {
  const { arpNotify, addressGeneration: generation } = familySettings(message)
  const { mac, mtu, alias, group, master, info, change = 0, flags: set = 0 } = message
  const isUp = (set & linkFlags.up) !== 0
  const isLo = subject?.name === 'lo'
  const reasons: (readonly [full: string, short: string] | false)[] = [
    (change & linkFlags.up) !== 0 &&
      (isUp
        ? [isLo ? '127.0.0.1 answers' : 'nothing passes before it is up', 'up']
        : [isLo ? '127.0.0.1 answers no more' : 'as if the plug were pulled', 'down']),
    alias !== undefined && ['our mark, to find it again', 'our mark'],
    group === 0 && ['complete now', 'complete now'],
    !!group && ['to be deleted together', 'to be deleted together'],
    mac !== undefined && [macReason(mac, subject), 'its MAC'],
    mtu !== undefined && ['the longest packet that passes', 'longest packet'],
    master !== undefined && [master ? 'plugged into the bridge' : 'out of the bridge', master ? 'plugged in' : 'out'],
    info?.portData?.hairpin === 1 && ['a lab may reach its own ports', 'may reach itself'],
    info?.portData?.isolated === 1 && ['ports that do not see each other', 'isolated'],
    arpNotify === 1 && ['neighbours learn of a new owner', 'told to neighbours'],
    generation === addressGeneration.none && ['a lab of IPv4 says nothing of IPv6', 'no IPv6'],
  ]
  const found = reasons.filter((each) => each !== false)
  return found.length === 1
    ? found[0]![0]
    : found.map(([, short]) => short).join(', ') || (info ? 'a port like any other' : 'asked for by the network')
}

function routeReason({ dst, dstPrefix = 0, gateway, scope }: RouteMessage, isOnHost: boolean): string {
  if (dst === undefined) return 'all the rest by the gateway'
  const isOne = dstPrefix === (dst.includes(':') ? 128 : 32)
  if (isOnHost) return isOne ? 'what is for the lab goes in' : 'the way to that network'
  if (isOne && gateway === undefined && scope === routeScopes.link) return 'the gateway is at the other end'
  return gateway === undefined ? 'the way to that network' : 'even neighbours by the gateway'
}

function trafficReason(type: number, body: Buffer): string {
  const verb = type & 3
  if (verb === 1) return 'passes as before'
  if (type >= 44) return 'what comes in waits over there' // RTM_NEWTFILTER
  const text = body.toString('latin1')
  if (text.includes('ingress')) return 'for filters of what comes in'
  return text.includes('netem') ? 'what leaves is late' : 'no more than this leaves'
}

const translation = `${families.inet} ns-net`
const otherTables: Readonly<Record<string, readonly [made: string, gone: string]>> = {
  [`${families.netdev} ns-net`]: ['no source but its own MAC', 'any source MAC again'],
  [`${families.netdev} ns-net-shape`]: ['some packets get lost', 'no packet gets lost'],
  [`${families.inet} ns-net-firewall`]: ['who may send to whom', 'nobody is kept apart'],
}

function rulesReason(commands: readonly Request[]): string {
  const table = tableOf(commands[0]!)
  const isMade = commands.some(({ type }) => type === nftTypes.newElements || type === nftTypes.newRule)
  if (table !== translation) return otherTables[table]?.[isMade ? 0 : 1] ?? 'rules of packets'
  const elements = commands.filter(({ type }) => type === nftTypes.newElements || type === nftTypes.deleteElements)
  const sets = elements.map(({ body }) => elementsMessage.decode(body).set ?? '')
  if (sets.length === 0) return isMade ? 'rules as they should be' : 'what nobody uses goes'
  const isTranslation = sets.some((set) => set.startsWith('sources'))
  if (isTranslation) return isMade ? "goes out by the host's address" : 'its address is hidden no more'
  return isMade ? "the host's ports lead to the lab" : 'its ports lead nowhere now'
}

function programReason([program = '', ...rest]: readonly string[], input: string): string {
  if (program === 'firewall-cmd')
    return rest.some((word) => word.startsWith('--remove')) ? 'firewalld needs it no more' : 'firewalld lets it through'
  if (!/tables-restore$/.test(program)) return 'a plugin that is not ours'
  const { table, lines } = readRestoration(input)
  const isMade = lines.some((line) => /^-[AI] /.test(line))
  if (table === 'filter') return isMade ? 'iptables lets it through' : 'iptables needs it no more'
  return isMade ? 'addresses, ports: translated' : 'not translated any more'
}

const fileReasons: readonly (readonly [pattern: RegExp, made: string, gone: string])[] = [
  [/resolv\.conf$/, 'name servers for what is inside', 'no name servers inside'],
  [/^\/etc\/netns\/.*\/hosts$/, 'all labs by their names', 'no names any more'],
  [/^\/run\/ns-net$/, 'where ns-net keeps its state', 'no state any more'],
  [/^\/run\/ns-net\/hosts$/, 'the names of the labs', 'the names of the labs'],
  [/./, 'ip netns exec puts it over /etc', 'nothing is in there'],
]

export function whyOfFile(path: string, isGone: boolean): string {
  const [, made, gone] = fileReasons.find(([pattern]) => pattern.test(path))!
  return isGone ? gone : made
}
