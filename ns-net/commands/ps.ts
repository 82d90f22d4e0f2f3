import fs from 'node:fs'
import { CliError } from '../errors.ts'
import { listNetnsNames, netnsPath } from '../labs.ts'
import { type Report, table } from '../output.ts'
import {
  listProcesses,
  type NamespaceKind,
  namespaceKinds,
  type Process,
  readNamespaces,
  readUidMap,
} from '../processes.ts'
import { inodeOf, parseTarget } from '../targets.ts'

export interface PsOptions {
  /** Only processes whose namespace of this kind differs from ours. */
  readonly type?: string
  /** Only this process. */
  readonly pid?: number
  readonly tree?: boolean
}

/**
 * Processes that live in a namespace other than the caller's, with their numbers inside and outside; of one lab, when
 * it is named. What belongs to others and may not be looked at is marked `?`.
 */
export function ps(lab: string | undefined, options: PsOptions): Report {
  const kind = kindOf(options.type)
  const labs = labsByInode()
  const processes = select(listProcesses(), lab, options, kind)
  const rows = processes.map((process) => ({
    ...process,
    lab: process.namespaces.net === undefined ? undefined : labs.get(process.namespaces.net),
    ...(options.pid !== undefined && { uidMap: readUidMap(process.pid) }),
  }))
  const depth = options.tree ? depths(processes) : new Map<number, number>()
  const uidMap = rows.flatMap((row) => row.uidMap ?? [])
  const mapped = table(
    ['UID INSIDE', 'OUTSIDE', 'COUNT'],
    uidMap.map(({ inside, outside, count }) => [inside, outside, count].map(String)),
  )
  return {
    json: rows,
    text: `${table(
      ['PID', 'NSPID', 'UID', 'LAB', 'NET', 'COMMAND'],
      rows.map(({ pid, nsPids, uid, lab: name, namespaces, command }) => [
        String(pid),
        nsPids.length > 1 ? String(nsPids.at(-1)) : '',
        String(uid),
        name ?? '',
        namespaces.net === undefined ? '?' : String(namespaces.net),
        `${'  '.repeat(depth.get(pid) ?? 0)}${command}`.slice(0, 200),
      ]),
    )}${uidMap.length > 0 ? `\n${mapped}` : ''}`,
  }
}

/** The kind of namespace that a user named. */
export function kindOf(type: string | undefined): NamespaceKind | undefined {
  const kind = namespaceKinds.find((candidate) => candidate === type)
  if (type === undefined || kind) return kind
  throw new CliError('usage', `unknown kind of namespace "${type}"`, `expected ${namespaceKinds.join(', ')}`)
}

/** Names of pinned network namespaces by inode. */
export function labsByInode(): Map<number, string> {
  const inodes = listNetnsNames().flatMap((name): [number, string][] => {
    const inode = fs.statSync(netnsPath(name), { throwIfNoEntry: false })?.ino
    return inode === undefined ? [] : [[inode, name]]
  })
  return new Map(inodes)
}

function select(
  all: Process[],
  lab: string | undefined,
  { pid }: PsOptions,
  kind: NamespaceKind | undefined,
): Process[] {
  if (pid !== undefined) {
    const found = all.filter((process) => process.pid === pid)
    if (found.length === 0) throw new CliError('notFound', `no process ${pid}`)
    return found
  }
  if (lab !== undefined) {
    const inode = inodeOf(parseTarget(lab).netns)
    return all.filter(({ namespaces }) => namespaces.net === inode)
  }
  const own = readNamespaces(process.pid)
  const kinds = kind ? [kind] : namespaceKinds
  return all.filter(({ namespaces }) =>
    kinds.some((each) => namespaces[each] !== undefined && namespaces[each] !== own[each]),
  )
}

/** How far below the first ancestor in the list each process stands. */
function depths(processes: readonly Process[]): Map<number, number> {
  const found = new Map<number, number>()
  for (const { pid, parent } of processes) found.set(pid, found.has(parent) ? found.get(parent)! + 1 : 0)
  return found
}
