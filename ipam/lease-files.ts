import {
  cut,
  deleteFile,
  exists,
  findFile,
  namesIn,
  openFile,
  openFlags,
  readFile,
  write,
  writeFile,
} from '../netlink-lib/files.ts'
import { canonicalIp } from '../netlink-lib/ip.ts'
import { codeOf, IpamError } from './errors.ts'

/*
 * host-local's leases on disk, as the reference plugin has them, so that either can release what the other allocated:
 * `<dataDir>/<network>/<address>` holds `<container id>\r\n<interface name>`, and `last_reserved_ip.<set>` the address
 * given last for a range set.
 */

/** One attachment's hold on one address. `ifName` is empty in leases of the oldest format. */
export interface Lease {
  readonly address: string
  readonly containerId: string
  readonly ifName: string
}

/** What the name of a lease file looks like: no slash, no leading dot. */
export const leaseName = /^[0-9a-f:][0-9a-f:.]*$/

export const lastReservedName = (set: number): string => `last_reserved_ip.${set}`

/**
 * Replaces a file's text in place. Not with O_TRUNC: ext4 sends a file to the disk when it is closed after having been
 * cut to nothing (auto_da_alloc). Not with fsync: a power loss that loses the page cache also ends every container,
 * link and lease; a killed process loses nothing of the page cache.
 */
export function overwrite(path: string, text: string): void {
  using file = openFile(path, openFlags.writeOnly | openFlags.create, 0o600)
  write(file.fd, text, path)
  cut(file.fd, Buffer.byteLength(text), path)
}

/** The address given last for a range set; undefined when there's none or it makes no sense. */
export function lastReserved(folder: string, set: number): string | undefined {
  return canonicalIp(findFile(`${folder}/${lastReservedName(set)}`) ?? '')
}

/** The files of a folder of leases, as the choice of an address sees them. */
export interface Occupancy {
  isTaken(address: string): boolean
  /** Everything that `isTaken`, and more, in one reading. */
  fileNames(): ReadonlySet<string>
  lastReserved(set: number): string | undefined
}

export function occupancy(folder: string): Occupancy {
  return {
    isTaken: (address) => exists(`${folder}/${address}`),
    fileNames: () => new Set(namesIn(folder)),
    lastReserved: (set) => lastReserved(folder, set),
  }
}

/** Who holds the address. */
export function readLease(folder: string, address: string): Lease | undefined {
  const text = findFile(`${folder}/${address}`)
  return text === undefined ? undefined : parseLease(address, text)
}

/** The lease in a file's text, undefined when there is nothing but blanks and what a power loss leaves: zero bytes. */
function parseLease(address: string, text: string): Lease | undefined {
  const [containerId = '', ifName = '', ...more] = text.replaceAll('\0', '').trim().split('\r\n')
  if (containerId === '') return undefined
  return { address, containerId: [containerId, ...more].join('\r\n'), ifName }
}

/**
 * Reads every lease file. Needs the lock. An empty file is a claim whose process was killed, since nobody else is
 * writing now: it is removed.
 */
export function readLeases(folder: string): Lease[] {
  const leases: Lease[] = []
  for (const name of namesIn(folder)) {
    if (!leaseName.test(name)) continue
    let text: string
    try {
      text = readFile(`${folder}/${name}`)
    } catch (error) {
      if (codeOf(error) === 'EISDIR') continue // not a lease, whatever it is
      throw error
    }
    const lease = parseLease(name, text)
    if (lease) leases.push(lease)
    else deleteFile(`${folder}/${name}`)
  }
  return leases
}

/** O_EXCL although the lock is held: whoever doesn't care for locks must not lose its address to us. */
export function createLease(folder: string, { address, containerId, ifName }: Lease): void {
  const path = `${folder}/${address}`
  try {
    writeFile(path, `${containerId}\r\n${ifName}`, openFlags.create | openFlags.exclusive, 0o600)
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') deleteFile(path)
    throw error
  }
}

/** Removes what can be removed, then throws one error that lists the rest. */
export function removeLeases(folder: string, addresses: readonly string[]): void {
  const failures: unknown[] = []
  for (const address of addresses) {
    try {
      deleteFile(`${folder}/${address}`)
    } catch (error) {
      failures.push(error)
    }
  }
  if (failures.length === 0) return
  const list = failures.map((failure) => (failure as Error).message).join('; ')
  throw new IpamError('io', `${failures.length} of ${addresses.length} leases could not be released: ${list}`, list, {
    cause: failures[0],
  })
}
