// Runs the tests: node scripts/test.mjs [unit] [integration] [--user | --kernel] [arguments for vitest...]
//
// Without `unit` or `integration` both run. The integration tests run in a private host, with --user in a user
// namespace even as root, with --kernel under Debian's kernel in a virtual machine (debian-kernel.mjs): there, unless
// files are named, those that meet what this machine's kernel may lack. The last line is the sum: `N passed, N failed`.

import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build } from './build.mjs'
import { debianKernel, debianKernelRefusal } from './debian-kernel.mjs'
import { root } from './install.mjs'
import { enterPrivateHost, findProgram, privateHost, refusedExit } from './private-host.mjs'

const projects = ['unit', 'integration']

/** What runs under Debian's kernel unless files are named; its processor is emulated, so not everything. */
const kernelTests = ['bridge-vlans', 'lateness', 'limits', 'link-kinds', 'shape']

/** How many times longer things may take there. */
const kernelPatience = '20'

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
function obstacle({ user, kernel }) {
  if (kernel) return debianKernelRefusal()
  for (const [program, debianPackage] of [
    ['ip', 'iproute2'],
    ['nsenter', 'util-linux'],
  ])
    if (!findProgram(program)) return `${program} is not installed: run \`sudo apt-get install ${debianPackage}\``
  return enterPrivateHost(user ? { user } : {}).refusal
}

/** Runs a command in the place that the project's tests need. What it writes into the folder `shared` stays. */
function runIn(project, { user, kernel }, command, shared) {
  if (project === 'unit') return here(command)
  if (!kernel) return privateHost(command, { ...(user && { user }), cwd: root })
  // That machine is a private host already. Much of a test is waiting, so both of its processors get one.
  const env = { ...process.env, NS_NET_PRIVATE_HOST: '1', NS_NET_TEST_PATIENCE: kernelPatience }
  return debianKernel([...command, '--maxWorkers=2'], { env, cwd: root, shared })
}

async function runProject(project, place, vitestArguments) {
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
    return count(report, await runIn(project, place, command, directory))
  } finally {
    rmSync(directory, { recursive: true })
  }
}

const given = process.argv.slice(2)
const asked = projects.filter((project) => given.includes(project))
const place = { user: given.includes('--user'), kernel: given.includes('--kernel') }
const own = [...projects, '--user', '--kernel']
const vitestArguments = given.filter((argument) => !own.includes(argument))
if (place.kernel && vitestArguments.length === 0) vitestArguments.push(...kernelTests)

build()

const total = { passed: 0, failed: 0, skipped: 0 }
for (const project of asked.length > 0 ? asked : projects) {
  const reason = project === 'integration' ? obstacle(place) : undefined
  if (reason) {
    process.stderr.write(`integration tests cannot run: ${reason}\n`)
    // Whoever asked for them by name, or runs them for others, must not take this for success.
    if (process.env.CI || asked.includes(project)) process.exit(refusedExit)
    continue
  }
  const counted = await runProject(project, place, vitestArguments)
  for (const key of Object.keys(total)) total[key] += counted[key]
}

const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : ''
process.stdout.write(`${total.passed} passed, ${total.failed} failed${skipped}\n`)
process.exitCode = total.failed > 0 ? 1 : 0
