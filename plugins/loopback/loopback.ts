import { CniError, codes } from '../contract/errors.ts'
import type { Plugin } from '../contract/plugin.ts'
import type { Result } from '../contract/result.ts'

/** 127.0.0.0/8 (RFC 1122) and ::1 (RFC 4291). */
const isLoopback = (address: string) => address.startsWith('127.') || address === '::1'

/** Raises `lo` in the container. It has no configuration and ignores CNI_IFNAME. */
export const loopback: Plugin<undefined> = {
  type: 'loopback',
  parse: () => undefined,

  add(_conf, request, host): Result {
    using container = host.openContainer(request.netns)
    const lo = container.route.getLink('lo')
    if (!lo.loopback) throw new CniError(codes.kernel, `lo in ${request.netns} is not a loopback link`)
    using rollback = host.rollback()
    container.route.setLink(lo, { up: true })
    if (!lo.up) rollback.onFailure('lower lo', () => container.route.setLink(lo, { up: false }))
    const addresses = container.route.listAddresses(lo)
    for (const { address } of addresses)
      if (!isLoopback(address))
        throw new CniError(
          codes.conflict,
          `lo in ${request.netns} has the address ${address}, which is no loopback address`,
        )
    const firstOf = (family: number) => addresses.filter((address) => address.family === family).slice(0, 1)
    const first = [...firstOf(4), ...firstOf(6)]
    rollback.commit()
    return (
      request.prevResult ?? {
        interfaces: [{ name: 'lo', mac: lo.mac, sandbox: request.netns }],
        ips: first.map(({ address, prefix, family }) => ({ address: { address, prefix, family }, interface: 0 })),
        routes: [],
      }
    )
  },

  del(_conf, request, host): void {
    using container = host.findContainer(request.netns)
    container?.route.setLink(container.route.getLink('lo'), { up: false })
  },

  check(_conf, request, host): void {
    using container = host.openContainer(request.netns)
    if (!container.route.getLink('lo').up)
      throw new CniError(
        codes.checkFailed,
        'loopback interface is down',
        `raise it: ip -n … link set lo up (${request.netns})`,
      )
  },
}
