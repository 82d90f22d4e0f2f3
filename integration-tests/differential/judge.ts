import { existsSync } from 'node:fs'
import { afterAll, beforeAll, expect, type TestContext } from 'vitest'
import { createHost, executables, type Host, referencePlugins, requireTool } from '../host.ts'
import { compare, type Difference, errorText } from './compare.ts'
import { accountsFor, deviations, faults } from './deviations.ts'
import { type Observation, run, runIn } from './run.ts'
import type { Scenario } from './scenario.ts'

/** Hosts that several scenarios use one after the other: the reference's and ours. */
type Hosts = readonly [reference: Host, ours: Host]

/** As {@link judge}, with one pair of hosts for all scenarios of the file. */
export function judgeInSharedHosts(): typeof judge {
  let hosts: Hosts
  beforeAll(() => {
    hosts = [createHost(), createHost()]
  })
  afterAll(() => {
    for (const host of hosts) host[Symbol.dispose]()
  })
  return (scenario, context) => judge(scenario, context, hosts)
}

/** The reference must be there: without it the test is skipped with the reason, or under CI fails. */
function requireReference(context: TestContext): void {
  if (existsSync(`${referencePlugins}/bridge`)) return
  const reason = `the reference plugins are not in ${referencePlugins} (Debian: containernetworking-plugins)`
  if (process.env.CI) throw new Error(`${reason}; under CI every judge must be there`)
  console.warn(`skipped: ${context.task.name}: ${reason}`)
  context.skip(reason)
}

/** Puts both sets through the scenario and fails on every difference that is not in the list, or no longer there. */
export async function judge(scenario: Scenario, context: TestContext, hosts?: Hosts): Promise<void> {
  requireReference(context)
  for (const tool of scenario.needs ?? []) requireTool(tool, context)
  const [reference, ours] = await Promise.all(
    [referencePlugins, executables].map((plugins, i) =>
      hosts ? runIn(hosts[i]!, scenario, plugins) : run(scenario, plugins),
    ),
  )
  const found = compare(scenario, reference!, ours!)

  const entries = [...deviations, ...faults]
  const unexplained = found.filter(
    (difference) => !entries.some((entry) => accountsFor(entry, scenario.name, difference)),
  )
  const outdated = entries
    .filter(({ seenIn }) => seenIn.includes(scenario.name))
    .filter((entry) => !found.some((difference) => accountsFor(entry, scenario.name, difference)))
    .map(({ subject }) => `deviations.ts: "${subject}" does not show here any more`)
  expect.soft(outdated).toEqual([])
  expect(unexplained.map(lineOf), messages(reference!, ours!)).toEqual([])
}

function lineOf({ step, path, reference, ours }: Difference): string {
  const text = (value: unknown) => (value === undefined ? 'nothing' : JSON.stringify(value))
  return `${step}: ${path}: reference ${text(reference)}, ours ${text(ours)}`
}

/** What each said at every step that failed. */
function messages(reference: readonly Observation[], ours: readonly Observation[]): string {
  const said = ({ outcome }: Observation) => (outcome?.status ? errorText(outcome) : undefined)
  const lines = reference.flatMap((theirs, i) => {
    const [a, b] = [said(theirs), said(ours[i]!)]
    return a || b ? [theirs.label, `  reference: ${a ?? 'success'}`, `  ours: ${b ?? 'success'}`] : []
  })
  return ['differences that deviations.ts does not list', ...lines].join('\n')
}
