import { flags, type Request } from '../socket.ts'
import {
  addressGeneration,
  type BridgePort,
  bridgeData,
  type LinkMessage,
  linkFamilies,
  linkFlags,
  linkMessage,
  messageTypes,
  vethData,
} from './wire.ts'

/** A link to do something with; the name is for error texts. */
export interface LinkRef {
  readonly index: number
  readonly name: string
}

/** A network link as the kernel describes it. */
export interface Link extends LinkRef {
  /** `veth`, `bridge`, …; undefined for physical links and lo. */
  readonly kind?: string
  readonly mac?: string
  readonly mtu: number
  readonly up: boolean
  /** Somebody is at the other end. Unlike {@link operState}, which follows within a second, it is never late. */
  readonly carrier: boolean
  readonly loopback: boolean
  readonly promiscuous: boolean
  readonly allMulticast: boolean
  /** Packets that may wait in the link's own queue. */
  readonly txQueueLength: number
  /** Index of the bridge (or bond, …) it is a port of. */
  readonly master?: number
  /** ARPHRD_*: what its frames look like. */
  readonly deviceType: number
  /** Index of a veth's other end, in that end's namespace. */
  readonly peerIndex?: number
  /** Which namespace that is, as the id by which this one knows it; undefined when it is this one. */
  readonly peerNetnsId?: number
  readonly alias?: string
  /** `ip link show group N`; 0 is the default one. */
  readonly group: number
  /** RFC 2863 operational state: 6 is up. */
  readonly operState: number
  readonly altNames: readonly string[]
  /** Settings as a bridge's port. */
  readonly port?: BridgePort
  readonly vlanFiltering?: boolean
}

export function toLink(message: LinkMessage): Link {
  const { info } = message
  return {
    index: message.index!,
    name: message.name ?? '',
    kind: info?.kind,
    mac: message.mac,
    mtu: message.mtu ?? 0,
    up: (message.flags! & linkFlags.up) !== 0,
    carrier: (message.flags! & linkFlags.lowerUp) !== 0,
    loopback: (message.flags! & linkFlags.loopback) !== 0,
    promiscuous: (message.flags! & linkFlags.promiscuous) !== 0,
    allMulticast: (message.flags! & linkFlags.allMulticast) !== 0,
    txQueueLength: message.txQueueLength ?? 0,
    master: message.master || undefined,
    deviceType: message.deviceType ?? 0,
    peerIndex: message.peerIndex || undefined,
    peerNetnsId: message.peerNetnsId,
    alias: message.alias,
    group: message.group ?? 0,
    operState: message.operState ?? 0,
    altNames: message.altNames ?? [],
    port: info?.portKind === 'bridge' ? info.portData : undefined,
    vlanFiltering: info?.kind === 'bridge' && info.data ? bridgeData.decode(info.data).vlanFiltering === 1 : undefined,
  }
}

/** What may be said of a link when it is made or changed. */
export interface LinkSettings {
  readonly mtu?: number
  readonly mac?: string
  /** Index of the bridge to be a port of; 0 takes it out. */
  readonly master?: number
  readonly up?: boolean
  readonly promiscuous?: boolean
  readonly allMulticast?: boolean
  readonly txQueueLength?: number
  readonly alias?: string
  readonly group?: number
  readonly port?: { readonly hairpin?: boolean; readonly isolated?: boolean }
  /** The sysctl arp_notify: neighbours are told its IPv4 addresses when it comes up and when its MAC is set. */
  readonly arpNotify?: boolean
  /** False: it gives itself no IPv6 address (`addrgenmode none`). EAFNOSUPPORT where it has no IPv6 at all. */
  readonly linkLocal?: boolean
}

const asFlag = (on: boolean | undefined) => (on === undefined ? undefined : Number(on))

function familiesOf({ arpNotify, linkLocal }: LinkSettings): Buffer | undefined {
  if (arpNotify === undefined && linkLocal === undefined) return undefined
  const mode = linkLocal ? addressGeneration.eui64 : addressGeneration.none
  return linkFamilies.encode({
    ipv4: arpNotify === undefined ? undefined : { settings: { arpNotify: Number(arpNotify) } },
    ipv6: linkLocal === undefined ? undefined : { addressGeneration: mode },
  })
}

/** The settings as a message body; header flags change only where a setting says so. */
export function settingsMessage(settings: LinkSettings): LinkMessage {
  let flags = 0
  let change = 0
  for (const [name, on] of [
    ['up', settings.up],
    ['promiscuous', settings.promiscuous],
    ['allMulticast', settings.allMulticast],
  ] as const) {
    if (on === undefined) continue
    change |= linkFlags[name]
    if (on) flags |= linkFlags[name]
  }
  return {
    flags,
    change,
    mac: settings.mac,
    mtu: settings.mtu || undefined,
    txQueueLength: settings.txQueueLength,
    master: settings.master,
    alias: settings.alias,
    group: settings.group,
    info: settings.port && {
      portKind: 'bridge',
      portData: { hairpin: asFlag(settings.port.hairpin), isolated: asFlag(settings.port.isolated) },
    },
    families: familiesOf(settings),
  }
}

export interface VethSettings extends LinkSettings {
  readonly name: string
  /** The other end, born inside the namespace `netnsFd` when that is given. */
  readonly peer: { readonly name: string; readonly netnsFd?: number; readonly mtu?: number; readonly mac?: string }
}

export function vethMessage({ name, peer, ...settings }: VethSettings): Buffer {
  const data = vethData.encode({
    peer: { name: peer.name, mtu: peer.mtu || undefined, mac: peer.mac, netnsFd: peer.netnsFd },
  })
  return linkMessage.encode({ ...settingsMessage(settings), name, info: { kind: 'veth', data } })
}

export interface BridgeSettings extends LinkSettings {
  readonly name: string
  readonly vlanFiltering?: boolean
}

export function bridgeMessage({ name, vlanFiltering, ...settings }: BridgeSettings): Buffer {
  const data = vlanFiltering ? bridgeData.encode({ vlanFiltering: 1 }) : undefined
  return linkMessage.encode({ ...settingsMessage(settings), name, info: { kind: 'bridge', data } })
}

export interface IfbSettings extends LinkSettings {
  readonly name: string
}

export const ifbMessage = ({ name, ...settings }: IfbSettings): Buffer =>
  linkMessage.encode({ ...settingsMessage(settings), name, info: { kind: 'ifb' } })

/** `ip link property add dev LINK altname NAME`. */
export const addAltName = ({ index, name }: LinkRef, altName: string): Request => ({
  type: messageTypes.newLinkProperty,
  flags: flags.create | flags.exclusive | flags.append,
  body: linkMessage.encode({ index, altNames: [altName] }),
  operation: `add the name ${altName} to`,
  subject: name,
})
