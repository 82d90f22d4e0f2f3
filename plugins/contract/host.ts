import * as translation from '../../nat/masquerade.ts'
import * as netfilter from '../../netlink-lib/nftables/netfilter-socket.ts'
import { BareHost } from './bare-host.ts'

export type { Container, Sysctls } from './bare-host.ts'
export * from './marks.ts'

/** A host with everything loaded. The executables load what is heavy when it is asked for (serve.ts). */
export class Host extends BareHost {
  constructor() {
    super({ translation, netfilter })
  }
}
