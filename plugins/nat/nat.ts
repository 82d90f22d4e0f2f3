import { type Part, partsWhereDropped } from '../../nat/filter/backend.ts'
import { openFilter } from '../../nat/filter/filter.ts'
import { policiesOf } from '../../nat/filter/policy.ts'
import type { Cidr } from '../../netlink-lib/ip.ts'
import { enableForwarding } from '../contract/container-interface.ts'
import { teardown } from '../contract/dispatch.ts'
import { CniError, codes } from '../contract/errors.ts'
import type { Host } from '../contract/host.ts'
import type { Plugin } from '../contract/plugin.ts'
import type { Request } from '../contract/request.ts'
import type { Result } from '../contract/result.ts'
import { type NatConf, parseNat } from './config.ts'

function resultOf({ prevResult }: Request): Result {
  if (prevResult) return prevResult
  throw new CniError(
    codes.invalidConfig,
    'nat must be called as chained plugin',
    'put it after bridge or veth in the "plugins" list',
  )
}

/** The addresses that earlier plugins of the list gave this interface. */
function addressesOf({ ips, interfaces }: Result): Cidr[] {
  return ips
    .filter((ip) => ip.interface === undefined || interfaces[ip.interface]?.sandbox)
    .map(({ address }) => address)
}

const filterOn = (host: Host) => openFilter('nat', host)

/** Rules without which iptables would drop what the container sends, where it would. */
const acceptingParts = ({ forward }: NatConf, request: Request, host: Host): Part[] =>
  forward ? partsWhereDropped(policiesOf(request.network, resultOf(request), 'open', host.route), host) : []

/** Chained: what leaves the subnet of prevResult's addresses gets a source that the world can answer, and is let out. */
export const nat: Plugin<NatConf> = {
  type: 'nat',
  parse: parseNat,

  add(conf, request, host): Result {
    const result = resultOf(request)
    const addresses = addressesOf(result)
    enableForwarding(host, result.ips)
    if (addresses.length === 0) return result
    using rollback = host.rollback()
    filterOn(host).add(request, acceptingParts(conf, request, host))
    rollback.onFailure('remove forwarding rules', () => filterOn(host).del(request))
    // Last, as it is all or nothing by itself; a rollback would take what an "ipMasq" before it in the list made.
    host.masquerade(conf.backend).add(request, addresses, conf.translation)
    rollback.commit()
    return result
  },

  del(_conf, request, host): void {
    const addresses = request.prevResult?.ips.map(({ address }) => address.address)
    teardown(
      () => host.removeMasquerade(request, addresses, true),
      () => filterOn(host).del(request),
    )
  },

  check(conf, request, host): void {
    const addresses = addressesOf(resultOf(request))
    if (addresses.length === 0) return
    host.masquerade(conf.backend).check(request, addresses, conf.translation)
    filterOn(host).check(request, acceptingParts(conf, request, host))
  },

  reload(conf, request, host): void {
    const result = resultOf(request)
    const addresses = addressesOf(result)
    if (addresses.length === 0) return
    enableForwarding(host, result.ips)
    filterOn(host).add(request, acceptingParts(conf, request, host))
    host.masquerade(conf.backend).add(request, addresses, conf.translation)
  },

  gc(conf, { network, validAttachments }, host): void {
    teardown(
      () => host.masquerade(conf.backend).collect(network, validAttachments),
      () => filterOn(host).collect(network, validAttachments),
    )
  },

  status: (conf, _request, host) => host.masquerade(conf.backend).requireUsable(),
}
