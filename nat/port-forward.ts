import type { Attachment, AttachmentId } from '../config/attachment.ts'
import { isKernelError } from '../netlink-lib/errors.ts'
import type { PortForwarding, PortMapping } from './forwards.ts'
import { hasIptablesPorts, iptablesPortForward } from './port-forward-iptables.ts'
import { nftablesPortForward } from './port-forward-nftables.ts'

/**
 * Destination translation: ports of the host lead to containers, for packets from outside, from the host itself and from
 * containers. Nothing is opened before the first use.
 */
export interface PortForward extends Disposable {
  /** All or nothing. Repeating it for the same attachment replaces what is there; a port of another one is refused. */
  add(attachment: Attachment, forwarding: PortForwarding): void
  /** Succeeds when there is nothing to delete. `mappings` only helps where the index of owned elements was lost. */
  del(attachment: Attachment, mappings?: readonly PortMapping[]): void
  /** Throws, naming what {@link add} would have made and is not there. */
  check(attachment: Attachment, forwarding: PortForwarding): void
  /** Deletes what belongs to this network and to none of the valid attachments. */
  collect(network: string, valid: readonly AttachmentId[]): void
  /** Throws when this backend cannot work here. */
  probe(): void
}

export type PortForwardBackend = 'auto' | 'nftables' | 'iptables'

/** `auto` is nftables when the kernel has nf_tables, else iptables. `warn` tells of what failed and does not matter. */
export function openPortForward(backend: PortForwardBackend, warn: (message: string) => void): PortForward {
  let chosen: PortForward | undefined
  const choose = () => {
    chosen ??= backend === 'iptables' ? iptablesPortForward(warn) : nftablesUnlessAbsent(backend, warn)
    return chosen
  }
  return {
    add: (...call) => choose().add(...call),
    del(attachment, mappings) {
      choose().del(attachment, mappings)
      // The configuration may have changed since ADD.
      if (hasIptablesPorts(attachment)) iptablesPortForward(warn).del(attachment)
    },
    check: (...call) => choose().check(...call),
    collect(network, valid) {
      choose().collect(network, valid)
      if (backend !== 'iptables') iptablesPortForward(warn).collect(network, valid) // one look at the disk if it has none
    },
    probe: () => choose().probe(),
    [Symbol.dispose]: () => chosen?.[Symbol.dispose](),
  }
}

function nftablesUnlessAbsent(backend: PortForwardBackend, warn: (message: string) => void): PortForward {
  const nftables = nftablesPortForward(warn)
  if (backend === 'nftables') return nftables
  try {
    nftables.probe()
    return nftables
  } catch (error) {
    nftables[Symbol.dispose]()
    if (isKernelError(error, 'EINVAL', 'EOPNOTSUPP', 'EPROTONOSUPPORT')) return iptablesPortForward(warn)
    throw error
  }
}
