import { chooseBackend, type Part, partsOf } from '../../nat/filter/backend.ts'
import { openFilter } from '../../nat/filter/filter.ts'
import { policiesOf } from '../../nat/filter/policy.ts'
import type { Link } from '../../netlink-lib/route/link.ts'
import { teardown } from '../contract/dispatch.ts'
import { CniError, codes } from '../contract/errors.ts'
import type { Host } from '../contract/host.ts'
import type { Plugin } from '../contract/plugin.ts'
import { type Request, requirePrevResult } from '../contract/request.ts'
import type { Result } from '../contract/result.ts'
import { type FirewallConf, parseFirewall } from './config.ts'
import { firewallVersions } from './versions.ts'

const filterOn = (host: Host) => openFilter('firewall', host)

function partsFor(conf: FirewallConf, request: Request, host: Host): Part[] {
  const { ingressPolicy, internal } = conf
  const policies = policiesOf(request.network, requirePrevResult(request), ingressPolicy, host.route, internal)
  return partsOf(conf, policies, host)
}

/** The links that lead from a bridge of the result to the container. */
function portsOf(result: Result, host: Host): Link[] {
  const outside = result.interfaces.filter(({ sandbox }) => !sandbox)
  const links = outside.map(({ name }) => host.route.findLink(name)).filter((link) => link !== undefined)
  const bridges = links.filter(({ kind }) => kind === 'bridge').map(({ index }) => index)
  return links.filter(({ master }) => master !== undefined && bridges.includes(master))
}

/**
 * Packets within a bridge meet the rules above only where br_netfilter hands them over; the bridge itself keeps isolated
 * ports apart everywhere.
 */
const isolatedPorts = ({ ingressPolicy }: FirewallConf, { prevResult }: Request, host: Host): Link[] =>
  ingressPolicy === 'isolated' && prevResult ? portsOf(prevResult, host) : []

/** Chained: what the container sends is forwarded, and who may send to it is limited. */
export const firewall: Plugin<FirewallConf> = {
  type: 'firewall',
  versions: firewallVersions,
  parse: parseFirewall,

  add(conf, request, host): Result {
    const parts = partsFor(conf, request, host)
    using rollback = host.rollback()
    filterOn(host).add(request, parts)
    rollback.onFailure('remove firewall rules', () => filterOn(host).del(request))
    for (const port of isolatedPorts(conf, request, host).filter((each) => !each.port?.isolated)) {
      host.route.setLink(port, { port: { isolated: true } })
      rollback.onFailure(`join ${port.name}`, () => host.route.setLink(port, { port: { isolated: false } }))
    }
    rollback.commit()
    return requirePrevResult(request)
  },

  del(conf, request, host): void {
    teardown(
      () => filterOn(host).del(request),
      () => {
        for (const port of isolatedPorts(conf, request, host))
          if (port.port?.isolated) host.route.setLink(port, { port: { isolated: false } })
      },
    )
  },

  check(conf, request, host): void {
    filterOn(host).check(request, partsFor(conf, request, host))
    const joined = isolatedPorts(conf, request, host).find(({ port }) => !port?.isolated)
    if (joined) throw new CniError(codes.checkFailed, `CHECK: "${joined.name}" is not isolated from its bridge's ports`)
  },

  reload: (conf, request, host) => filterOn(host).add(request, partsFor(conf, request, host)),

  gc: (_conf, { network, validAttachments }, host) => filterOn(host).collect(network, validAttachments),

  status: ({ backend }, _request, host) => void chooseBackend(backend, host),
}
