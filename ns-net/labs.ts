import fs from 'node:fs'
import { withLock } from '../netlink-lib/flock.ts'
import { netnsDirectory } from '../netlink-lib/netns.ts'
import type { ConfList } from './conflist.ts'
import { CliError } from './errors.ts'
import type { PortMapping } from './port-mappings.ts'

/** A lab: a named network namespace with what ns-net attached to it. The record lives in /run, as the namespace does. */
export interface Lab {
  readonly name: string
  /** ISO 8601. */
  readonly created: string
  /** Oldest first. */
  readonly attachments: readonly LabAttachment[]
  readonly labels?: Readonly<Record<string, string>>
  /** Name servers that the lab was told; the network's or the host's unless there are any. */
  readonly dns?: readonly string[]
  /** Settings that a lab file changed, by name with slashes, and what they were before. */
  readonly sysctls?: Readonly<Record<string, string>>
  /** The namespace was made by somebody else, who gave it to us. */
  readonly adopted?: boolean
}

export interface LabAttachment {
  readonly network: string
  readonly ifName: string
  /** With prefix length. Empty until the ADD is complete. */
  readonly addresses: readonly string[]
  readonly gateway?: string
  /** Name of the bridge, when there is one. */
  readonly bridge?: string
  readonly ports?: readonly PortMapping[]
  /** CNI_ARGS: the address and MAC that were asked for. */
  readonly args?: Readonly<Record<string, string>>
  /** A name that its end on the host was given besides its own. */
  readonly hostIf?: string
  readonly config: ConfList
}

export const stateDirectory = '/run/ns-net'
const lockFile = '/run/ns-net.lock'
const labDirectory = `${stateDirectory}/labs`
export const networkDirectory = `${stateDirectory}/networks`

const labFile = (name: string) => `${labDirectory}/${name}.json`
export const netnsPath = (name: string) => `${netnsDirectory}/${name}`

/** Lab names become file names, container ids and directory names below /etc/netns. */
export function checkLabName(name: string): void {
  if (/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$/.test(name)) return
  throw new CliError(
    'usage',
    `bad name "${name}"`,
    'a name starts with a letter or digit, goes on with letters, digits, "_", "." or "-", and has at most 63 characters',
  )
}

/**
 * One change at a time: every verb that changes something runs under this lock. With the last lab our state and the
 * lock's own file go too; whoever waits for that file notices and takes a new one. The rest of /run/ns-net belongs to
 * plugins that may serve other runtimes.
 */
export function exclusively<T>(work: () => T): T {
  return withLock(lockFile, 30_000, () => {
    try {
      return work()
    } finally {
      if (filesOf(labDirectory).length === 0) {
        for (const directory of [labDirectory, networkDirectory, stateDirectory]) removeIfEmpty(directory)
        fs.rmSync(lockFile, { force: true })
      }
    }
  })
}

/** Removes a directory unless something is in it. */
export function removeIfEmpty(directory: string): void {
  if (filesOf(directory).length === 0 && fs.existsSync(directory)) fs.rmdirSync(directory)
}

export function writeLab(lab: Lab): void {
  fs.mkdirSync(labDirectory, { recursive: true })
  fs.writeFileSync(`${labFile(lab.name)}.new`, JSON.stringify(lab))
  fs.renameSync(`${labFile(lab.name)}.new`, labFile(lab.name))
}

export function findLab(name: string): Lab | undefined {
  try {
    return JSON.parse(fs.readFileSync(labFile(name), 'utf8')) as Lab
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return undefined
    throw error
  }
}

export const forgetLab = (name: string): void => fs.rmSync(labFile(name), { force: true })

function filesOf(directory: string): string[] {
  return fs.existsSync(directory) ? fs.readdirSync(directory).sort() : []
}

/** The labs that ns-net made. */
export function listLabs(): Lab[] {
  return filesOf(labDirectory).flatMap((file) => (file.endsWith('.json') ? (findLab(file.slice(0, -5)) ?? []) : []))
}

/** Names of all pinned namespaces, whoever made them. */
export const listNetnsNames = (): string[] => filesOf(netnsDirectory)

/** True when a namespace of that name is pinned, whoever made it. */
export const isNetnsName = (name: string): boolean => fs.existsSync(netnsPath(name))

/** Process ids in each network namespace, by inode: those this user may see. */
export function processesByNetns(): Map<number, number[]> {
  const found = new Map<number, number[]>()
  for (const entry of fs.readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    try {
      const inode = fs.statSync(`/proc/${entry}/ns/net`).ino
      found.set(inode, [...(found.get(inode) ?? []), Number(entry)])
    } catch {
      // the process ended, or belongs to another user
    }
  }
  return found
}

/** Number of the namespace of that name; undefined when there is none. */
export const inodeOf = (name: string): number | undefined =>
  fs.statSync(netnsPath(name), { throwIfNoEntry: false })?.ino

/** Process ids inside a lab. */
export const processesIn = (name: string): number[] => processesByNetns().get(inodeOf(name) ?? -1) ?? []
