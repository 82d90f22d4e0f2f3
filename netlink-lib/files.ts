import { KernelError } from './errors.ts'
import { checked, lastErrno, libc } from './libc.ts'

/*
 * Small files and folders, by the C library: the engine that runs the plugins has no node:fs.
 */

/** O_* of open(2), the same on every architecture that Node runs on. */
export const openFlags = {
  readOnly: 0,
  writeOnly: 1,
  create: 0o100,
  exclusive: 0o200,
  truncate: 0o1000,
  append: 0o2000,
  nonBlocking: 0o4000,
  closeOnExec: 0o2000000,
} as const

const [ENOENT, EINTR, EEXIST, ENOTEMPTY] = [2, 4, 17, 39]

export interface OpenFile extends Disposable {
  readonly fd: number
}

/** Opens a file close-on-exec; take it with `using`. An error says that `operation` was attempted. */
export function openFile(path: string, flags: number, mode = 0o666, operation = 'open'): OpenFile {
  let fd: number
  do fd = libc.open(path, flags | openFlags.closeOnExec, mode)
  while (isInterrupted(fd))
  checked(fd, operation, path)
  return { fd, [Symbol.dispose]: () => libc.close(fd) }
}

/** True when a signal came in between: then the call is to be made again. */
const isInterrupted = (returned: number): boolean => returned === -1 && lastErrno() === EINTR

/** Up to 64 KiB of what comes next, empty at the end. Valid until the next reading of anything in this file. */
export function readSome(fd: number, path: string): Buffer {
  chunk ??= Buffer.allocUnsafeSlow(chunkSize)
  let size: number
  do size = Number(libc.read(fd, chunk, chunkSize))
  while (isInterrupted(size))
  return chunk.subarray(0, checked(size, 'read', path))
}
const chunkSize = 64 * 1024
let chunk: Buffer | undefined

/** The whole text of a regular file or of one of /proc, which gives less than was asked for only at its end. */
export function readFile(path: string): string {
  using file = openFile(path, openFlags.readOnly)
  const parts: Buffer[] = []
  for (;;) {
    const part = readSome(file.fd, path)
    const isLast = part.length < chunkSize
    if (isLast && parts.length === 0) return part.toString('utf8')
    parts.push(Buffer.from(part))
    if (isLast) return Buffer.concat(parts).toString('utf8')
  }
}

/** {@link readFile}, undefined when there is no such file. */
export function findFile(path: string): string | undefined {
  return absentIsUndefined(() => readFile(path))
}

function absentIsUndefined<T>(find: () => T): T | undefined {
  try {
    return find()
  } catch (error) {
    if (error instanceof KernelError && error.errno === ENOENT) return undefined
    throw error
  }
}

/** Writes all of the text at the position of the descriptor. */
export function write(fd: number, text: string, path: string): void {
  const bytes = Buffer.from(text)
  for (let at = 0; at < bytes.length; ) {
    const size = Number(libc.write(fd, bytes.subarray(at), bytes.length - at))
    if (!isInterrupted(size)) at += checked(size, 'write to', path)
  }
}

/** Opens, writes, closes. `flags` say whether the file may be there, must be, and what becomes of its text. */
export function writeFile(path: string, text: string, flags: number, mode?: number): void {
  using file = openFile(path, openFlags.writeOnly | flags, mode)
  write(file.fd, text, path)
}

/** Writes a file beside it that then takes its place, so that nobody finds none or half of one. */
export function replaceFile(path: string, text: string): void {
  writeFile(`${path}.new`, text, openFlags.create | openFlags.truncate)
  renameFile(`${path}.new`, path)
}

/** Cuts an open file to its first bytes. */
export function cut(fd: number, length: number, path: string): void {
  checked(libc.ftruncate(fd, length), 'cut', path)
}

/** What statx(2) tells of a file. */
export interface FileStatus {
  readonly mode: number
  readonly links: number
  readonly inode: number
  /** `major:minor` of the file system. */
  readonly device: string
  /** Milliseconds since 1970. */
  readonly modified: number
}

const currentDirectory = -100 // AT_FDCWD
const emptyPath = 0x1000 // AT_EMPTY_PATH: of the descriptor itself
const basicStatus = 0x7ff // STATX_BASIC_STATS

export const statusOf = (path: string): FileStatus => status(currentDirectory, path, 0, path)

/** {@link statusOf}, undefined when there is no such file. */
export const findStatus = (path: string): FileStatus | undefined => absentIsUndefined(() => statusOf(path))

export const statusOfOpen = (fd: number, path: string): FileStatus => status(fd, '', emptyPath, path)

