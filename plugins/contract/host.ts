import type { Attachment } from '../../config/attachment.ts'
import { type Masquerade, type MasqueradeBackend, openMasquerade, removeMasquerade } from '../../nat/masquerade.ts'
import { write } from '../../netlink-lib/files.ts'
import { Netns } from '../../netlink-lib/netns.ts'
import { NetfilterSocket } from '../../netlink-lib/nftables/netfilter-socket.ts'
import { RouteSocket } from '../../netlink-lib/route/socket.ts'
import { findSysctl, type SysctlName, setSysctl, trySysctl } from '../../netlink-lib/sysctl.ts'
import { Rollback } from './rollback.ts'

export * from './marks.ts'

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
  #own: Netns | undefined

  /** The namespace the process is in. */
  get #home(): Netns {
    this.#own ??= this.keep(Netns.own())
    return this.#own
  }

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
    return target !== undefined && target.identity === this.#home.identity
  }

  /** Address translation. Its socket closes with this host: after the link is deleted, so that both waits overlap. */
  masquerade(backend: MasqueradeBackend): Masquerade {
    return this.keep(openMasquerade(backend))
  }

  /** Closes something with this host; for what only one plugin needs. */
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
    write(2, `${message}\n`, 'stderr')
  }

  [Symbol.dispose](): void {
    for (const resource of this.#closing.splice(0).reverse()) resource[Symbol.dispose]()
    this.#route = undefined
    this.#netfilter = undefined
    this.#own = undefined
  }

  #container(netns: Netns): Container {
    const home = this.#home
    const route = netns.run(() => new RouteSocket(), home)
    const sysctl: Sysctls = {
      find: (name) => netns.run<string | undefined>(() => findSysctl(name), home),
      set: (name, value) => netns.run(() => setSysctl(name, value), home),
      try: (name, value) => netns.run(() => trySysctl(name, value), home),
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
