import {
  attributes,
  type Codec,
  cString,
  type Decoded,
  i32,
  later,
  list,
  mac as macAddress,
  message,
  raw,
  struct,
  u8,
  u16,
  u32,
} from '../bytes.ts'
import { familyOf, formatIp, ipBytes } from '../ip.ts'

/**
 * rtnetlink messages (include/uapi/linux/rtnetlink.h, if_link.h, if_addr.h, neighbour.h, if_bridge.h), one table each.
 */

export const messageTypes = {
  newLink: 16, // RTM_NEWLINK
  deleteLink: 17, // RTM_DELLINK
  getLink: 18, // RTM_GETLINK
  setLink: 19, // RTM_SETLINK
  newAddress: 20, // RTM_NEWADDR
  deleteAddress: 21, // RTM_DELADDR
  getAddress: 22, // RTM_GETADDR
  newRoute: 24, // RTM_NEWROUTE
  deleteRoute: 25, // RTM_DELROUTE
  getRoute: 26, // RTM_GETROUTE
  newNeighbour: 28, // RTM_NEWNEIGH
  deleteNeighbour: 29, // RTM_DELNEIGH
  getNeighbour: 30, // RTM_GETNEIGH
  newLinkProperty: 108, // RTM_NEWLINKPROP
  deleteLinkProperty: 109, // RTM_DELLINKPROP
} as const

export const addressFamilies = { unspecified: 0, bridge: 7, ipv4: 2, ipv6: 10 } as const

/** IFF_* */
export const linkFlags = {
  up: 0x1,
  loopback: 0x8,
  running: 0x40,
  promiscuous: 0x100,
  allMulticast: 0x200,
  lowerUp: 0x10000,
} as const

export const familyNumber = (address: string): number =>
  familyOf(address) === 4 ? addressFamilies.ipv4 : addressFamilies.ipv6

/** An IPv4 or IPv6 address as canonical text; its length tells the family. */
export const ip: Codec<string> = { encode: ipBytes, decode: (bytes) => formatIp(bytes) }

/** A link has some sixty attributes, a bridge and a port as many more; nobody writes back what was read of them. */
const others = { unknown: 'skipped' } as const

/** struct ifinfomsg */
const linkHeader = struct({ family: u8, pad: u8, deviceType: u16, index: i32, flags: u32, change: u32 })

/** IFLA_BR_*, the data of a link of kind bridge. */
const bridgeData = attributes(
  {
    vlanFiltering: [7, u8], // IFLA_BR_VLAN_FILTERING
    multicastSnooping: [23, u8], // IFLA_BR_MCAST_SNOOPING
    vlanDefaultPvid: [39, u16], // IFLA_BR_VLAN_DEFAULT_PVID
  },
  others,
)

/** IFLA_BRPORT_*, the data of a bridge's port. */
const bridgePort = attributes(
  {
    state: [1, u8], // IFLA_BRPORT_STATE
    hairpin: [4, u8], // IFLA_BRPORT_MODE
    isolated: [33, u8], // IFLA_BRPORT_ISOLATED
  },
  others,
)
export type BridgePort = Decoded<typeof bridgePort>

const linkInfo = attributes(
  {
    kind: [1, cString], // IFLA_INFO_KIND
    data: [2, raw], // IFLA_INFO_DATA: its table depends on kind
    portKind: [4, cString], // IFLA_INFO_SLAVE_KIND
    portData: [5, bridgePort], // IFLA_INFO_SLAVE_DATA; read only for ports of a bridge
  },
  others,
)

/** Bytes as they lie in the message, not copied: every link has them, and hardly anybody looks into them. */
const unread: Codec<Buffer> = { encode: (value) => value, decode: (bytes) => bytes }

export const linkMessage = message(
  linkHeader,
  attributes(
    {
      mac: [1, macAddress], // IFLA_ADDRESS
      name: [3, cString], // IFLA_IFNAME
      mtu: [4, u32], // IFLA_MTU
      peerIndex: [5, u32], // IFLA_LINK
      master: [10, u32], // IFLA_MASTER
      txQueueLength: [13, u32], // IFLA_TXQLEN
      operState: [16, u8], // IFLA_OPERSTATE, RFC 2863
      info: [18, linkInfo], // IFLA_LINKINFO
      alias: [20, cString], // IFLA_IFALIAS
      families: [26, unread], // IFLA_AF_SPEC: linkFamilies in what is sent; what is received is laid out otherwise
      group: [27, u32], // IFLA_GROUP
      netnsFd: [28, u32], // IFLA_NET_NS_FD
      extensionMask: [29, u32], // IFLA_EXT_MASK
      promiscuity: [30, u32], // IFLA_PROMISCUITY
      peerNetnsId: [37, i32], // IFLA_LINK_NETNSID
      altNames: [52, list(53, cString)], // IFLA_PROP_LIST of IFLA_ALT_IFNAME
    },
    others,
  ),
)
export type LinkMessage = Decoded<typeof linkMessage>

