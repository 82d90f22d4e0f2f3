import { formatCidr } from '../../netlink-lib/ip.ts'
import { decide } from '../../netlink-lib/route/decision.ts'
import type { Route, RouteSettings } from '../../netlink-lib/route/route.ts'
import type { RouteSocket } from '../../netlink-lib/route/socket.ts'
import { routeScopes, routeTypes } from '../../netlink-lib/route/wire.ts'
import { NetlinkSocket, protocols } from '../../netlink-lib/socket.ts'
import { messageOf } from '../../plugins/contract/errors.ts'
import type { Plan, PodRoute } from './plan.ts'

/** Who made the routes, for the kernel (RTPROT_*) and `ip route show proto 114`: only these are ever deleted. */
export const protocol = 114

/** Behind every route of the plugins to a pod: an address that no pod has must not leave by the default route. */
const lastResort = 4096

/** IPv6 makes one route of several paths out of two with one metric; ours is to stay apart from those of others. */
const metric6 = 512

const isUnreachable = ({ type }: RouteSettings) => type === routeTypes.unreachable

const towards = ({ range, gateway }: PodRoute): RouteSettings => ({
  dst: range,
  gateway,
  priority: range.family === 6 ? metric6 : undefined,
  scope: routeScopes.universe,
  type: routeTypes.unicast,
  protocol,
})

/** What should be there. */
export const wantedRoutes = (routes: readonly PodRoute[], podRanges: Plan['podRanges']): RouteSettings[] => [
  ...routes.map(towards),
  ...podRanges.map((dst) => ({ dst, priority: lastResort, type: routeTypes.unreachable, protocol })),
]

/** The same to a packet. A right route of somebody else is as good as ours. */
const isSame = (wanted: RouteSettings, present: Route): boolean =>
  formatCidr(wanted.dst) === formatCidr(present.dst) &&
  wanted.type === present.type &&
  (isUnreachable(wanted) ? wanted.priority === present.priority : wanted.gateway === present.gateway)

export interface RouteChanges {
  readonly remove: readonly Route[]
  readonly add: readonly RouteSettings[]
}

/** What leads from the routes that are present to the wanted ones. */
export const changesOf = (wanted: readonly RouteSettings[], present: readonly Route[]): RouteChanges => ({
  remove: present.filter((route) => route.protocol === protocol && !wanted.some((each) => isSame(each, route))),
  add: wanted.filter((route) => !present.some((each) => isSame(route, each))),
})

export interface RouteReport {
  readonly added: readonly string[]
  readonly removed: readonly string[]
  readonly problems: readonly string[]
}

/** Makes the main tables what the plan says; what fails for one route does not keep the others. */
export function reconcileRoutes(route: RouteSocket, { routes, podRanges }: Plan): RouteReport {
  const problems: string[] = []
  const reachable = routes.filter((each) => {
    const obstacle = obstacleTo(each.gateway)
    if (obstacle) problems.push(`${formatCidr(each.range)}: ${each.gateway} of node ${each.node} ${obstacle}`)
    return !obstacle
  })
  const { remove, add } = changesOf(wantedRoutes(reachable, podRanges), listBoth(route))
  const perform = (verb: (each: RouteSettings) => void, list: readonly RouteSettings[]) =>
    list.filter((each) => {
      try {
        verb(each)
        return true
      } catch (error) {
        problems.push(messageOf(error))
        return false
      }
    })
  // First what is wrong, as it may have the metric of what is right.
  const removed = perform((each) => route.deleteRoute(each), remove)
  const added = perform((each) => route.addRoute(each), add)
  return { added: added.map(describe), removed: removed.map(describe), problems }
}

/** Takes all of them away. */
export function removeRoutes(route: RouteSocket): string[] {
  const ours = listBoth(route).filter((each) => each.protocol === protocol)
  for (const each of ours) route.deleteRoute(each)
  return ours.map(describe)
}

const listBoth = (route: RouteSocket): Route[] => ([4, 6] as const).flatMap((family) => route.listRoutes(family))

const describe = (route: RouteSettings): string =>
  isUnreachable(route) ? `unreachable ${formatCidr(route.dst)}` : `${formatCidr(route.dst)} via ${route.gateway}`

/** Why a node cannot be the next hop; undefined when it can. */
function obstacleTo(gateway: string): string | undefined {
  using netlink = new NetlinkSocket(protocols.route)
  const decision = decide(netlink, { destination: gateway })
  if ('refused' in decision) return `is out of reach (${decision.refused})`
  if (decision.kind !== 'unicast') return `is no other host's address (${decision.kind})`
  return decision.gateway ? `is not on a link of this node but behind ${decision.gateway}` : undefined
}
