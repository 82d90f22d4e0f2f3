import { deleteFile, findFile, makeDirectory, namesIn, openFlags, statusOf, writeFile } from '../netlink-lib/files.ts'
import { type Lease, leaseName, overwrite } from './lease-files.ts'

/*
 * Who holds which address, found without reading the folder of leases: `<dataDir>/.ns-net/<network>/` has a bucket file
 * for each of 1024 hash values of the container id, one lease per line. A network's name never starts with a dot, so the
 * folder is nobody's network. Everything in here is a hint and is verified against the lease files; the stamp says
 * whether the hints are complete.
 */

/** `own`: made by us, so it ends with the boot that it was recorded in. */
export interface Entry extends Lease {
  readonly own: boolean
}

/** The state of the folder of leases when we last left it, and the boot that our own entries belong to. */
export interface Stamp {
  readonly bootId: string
  readonly inode: number
  /** Whole seconds. */
  readonly modified: number
}

// Keeps a bucket from ever being cut to length 0, see overwrite().
const heading = '# lease index of ns-net; rebuilt from the lease files when missing\n'
const stampName = 'stamp'

const lineOf = ({ own, address, containerId, ifName }: Entry): string =>
  `${own ? 'own' : 'foreign'} ${address} ${containerId} ${ifName}\n`

function parse(text: string): Entry[] {
  const entries: Entry[] = []
  for (const line of text.split('\n')) {
    const [kind, address = '', containerId, ifName] = line.split(' ')
    // A process killed while writing leaves a piece of a line; what it belonged to is found by the next rebuild.
    if (containerId && ifName !== undefined && (kind === 'own' || kind === 'foreign') && leaseName.test(address))
      entries.push({ own: kind === 'own', address, containerId, ifName })
  }
  return entries
}

/** Bucket of a container: FNV-1a, which is short, spreads well and needs no import. */
function bucketOf(containerId: string): string {
  let hash = 0x811c9dc5
  for (let i = 0; i < containerId.length; i++) hash = Math.imul(hash ^ containerId.charCodeAt(i), 0x01000193)
  return ((hash ^ (hash >>> 10) ^ (hash >>> 20)) & 0x3ff).toString(16).padStart(3, '0')
}

const bucketNames = (folder: string): string[] => namesIn(folder).filter((name) => /^[0-9a-f]{3}$/.test(name))

export function readStamp(folder: string): Stamp | undefined {
  const [bootId, inode, modified] = findFile(`${folder}/${stampName}`)?.split(' ') ?? []
  return bootId && inode && modified ? { bootId, inode: Number(inode), modified: Number(modified) } : undefined
}

export function writeStamp(folder: string, { bootId, inode, modified }: Stamp): void {
  overwrite(`${folder}/${stampName}`, `${bootId} ${inode} ${modified} \n`)
}

/** The entries of all containers that share the bucket. */
export function readBucket(folder: string, containerId: string): Entry[] {
  return parse(findFile(`${folder}/${bucketOf(containerId)}`) ?? '')
}

export function writeBucket(folder: string, containerId: string, entries: readonly Entry[]): void {
  overwrite(`${folder}/${bucketOf(containerId)}`, heading + entries.map(lineOf).join(''))
}

/** Adds entries of one container, on a line of their own whatever a killed process has left. */
export function appendEntries(folder: string, containerId: string, entries: readonly Entry[]): void {
  const path = `${folder}/${bucketOf(containerId)}`
  writeFile(path, `\n${entries.map(lineOf).join('')}`, openFlags.create | openFlags.append, 0o600)
}

/** All entries, bucket by bucket, with the time in ms when the bucket was last written. */
export function readBuckets(folder: string): { modified: number; entries: Entry[] }[] {
  return bucketNames(folder).map((name) => ({
    modified: statusOf(`${folder}/${name}`).modified,
    entries: parse(findFile(`${folder}/${name}`) ?? ''),
  }))
}

/** Makes the index say exactly this. */
export function replaceAll(folder: string, entries: readonly Entry[]): void {
  makeDirectory(folder, 0o700)
  const buckets = new Map<string, string[]>(bucketNames(folder).map((name) => [name, []]))
  for (const entry of entries) {
    const name = bucketOf(entry.containerId)
    const lines = buckets.get(name)
    if (lines) lines.push(lineOf(entry))
    else buckets.set(name, [lineOf(entry)])
  }
  for (const [name, lines] of buckets) {
    if (lines.length === 0) deleteFile(`${folder}/${name}`)
    else overwrite(`${folder}/${name}`, heading + lines.join(''))
  }
}
