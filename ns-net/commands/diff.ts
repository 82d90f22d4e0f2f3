import { Host } from '../../plugins/contract/host.ts'
import { type ApplyOptions, compare } from '../lab-file/apply.ts'
import { listSteps, tellSteps } from '../lab-file/reconcile.ts'
import { readLabFile } from '../lab-file/source.ts'
import { exclusively } from '../labs.ts'
import type { Report } from '../output.ts'

export interface DiffOptions {
  readonly file: string
  readonly prune?: boolean
}

/** What `apply` would do; a no when it is anything. */
export function diff({ file, prune }: DiffOptions): Report {
  const document = readLabFile(file)
  const options: ApplyOptions = { prune, takeOver: true }
  const { plan } = exclusively(() => {
    using host = new Host()
    return compare(document, options, host)
  })
  const { steps, notes } = plan
  return {
    json: { lab: document.name, steps: tellSteps(steps), notes },
    text: `${listSteps(steps)}${notes.map((note) => `note: ${note}\n`).join('')}`,
    negative: steps.length > 0,
  }
}
