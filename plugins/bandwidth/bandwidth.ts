import type { Attachment } from '../../config/attachment.ts'
import { fnv1a } from '../../nat/mark.ts'
import { isKernelError } from '../../netlink-lib/errors.ts'
import type { Link } from '../../netlink-lib/route/link.ts'
import { isBucket, type TokenBucket } from '../../netlink-lib/route/traffic-control.ts'
import { teardown } from '../contract/dispatch.ts'
import { CniError, codes } from '../contract/errors.ts'
import type { Host } from '../contract/host.ts'
import { hostLinkName, linkMark } from '../contract/marks.ts'
import type { Plugin } from '../contract/plugin.ts'
import { type Request, requirePrevResult } from '../contract/request.ts'
import type { Result } from '../contract/result.ts'
import type { Rollback } from '../contract/rollback.ts'
import { type BandwidthConf, parseBandwidth } from './config.ts'
import { bandwidthVersions } from './versions.ts'

/*
 * A token bucket limits what leaves through a link. What the container receives leaves through the host's end of its
 * link; what it sends comes in there, is redirected to a link of kind ifb and leaves through that.
 */

const prefix = 'bwp'

/**
 * The ifb's name, derived from the whole attachment: DEL finds it with nothing but that. The reference plugin takes the
 * container id only, so that a container's second limited interface cannot be added.
 */
const ifbName = ({ network, containerId, ifName }: Attachment): string =>
  prefix + fnv1a(`${network}\0${containerId}\0${ifName}`).slice(0, 12)

function fail(what: string): never {
  throw new CniError(codes.checkFailed, `CHECK: ${what}`, 'delete and add the container again')
}

/** The host's end of the container's link, which an earlier plugin must have reported. */
function hostEnd(request: Request, host: Host): Link {
  using container = host.openContainer(request.netns)
  const inner = container.route.findLink(request.ifName)
  const outer = inner?.kind === 'veth' && inner.peerIndex ? host.route.findLink(inner.peerIndex) : undefined
  const reported = requirePrevResult(request).interfaces.some(({ name, sandbox }) => !sandbox && name === outer?.name)
  if (outer && reported && outer.peerIndex === inner?.index) return outer
  throw new CniError(
    codes.conflict,
    `no end of "${request.ifName}" in ${request.netns} is known on the host`,
    'bandwidth limits veth links that prevResult names with both ends: put it after bridge or ptp',
  )
}

/** The host's ends that DEL can know of without the container: derived, or reported by a result. */
function knownEnds(request: Request, host: Host): Link[] {
  const reported = request.prevResult?.interfaces.filter(({ sandbox }) => !sandbox).map(({ name }) => name) ?? []
  const names = new Set([hostLinkName(request), ...reported])
  return [...names].map((name) => host.route.findLink(name)).filter((link) => link?.kind === 'veth') as Link[]
}

/** What is in the way was made by an earlier ADD; a queueing discipline has no mark and may be somebody else's. */
function alreadyLimited({ containerId, ifName, network }: Request, obstacle: string, otherRemedy = ''): CniError {
  return new CniError(
    codes.conflict,
    `interface ${ifName} of container ${containerId} in network "${network}" is limited already: ${obstacle}`,
    `an earlier ADD was not undone: run DEL first${otherRemedy}`,
  )
}

/** Runs what makes a queueing discipline on the host's end, which can have only one at that place. */
function limit(outer: Link, place: 'root' | 'ingress', request: Request, create: () => void): void {
  try {
    create()
  } catch (error) {
    if (!isKernelError(error, 'EEXIST')) throw error
    const remedy = `, or delete what another program made: \`tc qdisc delete dev ${outer.name} ${place}\``
    throw alreadyLimited(request, `"${outer.name}" has ${place === 'root' ? 'a' : 'an'} ${place} qdisc`, remedy)
  }
}

