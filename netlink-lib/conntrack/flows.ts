import { isKernelError } from '../errors.ts'
import { type Family, ipBytes } from '../ip.ts'
import type { NetlinkSocket } from '../socket.ts'
import {
  addressFamilies,
  type FlowMessage,
  filterFlags,
  flowMessage,
  flowStatus,
  messageTypes,
  statisticsMessage,
} from './messages.ts'

/** Where a flow was sent to, before translation. */
export interface UdpDestination {
  readonly family: Family
  readonly port: number
  /** Without it any. */
  readonly address?: string
}

const udp = 17 // IPPROTO_UDP

/**
 * Deletes the tracked UDP flows to these destinations: a flow keeps the translation, or the lack of one, that its first
 * packet met, and a client that goes on sending never gets another. TCP needs no such help, its next connection is a
 * new flow. What passes through this host and is only masqueraded keeps its flow: there it would get another port.
 * The socket is of the netfilter protocol.
 */
export function deleteUdpFlows(netlink: NetlinkSocket, destinations: readonly UdpDestination[]): void {
  if (countFlows(netlink) === 0) return
  for (const family of [4, 6] as const) {
    const wanted = destinations.filter((destination) => destination.family === family)
    for (const flow of listUdpFlows(netlink, family, new Set(wanted.map(({ port }) => port))))
      if (wanted.some((destination) => leadsTo(flow, destination)) && !isOnlyMasqueraded(flow))
        deleteFlow(netlink, flow)
  }
}

/** How many the namespace has. Their table is as large as the machine's memory wants it: walking it takes milliseconds. */
function countFlows(netlink: NetlinkSocket): number | undefined {
  const reply = netlink.get({
    type: messageTypes.getStatistics,
    body: statisticsMessage.encode({}),
    operation: 'count',
    subject: 'tracked flows',
  })
  return reply && statisticsMessage.decode(reply.body).entries
}

/** One walk through the kernel's table, however many ports. Kernels before 5.8 ignore the filter and return all. */
function listUdpFlows(netlink: NetlinkSocket, family: Family, ports: ReadonlySet<number>): FlowMessage[] {
  if (ports.size === 0) return []
  const [port] = ports.size === 1 ? ports : []
  const flags = filterFlags.protocolNumber | (port === undefined ? 0 : filterFlags.destinationPort)
  const body = flowMessage.encode({
    family: addressFamilies[family],
    original: { protocol: { number: udp, destinationPort: port } },
    filter: { original: flags },
  })
  return netlink
    .dump({ type: messageTypes.getFlow, body, operation: 'list', subject: 'tracked UDP flows' })
    .map((reply) => flowMessage.decode(reply.body))
    .filter(({ original }) => original?.protocol?.number === udp)
}

function leadsTo({ original }: FlowMessage, wanted: UdpDestination): boolean {
  if (original?.protocol?.destinationPort !== wanted.port) return false
  const address = original.ip?.destination4 ?? original.ip?.destination6
  return wanted.address === undefined || ipBytes(wanted.address).equals(address ?? Buffer.alloc(0))
}

const isOnlyMasqueraded = ({ status = 0 }: FlowMessage): boolean =>
  (status & flowStatus.sourceTranslated) !== 0 && (status & flowStatus.destinationTranslated) === 0

function deleteFlow(netlink: NetlinkSocket, { family, original, id, zone }: FlowMessage): void {
  try {
    netlink.request({
      type: messageTypes.deleteFlow,
      body: flowMessage.encode({ family, original, id, zone }),
      operation: 'delete tracked UDP flow to port',
      subject: String(original?.protocol?.destinationPort),
    })
  } catch (error) {
    if (!isKernelError(error, 'ENOENT')) throw error // it has ended meanwhile
  }
}
