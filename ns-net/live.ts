import fs from 'node:fs'
import { pause } from '../netlink-lib/pause.ts'

/** Verbs that go on until they are told to stop. */

/** How often sockets are read. Nothing waits for them: a thread that sleeps in the kernel hears no Ctrl-C. */
const period = 50

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/**
 * Calls `tick` until it says that it is done, a signal comes, or the time (in seconds) is over. When it says that there
 * was much to do it is called again at once.
 */
export function untilStopped(tick: () => 'busy' | 'idle' | 'done', timeout?: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let next: NodeJS.Timeout | undefined
    let ended = false
    const end = (settle: () => void) => {
      clearTimeout(next)
      clearTimeout(limit)
      ended = true
      for (const signal of signals) process.off(signal, stop)
      settle()
    }
    const stop = () => end(resolve)
    const step = () => {
      try {
        const found = tick()
        if (found === 'done') stop()
        // Not setImmediate: signals and the time limit must have their turn.
        else if (!ended) next = setTimeout(step, found === 'busy' ? 0 : period)
      } catch (error) {
        end(() => reject(error))
      }
    }
    for (const signal of signals) process.on(signal, stop)
    const limit = timeout === undefined ? undefined : setTimeout(stop, timeout * 1000)
    step()
  })
}

/** Writes all of it, waiting for a reader that is slow; false when nobody reads any more (`| head`). */
export function writeWhole(fd: number, content: string | Uint8Array): boolean {
  const bytes = Buffer.from(content)
  for (let at = 0; at < bytes.length; ) {
    try {
      at += fs.writeSync(fd, bytes, at)
    } catch (error) {
      const { code } = error as { code?: string }
      if (code === 'EPIPE') return false
      if (code !== 'EAGAIN') throw error
      pause(5)
    }
  }
  return true
}
