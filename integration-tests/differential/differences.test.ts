import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { type Deviation, deviations, faults } from './deviations.ts'
import { scenarios } from './scenarios.ts'

const page = fileURLToPath(new URL('../../docs/differences.md', import.meta.url))

test('every scenario has a name of its own', () => {
  const names = scenarios.map(({ name }) => name)
  expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([])
})

test('every deviation is shown by scenarios that there are', () => {
  const names = new Set(scenarios.map(({ name }) => name))
  for (const { subject, seenIn } of [...deviations, ...faults]) {
    expect(seenIn.length, subject).toBeGreaterThan(0)
    expect(
      seenIn.filter((name) => !names.has(name)),
      subject,
    ).toEqual([])
  }
})

const rowOf = ({ subject, reference, ours, why }: Deviation) =>
  `| ${[subject, reference, ours, why].map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`

const tableOf = (entries: readonly Deviation[]) =>
  ['| subject | reference | ns-net | reason |', '| --- | --- | --- | --- |', ...entries.map(rowOf)].join('\n')

test('docs/differences.md says the same', async () => {
  const text = `# Differences from the reference plugins

What a runtime or a person can notice when \`bridge\`, \`ptp\`, \`loopback\`, \`host-local\` or \`static\` of ns-net stands in the
place of the plugin of that name from containernetworking-plugins 1.1.1, the version in Debian 12. Everything else is the
same: ${scenarios.length} scenarios are put through both sets, and results, kernel state, files and what happens to packets are
compared after each step.

This page is made of \`integration-tests/differential/deviations.ts\`; a test fails when a difference is missing there, or
listed and gone. To write it anew: \`node scripts/test.mjs integration differential/differences -u\`.

${tableOf(deviations)}
${faults.length > 0 ? `\n## Known faults\n\nDifferences that are mistakes of ours, until they are mended.\n\n${tableOf(faults)}\n` : ''}`
  await expect(text).toMatchFileSnapshot(page)
})
