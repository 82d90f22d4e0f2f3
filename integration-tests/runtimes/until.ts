import { setTimeout as sleep } from 'node:timers/promises'

/** Waits until `holds` is true, and fails with `what` after 10 seconds. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 10_000; !(await holds()); await sleep(20))
    if (Date.now() > end) throw new Error(`not within 10 s: ${what}`)
}
