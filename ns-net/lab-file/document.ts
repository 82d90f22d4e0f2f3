import type { Driver } from '../networks.ts'
import type { PortMapping } from '../port-mappings.ts'

/**
 * What a lab file says, after it was read: nothing is missing, every name leads somewhere, every text has its canonical
 * form. docs/lab-files.md explains the keys, docs/lab.schema.json lists them.
 */
export interface LabDocument {
  /** What `down` and the label of its labs name it by. */
  readonly name: string
  readonly networks: ReadonlyMap<string, NetworkEntry>
  readonly nodes: ReadonlyMap<string, NodeEntry>
  readonly links: readonly LinkEntry[]
  readonly tests: readonly TestEntry[]
}

export interface NetworkEntry {
  readonly name: string
  /** Made by somebody else: used, and neither made nor removed. */
  readonly external?: boolean
  /** A whole CNI conflist in place of the other keys. */
  readonly conflist?: Readonly<Record<string, unknown>>
  readonly driver: Driver
  /** Canonical; of a family that is not here a range is chosen, of IPv6 only with `ipv6`. */
  readonly subnets: readonly string[]
  readonly ipv6: boolean
  readonly gateway?: string
  readonly internal: boolean
  readonly isolated: boolean
  readonly mtu?: number
  readonly bridge?: string
  readonly parent?: string
}

export interface NodeEntry {
  readonly name: string
  /** In the order in which they are attached: the first way out stays the only one. */
  readonly nets: readonly NetEntry[]
  /** Published by the first network that can. */
  readonly ports: readonly PortMapping[]
  readonly dns: readonly string[]
  readonly labels: Readonly<Record<string, string>>
  /** By the name with slashes: `net/ipv4/ip_forward`. */
  readonly sysctls: ReadonlyMap<string, string>
  readonly routes: readonly RouteEntry[]
  readonly exec: readonly string[]
}

export interface NetEntry {
  readonly network: string
  readonly ifName: string
  /** One name more for its end on the host. */
  readonly hostIf?: string
  /** One for each family at most. */
  readonly ips: readonly string[]
  readonly mac?: string
  readonly mtu?: number
  readonly internal: boolean
  readonly ports: readonly PortMapping[]
  readonly shape?: ShapeEntry
}

export interface RouteEntry {
  /** CIDR of the network; `0.0.0.0/0` for the default route. */
  readonly dst: string
  readonly via?: string
  readonly dev?: string
}

export interface EndEntry {
  /** A node, or `host`. */
  readonly place: string
  readonly ifName: string
  /** With prefix length. Without any, what is there is left alone. */
  readonly addresses: readonly string[]
  readonly mac?: string
}

export interface LinkEntry {
  readonly a: EndEntry
  readonly b: EndEntry
  readonly mtu?: number
  readonly up: boolean
  readonly shape?: ShapeEntry
}

/** Texts as `ns-net shape` takes them. */
export interface ShapeEntry {
  readonly rate?: string
  readonly delay?: string
  readonly jitter?: string
  readonly loss?: string
}

export interface TestEntry {
  /** A node, or `host`. */
  readonly from: string
  /** As it is written, for the report. */
  readonly to: string
  readonly target: { readonly node?: string; readonly address?: string; readonly port?: number }
  readonly expect: 'reach' | 'fail'
}

/** The label of every lab that `apply` makes: which file it belongs to. */
export const fileLabel = 'ns-net/lab'
