import type { Attachment } from '../../config/attachment.ts'
import { ownerMark, ownerMarks } from '../../nat/mark.ts'
import { type ChainUsers, exclusively, listUsers, usersOf } from '../../nat/users.ts'
import type { Link } from '../../netlink-lib/route/link.ts'
import { teardown } from '../contract/dispatch.ts'
import { CniError, codes } from '../contract/errors.ts'
import type { Host } from '../contract/host.ts'
import type { Plugin } from '../contract/plugin.ts'
import { type Request, requirePrevResult } from '../contract/request.ts'
import type { Result } from '../contract/result.ts'
import { chooseBackend, type Part, partsOf, uninstallPart } from './backend.ts'
import { type FirewallConf, parseFirewall } from './config.ts'
import { policiesOf } from './policy.ts'
import { firewallVersions } from './versions.ts'

/** Which attachment uses which part, one empty file each: the rules are per network and cannot tell. */
const root = '/run/ns-net/firewall'

const partsFor = (conf: FirewallConf, request: Request, host: Host): Part[] =>
  partsOf(conf, policiesOf(request.network, requirePrevResult(request), conf.ingressPolicy, host), host)

function install(parts: readonly Part[], attachment: Attachment): void {
  if (parts.length === 0) return
  const mark = ownerMark(attachment)
  exclusively(root, attachment.network, () => {
    for (const part of parts) {
      // Before the rules, so that DEL finds them when we are killed in between.
      usersOf(root, attachment.network, part.name, part.family).add(mark)
      part.install()
    }
  })
}

/** Lets `change` remove users and uninstalls every part that has none left. */
function release(network: string, change: (users: ChainUsers) => void, host: Host): void {
  if (listUsers(root, network).length === 0) return
  exclusively(root, network, () => {
    const steps = listUsers(root, network).map((users) => () => {
      change(users)
      if (!users.isEmpty) return
      uninstallPart(users.chain, users.family, host)
      users.forget() // after the rules: the empty folder reminds the next DEL when we are killed in between
    })
    teardown(...steps)
  })
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
    const mark = ownerMark(request)
    rollback.onFailure('remove firewall rules', () => release(request.network, (users) => users.delete(mark), host))
    install(parts, request)
    for (const port of isolatedPorts(conf, request, host).filter((each) => !each.port?.isolated)) {
      host.route.setLink(port, { port: { isolated: true } })
      rollback.onFailure(`join ${port.name}`, () => host.route.setLink(port, { port: { isolated: false } }))
    }
    rollback.commit()
    return requirePrevResult(request)
  },

  del(conf, request, host): void {
    const mark = ownerMark(request)
    teardown(
      () => release(request.network, (users) => users.delete(mark), host),
      () => {
        for (const port of isolatedPorts(conf, request, host))
          if (port.port?.isolated) host.route.setLink(port, { port: { isolated: false } })
      },
    )
  },

  check(conf, request, host): void {
    const mark = ownerMark(request)
    for (const part of partsFor(conf, request, host)) {
      const users = usersOf(root, request.network, part.name, part.family)
      if (!users.has(mark))
        throw new CniError(codes.checkFailed, `CHECK: "${mark}" is not among the users in ${users.folder}`)
      part.check()
    }
    const joined = isolatedPorts(conf, request, host).find(({ port }) => !port?.isolated)
    if (joined) throw new CniError(codes.checkFailed, `CHECK: "${joined.name}" is not isolated from its bridge's ports`)
  },

  reload(conf, request, host): void {
    install(partsFor(conf, request, host), request)
  },

  gc(_conf, { network, validAttachments }, host): void {
    const keep = ownerMarks(network, validAttachments)
    const change = (users: ChainUsers) => {
      for (const mark of users.list()) if (!keep.has(mark)) users.delete(mark)
    }
    release(network, change, host)
  },

  status: ({ backend }, _request, host) => void chooseBackend(backend, host),
}
