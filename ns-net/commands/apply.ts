import { Host } from '../../plugins/contract/host.ts'
import { applyDocument, compare, type ApplyOptions as Options, refuseUntouched } from '../lab-file/apply.ts'
import type { LabDocument } from '../lab-file/document.ts'
import { formatResults, runTests, type TestResult } from '../lab-file/reach-tests.ts'
import { listSteps, tellSteps } from '../lab-file/reconcile.ts'
import { readLabFile } from '../lab-file/source.ts'
import { formatStep } from '../lab-file/steps.ts'
import { exclusively } from '../labs.ts'
import type { Report } from '../output.ts'

export interface ApplyOptions extends Options {
  readonly file: string
  /** Print the plan and change nothing. */
  readonly dryRun?: boolean
  /** commander's way to say `--no-tests`. */
  readonly tests?: boolean
}

/** Makes labs, networks and cables as a file says. */
export function apply({ file, dryRun, tests = true, ...options }: ApplyOptions): Report {
  const document = readLabFile(file)
  if (dryRun) return dryRunOf(document, options)
  const started = performance.now()
  const outcome = exclusively(() => {
    using host = new Host()
    return applyDocument(document, options, host)
  })
  const { done, failed, left, plan } = outcome
  const took = Math.round(performance.now() - started)
  const results = tests && !failed ? runTests(document) : []
  const count = `${done.length} ${done.length === 1 ? 'step' : 'steps'}`
  const summary = done.length === 0 ? 'nothing to do' : `${count} done  (${took} ms)`
  return {
    json: {
      lab: document.name,
      done: tellSteps(done),
      ...(failed && { failed: { ...tellSteps([failed.step])[0], error: failed.error.message }, left: tellSteps(left) }),
      notes: plan.notes,
      ...(results.length > 0 && { tests: results }),
    },
    text: [
      listSteps(done),
      failed ? `not done:\n${listSteps(left)}` : `${document.name}  ${summary}\n`,
      ...plan.notes.map((note) => `note: ${note}\n`),
      formatResults(results),
    ].join(''),
    ...(failed && {
      failed: `${formatStep(failed.step)}: ${failed.error.message}; ${count} of ${done.length + left.length} done, apply again to go on`,
    }),
    negative: results.some(({ ok }: TestResult) => !ok),
  }
}

function dryRunOf(document: LabDocument, options: Options): Report {
  const { plan } = exclusively(() => {
    using host = new Host()
    return compare(document, options, host)
  })
  refuseUntouched(plan, document.name)
  const { steps, notes } = plan
  return {
    json: { lab: document.name, steps: tellSteps(steps), notes },
    text: [
      steps.length > 0 ? listSteps(steps) : `${document.name}  nothing to do\n`,
      ...notes.map((note) => `note: ${note}\n`),
    ].join(''),
  }
}
