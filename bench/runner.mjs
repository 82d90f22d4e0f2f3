// Runs under Bun inside a throw-away host: makes the calls that bench.mjs asks for, and measures them. A line of JSON on
// stdin is one request, a line on stdout its answer.

import { readFileSync } from 'node:fs'

const trace = '/run/bench-rusage'

/** The environment that CNI defines, and nothing else of ours. */
const environment = ({ directory, path, attachment: { containerId, netns, ifName } }, command) => ({
  PATH: path,
  CNI_COMMAND: command,
  CNI_CONTAINERID: containerId,
  CNI_NETNS: netns,
  CNI_IFNAME: ifName,
  CNI_PATH: directory,
})

/** As a runtime calls the plugins of a list: DEL backwards, every other verb in order. */
const ordered = ({ plugins, command }) => (command === 'DEL' ? plugins.toReversed() : plugins)

function failure({ type }, command, { exitCode, signalCode }, stdout, stderr) {
  return `${type} ${command}: exit ${exitCode ?? signalCode}: ${stdout}${stderr}`.replaceAll(/\s+/g, ' ').trim()
}

/** One call, whole process: fork, exec, exit. */
function call(request, plugin, prevResult) {
  const { command } = request
  const file = `${request.directory}/${plugin.type}`
  const stdin = Buffer.from(JSON.stringify({ ...plugin, prevResult }))
  const env = environment(request, command)
  const started = performance.now()
  const ended = Bun.spawnSync([file], { stdin, stdout: 'pipe', stderr: 'pipe', env, cwd: '/' })
  const ms = performance.now() - started
  const stdout = ended.stdout.toString()
  if (ended.exitCode !== 0) return { ms, error: failure(plugin, command, ended, stdout, ended.stderr.toString()) }
  // With what its children took: the reference runs host-local and iptables.
  const cpuMs = Number(ended.resourceUsage.cpuTime.total) / 1000
  return { ms, cpuMs, result: command === 'ADD' ? JSON.parse(stdout) : prevResult }
}

/**
 * Peak memory of a call and its children. What Bun reports is no less than Bun's own memory, as a process inherits the
 * peak of the one it was forked from: so bash forks, and strace reads what the kernel tells bash of its children.
 */
function peak(request, plugin, prevResult) {
  const { command, directory } = request
  const script = '"$0" || exit; times >&2'
  const measured = ['strace', '-v', '-e', 'trace=getrusage', '-e', 'signal=none', '-o', trace, 'bash', '-c', script]
  const ended = Bun.spawnSync([...measured, `${directory}/${plugin.type}`], {
    stdin: Buffer.from(JSON.stringify({ ...plugin, prevResult })),
    stdout: 'pipe',
    stderr: 'pipe',
    env: environment(request, command),
    cwd: '/',
  })
  const stdout = ended.stdout.toString()
  if (ended.exitCode !== 0) return { error: failure(plugin, command, ended, stdout, ended.stderr.toString()) }
  const kilobytes = /getrusage\(RUSAGE_CHILDREN, .*ru_maxrss=(\d+)/.exec(readFileSync(trace, 'utf8'))[1]
  return { megabytes: Number(kilobytes) / 1024, result: command === 'ADD' ? JSON.parse(stdout) : prevResult }
}

/** All plugins of a list, one after the other, each with the result of the one before. */
function chain(request, one) {
  let prevResult = request.prevResult
  const done = []
  for (const plugin of ordered(request)) {
    const outcome = one(request, plugin, prevResult)
    done.push(outcome)
    if (outcome.error) break
    prevResult = outcome.result
  }
  return { done, result: prevResult, error: done.at(-1).error }
}

const sum = (values) => values.reduce((total, value) => total + value, 0)

function time(request) {
  const { done, result, error } = chain(request, call)
  return { ms: sum(done.map(({ ms }) => ms)), cpuMs: sum(done.map(({ cpuMs = 0 }) => cpuMs)), result, error }
}

function memory(request) {
  const { done, result, error } = chain(request, peak)
  return { megabytes: Math.max(...done.map(({ megabytes = 0 }) => megabytes)), result, error }
}

async function chainAtOnce(request) {
  let prevResult = request.prevResult
  for (const plugin of ordered(request)) {
    const process = Bun.spawn([`${request.directory}/${plugin.type}`], {
      stdin: Buffer.from(JSON.stringify({ ...plugin, prevResult })),
      stdout: 'pipe',
      stderr: 'pipe',
      env: environment(request, request.command),
      cwd: '/',
    })
    const [stdout, stderr] = await Promise.all([process.stdout.text(), process.stderr.text(), process.exited])
    if (process.exitCode !== 0) return { error: failure(plugin, request.command, process, stdout, stderr) }
    if (request.command === 'ADD') prevResult = JSON.parse(stdout)
  }
  return { result: prevResult }
}

async function burst({ chains }) {
  const started = performance.now()
  const outcomes = await Promise.all(chains.map(chainAtOnce))
  return { ms: performance.now() - started, outcomes }
}

function script({ text, path }) {
  const { exitCode, stdout, stderr } = Bun.spawnSync(['bash', '-euc', text], { env: { PATH: path }, cwd: '/' })
  return exitCode === 0 ? { stdout: stdout.toString() } : { error: `${text}: exit ${exitCode}: ${stdout}${stderr}` }
}

const answers = { time, memory, burst, script }

for await (const line of console) {
  const request = JSON.parse(line)
  process.stdout.write(`${JSON.stringify(await answers[request.ask](request))}\n`)
}
