import fs from 'node:fs'

/** Processes and their namespaces, as /proc shows them to this user (proc(5), namespaces(7)). */

export const namespaceKinds = ['net', 'mnt', 'pid', 'user', 'uts', 'ipc', 'cgroup', 'time'] as const
export type NamespaceKind = (typeof namespaceKinds)[number]

export interface Process {
  readonly pid: number
  readonly parent: number
  /** The process's number in each pid namespace it is in, outermost first (NSpid). */
  readonly nsPids: readonly number[]
  readonly uid: number
  readonly command: string
  /** Inode of each namespace; undefined where this user may not look. */
  readonly namespaces: Readonly<Partial<Record<NamespaceKind, number>>>
  /** The cgroup paths, one per hierarchy. */
  readonly cgroups: readonly string[]
}

/** All processes but the kernel's own threads, children of pid 2. */
export const listProcesses = (): Process[] =>
  listAllProcesses().filter(({ pid, parent, command }) => !command.startsWith('[') || (pid !== 2 && parent !== 2))

/** With the kernel's threads. */
export function listAllProcesses(): Process[] {
  return fs
    .readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((entry) => readProcess(Number(entry)) ?? [])
    .sort((a, b) => a.pid - b.pid)
}

/** Undefined when the process has ended. */
export function readProcess(pid: number): Process | undefined {
  try {
    const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8')
    const field = (name: string) => new RegExp(`^${name}:\\s+(.*)$`, 'm').exec(status)?.[1] ?? ''
    const args = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').join(' ').trim()
    return {
      pid,
      parent: Number(field('PPid')),
      nsPids: field('NSpid').split(/\s+/).map(Number),
      uid: Number(field('Uid').split(/\s+/)[0]),
      command: args || `[${field('Name')}]`,
      namespaces: readNamespaces(pid),
      cgroups: readIfAllowed(`/proc/${pid}/cgroup`)
        .trimEnd()
        .split('\n')
        .map((line) => line.split(':').slice(2).join(':')),
    }
  } catch (error) {
    const { code } = error as { code?: string }
    if (code === 'ENOENT' || code === 'ESRCH') return undefined
    throw error
  }
}

export const readNamespaces = (pid: number): Partial<Record<NamespaceKind, number>> =>
  readLinks(pid, namespaceKinds, (kind) => kind)

/** The namespaces in which a process's next children will be: of these kinds unshare(2) does not move itself. */
export const readPendingNamespaces = (pid: number): Partial<Record<NamespaceKind, number>> =>
  readLinks(pid, ['pid', 'time'], (kind) => `${kind}_for_children`)

function readLinks(
  pid: number,
  kinds: readonly NamespaceKind[],
  nameOf: (kind: NamespaceKind) => string,
): Partial<Record<NamespaceKind, number>> {
  const found: Partial<Record<NamespaceKind, number>> = {}
  for (const kind of kinds) {
    const inode = /\[(\d+)\]/.exec(linkIfAllowed(`/proc/${pid}/ns/${nameOf(kind)}`))?.[1]
    if (inode) found[kind] = Number(inode)
  }
  return found
}

/** Which user ids a process's user namespace knows, as ours sees them (user_namespaces(7)). */
export function readUidMap(pid: number): { inside: number; outside: number; count: number }[] {
  const lines = readIfAllowed(`/proc/${pid}/uid_map`).split('\n').filter(Boolean)
  return lines.map((line) => {
    const [inside = 0, outside = 0, count = 0] = line.trim().split(/\s+/).map(Number)
    return { inside, outside, count }
  })
}

function linkIfAllowed(path: string): string {
  try {
    return fs.readlinkSync(path)
  } catch {
    return '' // another user's process: marked as not visible
  }
}

function readIfAllowed(path: string): string {
  try {
    return fs.readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

/** Container ids as runtimes put them into cgroup paths: 64 hex digits, perhaps between a prefix and `.scope`. */
export function containerIdOf({ cgroups }: Process): string | undefined {
  for (const path of cgroups) {
    const id = /([0-9a-f]{64})(?:\.scope)?(?:\/|$)/.exec(path)?.[1]
    if (id) return id
  }
  return undefined
}
