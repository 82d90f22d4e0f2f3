import { PortTaken } from '../../nat/errors.ts'
import { forwardsOf, type PortForwarding } from '../../nat/forwards.ts'
import { openPortForward, type PortForward } from '../../nat/port-forward.ts'
import type { Cidr } from '../../netlink-lib/ip.ts'
import type { SysctlName } from '../../netlink-lib/sysctl.ts'
import { CniError, codes } from '../contract/errors.ts'
import type { Host } from '../contract/host.ts'
import type { Plugin } from '../contract/plugin.ts'
import { type Request, requirePrevResult } from '../contract/request.ts'
import type { Result } from '../contract/result.ts'
import { type PortmapConf, parsePortmap } from './config.ts'
import { giveUp, isOwnContainer, isWaiting, staleClaims, type WaitingClaim, wait, waitingClaims } from './waiting.ts'

const openPorts = ({ backend }: Pick<PortmapConf, 'backend'>, host: Host): PortForward =>
  host.keep(openPortForward(backend, (message) => host.warn(message)))

function requireChained(request: Request): Result {
  if (request.prevResult) return request.prevResult
  throw new CniError(
    codes.invalidConfig,
    'must be called as chained plugin',
    'put portmap after bridge, veth or another plugin that gives addresses in the "plugins" list',
  )
}

/** The first address of each family that is on this interface of the container, or on none that is named. */
function targetsOf({ ips, interfaces }: Result, ifName: string): Cidr[] {
  const own = ips.filter(({ interface: index }) => {
    const link = index === undefined ? undefined : interfaces[index]
    return link === undefined || (link.name === ifName && link.sandbox)
  })
  return ([4, 6] as const).flatMap((family) => own.find(({ address }) => address.family === family)?.address ?? [])
}

const forwardingFor = (conf: PortmapConf, request: Request): PortForwarding => ({
  ...conf,
  targets: targetsOf(requirePrevResult(request), request.ifName),
})

/** A mapping that no address of the container can serve is no error, as with the reference plugin. */
function warnOfUnserved(host: Host, { mappings, targets }: PortForwarding): void {
  for (const mapping of mappings)
    if (forwardsOf({ mappings: [mapping], targets }).length === 0)
      host.warn(
        `host port ${mapping.hostPort} is not forwarded: the container has no address of the family of ` +
          `${mapping.hostIp ? `hostIP ${mapping.hostIp}` : 'any'}`,
      )
}

/** What lets packets from 127.0.0.1 leave by the link that leads to the container, when there is need and a route. */
function localhostSetting(host: Host, { masquerade, mappings, targets }: PortForwarding): SysctlName | undefined {
  const [target] = targets.filter(({ family }) => family === 4)
  if (masquerade === 'none' || !target || forwardsOf({ mappings, targets: [target] }).length === 0) return undefined
  const index = host.route.findLinkTowards(target.address)
  return index === undefined ? undefined : ['ipv4', 'conf', host.route.getLink(index).name, 'route_localnet']
}

/** Shared by all containers behind that link, so it is never undone; a link of one container takes it along. */
function allowLocalhost(host: Host, forwarding: PortForwarding): void {
  const name = localhostSetting(host, forwarding)
  if (name) host.sysctl.set(name, '1')
}

function checkLocalhost(host: Host, forwarding: PortForwarding): void {
  const name = localhostSetting(host, forwarding)
  const value = name && host.sysctl.find(name)
  if (name && value !== '1')
    throw new CniError(codes.checkFailed, `CHECK: sysctl net.${name.join('.')} is ${value ?? 'missing'}, expected 1`)
}

/** Gives ports that have become free to the interfaces that wait for them; those still taken go on waiting. */
function promote(claims: readonly WaitingClaim[], host: Host): void {
  for (const { attachment, backend, forwarding } of claims) {
    try {
      openPorts({ backend }, host).add(attachment, forwarding)
    } catch (error) {
      if (error instanceof PortTaken) continue
      throw error
    }
    giveUp(attachment)
  }
}

/** Chained: ports of the host lead to the container (capability `portMappings`). */
export const portmap: Plugin<PortmapConf> = {
  type: 'portmap',
  parse: parsePortmap,

  add(conf, request, host): Result {
    const prevResult = requireChained(request)
    if (conf.mappings.length === 0) return prevResult
    const forwarding = forwardingFor(conf, request)
    warnOfUnserved(host, forwarding)
    using rollback = host.rollback()
    const ports = openPorts(conf, host)
    rollback.onFailure('remove port forwarding', () => ports.del(request))
    try {
      ports.add(request, forwarding)
    } catch (error) {
      if (!isOwnContainer(error)) throw error
      rollback.onFailure('forget the waiting ports', () => giveUp(request))
      wait({ attachment: request, backend: conf.backend, forwarding })
    }
    allowLocalhost(host, forwarding)
    rollback.commit()
    return prevResult
  },

  /** Runtimes leave portMappings out: what ADD made is found by its owner. */
  del(conf, request, host): void {
    giveUp(request)
    openPorts(conf, host).del(request, conf.mappings)
    promote(waitingClaims(request.containerId), host)
  },

  check(conf, request, host): void {
    requirePrevResult(request)
    if (conf.mappings.length === 0) return
    const forwarding = forwardingFor(conf, request)
    if (!isWaiting(request)) openPorts(conf, host).check(request, forwarding)
    checkLocalhost(host, forwarding)
  },

  reload(conf, request, host): void {
    if (conf.mappings.length === 0 || isWaiting(request)) return
    const forwarding = forwardingFor(conf, request)
    openPorts(conf, host).add(request, forwarding)
    allowLocalhost(host, forwarding)
  },

  gc(conf, request, host): void {
    for (const { attachment } of staleClaims(request.network, request.validAttachments)) giveUp(attachment)
    openPorts(conf, host).collect(request.network, request.validAttachments)
    promote(waitingClaims(), host)
  },

  status(conf, _request, host): void {
    openPorts(conf, host).probe()
  },
}
