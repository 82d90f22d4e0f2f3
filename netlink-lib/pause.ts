import { lastErrno, libc } from './libc.ts'

/** Blocks the thread: plugins are synchronous, and what they wait for is done by the kernel or another process. */
export function pause(milliseconds: number): void {
  const time = Buffer.alloc(16) // struct timespec
  time.writeUInt32LE(Math.floor(milliseconds / 1000), 0)
  time.writeUInt32LE(Math.floor((milliseconds % 1000) * 1e6), 8)
  let isInterrupted: boolean
  // A signal leaves in `time` what is left of it.
  do
    isInterrupted = libc.nanosleep(time, time) === -1 && lastErrno() === 4 // EINTR
  while (isInterrupted)
}
