import { setTimeout as sleep } from 'node:timers/promises'
import { patience } from '../patience.ts'

/** Waits until `holds` is true, and fails with `what` after 10 seconds, or more with {@link patience}. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 10_000 * patience; !(await holds()); await sleep(20))
    if (Date.now() > end) throw new Error(`not in time: ${what}`)
}
