import { type Ipam, openOwnIpam } from './ipam.ts'
import type { Plugin } from './plugin.ts'

/** Our IPAM as a plugin of its own, for foreign plugins that delegate to it: a result without interfaces. */
export function ipamPlugin(type: 'host-local' | 'static'): Plugin<Ipam> {
  return {
    type,
    parse: (request) => openOwnIpam(type, request),
    add: (ipam) => ({ interfaces: [], ...ipam.add() }),
    del: (ipam) => ipam.del(),
    check: (ipam) => ipam.check(),
    gc: (ipam) => ipam.gc(),
    status: (ipam) => ipam.status(),
  }
}
