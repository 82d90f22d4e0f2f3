import type { Attachment, AttachmentId } from '../config/attachment.ts'
import type { Value } from '../config/reader.ts'
import { exists, requireAccess } from '../netlink-lib/files.ts'
import { IpamError, ioError } from './errors.ts'
import { addressOf, cniArgsList, type IpamInput, parseRoutes, refuseCrowdedFamilies } from './input.ts'
import { type Lease, type Occupancy, occupancy } from './lease-files.ts'
import { folderOf, type Grant, type LeaseStore, type StoreConf, withStore } from './lease-store.ts'
import {
  type Candidate,
  candidates,
  type Interval,
  isGateway,
  overlap,
  parseInterval,
  parseRange,
  parseRangeSet,
  type RangeSet,
  rangeOf,
  rangeSetText,
} from './range.ts'
import { readResolvConf } from './resolv-conf.ts'
import type { IpamResult, Route } from './result.ts'

export type { IpamInput } from './input.ts'
export type { StoreConf } from './lease-store.ts'

export interface HostLocalConf extends StoreConf {
  /** One address of each is given to an attachment. */
  readonly rangeSets: readonly RangeSet[]
  /** Given only when requested. */
  readonly excluded: readonly Interval[]
  /** Addresses asked for, of whichever set has them. */
  readonly requested: readonly string[]
  readonly routes: readonly Route[]
  /** File to take the DNS settings from; read by ADD only. */
  readonly resolvConf?: string
}

/** The part that DEL needs: nothing else in the configuration can keep it from releasing. */
export function parseStore({ network, ipam }: Pick<IpamInput, 'network' | 'ipam'>): StoreConf {
  const dataDir = ipam.get('dataDir')?.string() || '/var/lib/cni/networks'
  if (!dataDir.startsWith('/')) ipam.fail('dataDir', `expected an absolute path, got "${dataDir}"`)
  return { network, dataDir }
}

export function parseHostLocal(input: IpamInput): HostLocalConf {
  const { ipam, args, runtimeConfig, cniArgs } = input
  const rangeSets = parseRangeSets(input)
  const families = rangeSets.map((set) => set[0]!.subnet.family)
  refuseCrowdedFamilies(input.cniVersion, families, ipam.at('ranges'))
  const requested = [
    ...cniArgsList(cniArgs, 'IP').map(addressOf),
    ...(args?.list('ips', addressOf) ?? []),
    ...(runtimeConfig?.list('ips', addressOf) ?? []),
  ]
  const resolvConf = ipam.get('resolvConf')?.string()
  return {
    ...parseStore(input),
    rangeSets,
    excluded: ipam.list('exclude', parseInterval),
    requested: [...new Set(requested)],
    routes: parseRoutes(ipam),
    ...(resolvConf && { resolvConf }),
  }
}

/** The order decides the number in `last_reserved_ip.<n>`, so it is the reference's: runtime, single range, ranges. */
function parseRangeSets({ ipam, runtimeConfig }: IpamInput): RangeSet[] {
  const found: { set: RangeSet; path: string }[] = []
  const read = (value: Value) => {
    found.push({ set: parseRangeSet(value), path: value.path })
  }
  runtimeConfig?.list('ipRanges', read)
  if (ipam.get('subnet')) found.push({ set: [parseRange(ipam)], path: ipam.at('subnet') })
  ipam.list('ranges', read)
  if (found.length === 0) ipam.fail('ranges', 'no IP ranges specified; give subnet or ranges')
  for (const [i, { set, path }] of found.entries())
    for (const [j, other] of found.slice(0, i).entries())
      if (set.some((a) => other.set.some((b) => overlap(a, b))))
        ipam.fail(
          'ranges',
          `range set ${j} overlaps with ${i} (${other.path} ${rangeSetText(other.set)}, ${path} ${rangeSetText(set)})`,
        )
  return found.map(({ set }) => set)
}

/** ADD: one address of every range set. When it throws, nothing has been taken. */
export function allocate(conf: HostLocalConf, attachment: Attachment): IpamResult {
  const dns = conf.resolvConf === undefined ? undefined : readResolvConf(conf.resolvConf)
  const chosen = withStore(conf, (store) => {
    const chosen = choose(conf, attachment, store)
    store.claim(
      attachment,
      chosen.map(({ address }, set): Grant => ({ address, set })),
    )
    return chosen
  })
  return {
    ips: chosen.map(({ address, range: { subnet, gateway } }) => ({ address: { ...subnet, address }, gateway })),
    routes: conf.routes,
    ...(dns && { dns }),
  }
}

