// Runs inside a throw-away host: makes the calls that a file lists and prints, one line of JSON for each case, how they
// ended and what they left. One process for all calls, because entering a host costs as much as a call.
//
//   node driver.mjs CASES PLUGIN_FOLDER CONTAINER_PID

import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, rmSync, writeSync } from 'node:fs'

const [file, plugins, container] = process.argv.slice(2)

/** Where leases and the state of the iptables backend go. */
const stores = ['/var/lib/cni', '/run/data', '/run/ns-net']

function links(pid) {
  const lines = readFileSync(`/proc/${pid}/net/dev`, 'utf8').split('\n').slice(2)
  return lines.map((line) => line.slice(0, line.lastIndexOf(':')).trim()).filter((name) => name !== '')
}

function filesIn(folder) {
  try {
    return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
      const path = `${folder}/${entry.name}`
      return entry.isDirectory() ? [`${path}/`, ...filesIn(path)] : [path]
    })
  } catch {
    return [] // not there
  }
}

const seen = () => ({ links: links('self'), inside: links(container), files: stores.flatMap(filesIn) })
const first = seen()
const added = (kind, now) => now[kind].filter((name) => !first[kind].includes(name))

function left() {
  const now = seen()
  return { links: added('links', now), inside: added('inside', now), files: added('files', now) }
}

/** Bytes that are no text cannot stand in an environment that Node makes, but a shell can put them there. */
const octal = (base64) =>
  [...Buffer.from(base64, 'base64')].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('')
const inShell = (program, raw) => [
  '/bin/sh',
  '-c',
  `${Object.entries(raw)
    .map(([name, bytes]) => `${name}=$(printf '${octal(bytes)}'); export ${name};`)
    .join(' ')} exec ${program}`,
]

function make({ plugin, env, raw, stdin }) {
  const program = `${plugins}/${plugin}`
  const [command, ...args] = raw ? inShell(program, raw) : [program]
  const started = performance.now()
  const child = spawnSync(command, args, {
    argv0: raw ? 'sh' : plugin,
    env,
    input: Buffer.from(stdin, 'base64'),
    timeout: 8000,
    killSignal: 'SIGKILL',
    maxBuffer: 64 * 1024 * 1024,
    cwd: '/',
  })
  const { status, signal, stdout, stderr, error } = child
  // EPIPE: it ended without having read all of its input.
  const failure = error && error.code !== 'EPIPE' ? String(error) : undefined
  return {
    status,
    signal,
    failure,
    stdout: stdout?.toString('latin1') ?? '',
    stderr: stderr?.toString('latin1') ?? '',
    milliseconds: performance.now() - started,
    left: left(),
  }
}

for (const { id, calls } of JSON.parse(readFileSync(file, 'utf8'))) {
  const outcomes = calls.map(make)
  writeSync(1, `${JSON.stringify({ id, outcomes })}\n`)
  const remains = left()
  for (const name of remains.links) spawnSync('ip', ['link', 'delete', 'dev', name])
  for (const name of remains.inside) spawnSync('ip', ['-n', 'c1', 'link', 'delete', 'dev', name])
  // Longest first: a folder after what is in it.
  for (const path of remains.files.toReversed()) rmSync(path, { recursive: true, force: true })
}
