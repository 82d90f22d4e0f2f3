import { KernelError } from './errors.ts'
import { openFile, openFlags, statusOfOpen } from './files.ts'
import { lastErrno, libc } from './libc.ts'
import { pause } from './pause.ts'

const LOCK_EX = 2
const LOCK_NB = 4

/**
 * Runs `work` while holding the exclusive flock(2) of the file; its descriptor is given, for child processes to hold too.
 * The file is created when absent and never deleted: to delete it would let two processes lock two files of the same
 * name. Throws {@link KernelError} EAGAIN when the lock stays taken for `timeoutMs`.
 */
export function withLock<T>(path: string, timeoutMs: number, work: (fd: number) => T): T {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    using file = openFile(path, openFlags.create | openFlags.readOnly, 0o750)
    lock(file.fd, path, deadline)
    // Someone removed the whole folder while we waited: this lock excludes nobody who comes later.
    if (statusOfOpen(file.fd, path).links > 0) return work(file.fd)
  }
}

/** A blocking flock has no timeout, and Node has no signal to interrupt it with: so ask, sleep a little, ask again. */
function lock(fd: number, path: string, deadline: number): void {
  for (let wait = 0.2; libc.flock(fd, LOCK_EX | LOCK_NB) < 0; wait = Math.min(wait * 1.5, 5)) {
    const errno = lastErrno()
    if (errno === 4) continue // EINTR
    // EAGAIN: taken
    if (errno !== 11 || performance.now() >= deadline) throw new KernelError('lock', path, errno)
    pause(wait)
  }
}
