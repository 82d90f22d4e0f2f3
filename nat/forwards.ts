import { type Cidr, type Family, familyOf } from '../netlink-lib/ip.ts'

/** Numbers of the protocols that have ports (IANA, "Assigned Internet Protocol Numbers"). */
export const protocols = { tcp: 6, udp: 17, sctp: 132 } as const
export type Protocol = keyof typeof protocols

/** A port of the host that leads to a port of the container. */
export interface PortMapping {
  readonly protocol: Protocol
  readonly hostPort: number
  readonly containerPort: number
  /** Only this address of the host; `0.0.0.0` and `::` are all of their family. Without it: all. */
  readonly hostIp?: string
}

/** What an attachment asks for. */
export interface PortForwarding {
  readonly mappings: readonly PortMapping[]
  /** The container's addresses, at most one of each family. The prefix length says who its neighbours are. */
  readonly targets: readonly Cidr[]
  /** Whose packets reach the container with the host's address as their source. */
  readonly masquerade: MasqueradedSources
  /** Tokens that a packet must match as well, in the language of the backend. */
  readonly conditions: Readonly<Record<Family, readonly string[]>>
  /** For iptables: the bit of the packet's mark that asks for masquerading. */
  readonly markBit: number
  /** For iptables: a foreign chain that sets such a mark; then nothing of ours masquerades. */
  readonly setMarkChain?: string
}

/**
 * `none`; `local`, the container itself, its neighbours and 127.0.0.0/8, whose answers would not come back by the host;
 * or `all`.
 */
export type MasqueradedSources = 'none' | 'local' | 'all'

/** One host port of one family. */
export interface Forward {
  readonly family: Family
  readonly protocol: Protocol
  /** Without it every address of the host. */
  readonly address?: string
  readonly port: number
  readonly target: string
  readonly targetPort: number
}

const isUnspecified = (address: string): boolean => address === '0.0.0.0' || address === '::'

/** A mapping counts for the families that its host address and the container have in common; exact repeats once. */
export function forwardsOf({ mappings, targets }: Pick<PortForwarding, 'mappings' | 'targets'>): Forward[] {
  const forwards = new Map<string, Forward>()
  for (const { protocol, hostPort, containerPort, hostIp } of mappings)
    for (const { family, address } of targets) {
      if (hostIp !== undefined && familyOf(hostIp) !== family) continue
      const bound = hostIp === undefined || isUnspecified(hostIp) ? undefined : hostIp
      const forward = { family, protocol, address: bound, port: hostPort, target: address, targetPort: containerPort }
      forwards.set(JSON.stringify(forward), forward)
    }
  return [...forwards.values()]
}

/** For people: `tcp 192.0.2.1:8080`, `udp [*]:53`. */
export function portText({ family, protocol, address = '*', port }: Omit<Forward, 'target' | 'targetPort'>): string {
  return `${protocol} ${family === 4 ? address : `[${address}]`}:${port}`
}
