import { KernelError } from './errors.ts'
import { checked, lastErrno, libc } from './libc.ts'
import { type Reply, unframe } from './socket.ts'

/** Multicast groups of rtnetlink (include/uapi/linux/rtnetlink.h). */
export const routeGroups = {
  link: 1, // RTNLGRP_LINK
  neighbour: 3, // RTNLGRP_NEIGH
  ipv4Address: 5, // RTNLGRP_IPV4_IFADDR
  ipv4Route: 7, // RTNLGRP_IPV4_ROUTE
  ipv4Rule: 8, // RTNLGRP_IPV4_RULE
  ipv6Address: 9, // RTNLGRP_IPV6_IFADDR
  ipv6Route: 11, // RTNLGRP_IPV6_ROUTE
  ipv6Rule: 19, // RTNLGRP_IPV6_RULE
} as const

/** Of the netfilter protocol (include/uapi/linux/netfilter/nfnetlink.h). */
export const netfilterGroups = { nftables: 7 } as const // NFNLGRP_NFTABLES

const bufferSize = 4 * 1024 * 1024

/**
 * What the kernel tells everybody who listens: a netlink socket that is a member of multicast groups. It hears the network
 * namespace it was opened in, and keeps it alive.
 */
export class EventSocket implements Disposable {
  readonly #fd: number
  readonly #buffer = Buffer.allocUnsafeSlow(64 * 1024)

  constructor(protocol: number, groups: readonly number[]) {
    const subject = 'kernel events'
    this.#fd = checked(libc.socket(16, 3 | 0o2000000, protocol), 'open netlink socket for', subject) // AF_NETLINK
    try {
      const address = Buffer.alloc(12) // struct sockaddr_nl
      address.writeUInt16LE(16, 0)
      checked(libc.bind(this.#fd, address, address.length), 'bind netlink socket for', subject)
      this.#enlarge()
      for (const group of groups) {
        const value = Buffer.from(Uint32Array.of(group).buffer)
        const joined = libc.setsockopt(this.#fd, 270, 1, value, value.length) // SOL_NETLINK, NETLINK_ADD_MEMBERSHIP
        checked(joined, `join group ${group} of`, subject)
      }
    } catch (error) {
      libc.close(this.#fd)
      throw error
    }
  }

  [Symbol.dispose](): void {
    libc.close(this.#fd)
  }

  /** A burst must fit: who makes a hundred links does not wait for us. Beyond the system's limit only root may go. */
  #enlarge(): void {
    const size = Buffer.from(Uint32Array.of(bufferSize).buffer)
    const [force, ordinary] = [33, 8] // SO_RCVBUFFORCE, SO_RCVBUF
    if (libc.setsockopt(this.#fd, 1, force, size, size.length) < 0)
      libc.setsockopt(this.#fd, 1, ordinary, size, size.length)
  }

  /**
   * What has come since the last call; never waits. `overrun` says that more came than the buffer holds: some of it is
   * lost, and what comes after is fine again.
   */
  receive(): { readonly messages: Reply[]; readonly overrun: boolean } {
    const messages: Reply[] = []
    let overrun = false
    for (;;) {
      const size = Number(libc.recv(this.#fd, this.#buffer, this.#buffer.length, 0x40)) // MSG_DONTWAIT
      if (size >= 0) {
        messages.push(...unframe(Buffer.from(this.#buffer.subarray(0, size))))
        continue
      }
      const errno = lastErrno()
      if (errno === 11) return { messages, overrun } // EAGAIN
      if (errno === 105)
        overrun = true // ENOBUFS
      else if (errno !== 4) throw new KernelError('receive', 'kernel events', errno) // EINTR
    }
  }
}
