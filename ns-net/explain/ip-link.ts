import {
  addressGeneration,
  type BridgePort,
  bridgeData,
  type LinkMessage,
  linkFamilies,
  linkFlags,
  vethData,
} from '../../netlink-lib/route/wire.ts'
import { host, isSame, type Place, toolOf } from './place.ts'
import { sysctlCommand } from './sysctl.ts'
import { option, phrase, word } from './words.ts'

/* `ip link`. */

/** How a place calls what messages have numbers for. */
export interface Names {
  link(index: number): string
  /** The namespace behind a descriptor. */
  behind(fd: number): Place
}

/** One, or all of a group. */
export function deleteLink(ip: string, { index, name, group }: LinkMessage, names: Names): string {
  const which = index ? names.link(index) : name
  return `${ip} link del ${which === undefined ? `group ${group}` : word(which)}`
}

const onOff = (keyword: string, on: number | undefined): string | undefined =>
  on === undefined ? undefined : `${keyword} ${on ? 'on' : 'off'}`

const isSet = ({ flags: set = 0, change = 0 }: LinkMessage, flag: number): boolean | undefined =>
  change & flag ? (set & flag) !== 0 : undefined

/** What `ip link add` and `ip link set` have in common, in the order of ip-link(8). */
function settings(message: LinkMessage, names: Names): string {
  const { mtu, mac, txQueueLength, master, alias, group } = message
  const up = isSet(message, linkFlags.up)
  const promiscuous = isSet(message, linkFlags.promiscuous)
  const allMulticast = isSet(message, linkFlags.allMulticast)
  return phrase(
    up !== undefined && (up ? 'up' : 'down'),
    option('mtu', mtu),
    option('txqueuelen', txQueueLength),
    option('address', mac),
    master !== undefined && (master === 0 ? 'nomaster' : `master ${word(names.link(master))}`),
    promiscuous !== undefined && onOff('promisc', Number(promiscuous)),
    allMulticast !== undefined && onOff('allmulticast', Number(allMulticast)),
    option('alias', alias),
    option('group', group === 0 ? 'default' : group),
  )
}

/** A new link is down in any case. */
const asNew = ({ flags = 0, change = 0, ...message }: LinkMessage): LinkMessage => ({
  ...message,
  flags,
  change: change & (flags | ~linkFlags.up),
})

export function addLink(place: Place, message: LinkMessage, names: Names): string {
  const { kind, data } = message.info ?? {}
  const head = phrase(
    `${toolOf(place, 'ip')} link add`,
    word(message.name ?? ''),
    settings(asNew(message), names),
    `type ${kind}`,
  )
  if (kind === 'veth' && data) return addVeth(place, message, vethData.decode(data).peer ?? {}, names)
  if (kind === 'bridge' && data) return phrase(head, option('vlan_filtering', bridgeData.decode(data).vlanFiltering))
  return head
}

/** The host has no name that `netns` would take: a pair with one end there is made from there. */
function addVeth(place: Place, near: LinkMessage, far: LinkMessage, names: Names): string {
  const other = far.netnsFd === undefined ? place : names.behind(far.netnsFd)
  if (isSame(other, host) && !isSame(place, host)) return vethText(host, far, near, place, names)
  return vethText(place, near, far, other, names)
}

function vethText(place: Place, near: LinkMessage, far: LinkMessage, other: Place, names: Names): string {
  return phrase(
    `${toolOf(place, 'ip')} link add`,
    word(near.name ?? ''),
    settings(asNew(near), names),
    'type veth',
    option('peer name', far.name),
    settings(asNew(far), names),
    !isSame(other, place) && option('netns', other.name.replace(/^pid:/, '')),
  )
}

const portSettings = ({ hairpin, isolated }: BridgePort): string =>
  phrase('type bridge_slave', onOff('hairpin', hairpin), onOff('isolated', isolated))

/** What is set by address family: of IPv4's settings ip(8) knows none, but sysctl(8) does. */
export function familySettings({ families }: LinkMessage): { arpNotify?: number; addressGeneration?: number } {
  const { ipv4, ipv6 } = families ? linkFamilies.decode(families) : {}
  return { ...ipv4?.settings, ...ipv6 }
}

const nameOfGeneration = (value: number | undefined): string | undefined =>
  Object.entries(addressGeneration).find(([, mode]) => mode === value)?.[0]

export function setLink(place: Place, message: LinkMessage, names: Names): string {
  const { index, name, netnsFd, info } = message
  const rename = index && name !== undefined ? option('name', name) : undefined
  const target = index ? names.link(index) : (name ?? '')
  const other = netnsFd === undefined ? undefined : names.behind(netnsFd).name
  const port = info?.portKind === 'bridge' && info.portData ? portSettings(info.portData) : undefined
  const { arpNotify, addressGeneration: generation } = familySettings(message)
  const settingsOfLink = phrase(
    settings(message, names),
    rename,
    option('netns', other),
    port,
    option('addrgenmode', nameOfGeneration(generation)),
  )
  const commands = [
    arpNotify !== undefined && sysctlCommand(place, ['ipv4', 'conf', target, 'arp_notify'], String(arpNotify)),
    (arpNotify === undefined || settingsOfLink !== '') &&
      phrase(`${toolOf(place, 'ip')} link set`, word(target), settingsOfLink),
  ]
  return commands.filter((command) => command !== false).join(' && ')
}

/** Names besides its own; `property` is what ip(8) calls them. */
export const altNames = (property: string, { index = 0, altNames = [] }: LinkMessage, names: Names): string =>
  phrase(`${property} dev`, word(names.link(index)), ...altNames.map((name) => `altname ${word(name)}`))
