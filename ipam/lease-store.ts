import type { AttachmentId } from '../config/attachment.ts'
import { KernelError } from '../netlink-lib/errors.ts'
import { exists, findFile, findStatus, makeDirectory, setModified, statusOf } from '../netlink-lib/files.ts'
import { withLock } from '../netlink-lib/flock.ts'
import { codeOf, IpamError, ioError } from './errors.ts'
import {
  createLease,
  type Lease,
  lastReservedName,
  type Occupancy,
  occupancy,
  overwrite,
  readLease,
  readLeases,
  removeLeases,
} from './lease-files.ts'
import {
  appendEntries,
  type Entry,
  readBucket,
  readBuckets,
  readStamp,
  replaceAll,
  writeBucket,
  writeStamp,
} from './lease-index.ts'

/** Where the leases of a network are. All that DEL needs to know. */
export interface StoreConf {
  readonly network: string
  readonly dataDir: string
  /** Identity of the running boot; for tests. */
  readonly bootId?: string
  /** How long to wait for other processes. */
  readonly lockTimeoutMs?: number
}

/** An address to claim, and the index of the range set that it is given for. */
export interface Grant {
  readonly address: string
  readonly set: number
}

const unknownBoot = 'unknown'

export function folderOf({ network, dataDir }: StoreConf): string {
  return `${dataDir}/${checkedName(network, 'network name')}`
}

/** The callers have checked these names; paths and lines in the index must not depend on that. */
function checkedName(name: string, what: string): string {
  if (/^[^\s/.][^\s/]*$/.test(name)) return name
  throw new IpamError('io', `${what} ${JSON.stringify(name)} can't be a file name`)
}

/** Runs `work` alone on the network's leases. The store is made when absent. */
export function withStore<T>(conf: StoreConf, work: (store: LeaseStore) => T): T {
  const folder = folderOf(conf)
  const lockPath = `${folder}/lock`
  const timeoutMs = conf.lockTimeoutMs ?? 30_000
  try {
    if (!exists(folder)) makeDirectory(folder, 0o755)
    return withLock(lockPath, timeoutMs, () => work(new LeaseStore(conf)))
  } catch (error) {
    if (error instanceof KernelError && error.code === 'EAGAIN')
      throw new IpamError(
        'busy',
        `${lockPath} has been held by another process for ${timeoutMs / 1000} s`,
        `find it with: fuser ${lockPath}`,
        { cause: error },
      )
    throw ioError(`leases of network ${conf.network}`, error)
  }
}

/** The leases of one network. Exists only while the lock is held. */
export class LeaseStore {
  readonly occupancy: Occupancy
  readonly #folder: string
  readonly #index: string
  readonly #bootId: string
  readonly #inode: number
  /** What the files said, when they had to be read. */
  #leases: readonly Lease[] | undefined
  #indexFailed = false

