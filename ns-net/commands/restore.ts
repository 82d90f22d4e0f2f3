import fs from 'node:fs'
import path from 'node:path'
import { Host } from '../../plugins/contract/host.ts'
import { listSteps, tellSteps } from '../lab-file/reconcile.ts'
import { defaultFile, restore } from '../lab-file/saved.ts'
import { formatStep } from '../lab-file/steps.ts'
import { exclusively } from '../labs.ts'
import type { Report } from '../output.ts'

/** Puts back what `save` wrote down and is not there. */
export function restoreAll(file: string | undefined): Report {
  const source = path.resolve(file ?? defaultFile)
  // The unit starts at every boot, also at one before anything was saved.
  if (file === undefined && !fs.existsSync(source))
    return { json: { file: source, done: [], notes: [] }, text: `nothing was saved: ${source} does not exist\n` }
  const { done, failed, left, notes } = exclusively(() => {
    using host = new Host()
    return restore(source, host)
  })
  const summary = done.length === 0 ? 'nothing to do' : `${done.length} ${done.length === 1 ? 'step' : 'steps'} done`
  return {
    json: {
      file: source,
      done: tellSteps(done),
      ...(failed && { failed: { ...tellSteps([failed.step])[0], error: failed.error.message }, left: tellSteps(left) }),
      notes,
    },
    text: [
      listSteps(done),
      failed ? `not done:\n${listSteps(left)}` : `${source}  ${summary}\n`,
      ...notes.map((note) => `note: ${note}\n`),
    ].join(''),
    ...(failed && { failed: `${formatStep(failed.step)}: ${failed.error.message}; restore again to go on` }),
  }
}
