import fs from 'node:fs'
import { KernelError } from '../../netlink-lib/errors.ts'
import { checked, lastErrno, libc } from '../../netlink-lib/libc.ts'
import { CliError } from '../errors.ts'

/*
 * A mount namespace in which everything can be read and nothing changed: all mounts become read-only, and the places
 * where ns-net and its plugins keep files are copies in memory.
 */

const newMount = 0x00020000 // CLONE_NEWNS
/** MS_*. */
const flags = { readOnly: 1, remount: 0x20, bind: 0x1000, rec: 0x4000, private: 0x40000 } as const
/** The ones that a remount would take away unless they are named again. */
const kept: Readonly<Record<string, number>> = {
  nosuid: 2,
  nodev: 4,
  noexec: 8,
  nosymfollow: 256,
  noatime: 1024,
  nodiratime: 2048,
  relatime: 0x200000,
}

/** Directories that get a new surface, and what lies in them as a copy; everything else there is the real one. */
type Surfaces = ReadonlyMap<string, readonly string[]>

const usual: Surfaces = new Map([
  ['/run', ['ns-net', 'ns-net.lock', 'netns', 'cni', 'xtables.lock']],
  ['/etc', ['netns']],
  ['/var/lib', ['cni']],
])

/** With those that directories of leases need which conflists put elsewhere: from where something is already. */
function surfacesFor(dataDirs: readonly string[]): Surfaces {
  const all = new Map(usual)
  for (const dataDir of dataDirs) {
    let [parent, name] = split(dataDir)
    while (!fs.existsSync(parent)) [parent, name] = split(parent)
    const isCopied = [...all].some(([directory, names]) =>
      names.some((each) => `${dataDir}/`.startsWith(`${directory}/${each}/`)),
    )
    // The root has no surface that could be put over it: what would be written there is refused.
    if (!isCopied && parent !== '/') all.set(parent, [...(all.get(parent) ?? []), name])
  }
  return all
}

function split(path: string): [parent: string, name: string] {
  const at = path.lastIndexOf('/')
  return [path.slice(0, at) || '/', path.slice(at + 1)]
}

/** Number of a directory's copy by that of the directory. */
export type Renumbered = Map<number, number>

/** From now on this process sees a world of its own. */
export function sealFiles(dataDirs: readonly string[]): Renumbered {
  const surfaces = [...surfacesFor(dataDirs)]
  checked(libc.unshare(newMount), 'create mount namespace for', 'the rehearsal')
  checked(libc.mount('', '/', 'none', flags.private | flags.rec, null), 'make mounts private under', '/')
  const copies = surfaces.map(
    ([directory, names]) => new Map(names.map((name) => [name, read(`${directory}/${name}`)])),
  )
  const mounts = listMounts()
  for (const mount of mounts) freeze(mount)
  const isMount = (path: string) => path !== '/run/netns' && mounts.some((mount) => mount.path === path)
  for (const [i, [directory]] of surfaces.entries()) resurface(directory, copies[i]!, isMount)
  const renumbered: Renumbered = new Map()
  for (const [i, [directory]] of surfaces.entries())
    for (const [name, copy] of copies[i]!) copyTimes(`${directory}/${name}`, copy, renumbered)
  return renumbered
}

interface Mount {
  readonly path: string
  readonly options: readonly string[]
}

/** Octal escapes stand for blanks and the like (proc_pid_mountinfo(5)). */
const unescaped = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, digits) => String.fromCharCode(Number.parseInt(digits, 8)))

function listMounts(): Mount[] {
  const lines = fs.readFileSync('/proc/thread-self/mountinfo', 'utf8').trimEnd().split('\n')
  return lines.map((line) => {
    const [, , , , path = '', options = ''] = line.split(' ')
    return { path: unescaped(path), options: options.split(',') }
  })
}

/** But for /proc, whose settings are those of the namespace that the thread is in. */
function freeze({ path, options }: Mount): void {
  if (options.includes('ro') || /^\/proc($|\/)/.test(path)) return
  const same = options.reduce((all, option) => all | (kept[option] ?? 0), 0)
  if (libc.mount('none', path, null, flags.remount | flags.bind | flags.readOnly | same, null) === 0) return
  const errno = lastErrno()
  if (errno === 22 || errno === 2) return // EINVAL, ENOENT: another mount hides it
  throw new CliError(
    'unsupported',
    `cannot rehearse: ${new KernelError('make read-only', path, errno).message}`,
    'without that a dry run could change the host: use --explain, which does it for real',
  )
}

/** Files by name, a text, or the target of a symbolic link. */
type Copy =
  | { readonly entries: ReadonlyMap<string, Copy | undefined>; readonly status: fs.Stats }
  | { readonly text: Buffer }
  | { readonly target: string }

/** Undefined where there is nothing, and for what is no file: a socket, a namespace. */
function read(path: string): Copy | undefined {
  const status = fs.lstatSync(path, { throwIfNoEntry: false })
  if (status?.isSymbolicLink()) return { target: fs.readlinkSync(path) }
  if (status?.isDirectory() && path !== '/run/netns')
    return { status, entries: new Map(fs.readdirSync(path).map((name) => [name, read(`${path}/${name}`)])) }
  if (status?.isFile()) return { text: fs.readFileSync(path) }
  return undefined
}

function write(path: string, copy: Copy | undefined, isMount: (path: string) => boolean): void {
  if (!copy) return
  if ('target' in copy) fs.symlinkSync(copy.target, path)
  else if ('text' in copy) fs.writeFileSync(path, copy.text, { mode: 0o600 })
  else {
    fs.mkdirSync(path)
    if (isMount(path)) mountMemory(path) // a directory that is one cannot be deleted
    // A tmpfs lists what came last first, and some of what is done goes by the list.
    for (const [name, inside] of [...copy.entries].reverse()) write(`${path}/${name}`, inside, isMount)
  }
}

/** Last, as every file that is written changes the time of its directory. */
function copyTimes(path: string, copy: Copy | undefined, renumbered: Renumbered): void {
  if (!copy || !('entries' in copy)) return
  for (const [name, inside] of copy.entries) copyTimes(`${path}/${name}`, inside, renumbered)
  fs.utimesSync(path, copy.status.atime, copy.status.mtime)
  renumbered.set(copy.status.ino, fs.statSync(path).ino)
}

/** A tmpfs over the directory, on which everything else appears again. */
function resurface(
  directory: string,
  copies: ReadonlyMap<string, Copy | undefined>,
  isMount: (path: string) => boolean,
): void {
  const fd = fs.openSync(directory, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY)
  try {
    const below = `/proc/thread-self/fd/${fd}`
    const names = fs.readdirSync(below)
    mountMemory(directory)
    for (const name of names) if (!copies.has(name)) showAgain(`${below}/${name}`, `${directory}/${name}`)
    for (const [name, copy] of copies) write(`${directory}/${name}`, copy, isMount)
  } finally {
    fs.closeSync(fd)
  }
}

function mountMemory(path: string): void {
  checked(libc.mount('tmpfs', path, 'tmpfs', 0, 'mode=755'), 'mount tmpfs on', path)
}

function showAgain(source: string, target: string): void {
  const status = fs.lstatSync(source, { throwIfNoEntry: false })
  if (!status) return
  if (status.isSymbolicLink()) {
    fs.symlinkSync(fs.readlinkSync(source), target)
    return
  }
  if (status.isDirectory()) fs.mkdirSync(target)
  else fs.writeFileSync(target, '')
  checked(libc.mount(source, target, null, flags.bind | flags.rec, null), 'bind', target)
}
