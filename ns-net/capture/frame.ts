import { formatIp } from '../../netlink-lib/ip.ts'
import type { LinkType } from '../pcapng.ts'
import { describeIcmp, describeIcmpv6 } from './icmp.ts'

/** What a packet says in its headers, as far as a learner asks: nothing below the transport is looked into. */
export interface Frame {
  /** Address of the network layer where there is one, else of the link. */
  readonly source: string
  readonly destination: string
  /** `ARP`, `ICMP`, `TCP`, …, or a number. */
  readonly protocol: string
  /** The rest in words. */
  readonly info: string
  /** Of the network layer. */
  readonly family?: 4 | 6
  readonly sourcePort?: number
  readonly destinationPort?: number
  readonly vlans?: readonly number[]
}

const etherTypes = { ipv4: 0x0800, arp: 0x0806, ipv6: 0x86dd, vlan: 0x8100, serviceVlan: 0x88a8 } as const

const etherNames: Readonly<Record<number, string>> = {
  35020: 'LLDP',
  34887: 'MPLS',
  34958: 'EAPOL',
  34915: 'PPPoE',
  34916: 'PPPoE',
}

const protocolNames: Readonly<Record<number, string>> = {
  1: 'ICMP',
  2: 'IGMP',
  4: 'IPIP',
  6: 'TCP',
  17: 'UDP',
  41: 'IPv6',
  47: 'GRE',
  50: 'ESP',
  58: 'ICMPv6',
  89: 'OSPF',
  132: 'SCTP',
}

/** Headers between IPv6 and what it carries: hop-by-hop, routing, destination. */
const extensionHeaders = [0, 43, 60]
const fragmentHeader = 44

const mac = (bytes: Buffer): string => bytes.toString('hex').replace(/..(?=.)/g, '$&:')

/** Reads the headers; where the packet ends too early, what could be read until there. */
export function readFrame(data: Buffer, linkType: LinkType): Frame {
  if (linkType === 'raw') return readNetwork(data, data[0]! >> 4 === 6 ? etherTypes.ipv6 : etherTypes.ipv4, '', '')
  if (data.length < 14) return cut('', '', 'Ethernet')
  const [destination, source] = [mac(data.subarray(0, 6)), mac(data.subarray(6, 12))]
  let at = 12
  let type = data.readUInt16BE(at)
  const vlans: number[] = []
  while ((type === etherTypes.vlan || type === etherTypes.serviceVlan) && data.length >= at + 6) {
    vlans.push(data.readUInt16BE(at + 2) & 0xfff)
    at += 4
    type = data.readUInt16BE(at)
  }
  const frame = readNetwork(data.subarray(at + 2), type, source, destination)
  return vlans.length > 0 ? { ...frame, vlans } : frame
}

const cut = (source: string, destination: string, protocol: string): Frame => ({
  source,
  destination,
  protocol,
  info: 'cut off',
})

function readNetwork(data: Buffer, type: number, source: string, destination: string): Frame {
  if (type === etherTypes.ipv4) return readIpv4(data) ?? cut(source, destination, 'IPv4')
  if (type === etherTypes.ipv6) return readIpv6(data) ?? cut(source, destination, 'IPv6')
  if (type === etherTypes.arp) return readArp(data) ?? cut(source, destination, 'ARP')
  if (type < 0x600) {
    const isSpanningTree = data[0] === 0x42 && data[1] === 0x42
    return { source, destination, protocol: isSpanningTree ? 'STP' : 'LLC', info: '' }
  }
  return { source, destination, protocol: etherNames[type] ?? `0x${type.toString(16).padStart(4, '0')}`, info: '' }
}

/** ARP for IPv4 over Ethernet; the addresses are those that it speaks of. */
function readArp(data: Buffer): Frame | undefined {
  if (data.length < 28) return undefined
  const [sender, target] = [formatIp(data.subarray(14, 18)), formatIp(data.subarray(24, 28))]
  const isReply = data.readUInt16BE(6) === 2
  const announces = !isReply && sender === target
  const question = announces ? `${sender} announces itself` : `who has ${target}?`
  const info = isReply ? `${sender} is at ${mac(data.subarray(8, 14))}` : question
  return { source: sender, destination: target, protocol: 'ARP', info }
}

function readIpv4(data: Buffer): Frame | undefined {
  const headerLength = (data[0]! & 0xf) * 4
  if (data.length < 20 || headerLength < 20) return undefined
  const addresses = {
    source: formatIp(data.subarray(12, 16)),
    destination: formatIp(data.subarray(16, 20)),
    family: 4 as const,
  }
  const fragment = data.readUInt16BE(6) & 0x1fff
  // A captured packet may be followed by padding of the link.
  const end = Math.max(headerLength, data.readUInt16BE(2) || data.length)
  return { ...addresses, ...readTransport(data[9]!, data.subarray(headerLength, end), fragment) }
}

function readIpv6(data: Buffer): Frame | undefined {
  if (data.length < 40) return undefined
  const addresses = {
    source: formatIp(data.subarray(8, 24)),
    destination: formatIp(data.subarray(24, 40)),
    family: 6 as const,
  }
  let protocol = data[6]!
  let fragment = 0
  let at = 40
  while ((extensionHeaders.includes(protocol) || protocol === fragmentHeader) && data.length >= at + 8) {
    if (protocol === fragmentHeader) fragment = data.readUInt16BE(at + 2) >> 3
    const length = protocol === fragmentHeader ? 8 : (data[at + 1]! + 1) * 8
    protocol = data[at]!
    at += length
  }
  const end = 40 + (data.readUInt16BE(4) || data.length)
  return { ...addresses, ...readTransport(protocol, data.subarray(at, end), fragment) }
}

type Transport = Pick<Frame, 'protocol' | 'info' | 'sourcePort' | 'destinationPort'>

/** Only the first fragment has the transport's header. */
function readTransport(number: number, data: Buffer, fragment: number): Transport {
  const protocol = protocolNames[number] ?? `protocol ${number}`
  if (fragment > 0) return { protocol, info: `fragment at byte ${fragment * 8}` }
  switch (protocol) {
    case 'TCP':
      return { protocol, ...readTcp(data) }
    case 'UDP':
    case 'SCTP':
      return { protocol, ...readPorts(data), info: data.length < 4 ? 'cut off' : '' }
    case 'ICMP':
      return { protocol, info: describeIcmp(data) }
    case 'ICMPv6':
      return { protocol, info: describeIcmpv6(data) }
    default:
      return { protocol, info: '' }
  }
}

const readPorts = (data: Buffer): Pick<Frame, 'sourcePort' | 'destinationPort'> =>
  data.length < 4 ? {} : { sourcePort: data.readUInt16BE(0), destinationPort: data.readUInt16BE(2) }

const tcpFlags = [
  [0x02, 'SYN'],
  [0x10, 'ACK'],
  [0x08, 'PSH'],
  [0x01, 'FIN'],
  [0x04, 'RST'],
  [0x20, 'URG'],
] as const

function readTcp(data: Buffer): Omit<Transport, 'protocol'> {
  if (data.length < 20) return { ...readPorts(data), info: 'cut off' }
  const flags = tcpFlags.flatMap(([bit, name]) => (data[13]! & bit ? [name] : []))
  const payload = data.length - (data[12]! >> 4) * 4
  return { ...readPorts(data), info: [...flags, ...(payload > 0 ? [`${payload} bytes`] : [])].join(' ') }
}
