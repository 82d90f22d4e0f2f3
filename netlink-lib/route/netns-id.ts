import { attributes, i32, message, struct, u8, u16, u32 } from '../bytes.ts'
import type { Netns } from '../netns.ts'
import type { NetlinkSocket } from '../socket.ts'

/**
 * Ids by which one network namespace knows others (include/uapi/linux/net_namespace.h, `ip netns list-id`). They mean
 * nothing elsewhere: the host calls a lab by another number than that lab's neighbour does.
 */

const getNetnsId = 90 // RTM_GETNSID

/** struct rtgenmsg, padded to 4. */
const header = struct({ family: u8, pad1: u8, pad2: u16 })

export const netnsIdMessage = message(
  header,
  attributes({
    id: [1, i32], // NETNSA_NSID: -1 for none
    fd: [3, u32], // NETNSA_FD
  }),
)

/**
 * The id that the namespace where the socket was opened has for another one, as IFLA_LINK_NETNSID of its links says it;
 * undefined when it has none, because no link of either leads to the other.
 */
export function findNetnsId(netlink: NetlinkSocket, { fd, path }: Pick<Netns, 'fd' | 'path'>): number | undefined {
  const [reply] = netlink.request({
    type: getNetnsId,
    body: netnsIdMessage.encode({ fd }),
    operation: 'ask for the id of network namespace',
    subject: path,
  })
  const { id = -1 } = reply ? netnsIdMessage.decode(reply.body) : {}
  return id < 0 ? undefined : id
}