/** What is set of a link by address family, in IFLA_AF_SPEC (inet_set_link_af, inet6_set_link_af). */
export const linkFamilies = later(() =>
  attributes({
    ipv4: [2, attributes({ settings: [1, attributes({ arpNotify: [22, u32] })] })], // AF_INET, IFLA_INET_CONF, IPV4_DEVCONF_ARP_NOTIFY
    ipv6: [10, attributes({ addressGeneration: [8, u8] })], // AF_INET6, IFLA_INET6_ADDR_GEN_MODE
  }),
)
/** IN6_ADDR_GEN_MODE_* */
export const addressGeneration = { eui64: 0, none: 1 } as const

/** struct bridge_vlan_info */
const vlanInfo = struct({ flags: u16, id: u16 })

export const vlanFlags = { pvid: 0x2, untagged: 0x4, rangeBegin: 0x8, rangeEnd: 0x10 } as const // BRIDGE_VLAN_INFO_*

/** The VLANs of a bridge's port: a link message of family AF_BRIDGE, whose IFLA_AF_SPEC means something else. */
export const portVlanMessage = later(() =>
  message(
    linkHeader,
    attributes({
      vlans: [26, list(2, vlanInfo)], // IFLA_AF_SPEC of IFLA_BRIDGE_VLAN_INFO
      extensionMask: [29, u32], // IFLA_EXT_MASK: 2 (RTEXT_FILTER_BRVLAN) asks for them
    }),
  ),
)

/** VETH_INFO_PEER: a whole link message inside the attribute. */
export const vethData = attributes({ peer: [1, linkMessage] })
export { bridgeData }

/** struct ifaddrmsg */
const addressHeader = struct({ family: u8, prefix: u8, shortFlags: u8, scope: u8, index: u32 })

export const addressFlags = { noDad: 0x02, dadFailed: 0x08, tentative: 0x40, permanent: 0x80 } as const // IFA_F_*

export const addressMessage = message(
  addressHeader,
  attributes({
    address: [1, ip], // IFA_ADDRESS: of the peer on point-to-point links
    local: [2, ip], // IFA_LOCAL
    label: [3, cString], // IFA_LABEL
    broadcast: [4, ip], // IFA_BROADCAST
    flags: [8, u32], // IFA_FLAGS: replaces shortFlags
    protocol: [11, u8], // IFA_PROTO
  }),
)
export type AddressMessage = Decoded<typeof addressMessage>

/** struct rtmsg */
const routeHeader = struct({
  family: u8,
  dstPrefix: u8,
  srcPrefix: u8,
  tos: u8,
  shortTable: u8,
  protocol: u8,
  scope: u8,
  type: u8,
  flags: u32,
})

/** RTAX_* inside RTA_METRICS. */
const routeMetrics = attributes({
  mtu: [2, u32], // RTAX_MTU
  advmss: [8, u32], // RTAX_ADVMSS
})

export const routeMessage = message(
  routeHeader,
  attributes({
    dst: [1, ip], // RTA_DST
    outLink: [4, u32], // RTA_OIF
    gateway: [5, ip], // RTA_GATEWAY
    priority: [6, u32], // RTA_PRIORITY
    preferredSource: [7, ip], // RTA_PREFSRC
    metrics: [8, routeMetrics], // RTA_METRICS
    table: [15, u32], // RTA_TABLE: replaces shortTable
  }),
)
export type RouteMessage = Decoded<typeof routeMessage>

export const routeTables = { main: 254, local: 255 } as const
/** RT_SCOPE_*; `any` (RT_SCOPE_NOWHERE) deletes a route of whatever scope. */
export const routeScopes = { universe: 0, link: 253, host: 254, any: 255 } as const
export const routeTypes = { unicast: 1, unreachable: 7 } as const
export const routeProtocols = { kernel: 2, boot: 3, static: 4 } as const

/** struct ndmsg */
const neighbourHeader = struct({ family: u8, pad1: u8, pad2: u16, index: i32, state: u16, flags: u8, type: u8 })

export const neighbourMessage = later(() =>
  message(
    neighbourHeader,
    attributes({
      dst: [1, ip], // NDA_DST
      mac: [2, macAddress], // NDA_LLADDR
      link: [8, u32], // NDA_IFINDEX: the filter of a dump
    }),
  ),
)
export type NeighbourMessage = Decoded<typeof neighbourMessage>
export const neighbourStates = { reachable: 0x02, stale: 0x04, permanent: 0x80 } as const // NUD_*
