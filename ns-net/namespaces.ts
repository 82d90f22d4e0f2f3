import fs from 'node:fs'
import { libc } from '../netlink-lib/libc.ts'
import {
  listAllProcesses,
  type NamespaceKind,
  namespaceKinds,
  type Process,
  readPendingNamespaces,
} from './processes.ts'

/** Every namespace of the machine that this user may see, and what keeps each of them alive (namespaces(7)). */

export type Keeper =
  | { readonly by: 'processes'; readonly count: number; readonly first: Holder }
  /** A process whose children, and not itself, will be in there. */
  | ({ readonly by: 'children to come' } & Holder)
  /** `pid`: a process with mounts of its own, where the mount is not one of ours. */
  | { readonly by: 'bind mount'; readonly path: string; readonly pid?: number }
  | ({ readonly by: 'open file'; readonly fd: number } & Holder)
  /** Those that it owns, as a user namespace, and its children, as a pid or user namespace. */
  | { readonly by: 'namespaces below'; readonly count: number; readonly first: NamespaceId }

interface Holder {
  readonly pid: number
  readonly command: string
}

export interface NamespaceId {
  readonly kind: NamespaceKind
  readonly inode: number
}

export interface Namespace extends NamespaceId {
  /** How many are inside. */
  readonly processes: number
  readonly keptBy: readonly Keeper[]
}

export interface Survey {
  /** By kind, then by number. */
  readonly namespaces: readonly Namespace[]
  /** How many processes belong to others and could not be looked into. */
  readonly hidden: number
}

/** What was seen of one namespace so far. */
interface Sighting extends NamespaceId {
  /** A path that leads to it, to ask about its parent and owner. */
  file?: string
  readonly inside: Holder[]
  readonly keepers: Keeper[]
  readonly below: NamespaceId[]
}

type Sightings = Map<string, Sighting>

export function surveyNamespaces(): Survey {
  const seen: Sightings = new Map()
  const processes = listAllProcesses()
  for (const process of processes) seeMemberships(seen, process)
  seeMounts(seen, processes)
  const hidden = processes.filter((process) => !seeOpenFiles(seen, process)).length
  seeFamilies(seen)
  return { namespaces: [...seen.values()].map(described).sort(byKindAndInode), hidden }
}

function sightingOf(seen: Sightings, { kind, inode }: NamespaceId, file?: string): Sighting {
  const key = `${kind}:${inode}`
  const sighting = seen.get(key) ?? { kind, inode, inside: [], keepers: [], below: [] }
  sighting.file ??= file
  seen.set(key, sighting)
  return sighting
}

function described({ kind, inode, inside, keepers, below }: Sighting): Namespace {
  const processes: Keeper[] = inside[0] ? [{ by: 'processes', count: inside.length, first: inside[0] }] : []
  const namespaces: Keeper[] = below[0] ? [{ by: 'namespaces below', count: below.length, first: below[0] }] : []
  return { kind, inode, processes: inside.length, keptBy: [...processes, ...keepers, ...namespaces] }
}

const byKindAndInode = (a: NamespaceId, b: NamespaceId): number =>
  namespaceKinds.indexOf(a.kind) - namespaceKinds.indexOf(b.kind) || a.inode - b.inode

function seeMemberships(seen: Sightings, { pid, command, namespaces }: Process): void {
  for (const kind of namespaceKinds) {
    const inode = namespaces[kind]
    if (inode) sightingOf(seen, { kind, inode }, `/proc/${pid}/ns/${kind}`).inside.push({ pid, command })
  }
  for (const [kind, inode] of Object.entries(readPendingNamespaces(pid)) as [NamespaceKind, number][])
    if (inode !== namespaces[kind])
      sightingOf(seen, { kind, inode }, `/proc/${pid}/ns/${kind}_for_children`).keepers.push({
        by: 'children to come',
        pid,
        command,
      })
}

