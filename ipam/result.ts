import type { Cidr } from '../netlink-lib/ip.ts'

/** What an IPAM plugin's ADD yields: a CNI result without interfaces (CNI spec, section 4, "Delegated plugins"). */
export interface IpamResult {
  readonly ips: readonly IpamAddress[]
  readonly routes: readonly Route[]
  readonly dns?: Dns
}

export interface IpamAddress {
  /** The address with the prefix length of its subnet. */
  readonly address: Cidr
  readonly gateway?: string
}

/** A route of the result (CNI spec 1.1.0). All but `dst` are optional; `table` and `scope` 0 differ from absent. */
export interface Route {
  readonly dst: Cidr
  readonly gw?: string
  /** Bytes. */
  readonly mtu?: number
  /** TCP maximum segment size, bytes. */
  readonly advmss?: number
  /** Metric; lower wins. */
  readonly priority?: number
  /** Routing table number. */
  readonly table?: number
  /** 0 global, 253 link, 254 host (RT_SCOPE_*). */
  readonly scope?: number
}

export interface Dns {
  readonly nameservers?: readonly string[]
  readonly domain?: string
  readonly search?: readonly string[]
  readonly options?: readonly string[]
}
