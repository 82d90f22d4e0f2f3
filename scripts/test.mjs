// Runs the tests: node scripts/test.mjs [unit] [integration] [--user] [arguments for vitest...]
//
// Without `unit` or `integration` both run. The integration tests run in a private host, with --user in a user
// namespace even as root. The last line is the sum: `N passed, N failed`.

import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build } from './build.mjs'
import { root } from './install.mjs'
import { enterPrivateHost, findProgram, privateHost, refusedExit } from './private-host.mjs'

const projects = ['unit', 'integration']

function here(command) {
  return new Promise((resolve, reject) => {
    const child = spawn(command[0], command.slice(1), { cwd: root, stdio: 'inherit' })
    child.on('error', reject)
    child.on('exit', (code) => resolve(code ?? 1))
  })
}

/** What vitest's JSON reporter counted. A file that could not even be loaded counts as one failure. */
function count(report, exitCode) {
  if (!existsSync(report)) return { passed: 0, failed: 1, skipped: 0 }
  const { numPassedTests, numFailedTests, numPendingTests, numTodoTests, testResults } = JSON.parse(
    readFileSync(report, 'utf8'),
  )
  const broken = testResults.filter(
    (file) => file.status === 'failed' && !file.assertionResults.some((test) => test.status === 'failed'),
  ).length
  const failed = numFailedTests + broken
  return {
    passed: numPassedTests,
    // vitest also fails for errors outside of any test.
    failed: failed === 0 && exitCode !== 0 ? 1 : failed,
    skipped: numPendingTests + numTodoTests,
  }
}

/** Why the integration tests cannot run on this machine; undefined when they can. */
function obstacle(user) {
  for (const [program, debianPackage] of [
    ['ip', 'iproute2'],
    ['nsenter', 'util-linux'],
  ])
    if (!findProgram(program)) return `${program} is not installed: run \`sudo apt-get install ${debianPackage}\``
  return enterPrivateHost(user ? { user } : {}).refusal
}

async function runProject(project, user, vitestArguments) {
  const directory = mkdtempSync(join(tmpdir(), 'ns-net-test-'))
  try {
    const report = join(directory, 'report.json')
    const command = [
      process.execPath,
      join(root, 'node_modules/vitest/vitest.mjs'),
      'run',
      `--project=${project}`,
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${report}`,
      ...vitestArguments,
    ]
    const run = project === 'unit' ? here : (c) => privateHost(c, { ...(user && { user }), cwd: root })
    return count(report, await run(command))
  } finally {
    rmSync(directory, { recursive: true })
  }
}

const given = process.argv.slice(2)
const asked = projects.filter((project) => given.includes(project))
const user = given.includes('--user')
const vitestArguments = given.filter((argument) => !projects.includes(argument) && argument !== '--user')

build()

const total = { passed: 0, failed: 0, skipped: 0 }
for (const project of asked.length > 0 ? asked : projects) {
  const reason = project === 'integration' ? obstacle(user) : undefined
  if (reason) {
    process.stderr.write(`integration tests cannot run: ${reason}\n`)
    // Whoever asked for them by name, or runs them for others, must not take this for success.
    if (process.env.CI || asked.includes(project)) process.exit(refusedExit)
    continue
  }
  const counted = await runProject(project, user, vitestArguments)
  for (const key of Object.keys(total)) total[key] += counted[key]
}

const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : ''
process.stdout.write(`${total.passed} passed, ${total.failed} failed${skipped}\n`)
process.exitCode = total.failed > 0 ? 1 : 0
