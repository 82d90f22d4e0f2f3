import { pause } from '../../netlink-lib/pause.ts'
import { addressTowards } from '../diagnosis/destination.ts'
import { World } from '../diagnosis/places.ts'
import { askAll, type Question } from '../diagnosis/reachability.ts'
import type { LabDocument, TestEntry } from './document.ts'

export interface TestResult {
  readonly from: string
  readonly to: string
  readonly expect: TestEntry['expect']
  readonly reached: boolean
  readonly ok: boolean
}

/** Servers that `exec` has just started, and bridges whose ports have just come up, get so many milliseconds. */
const patience = 5000

/** Carries out the tests of a document, all at once; those that should have reached somebody are repeated for a while. */
export function runTests({ tests }: LabDocument): TestResult[] {
  const reached = new Set<TestEntry>()
  const deadline = performance.now() + patience
  for (let open: readonly TestEntry[] = tests; open.length > 0; ) {
    for (const test of whoReach(open)) reached.add(test)
    open = open.filter((test) => test.expect === 'reach' && !reached.has(test))
    if (performance.now() > deadline) break
    if (open.length > 0) pause(100)
  }
  return tests.map((test) => {
    const { from, to, expect } = test
    return { from, to, expect, reached: reached.has(test), ok: reached.has(test) === (expect === 'reach') }
  })
}

/** Looks anew each time: an address may have come meanwhile. */
function whoReach(tests: readonly TestEntry[]): TestEntry[] {
  using world = new World()
  const asked = tests.flatMap((test): { test: TestEntry; question: Question }[] => {
    const from = world.open(test.from)
    const { node, port } = test.target
    const address = test.target.address ?? addressTowards(world.open(node!), from)
    return address === undefined ? [] : [{ test, question: { from, address, ...(port !== undefined && { port }) } }]
  })
  const answers = askAll(asked.map(({ question }) => question))
  return asked.flatMap(({ test }, i) => (answers[i]!.reachable ? test : []))
}

export const formatResults = (results: readonly TestResult[]): string =>
  results
    .map(({ from, to, expect, reached, ok }) => {
      const what = reached ? 'reaches' : 'does not reach'
      return `${ok ? 'ok    ' : 'FAILED'}  ${from} ${what} ${to}${ok ? '' : `, expected to ${expect}`}\n`
    })
    .join('')
