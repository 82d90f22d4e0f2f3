import { families } from '../../netlink-lib/nftables/messages.ts'
import type { RouteKind } from '../../netlink-lib/route/decision.ts'
import type { Link } from '../../netlink-lib/route/link.ts'
import { unknownBytes, word } from './nft-registers.ts'
import {
  linkHeader,
  type Moment,
  networkHeader,
  type PartlyKnown,
  protocolNumber,
  transportHeader,
  wholly,
} from './packet.ts'
import type { Place } from './places.ts'

/** What an expression of nf_tables loads for a packet, as far as that is known before it is sent. */

/** enum nft_meta_keys. */
const metaKey = {
  protocol: 1,
  mark: 3,
  iif: 4,
  oif: 5,
  iifname: 6,
  oifname: 7,
  iiftype: 8,
  oiftype: 9,
  nfproto: 15,
  l4proto: 16,
  bridgeIn: 17,
  bridgeOut: 18,
  iifgroup: 21,
  oifgroup: 22,
} as const

function linkName(link: Pick<Link, 'name'> | undefined): PartlyKnown {
  const bytes = Buffer.alloc(16) // IFNAMSIZ
  bytes.write(link?.name ?? '')
  return wholly(bytes)
}

function u16(value: number): PartlyKnown {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16LE(value)
  return wholly(bytes)
}

/** `meta …`. A mark is 0 until a rule sets one. */
export function metaValue(key: number | undefined, moment: Moment, place: Place): PartlyKnown {
  const { packet, inLink, outLink } = moment
  const master = (link: Link | undefined) => linkName(link?.master ? place.link(link.master) : undefined)
  switch (key) {
    case metaKey.protocol:
      return wholly(Buffer.from(packet.family === 4 ? [0x08, 0x00] : [0x86, 0xdd]))
    case metaKey.mark:
      return word(0)
    case metaKey.iif:
      return word(inLink?.index ?? 0)
    case metaKey.oif:
      return word(outLink?.index ?? 0)
    case metaKey.iifname:
      return linkName(inLink)
    case metaKey.oifname:
      return linkName(outLink)
    case metaKey.iiftype:
      return inLink ? u16(inLink.deviceType) : unknownBytes(2)
    case metaKey.oiftype:
      return outLink ? u16(outLink.deviceType) : unknownBytes(2)
    case metaKey.nfproto:
      return wholly(Buffer.from([packet.family === 4 ? families.ip : families.ip6]))
    case metaKey.l4proto:
      return wholly(Buffer.from([protocolNumber(packet)]))
    case metaKey.bridgeIn:
      return master(inLink)
    case metaKey.bridgeOut:
      return master(outLink)
    case metaKey.iifgroup:
      return word(inLink?.group ?? 0)
    case metaKey.oifgroup:
      return word(outLink?.group ?? 0)
    default:
      return unknownBytes(16)
  }
}

/** NF_CT_STATE_BIT of include/net/netfilter/nf_conntrack_common.h. */
export const connectionState = { invalid: 1, established: 2, related: 4, new: 8, untracked: 64 } as const
const connectionStatus = { source: 0x10, destination: 0x20 } as const // IPS_SRC_NAT, IPS_DST_NAT

/** `ct …`. */
export function connectionValue(key: number | undefined, { packet }: Moment): PartlyKnown {
  const { translated } = packet
  switch (key) {
    case 0: // NFT_CT_STATE
      return word(packet.reply ? connectionState.established : connectionState.new)
    case 1: // NFT_CT_DIRECTION
      return wholly(Buffer.from([packet.reply ? 1 : 0]))
    case 2: // NFT_CT_STATUS
      return word(
        (translated?.source ? connectionStatus.source : 0) |
          (translated?.destination ? connectionStatus.destination : 0),
      )
    default:
      return unknownBytes(16)
  }
}

/** Part of the packet: from its Ethernet (0), network (1) or transport header (2) on. */
export function payloadValue(base: number | undefined, offset: number, length: number, moment: Moment): PartlyKnown {
  const headers = [linkHeader(moment), networkHeader(moment.packet), transportHeader(moment.packet)]
  const header = headers[base ?? 1]
  if (!header || offset + length > header.bytes.length) return unknownBytes(length)
  return {
    bytes: header.bytes.subarray(offset, offset + length),
    known: header.known.subarray(offset, offset + length),
  }
}

/** RTN_* (include/uapi/linux/rtnetlink.h). */
const addressTypes: Readonly<Record<RouteKind, number>> = {
  unicast: 1,
  local: 2,
  broadcast: 3,
  multicast: 5,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
  other: 0,
}
const fibFlags = { source: 1, destination: 2, inLink: 8, outLink: 16, present: 32 } as const
const fibResults = { link: 1, linkName: 2, addressType: 3 } as const

/** `fib saddr . iif oif`, `fib daddr type`: what the routes say of an address. */
export function routeValue(flags: number, result: number | undefined, moment: Moment, place: Place): PartlyKnown {
  const { packet, inLink, outLink } = moment
  const destination = flags & fibFlags.source ? packet.source : packet.destination
  if (result === fibResults.addressType) return word(addressTypes[place.kindOf(destination)])
  const decision = place.decide({ destination })
  const via = 'refused' in decision ? undefined : place.link(decision.link)
  const required = flags & fibFlags.inLink ? inLink : flags & fibFlags.outLink ? outLink : undefined
  const found = required && via?.index !== required.index ? undefined : via
  if (flags & fibFlags.present) return wholly(Buffer.from([found ? 1 : 0]))
  return result === fibResults.linkName ? linkName(found) : word(found?.index ?? 0)
}