/** Decides on an address of every set before any is taken, so there is nothing to undo when one set has none. */
function choose(conf: HostLocalConf, attachment: Attachment, store: LeaseStore): Candidate[] {
  const held = store.held(attachment)
  const requested = new Set(conf.requested)
  const chosen = conf.rangeSets.map((set, i) => {
    const duplicate = held.find((address) => rangeOf(set, address))
    if (duplicate !== undefined)
      throw new IpamError(
        'duplicate',
        `failed to allocate for range ${i}: ${duplicate} has been allocated to ${attachment.containerId} (interface ${attachment.ifName}), duplicate allocation is not allowed`,
        'run DEL for this attachment first',
      )
    const wanted = [...requested].find((address) => rangeOf(set, address))
    if (wanted === undefined) return nextFree(conf, i, store.occupancy)
    requested.delete(wanted)
    return grantable(conf, i, wanted, store)
  })
  if (requested.size > 0)
    throw new IpamError(
      'unavailable',
      `failed to allocate all requested IPs: ${[...requested].join(' ')}`,
      `one address of each range set can be requested: ${conf.rangeSets.map(rangeSetText).join(' and ')}`,
    )
  return chosen
}

function grantable(conf: HostLocalConf, i: number, address: string, store: LeaseStore): Candidate {
  const set = conf.rangeSets[i]!
  const refuse = (problem: string, remedy: string): never => {
    throw new IpamError('unavailable', `failed to allocate for range ${i}: ${problem}`, remedy)
  }
  if (isGateway(set, address)) refuse(`requested ip ${address} is subnet's gateway`, 'request another address')
  if (store.occupancy.isTaken(address)) {
    const holder = store.holder(address)
    const owner = holder
      ? `held by container ${holder.containerId}${holder.ifName && ` (interface ${holder.ifName})`}`
      : 'taken'
    refuse(
      `requested IP address ${address} is not available in range set ${rangeSetText(set)}: ${owner}`,
      'request another address, or run DEL for the holder if it is gone',
    )
  }
  return { address, range: rangeOf(set, address)! }
}

/** After so many taken addresses in a row one reading of the folder is cheaper than asking for each. */
const patience = 64

function nextFree(conf: HostLocalConf, i: number, files: Occupancy): Candidate {
  const set = conf.rangeSets[i]!
  let names: ReadonlySet<string> | undefined
  let tried = 0
  for (const candidate of candidates(set, files.lastReserved(i), conf.excluded)) {
    if (!(names ? names.has(candidate.address) : files.isTaken(candidate.address))) return candidate
    if (++tried === patience) names = files.fileNames()
  }
  throw new IpamError(
    'exhausted',
    `failed to allocate for range ${i}: no IP addresses available in range set: ${rangeSetText(set)}`,
    `network ${conf.network}: widen the range, add one to the set, or release leases of containers that are gone (GC)`,
  )
}

/** DEL: gives back all addresses of the attachment. Holding none is success. */
export function release(conf: StoreConf, attachment: Attachment): void {
  if (exists(folderOf(conf))) withStore(conf, (store) => store.release(attachment))
}

/** The addresses that the attachment holds. */
export function find(conf: StoreConf, attachment: Attachment): readonly string[] {
  return exists(folderOf(conf)) ? withStore(conf, (store) => store.held(attachment)) : []
}

/** All leases of the network. */
export function leases(conf: StoreConf): readonly Lease[] {
  return exists(folderOf(conf)) ? withStore(conf, (store) => store.leases()) : []
}

/**
 * CHECK: throws unless the attachment holds an address, and holds those of the `expected` ones (the previous result's)
 * that lie in a range set of ours.
 */
export function check(conf: HostLocalConf, attachment: Attachment, expected: readonly string[] = []): void {
  const held = find(conf, attachment)
  const who = `container ${attachment.containerId} (interface ${attachment.ifName})`
  if (held.length === 0)
    throw new IpamError(
      'missing',
      `Failed to find address added by ${who} in network ${conf.network}`,
      `no file in ${folderOf(conf)} names it; recreate the container`,
    )
  const lost = expected.filter(
    (address) => !held.includes(address) && conf.rangeSets.some((set) => rangeOf(set, address)),
  )
  if (lost.length > 0)
    throw new IpamError('missing', `${lost.join(', ')} no longer reserved for ${who} in network ${conf.network}`)
}

/** GC: releases all leases of the network but those of the attachments listed. */
export function collect(conf: StoreConf, valid: readonly AttachmentId[]): void {
  if (!exists(folderOf(conf))) return
  const attachments = new Set(valid.map(({ containerId, ifName }) => `${containerId} ${ifName}`))
  const containers = new Set(valid.map(({ containerId }) => containerId))
  withStore(conf, (store) =>
    store.prune(({ containerId, ifName }) =>
      ifName === '' ? containers.has(containerId) : attachments.has(`${containerId} ${ifName}`),
    ),
  )
}

/** STATUS: throws when the next ADD would find no address or could not write it down. Takes no lock: it's a question. */
export function status(conf: HostLocalConf): void {
  const folder = folderOf(conf)
  let existing = folder
  while (existing !== '/' && !exists(existing)) existing = existing.slice(0, existing.lastIndexOf('/')) || '/'
  try {
    requireAccess(`${existing}/.`, 2 | 1) // the dot: of a plain file it is refused
  } catch (error) {
    throw ioError(`ipam.dataDir ${conf.dataDir}: leases can't be written`, error)
  }
  if (existing !== folder) return
  const files = occupancy(folder)
  for (const i of conf.rangeSets.keys()) nextFree(conf, i, files)
}
