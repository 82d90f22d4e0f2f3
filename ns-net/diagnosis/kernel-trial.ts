import { attributes, type Codec, raw, struct, u16, u32 } from '../../netlink-lib/bytes.ts'
import { KernelError } from '../../netlink-lib/errors.ts'
import { checked, libc } from '../../netlink-lib/libc.ts'
import { Netns } from '../../netlink-lib/netns.ts'
import { NetfilterSocket } from '../../netlink-lib/nftables/netfilter-socket.ts'
import { trafficMessage } from '../../netlink-lib/route/traffic-control.ts'
import { linkMessage, messageTypes } from '../../netlink-lib/route/wire.ts'
import { flags, NetlinkSocket, protocols } from '../../netlink-lib/socket.ts'

/** Something tried in a network namespace that nobody else sees, and that ends with the trial. */

/** The sockets of the throw-away namespace. */
export interface Trial {
  readonly netlink: NetlinkSocket
  readonly netfilter: NetfilterSocket
}

/** IFLA_VXLAN_ID, IFLA_VLAN_ID, IFLA_MACVLAN_MODE: the one setting that each of these links must have. */
const number = (codec: Codec<number>) => attributes({ value: [1, codec] })
export const vxlanData = number(u32).encode({ value: 1 })
export const vlanData = number(u16).encode({ value: 7 })
export const macvlanData = number(u32).encode({ value: 4 }) // MACVLAN_MODE_BRIDGE
export const filteringData = attributes({ filtering: [7, raw] }).encode({ filtering: Buffer.from([1]) }) // IFLA_BR_VLAN_FILTERING

export function createLink({ netlink }: Trial, name: string, kind: string, data?: Buffer, lower?: string): void {
  const peerIndex = lower === undefined ? undefined : indexOf(netlink, lower)
  netlink.request({
    type: messageTypes.newLink,
    flags: flags.create | flags.exclusive,
    body: linkMessage.encode({ name, peerIndex, info: { kind, data } }),
    operation: `create ${kind}`,
    subject: name,
  })
}

export function indexOf(netlink: NetlinkSocket, name: string): number {
  const body = linkMessage.encode({ name })
  const [reply] = netlink.request({ type: messageTypes.getLink, body, operation: 'get link', subject: name })
  return linkMessage.decode(reply!.body).index!
}

/** One of the two ends of a veth that every trial has. */
export const trialLink = 'v0'

export function createQdisc({ netlink }: Trial, kind: string, options: Buffer): void {
  netlink.request({
    type: 36, // RTM_NEWQDISC
    flags: flags.create | flags.replace,
    body: trafficMessage.encode({
      index: indexOf(netlink, trialLink),
      handle: 0x10000,
      parent: 0xffffffff, // TC_H_ROOT
      kind,
      options,
    }),
    operation: `create qdisc ${kind}`,
    subject: trialLink,
  })
}

/** TCA_HTB_INIT of struct tc_htb_glob. */
export const htbOptions = attributes({
  init: [2, struct({ version: u32, quantum: u32, defaultClass: u32, debug: u32, direct: u32 })],
}).encode({ init: { version: 3, quantum: 10 } })

/** struct tc_netem_qopt. */
export const netemOptions = struct({
  latency: u32,
  limit: u32,
  loss: u32,
  gap: u32,
  duplicate: u32,
  jitter: u32,
}).encode({
  limit: 1000,
})

/** What the kernel said; undefined when it works. */
export function tryOut(probe: (trial: Trial) => void): string | undefined {
  using home = Netns.own()
  if (libc.unshare(0x40000000) < 0) return 'may not be tried' // CLONE_NEWNET
  try {
    using netlink = new NetlinkSocket(protocols.route)
    using netfilter = new NetfilterSocket()
    const trial = { netlink, netfilter }
    createLink(trial, trialLink, 'veth')
    probe(trial)
    return undefined
  } catch (error) {
    if (error instanceof KernelError) return error.message
    throw error
  } finally {
    checked(libc.setns(home.fd, 0x40000000), 'return to network namespace of', 'the host')
  }
}
