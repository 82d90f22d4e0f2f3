import { pause } from '../../netlink-lib/pause.ts'
import { findLab } from '../labs.ts'
import type { LabDocument, TestEntry } from './document.ts'
import { reaches } from './reach.ts'

export interface TestResult {
  readonly from: string
  readonly to: string
  readonly expect: TestEntry['expect']
  readonly reached: boolean
  readonly ok: boolean
}

/** Servers that `exec` has just started, and bridges whose ports have just come up, get so many milliseconds. */
const patience = 5000

/** Carries out the tests of a document, one after the other. */
export function runTests({ tests }: LabDocument): TestResult[] {
  const deadline = performance.now() + patience
  return tests.map(({ from, to, target, expect }) => {
    const address = target.address ?? addressOf(target.node!, from)
    let reached = false
    for (;;) {
      reached = address !== undefined && reaches(from, address, target.port)
      if (reached || expect === 'fail' || performance.now() > deadline) break
      pause(100)
    }
    return { from, to, expect, reached, ok: reached === (expect === 'reach') }
  })
}

/** An address of a node: on a network that both are attached to, if there is one. */
function addressOf(node: string, from: string): string | undefined {
  const [there, here] = [findLab(node)?.attachments ?? [], findLab(from)?.attachments ?? []]
  const shared = there.filter(({ network }) => here.some((other) => other.network === network))
  return [...shared, ...there].flatMap(({ addresses }) => addresses)[0]?.split('/')[0]
}

export const formatResults = (results: readonly TestResult[]): string =>
  results
    .map(({ from, to, expect, reached, ok }) => {
      const what = reached ? 'reaches' : 'does not reach'
      return `${ok ? 'ok    ' : 'FAILED'}  ${from} ${what} ${to}${ok ? '' : `, expected to ${expect}`}\n`
    })
    .join('')
