// npm run bench: our executables beside the reference plugins. `npm run bench -- --help` tells all.
//
// Every call is made and timed around fork, exec and exit by a runner inside throw-away hosts (runner.mjs), the systems
// in turn. It is a measurement: no figure makes it fail, a call that fails does.

import { spawnSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { cpus, release } from 'node:os'
import { join } from 'node:path'
import { build } from '../scripts/build.mjs'
import { giveUp } from '../scripts/install.mjs'
import { findProgram } from '../scripts/private-host.mjs'
import { burst } from './burst.mjs'
import { chart } from './chart.mjs'
import { ipam } from './ipam.mjs'
import { latency } from './latency.mjs'
import { ours, reference } from './networks.mjs'
import { kinds, parseOptions } from './options.mjs'
import { markdownReport, terminalReport } from './report.mjs'
import { scale } from './scale.mjs'

const note = (sentence) => process.stderr.write(`bench: ${sentence}\n`)

/** The version of a system: what Debian says of the package, else what a plugin says when nothing is asked of it. */
function versionOf({ name, directory }) {
  const debian = spawnSync('dpkg-query', ['--show', 'containernetworking-plugins'], { encoding: 'utf8' })
  if (name === reference.name && debian.status === 0) return debian.stdout.trim().replace('\t', ' ')
  return spawnSync(join(directory, 'bridge'), { env: {}, encoding: 'utf8' }).stderr.split('\n')[0]
}

function machineText(systems, args) {
  const date = new Date().toISOString().slice(0, 10)
  return [
    `Measured on ${date} by \`${['npm run bench', ...(args.length > 0 ? ['--', ...args] : [])].join(' ')}\`: Linux ${release()},`,
    `${cpus().length} × ${cpus()[0]?.model ?? 'unknown processor'}; ${systems.map((each) => `${each.name}: ${versionOf(each)}`).join('; ')}.`,
    'Medians (fastest to slowest) of whole processes; the ratio says how many times better ours are.',
  ].join('\n')
}

const args = process.argv.slice(2)
const options = parseOptions(args)
build()
for (const tool of ['bash', 'ip', 'nft'])
  if (!findProgram(tool)) giveUp(`bench: skipped: ${tool} is not installed (Debian: bash iproute2 nftables)`)
const systems = existsSync(join(reference.directory, 'bridge')) ? [ours, reference] : [ours]
if (!systems.includes(reference))
  note(`the reference is skipped: ${reference.directory} has no plugins (Debian: containernetworking-plugins)`)
const canMeasureMemory = findProgram('strace') !== undefined
if (!canMeasureMemory) note('memory is skipped: strace is not installed')

let failed = false
const fail = (sentence) => {
  failed = true
  note(sentence)
}
const tasks = [
  ...latency(systems, options, canMeasureMemory),
  ...ipam(systems, options),
  ...scale(systems, options, note),
  ...burst(systems, options, fail),
]
if (tasks.length === 0)
  giveUp(`bench: --only: expected ${kinds.join(', ')} or a word of a workload, got "${options.only}"`, 2)

const rows = []
for (const { title, measure } of tasks) {
  note(title)
  try {
    rows.push(...(await measure()))
  } catch (error) {
    fail(`${title}: ${error.message}`)
  }
}

const report = { machine: machineText(systems, args), runs: options.runs, rows }
process.stdout.write(`\n${options.markdown ? markdownReport(report) : terminalReport(report)}`)
if (options.json) writeFileSync(options.json, `${JSON.stringify(report, undefined, 2)}\n`)
if (options.svg) writeFileSync(options.svg, chart(report))
process.exitCode = failed ? 1 : 0
