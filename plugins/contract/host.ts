import fs from 'node:fs'
import type { Attachment } from '../../config/attachment.ts'
import { type Masquerade, type MasqueradeBackend, openMasquerade, removeMasquerade } from '../../nat/masquerade.ts'
import { Netns } from '../../netlink-lib/netns.ts'
import { NetfilterSocket } from '../../netlink-lib/nftables/netfilter-socket.ts'
import type { Link } from '../../netlink-lib/route/link.ts'
import { RouteSocket } from '../../netlink-lib/route/socket.ts'
import { findSysctl, type SysctlName, setSysctl, trySysctl } from '../../netlink-lib/sysctl.ts'
import { Rollback } from './rollback.ts'

/** The sysctls of one network namespace. */
export interface Sysctls {
  find(name: SysctlName): string | undefined
  set(name: SysctlName, value: string): void
  /** For niceties: a sysctl that is absent or read-only is left as it is. */
  try(name: SysctlName, value: string): void
}

/** A container's network namespace with what a plugin does in there. */
export interface Container extends Disposable {
  readonly netns: Netns
  readonly route: RouteSocket
  readonly sysctl: Sysctls
}

/**
 * Everything a plugin may touch. Sockets are opened at first use, in the namespace the process is in, and stay there.
 * The executable, ns-net and the tests run the same plugins over this object.
 */
export class Host implements Disposable {
  readonly #closing: Disposable[] = []
  #route: RouteSocket | undefined
  #netfilter: NetfilterSocket | undefined

  /** rtnetlink of the host's namespace. */
  get route(): RouteSocket {
    this.#route ??= this.keep(new RouteSocket())
    return this.#route
  }

  /** nf_tables of the host's namespace. */
  get netfilter(): NetfilterSocket {
    this.#netfilter ??= this.keep(new NetfilterSocket())
    return this.#netfilter
  }

  readonly sysctl: Sysctls = { find: findSysctl, set: setSysctl, try: trySysctl }

  /** The container's namespace; throws when there is none at the path. */
  openContainer(path: string): Container {
    return this.#container(Netns.open(path))
  }

  /** The container's namespace, or undefined when it is gone: no path, nothing there, or a leftover plain file. */
  findContainer(path: string): Container | undefined {
    const netns = path === '' ? undefined : Netns.find(path)
    return netns && this.#container(netns)
  }

  /** True when the path is the namespace this process is in. */
  isOwnNetns(path: string): boolean {
    using target = Netns.find(path)
    using own = Netns.own()
    return target !== undefined && target.identity === own.identity
  }

  /** Address translation. Its socket closes with this host: after the link is deleted, so that both waits overlap. */
  masquerade(backend: MasqueradeBackend): Masquerade {
    return this.keep(openMasquerade(backend))
  }

  /** Closes something with this host; for what only one plugin needs, and the others need not load. */
  keep<T extends Disposable>(resource: T): T {
    this.#closing.push(resource)
    return resource
  }

  /** Takes away an attachment's translation, whatever made it; see nat/masquerade.ts. */
  removeMasquerade(attachment: Attachment, addresses: readonly string[] | undefined, expected: boolean): void {
    removeMasquerade(attachment, addresses, expected, (masquerade) => this.keep(masquerade))
  }

  rollback(): Rollback {
    return new Rollback((message) => this.warn(message))
  }

  /** One line for people, on stderr. */
  warn(message: string): void {
    fs.writeSync(2, `${message}\n`)
  }

  [Symbol.dispose](): void {
    for (const resource of this.#closing.splice(0).reverse()) resource[Symbol.dispose]()
    this.#route = undefined
    this.#netfilter = undefined
  }

  #container(netns: Netns): Container {
    const route = netns.run(() => new RouteSocket())
    const sysctl: Sysctls = {
      find: (name) => netns.run<string | undefined>(() => findSysctl(name)),
      set: (name, value) => netns.run(() => setSysctl(name, value)),
      try: (name, value) => netns.run(() => trySysctl(name, value)),
    }
    return {
      netns,
      route,
      sysctl,
      [Symbol.dispose]() {
        route[Symbol.dispose]()
        netns[Symbol.dispose]()
      },
    }
  }
}

/**
 * The name of an attachment's link on the host: derived, so that DEL finds it with nothing but network, container id
 * and interface name. 44 bits of FNV-1a (draft-eastlake-fnv): links are told apart by it, nothing is proved by it.
 */
export function hostLinkName({ network, containerId, ifName }: Attachment): string {
  let hash = 0xcbf29ce484222325n
  for (const byte of Buffer.from(`${network}\0${containerId}\0${ifName}`))
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n)
  return `veth${hash.toString(16).padStart(16, '0').slice(0, 11)}`
}

/** The alias that marks a link as an attachment's (`ip link` shows it); cut to the kernel's 255 bytes. */
export function linkMark({ network, containerId, ifName }: Attachment): string {
  return Buffer.from(`ns-net:${network}:${containerId}:${ifName}`).subarray(0, 255).toString()
}

/** The alias of a bridge that we made for a network. */
const bridgeMark = (network: string): string => `ns-net:${network}`.slice(0, 255)

/** The group that our bridges are born in: an alias can only be set on a link that is there already. */
const bridgeGroup = 0x6e73

/** How a bridge of ours begins and what {@link isOurBridge} knows it by. */
export const newBridgeMark = { group: bridgeGroup }
export const bridgeMarkOf = (network: string): { alias: string } => ({ alias: bridgeMark(network) })

/** True for the bridge that we made for the network, also when we were killed before it had its alias. */
export const isOurBridge = ({ kind, alias, group }: Link, network: string): boolean =>
  kind === 'bridge' && (alias === undefined ? group === bridgeGroup : alias === bridgeMark(network))
