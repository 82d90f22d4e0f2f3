import fs from 'node:fs'
import { isatty } from 'node:tty'
import { type CliError, toCliError } from '../errors.ts'
import { rewriteHosts } from '../etc.ts'
import { HostInPortions } from '../host-in-portions.ts'
import { deleteLabs, perform } from './perform.ts'
import type { Plan } from './plan.ts'
import type { Site } from './site.ts'
import { describeStep, formatStep, type Step } from './steps.ts'

/** What became of a plan. */
export interface Outcome {
  readonly done: readonly Step[]
  readonly failed?: { readonly step: Step; readonly error: CliError }
  readonly left: readonly Step[]
}

/** Carries out a plan. The first step that fails ends it; what is left is found again by the next plan. */
export function carryOut({ steps }: Pick<Plan, 'steps'>, { lists, file }: Omit<Site, 'host'>): Outcome {
  const progress = openProgress(steps.length)
  const done: Step[] = []
  using hosts = new HostInPortions()
  try {
    for (const group of groupsOf(steps)) {
      progress.show(done.length, group[0]!)
      try {
        performGroup(group, { host: hosts.next(), lists, file })
      } catch (error) {
        const [step] = group as [Step]
        return { done, failed: { step, error: toCliError(error) }, left: steps.slice(done.length) }
      }
      done.push(...group)
    }
    return { done, left: [] }
  } finally {
    progress.end()
    if (done.some(({ kind }) => kind === 'attach' || kind === 'detach' || kind === 'repair')) rewriteHosts()
  }
}

/** Labs are deleted together: the kernel waits once for all of their links. */
function groupsOf(steps: readonly Step[]): Step[][] {
  const groups: Step[][] = []
  for (const step of steps) {
    const last = groups.at(-1)
    if (step.kind === 'delete lab' && last?.[0]?.kind === 'delete lab') last.push(step)
    else groups.push([step])
  }
  return groups
}

function performGroup(group: readonly Step[], site: Site): void {
  const labs = group.flatMap((step) => (step.kind === 'delete lab' ? step.lab : []))
  if (labs.length > 0) deleteLabs(labs, site.host)
  else perform(group[0]!, site)
}

/** One line on a terminal that is written over, ten times a second, for plans that take a while. */
function openProgress(total: number) {
  const isShown = total > 10 && isatty(2)
  let last = 0
  return {
    show(n: number, step: Step) {
      const now = performance.now()
      if (!isShown || now - last < 100) return
      last = now
      fs.writeSync(2, `\r\x1b[K${n + 1}/${total} ${formatStep(step).slice(0, 70)}`)
    },
    end() {
      if (last > 0) fs.writeSync(2, '\r\x1b[K')
    },
  }
}

/** JSON of a step for every verb that tells of a plan. */
export const tellSteps = (steps: readonly Step[]): object[] => steps.map(describeStep)

/** Lines of text for the same. */
export const listSteps = (steps: readonly Step[]): string => steps.map((step) => `${formatStep(step)}\n`).join('')