/** Of our own mount namespace, then of each other one what the former have not shown. */
function seeMounts(seen: Sightings, processes: readonly Process[]): void {
  const told = new Set<string>()
  const see = (pid: number | undefined) => {
    for (const { kind, inode, path } of pinnedIn(pid ?? 'self')) {
      const file = pid === undefined ? path : undefined // the path of another may lead elsewhere
      const { keepers } = sightingOf(seen, { kind, inode }, file)
      const mount = `${kind}:${inode} ${path}`
      if (!told.has(mount)) keepers.push({ by: 'bind mount', path, ...(pid !== undefined && { pid }) })
      told.add(mount)
    }
  }
  see(undefined)
  const own = processes.find(({ pid }) => pid === process.pid)?.namespaces.mnt
  const others = new Map(processes.toReversed().map(({ pid, namespaces }) => [namespaces.mnt, pid]))
  for (const [inode, pid] of others) if (inode !== undefined && inode !== own) see(pid)
}

/** What `net:[4026531840]` says, as the kernel writes it in links and as the root of a mount. */
function parseNamespace(text: string): NamespaceId | undefined {
  const [, name, inode] = /^([a-z]+):\[(\d+)\]$/.exec(text) ?? []
  const kind = namespaceKinds.find((candidate) => candidate === name)
  return kind && { kind, inode: Number(inode) }
}

/** Namespaces that are mounted on a file: proc_pid_mountinfo(5), file system nsfs. */
function pinnedIn(pid: number | 'self'): (NamespaceId & { path: string })[] {
  const lines = attempt(() => fs.readFileSync(`/proc/${pid}/mountinfo`, 'utf8').split('\n')) ?? []
  return lines.flatMap((line) => {
    const [, , , root = '', path = ''] = line.split(' ')
    const namespace = line.includes(' - nsfs ') ? parseNamespace(root) : undefined
    // Octal escapes stand for blanks and the like.
    const unescaped = path.replace(/\\([0-7]{3})/g, (_, digits) => String.fromCharCode(Number.parseInt(digits, 8)))
    return namespace ? { ...namespace, path: unescaped } : []
  })
}

/** False when this user may not look. */
function seeOpenFiles(seen: Sightings, { pid, command }: Process): boolean {
  let fds: string[]
  try {
    fds = fs.readdirSync(`/proc/${pid}/fd`)
  } catch (error) {
    return !['EACCES', 'EPERM'].includes((error as { code?: string }).code ?? '')
  }
  for (const fd of fds) {
    const file = `/proc/${pid}/fd/${fd}`
    const namespace = parseNamespace(attempt(() => fs.readlinkSync(file)) ?? '')
    if (namespace) sightingOf(seen, namespace, file).keepers.push({ by: 'open file', pid, command, fd: Number(fd) })
  }
  return true
}

const getOwner = 0xb701 // NS_GET_USERNS, include/uapi/linux/nsfs.h
const getParent = 0xb702 // NS_GET_PARENT

/** What a namespace keeps alive, and the ioctl that tells it. The owner of a user namespace is its parent. */
function above(kind: NamespaceKind): [request: number, kind: NamespaceKind][] {
  if (kind === 'user') return [[getParent, 'user']]
  const owner: [number, NamespaceKind] = [getOwner, 'user']
  return kind === 'pid' ? [[getParent, 'pid'], owner] : [owner]
}

/** Asks each namespace for its parent and its owner, which may have nothing else that keeps them alive. */
function seeFamilies(seen: Sightings): void {
  const asked = new Set<Sighting>()
  const ask = (fd: number, sighting: Sighting): void => {
    asked.add(sighting)
    for (const [request, kind] of above(sighting.kind)) {
      const found = libc.ioctl(fd, request)
      if (found < 0) continue // the first of all, or one where we may not look
      const next = sightingOf(seen, { kind, inode: fs.fstatSync(found).ino })
      next.below.push({ kind: sighting.kind, inode: sighting.inode })
      if (!asked.has(next)) ask(found, next)
      libc.close(found)
    }
  }
  for (const sighting of [...seen.values()]) {
    const { file, inode } = sighting
    if (file === undefined || asked.has(sighting)) continue
    // Not waiting: by now the path may be something else, which the number then tells.
    const fd = attempt(() => fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK))
    if (fd === undefined) continue
    if (fs.fstatSync(fd).ino === inode) ask(fd, sighting)
    fs.closeSync(fd)
  }
}

/** Processes end and mounts go while we look, and not everything may be looked at. */
function attempt<T>(look: () => T): T | undefined {
  try {
    return look()
  } catch {
    return undefined
  }
}