/** The ifb with the bucket for what the container sends, before anything is sent there. */
function createQueue(host: Host, request: Request, outer: Link, egress: TokenBucket, rollback: Rollback): Link {
  const name = ifbName(request)
  host.route.createIfb({ name, mtu: outer.mtu, up: true })
  rollback.onFailure(`delete ${name}`, () => host.route.deleteLink(name))
  const ifb = host.route.getLink(name)
  host.route.setLink(ifb, { alias: linkMark(request) })
  host.route.createBucket(ifb, egress)
  return ifb
}

function checkBucket(host: Host, link: Link, wanted: TokenBucket): void {
  const state = host.route.findBucket(link)
  if (!state) fail(`"${link.name}" has no token bucket`)
  if (isBucket(state, wanted)) return
  const { rate, burst, limit } = wanted
  fail(
    `the limit of "${link.name}" is ${state.rate} bytes/s with ${state.fillTicks} ticks and ${state.limit} bytes of ` +
      `queue, expected ${rate} bytes/s, burst ${burst} bytes and ${limit} bytes of queue`,
  )
}

export const bandwidth: Plugin<BandwidthConf> = {
  type: 'bandwidth',
  versions: bandwidthVersions,
  parse: parseBandwidth,

  add({ ingress, egress }, request, host): Result {
    const prevResult = requirePrevResult(request)
    if (!ingress && !egress) return prevResult
    const outer = hostEnd(request, host)
    const name = ifbName(request)
    if (host.route.findLink(name)) throw alreadyLimited(request, `link "${name}" exists on the host`)
    using rollback = host.rollback()
    if (ingress) {
      limit(outer, 'root', request, () => host.route.createBucket(outer, ingress))
      rollback.onFailure(`delete the limit of ${outer.name}`, () => host.route.deleteBucket(outer))
    }
    if (!egress) {
      rollback.commit()
      return prevResult
    }
    const ifb = createQueue(host, request, outer, egress, rollback)
    limit(outer, 'ingress', request, () => host.route.createRedirect(outer, ifb))
    rollback.commit()
    const { mac, mtu } = ifb
    return { ...prevResult, interfaces: [...prevResult.interfaces, { name, mac, mtu }] }
  },

  del(_conf, request, host): void {
    const release = (outer: Link) => {
      const ifb = host.route.findLink(ifbName(request))
      const target = host.route.findRedirect(outer)
      const isOurs = target !== undefined && target === (ifb?.index ?? 0) // 0: the ifb was deleted under it
      if (isOurs) host.route.deleteRedirect(outer)
      if (host.route.findBucket(outer)) host.route.deleteBucket(outer)
    }
    teardown(
      () => teardown(...knownEnds(request, host).map((outer) => () => release(outer))),
      () => host.route.deleteLink(ifbName(request)),
    )
  },

  check({ ingress, egress }, request, host): void {
    requirePrevResult(request)
    if (!ingress && !egress) return
    const outer = hostEnd(request, host)
    if (ingress) checkBucket(host, outer, ingress)
    if (!egress) return
    const ifb = host.route.findLink(ifbName(request)) ?? fail(`link "${ifbName(request)}" is gone`)
    if (!ifb.up) fail(`link "${ifb.name}" is down`)
    if (host.route.findRedirect(outer) !== ifb.index) fail(`"${outer.name}" redirects nothing to "${ifb.name}"`)
    checkBucket(host, ifb, egress)
  },

  gc(_conf, { network, validAttachments }, host): void {
    const valid = new Set(validAttachments.map((attachment) => ifbName({ network, ...attachment })))
    const stale = host.route
      .listLinks()
      .filter(({ name, alias, kind }) => kind === 'ifb' && alias?.startsWith(`ns-net:${network}:`) && !valid.has(name))
    teardown(
      ...stale.map(
        ({ index }) =>
          () =>
            host.route.deleteLink(index),
      ),
    )
  },
}