  constructor(conf: StoreConf) {
    this.#folder = folderOf(conf)
    this.#index = `${conf.dataDir}/.ns-net/${conf.network}`
    this.#bootId = conf.bootId ?? findFile('/proc/sys/kernel/random/boot_id')?.trim() ?? unknownBoot
    this.occupancy = occupancy(this.#folder)
    const stamp = readStamp(this.#index)
    const { inode, modified } = statusOf(this.#folder)
    this.#inode = inode
    const rebooted =
      stamp !== undefined && stamp.bootId !== this.#bootId && ![stamp.bootId, this.#bootId].includes(unknownBoot)
    if (rebooted) this.#releaseOwnOfEarlierBoot()
    if (!stamp || rebooted || stamp.inode !== inode || stamp.modified * 1000 !== modified) this.#rebuild(rebooted)
  }

  /** The addresses that the attachment holds. */
  held({ containerId, ifName }: AttachmentId): string[] {
    const known = this.#leases ?? readBucket(this.#index, containerId)
    const ofContainer = known.filter((lease) => lease.containerId === containerId)
    const held = (name: string) => [
      ...new Set(ofContainer.filter((e) => e.ifName === name && this.#stands(e)).map(({ address }) => address)),
    ]
    const exact = held(ifName)
    return exact.length > 0 ? exact : held('') // the oldest format names no interface; it counts when nothing else does
  }

  /** Who holds the address. */
  holder(address: string): Lease | undefined {
    return readLease(this.#folder, address)
  }

  /** Makes the attachment hold these addresses: all of them, or none when it throws. */
  claim({ containerId, ifName }: AttachmentId, grants: readonly Grant[]): void {
    checkedName(containerId, 'container id')
    checkedName(`_${ifName}`, 'interface name')
    // Told to the index first: killed from here on, we leave a hint too many (verified) and never one too few.
    const entries = grants.map(({ address }) => ({ own: true, address, containerId, ifName }))
    appendEntries(this.#index, containerId, entries)
    const claimed: string[] = []
    try {
      for (const entry of entries) {
        createLease(this.#folder, entry)
        claimed.push(entry.address)
      }
      for (const { address, set } of grants) overwrite(`${this.#folder}/${lastReservedName(set)}`, address)
    } catch (error) {
      removeLeases(this.#folder, claimed)
      throw error
    }
    this.#seal()
  }

  /** Gives back everything that the attachment holds. Keeps going past a failure, then throws. */
  release(attachment: AttachmentId): void {
    const { containerId, ifName } = attachment
    const held = this.held(attachment)
    if (held.length === 0) return
    removeLeases(this.#folder, held)
    this.#hint(() => {
      const others = readBucket(this.#index, containerId).filter(
        (e) => e.containerId !== containerId || (e.ifName !== ifName && !held.includes(e.address)),
      )
      writeBucket(this.#index, containerId, others)
      this.#seal()
    })
  }

  /** All leases. */
  leases(): readonly Lease[] {
    return this.#leases ?? readLeases(this.#folder)
  }

  /** Releases all leases but those to keep. Goes on past a failure, then throws. */
  prune(keep: (lease: Lease) => boolean): void {
    const ended = this.leases().filter((lease) => !keep(lease))
    if (ended.length === 0) return
    try {
      removeLeases(
        this.#folder,
        ended.map(({ address }) => address),
      )
    } finally {
      this.#rebuild(false)
    }
  }

  /** Whether the file says what the index says. */
  #stands({ address, containerId, ifName }: Lease): boolean {
    const holder = this.holder(address)
    return holder !== undefined && holder.containerId === containerId && holder.ifName === ifName
  }

  /** Writes the index anew from the lease files. A lease is ours when the earlier index had it as ours. */
  #rebuild(rebooted: boolean): void {
    const leases = readLeases(this.#folder)
    this.#leases = leases
    const earlier = rebooted || !exists(this.#index) ? [] : readBuckets(this.#index).flatMap((b) => b.entries)
    const key = ({ address, containerId, ifName }: Lease) => `${address} ${containerId} ${ifName}`
    const ours = new Set(earlier.filter(({ own }) => own).map(key))
    // What has blanks in its names was made by neither plugin; it is taken, and no attachment can ask for it.
    const entries = leases
      .filter(({ containerId, ifName }) => !/\s/.test(containerId + ifName))
      .map((lease): Entry => ({ ...lease, own: ours.has(key(lease)) }))
    this.#hint(() => {
      replaceAll(this.#index, entries)
      this.#seal()
    })
  }

  /** A full disk must not keep anyone from releasing: without a seal the next call reads the files themselves. */
  #hint(write: () => void): void {
    try {
      write()
    } catch (error) {
      if (!['ENOSPC', 'EDQUOT'].includes(codeOf(error) ?? '')) throw error
      this.#indexFailed = true
    }
  }

  /**
   * Marks the index as complete. The folder gets a modification time that the kernel would not give it now, so any
   * later change by somebody else shows, whatever the resolution of the clock or the file system; and so does a change
   * of ours that was cut short before this.
   */
  #seal(): void {
    if (this.#indexFailed) return
    const modified = Math.floor(Date.now() / 1000) - 86_400
    try {
      setModified(this.#folder, modified)
    } catch (error) {
      if (codeOf(error) === 'EPERM') return // somebody else's folder: each call reads all of it, as the reference does
      throw error
    }
    writeStamp(this.#index, { bootId: this.#bootId, inode: this.#inode, modified })
  }

  /**
   * A boot ends all links, so the leases that we recorded under an earlier one belong to nobody. A file written after
   * its index entry is somebody else's new lease of the same name and stays.
   */
  #releaseOwnOfEarlierBoot(): void {
    const slackMs = 10_000 // the entry is written just before the file
    for (const { modified, entries } of readBuckets(this.#index)) {
      const ended = entries.filter((entry) => {
        const file = entry.own ? findStatus(`${this.#folder}/${entry.address}`) : undefined
        return file !== undefined && file.modified <= modified + slackMs && this.#stands(entry)
      })
      removeLeases(
        this.#folder,
        ended.map(({ address }) => address),
      )
    }
  }
}
