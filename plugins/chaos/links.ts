import type { Attachment } from '../../config/attachment.ts'
import { teardown } from '../contract/dispatch.ts'
import { type Host, hostLinkName } from '../contract/host.ts'
import type { Request } from '../contract/request.ts'
import type { Result } from '../contract/result.ts'
import { clear, collect, hasChain, obstruct, readmit } from './obstruct.ts'
import { type FaultOf, matches, subjectOf } from './rule.ts'
import { exclusively, type Placed, placed, writePlaced } from './state.ts'

/* Links of pods: made worse by ADD, and no trace of that after DEL and GC, at them and at those that were cut off. */

/** The faults that links can have. */
export interface LinkFaults {
  readonly links: readonly FaultOf<'link'>[]
  readonly partitions: readonly FaultOf<'partition'>[]
}

export const isOf =
  ({ network, containerId, ifName }: Attachment) =>
  (one: Placed): boolean =>
    one.network === network && one.container === containerId && one.ifName === ifName

/** The host's end of the pod's link: the name that our plugins give it, else what the result says. */
function linkOf({ interfaces }: Result, request: Request, host: Host): string | undefined {
  const outside = interfaces.filter(({ sandbox }) => !sandbox).map(({ name }) => name)
  const names = [hostLinkName(request), ...outside]
  return names.find((name) => host.route.findLink(name)?.kind === 'veth')
}

function place(result: Result, request: Request, link: string): Placed {
  const { network, ifName } = request
  const addresses = result.ips.map(({ address }) => address.address)
  return { ...subjectOf(request), network, ifName, link, addresses }
}

/** Makes the pod's link worse, and cuts it off from those that a partition names, both ways. */
export function spoil(request: Request, result: Result, { links, partitions }: LinkFaults, host: Host): void {
  const link = linkOf(result, request, host)
  if (link === undefined) {
    if (links.length > 0 || partitions.length > 0) host.warn('chaos: the link of the pod is not known on the host')
    return
  }
  const own = place(result, request, link)
  const rates = links.map(({ rate }) => rate).filter((rate) => rate > 0)
  // Rules are made and unmade by who has the lock, so that none with the address of a pod comes after that is gone.
  exclusively(() => {
    const rest = placed().filter((one) => !isOf(request)(one))
    const others = rest.filter((one) => partitions.some(({ from }) => matches(from, one)))
    writePlaced([...rest, own])
    obstruct(host, link, {
      loss: Math.max(0, ...links.map(({ loss }) => loss)),
      rate: rates.length > 0 ? Math.min(...rates) : 0,
      unreachable: others.flatMap(({ addresses }) => addresses),
    })
    for (const other of others) obstruct(host, other.link, { loss: 0, rate: 0, unreachable: own.addresses })
  })
}

/** Undoes {@link spoil} for one attachment. Absent is done. */
export function release(attachment: Attachment, host: Host): void {
  const link = hostLinkName(attachment)
  teardown(
    () => releasePlaced(isOf(attachment), host),
    () => hasChain(host, link) && clear(host, link),
  )
}

/** Undoes it for all attachments of the network but the valid ones, and for links that are gone. */
export function releaseStale({ network, validAttachments }: Request, host: Host): void {
  const valid = new Set(validAttachments.map(({ containerId, ifName }) => `${containerId} ${ifName}`))
  teardown(
    () => releasePlaced((one) => one.network === network && !valid.has(`${one.container} ${one.ifName}`), host),
    () => collect(host),
  )
}

/** Whoever gets an address of theirs next is nobody that others were cut off from. */
function releasePlaced(isGone: (one: Placed) => boolean, host: Host): void {
  exclusively(() => {
    const all = placed()
    const gone = all.filter(isGone)
    if (gone.length === 0) return
    for (const { link } of gone) clear(host, link)
    readmit(
      host,
      gone.flatMap(({ addresses }) => addresses),
    )
    // Last: what fails is tried again by the next call.
    writePlaced(all.filter((one) => !isGone(one)))
  })
}
