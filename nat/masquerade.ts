import type { Attachment, AttachmentId } from '../config/attachment.ts'
import type { Cidr } from '../netlink-lib/ip.ts'
import { iptablesMasquerade } from './masquerade-iptables.ts'
import { nftablesMasquerade, nftablesMasqueradeIfSupported } from './masquerade-nftables.ts'
import type { Translation } from './policy.ts'

/**
 * Source translation: what a container sends out of its network's subnet leaves the host with the host's own address,
 * or with one that is asked for.
 * Nothing is opened before the first use. {@link Symbol.dispose} closes the socket, which costs an RCU wait: a caller
 * that also deletes a link sends the rules first and closes last, so that the two waits overlap.
 */
export interface Masquerade extends Disposable {
  /**
   * Translates what these addresses send, except to their own subnet (given by the prefix length), to multicast and to
   * exempt destinations. Repeating it for the same attachment is fine; an address of another attachment, or one that the
   * attachment has translated by other rules already, is refused.
   */
  add(attachment: Attachment, addresses: readonly Cidr[], translation?: Translation): void
  /**
   * Succeeds when there is nothing to delete. With `addresses` its cost does not depend on who else is attached: where
   * they are not the attachment's all is searched, unless `search` says that there is probably nothing.
   */
  del(attachment: Attachment, addresses?: readonly string[], search?: boolean): void
  /** Throws, naming what {@link add} would have made and is not there. */
  check(attachment: Attachment, addresses: readonly Cidr[], translation?: Translation): void
  /** Deletes what belongs to this network and to none of the valid attachments. */
  collect(network: string, valid: readonly AttachmentId[]): void
  /** Throws when nothing could be translated now: the kernel or a program lacks. */
  requireUsable(): void
}

export type MasqueradeBackend = 'auto' | 'nftables' | 'iptables'

/** `auto` is nftables when the kernel has nf_tables, else iptables. */
export function openMasquerade(backend: MasqueradeBackend): Masquerade {
  if (backend === 'nftables') return nftablesMasquerade()
  if (backend === 'iptables') return iptablesMasquerade()
  let chosen: Masquerade | undefined
  const choose = () => {
    chosen ??= nftablesMasqueradeIfSupported() ?? iptablesMasquerade()
    return chosen
  }
  return {
    add: (...call) => choose().add(...call),
    del: (...call) => choose().del(...call),
    check: (...call) => choose().check(...call),
    collect(...call) {
      // By either: what is stale may come from another configuration.
      iptablesMasquerade().collect(...call)
      choose().collect(...call)
    },
    requireUsable: () => choose().requireUsable(),
    [Symbol.dispose]: () => chosen?.[Symbol.dispose](),
  }
}

/**
 * Deletes what an ADD with any backend made, for a DEL whose configuration may have changed since: `expected` is what it
 * says now. Where nothing was made this costs two lookups. The socket is given to `keep`, to be closed later.
 */
export function removeMasquerade(
  attachment: Attachment,
  addresses: readonly string[] | undefined,
  expected: boolean,
  keep: (masquerade: Masquerade) => void,
): void {
  iptablesMasquerade().del(attachment)
  const nftables = nftablesMasqueradeIfSupported()
  if (!nftables) return
  keep(nftables)
  nftables.del(attachment, addresses, expected)
}
