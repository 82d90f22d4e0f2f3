import { isKernelError, KernelError } from './errors.ts'
import { deleteFile, makeDirectory, openFlags, statusOfOpen, write } from './files.ts'
import { journal } from './journal.ts'
import { checked, lastErrno, libc } from './libc.ts'

const newNetwork = 0x40000000 // CLONE_NEWNET
const getNamespaceType = 0xb703 // NS_GET_NSTYPE, include/uapi/linux/nsfs.h
const mountFlags = { bind: 0x1000, rec: 0x4000, shared: 0x100000 } // MS_*
const detach = 2 // MNT_DETACH

/** Where ip(8) pins named network namespaces. */
export const netnsDirectory = '/run/netns'

/** The calling thread's own network namespace; `thread-self`, because setns(2) moves only the thread. */
const ownNamespace = '/proc/thread-self/ns/net'

type NotAPromise<T> = T extends PromiseLike<unknown> ? never : T

/** The path is there but is no network namespace: a plain file left behind by an unmount, or another kind. */
export class NotANetns extends Error {
  override readonly name = 'NotANetns'
  constructor(readonly path: string) {
    super(`${path} is not a network namespace`)
  }
}

/** A network namespace held open by its file descriptor. */
export class Netns implements Disposable {
  private constructor(
    /** As the caller wrote it. */
    readonly path: string,
    readonly fd: number,
  ) {}

  /** Opens a namespace; ENOENT when the path is gone, {@link NotANetns} when it is something else. */
  static open(path: string): Netns {
    const fd = Netns.#open(path)
    if (libc.ioctl(fd, getNamespaceType) === newNetwork) return new Netns(path, fd)
    libc.close(fd)
    throw new NotANetns(path)
  }

  static #open(path: string): number {
    // Not waiting: the path may be a fifo that nobody writes to.
    const flags = openFlags.readOnly | openFlags.nonBlocking | openFlags.closeOnExec
    return checked(libc.open(path, flags, 0), 'open network namespace', path)
  }

  /**
   * Opens a namespace, or undefined when there is none at the path: nothing, a dead process, a leftover file, a path that
   * leads nowhere. Thrown is only what says nothing about that: missing rights, too many open files.
   */
  static find(path: string): Netns | undefined {
    try {
      return Netns.open(path)
    } catch (error) {
      if (isKernelError(error, 'EACCES', 'EPERM', 'EMFILE', 'ENFILE', 'ENOMEM')) throw error
      return undefined
    }
  }

  /** The namespace the calling thread is in. */
  static own(): Netns {
    return new Netns(ownNamespace, Netns.#open(ownNamespace))
  }

  [Symbol.dispose](): void {
    libc.close(this.fd)
  }

  /** Identity: two descriptors are the same namespace when this is equal. */
  get identity(): string {
    const { device, inode } = statusOfOpen(this.fd, this.path)
    return `${device}:${inode}`
  }

  /**
   * Runs `work` inside this namespace. Only synchronous work: a promise would resume on the way back, and Node's
   * asynchronous fs calls run on threads that never left. When the way back fails the process ends, because nothing
   * it does afterwards could be trusted to happen in the right place. `home`, when the caller has it open, is where the
   * thread is.
   */
  run<T>(work: () => NotAPromise<T> & T, home?: Netns): T {
    using opened = home ? undefined : Netns.own()
    const { fd: back } = home ?? opened!
    checked(libc.setns(this.fd, newNetwork), 'enter network namespace', this.path)
    try {
      return work()
    } finally {
      if (libc.setns(back, newNetwork) < 0) {
        write(2, `cannot leave network namespace ${this.path}: errno ${lastErrno()}\n`, 'stderr')
        process.exit(70)
      }
    }
  }
}

/**
 * Creates a network namespace pinned at `/run/netns/NAME`, as `ip netns add` does, so that it outlives this process
 * and ip(8) sees it. Throws EEXIST when the name is taken.
 */
export function createNamedNetns(name: string): string {
  const obeyed = journal?.before({ kind: 'netns', verb: 'create', name })
  const path = pinned(name, (path) => {
    using home = Netns.own()
    checked(libc.unshare(newNetwork), 'create network namespace', name)
    try {
      checked(libc.mount(ownNamespace, path, 'none', mountFlags.bind, null), 'pin network namespace', path)
    } finally {
      checked(libc.setns(home.fd, newNetwork), 'return to network namespace of', 'the host')
    }
  })
  obeyed?.()
  return path
}

/** Gives a namespace that exists, a process's for instance, a name, as `ip netns attach` does. */
export function nameNetns(name: string, netns: string): string {
  const obeyed = journal?.before({ kind: 'netns', verb: 'name', name, netns })
  const path = pinned(name, (path) => {
    checked(libc.mount(netns, path, 'none', mountFlags.bind, null), 'pin network namespace', path)
  })
  obeyed?.()
  return path
}

/** Makes the file that a namespace is mounted on; when `mount` throws it goes again. */
function pinned(name: string, mount: (path: string) => void): string {
  const path = `${netnsDirectory}/${name}`
  shareNetnsDirectory()
  const flags = openFlags.create | openFlags.exclusive | openFlags.closeOnExec
  libc.close(checked(libc.open(path, flags, 0), 'create network namespace', name))
  try {
    mount(path)
  } catch (error) {
    deleteFile(path)
    throw error
  }
  return path
}

/**
 * /run/netns must be a shared mount point, so that namespaces pinned here appear in other mount namespaces too. What is
 * mounted on it already need not be: the kernel would go through all of that.
 */
function shareNetnsDirectory(): void {
  makeDirectory(netnsDirectory, 0o755)
  const share = () => libc.mount('', netnsDirectory, 'none', mountFlags.shared, null)
  if (share() === 0) return
  const errno = lastErrno()
  if (errno !== 22) throw new KernelError('make mount shared', netnsDirectory, errno) // EINVAL: not a mount point yet
  checked(
    libc.mount(netnsDirectory, netnsDirectory, 'none', mountFlags.bind | mountFlags.rec, null),
    'bind mount',
    netnsDirectory,
  )
  checked(share(), 'make mount shared', netnsDirectory)
}

/** Unpins a named namespace; it ends when its last process does. Absent is done. */
export function deleteNamedNetns(name: string): void {
  const path = `${netnsDirectory}/${name}`
  const obeyed = journal?.before({ kind: 'netns', verb: 'delete', name })
  if (libc.umount2(path, detach) < 0) {
    const errno = lastErrno()
    if (errno !== 22 && errno !== 2) throw new KernelError('unpin network namespace', path, errno) // EINVAL, ENOENT
  }
  deleteFile(path)
  obeyed?.()
}
