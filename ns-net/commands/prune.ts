import fs from 'node:fs'
import { isatty } from 'node:tty'
import { Host } from '../../plugins/contract/host.ts'
import { exclusively } from '../labs.ts'
import type { Leftover } from '../leftovers/leftover.ts'
import { findLeftovers, removeLeftovers } from '../leftovers/prune.ts'
import { type Report, table } from '../output.ts'

export interface PruneOptions {
  /** Remove without asking. */
  readonly yes?: boolean
  readonly json?: boolean
}

/** Shows what is left with our mark and nobody needs, and removes it when somebody says yes. */
export function prune({ yes = false, json = false }: PruneOptions): Report {
  const shown = exclusively(() => {
    using host = new Host()
    return findLeftovers(host)
  })
  if (shown.length === 0) return { json: { leftovers: [], removed: [] }, text: 'nothing to prune\n' }
  const isAsked = !yes && !json && isatty(0) && isatty(1)
  if (isAsked) fs.writeSync(1, list(shown))
  if (!yes && !(isAsked && isConfirmed(shown.length))) return { ...listed(shown, isAsked), negative: true }
  const { removed, failures } = exclusively(() => {
    using host = new Host()
    return removeLeftovers(shown, host)
  })
  return {
    json: { leftovers: shown.map(tell), removed: removed.map(tell), ...(failures.length > 0 && { failures }) },
    text: `${isAsked ? '' : list(shown)}removed ${removed.length} of ${shown.length}\n`,
    ...(failures.length > 0 && { failed: failures.join('; ') }),
  }
}

const tell = ({ kind, name, why }: Leftover) => ({ kind, name, why })

const list = (leftovers: readonly Leftover[]): string =>
  table(
    ['KIND', 'NAME', 'WHY'],
    leftovers.map(({ kind, name, why }) => [kind, name, why]),
  )

const listed = (leftovers: readonly Leftover[], isShown: boolean): Pick<Report, 'json' | 'text'> => ({
  json: { leftovers: leftovers.map(tell), removed: [] },
  text: isShown ? 'nothing was removed\n' : `${list(leftovers)}nothing was removed: ns-net prune --yes removes them\n`,
})

/** Reads one line of the terminal. */
function isConfirmed(count: number): boolean {
  fs.writeSync(1, `remove ${count === 1 ? 'it' : `all ${count}`}? [y/N] `)
  const answer = Buffer.alloc(100)
  const size = fs.readSync(0, answer)
  return /^\s*y(es)?\s*$/i.test(answer.subarray(0, size).toString())
}
