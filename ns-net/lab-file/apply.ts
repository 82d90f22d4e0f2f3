import type { Host } from '../../plugins/contract/host.ts'
import { CliError } from '../errors.ts'
import type { Lab } from '../labs.ts'
import { type Applied, findApplied, labsOfFile, writeApplied } from './applied.ts'
import type { LabDocument, LinkEntry } from './document.ts'
import { formatLabDocument } from './format.ts'
import { type LabQuestion, type Live, type Question, readLive } from './live.ts'
import { isSame } from './networks.ts'
import { parseLabDocument } from './parse.ts'
import { type Plan, planChanges, type Wish } from './plan.ts'
import { carryOut, type Outcome } from './reconcile.ts'
import type { Step } from './steps.ts'

export interface ApplyOptions {
  readonly prune?: boolean
  readonly takeOver?: boolean
}

/** What a document needs to know, of its nodes and of labs that it had earlier. */
export function questionFor(document: LabDocument, before?: LabDocument): (labs: readonly Lab[]) => Question {
  const shaped = (name: string) =>
    [document, before].flatMap((each) => {
      const ends = (each?.links ?? []).filter(({ shape }) => shape).flatMap(({ a, b }: LinkEntry) => [a, b])
      const nets = each?.nodes.get(name)?.nets.filter(({ shape }) => shape) ?? []
      return [...nets, ...ends.filter(({ place }) => place === name)].map(({ ifName }) => ifName)
    })
  const ask = (name: string): [string, LabQuestion] => [
    name,
    { sysctls: document.nodes.get(name)?.sysctls.keys(), shaped: shaped(name) },
  ]
  return (labs) => {
    const earlier = labsOfFile(document.name, labs).map(({ name }) => name)
    return new Map([...document.nodes.keys(), ...earlier].map(ask))
  }
}

const documentOf = (applied: Applied | undefined): LabDocument | undefined =>
  applied && parseLabDocument(applied.document).document

/** Looks at what is there and compares. The caller holds the lock. */
export function compare(
  document: LabDocument,
  options: ApplyOptions,
  host: Host,
): { plan: Plan; live: Live; wish: Wish } {
  const applied = findApplied(document.name)
  const live = readLive(host, questionFor(document, documentOf(applied)))
  const wish: Wish = { document, made: new Set(applied?.networks), ...options }
  return { plan: planChanges(wish, live), live, wish }
}

/** Changes what was made without a file only when asked to. */
export function refuseUntouched({ untouched }: Plan, file: string): void {
  if (untouched.length === 0) return
  throw new CliError(
    'conflict',
    `${untouched.join(', ')} ${untouched.length === 1 ? 'was' : 'were'} made without a lab file, and ${untouched.length === 1 ? 'differs' : 'differ'} from ${file}`,
    '--take-over changes them and makes them belong to the file; ns-net diff shows the difference',
  )
}

/** How often a repair may bring to light that more is missing, such as routes of a link that was made anew. */
const rounds = 3

/** Makes what is there what the document says. The caller holds the lock. */
export function applyDocument(document: LabDocument, options: ApplyOptions, host: Host): Outcome & { plan: Plan } {
  const first = compare(document, options, host)
  refuseUntouched(first.plan, document.name)
  const done: Step[] = []
  let { plan, live, wish } = first
  remember(document, wish.made, plan)
  for (let round = 1; ; round++) {
    const outcome = carryOut(plan, { lists: new Map(live.networks), file: document.name })
    done.push(...outcome.done)
    if (outcome.failed) return { ...outcome, done, plan: first.plan }
    if (!outcome.done.some(({ kind }) => kind === 'repair')) break
    ;({ plan, live, wish } = compare(document, options, host))
    if (plan.steps.length === 0) break
    if (round === rounds)
      throw new CliError('failed', `${document.name}: repairs do not last`, `ns-net diff shows what is missing again`)
  }
  forgetDeleted(document, plan)
  return { done, left: [], plan: first.plan }
}

/** Before the first step, so that `down` knows of everything whatever happens. A file that changes nothing is not kept. */
function remember(document: LabDocument, made: ReadonlySet<string>, { steps }: Plan): void {
  const applied = findApplied(document.name)
  const content = formatLabDocument(document)
  if (steps.length === 0 && (!applied || isSame(applied.document, content))) return
  const created = steps.flatMap((step) => (step.kind === 'create network' ? step.network.name : []))
  writeApplied({ name: document.name, document: content, networks: [...new Set([...made, ...created])] })
}

function forgetDeleted({ name, networks }: LabDocument, { steps }: Plan): void {
  const applied = findApplied(name)
  const deleted = steps.flatMap((step) => (step.kind === 'delete network' && !networks.has(step.name) ? step.name : []))
  if (!applied || deleted.length === 0) return
  writeApplied({ ...applied, networks: applied.networks.filter((each) => !deleted.includes(each)) })
}