function status(directory: number, name: string, flags: number, path: string): FileStatus {
  const bytes = Buffer.alloc(256) // struct statx, the same on every architecture
  checked(libc.statx(directory, name, flags, basicStatus, bytes), 'look at', path)
  return {
    links: bytes.readUInt32LE(16),
    mode: bytes.readUInt16LE(28),
    inode: Number(bytes.readBigUInt64LE(32)),
    modified: Number(bytes.readBigInt64LE(112)) * 1000 + bytes.readUInt32LE(120) / 1e6,
    device: `${bytes.readUInt32LE(136)}:${bytes.readUInt32LE(140)}`,
  }
}

const kindMask = 0o170000 // S_IFMT
export const isDirectory = ({ mode }: FileStatus): boolean => (mode & kindMask) === 0o40000 // S_IFDIR
export const isRegular = ({ mode }: FileStatus): boolean => (mode & kindMask) === 0o100000 // S_IFREG

/** Whether something is at the path, as far as we may see. */
export const exists = (path: string): boolean => libc.access(path, 0) === 0 // F_OK

/** Whether this process may execute the file. */
export const isExecutable = (path: string): boolean => libc.access(path, 1) === 0 // X_OK

/** Throws when the path is not there, or this process may not do what `mode` says: 4 read, 2 write, 1 search. */
export function requireAccess(path: string, mode: number): void {
  checked(libc.access(path, mode), 'access', path)
}

/** Makes a directory with all that lead to it; one that is there stays as it is. */
export function makeDirectory(path: string, mode = 0o777): void {
  // Again when another process has removed what was there a moment ago; not for ever: a symlink may lead nowhere.
  for (let attempt = 0; libc.mkdir(path, mode) === -1; attempt++) {
    const errno = lastErrno()
    const there = errno === EEXIST ? findStatus(path) : undefined
    if (there && isDirectory(there)) return
    const parent = path.slice(0, path.lastIndexOf('/'))
    if (there || attempt === 8 || parent === '' || (errno !== ENOENT && errno !== EEXIST))
      throw new KernelError('make directory', path, errno)
    if (errno === ENOENT) makeDirectory(parent, mode)
  }
}

/** Absent is done. */
export function deleteFile(path: string): void {
  if (libc.unlink(path) === 0) return
  const errno = lastErrno()
  if (errno !== ENOENT) throw new KernelError('delete', path, errno)
}

/** Another file that has the new name already is replaced. */
export function renameFile(path: string, newPath: string): void {
  checked(libc.rename(path, newPath), 'rename', path)
}

/** Throws when something is in it. */
export function deleteDirectory(path: string): void {
  checked(libc.rmdir(path), 'delete', path)
}

/** Leaves a directory in which something is. Absent is done. */
export function deleteIfEmpty(path: string): void {
  if (libc.rmdir(path) === 0) return
  const errno = lastErrno()
  if (![ENOENT, ENOTEMPTY, EEXIST].includes(errno)) throw new KernelError('delete', path, errno)
}

/** Sets the times of access and modification, in whole seconds since 1970. */
export function setModified(path: string, seconds: number): void {
  const times = Buffer.alloc(32) // two of struct timespec
  for (const at of [0, 16]) times.writeBigInt64LE(BigInt(seconds), at)
  checked(libc.utimensat(currentDirectory, path, times, 0), 'set times of', path)
}

/**
 * Names in a directory, in no order; of a large one only some, when no more than `enough` are wanted. Not opened with
 * O_DIRECTORY, which is another number on arm64: getdents64(2) refuses all that is no directory.
 */
export function namesIn(path: string, enough = Number.POSITIVE_INFINITY): string[] {
  using directory = openFile(path, openFlags.readOnly | openFlags.nonBlocking, 0, 'list')
  const names: string[] = []
  while (names.length < enough) {
    const entries = readEntries(directory.fd, path)
    if (entries.length === 0) break
    // struct linux_dirent64: inode and offset, 8 bytes each, size of the entry, 2 bytes, kind, 1 byte, the name, a zero.
    for (let at = 0; at < entries.length; at += entries.readUInt16LE(at + 16)) {
      const name = entries.toString('utf8', at + 19, entries.indexOf(0, at + 19))
      if (name !== '.' && name !== '..') names.push(name)
    }
  }
  return names.slice(0, enough)
}

/** {@link namesIn}, undefined when there is no such directory. */
export const findNames = (path: string): string[] | undefined => absentIsUndefined(() => namesIn(path))

/** Entries that come next, empty at the end; valid as those of {@link readSome}. */
function readEntries(fd: number, path: string): Buffer {
  chunk ??= Buffer.allocUnsafeSlow(chunkSize)
  const size = Number(libc.getdents64(fd, chunk, chunkSize))
  // ENOENT: it was deleted since it was opened.
  return chunk.subarray(0, size === -1 && lastErrno() === ENOENT ? 0 : checked(size, 'list', path))
}
