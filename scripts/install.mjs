// Brings node_modules in line with package-lock.json: node scripts/install.mjs

import { spawnSync } from 'node:child_process'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '')

/** Prints one sentence and ends the process. */
export function giveUp(sentence, code = 1) {
  process.stderr.write(`${sentence}\n`)
  process.exit(code)
}

/** When a path below the project was last written, 0 when it's missing. */
export function modified(path) {
  return statSync(join(root, path), { throwIfNoEntry: false })?.mtimeMs ?? 0
}

/** Installs the dependencies if they are missing or older than the lock file. */
export function install() {
  if (process.platform !== 'linux')
    giveUp(`ns-net needs Linux: it talks to the Linux kernel; this is ${process.platform}`)
  if (Number.parseInt(process.versions.node, 10) < 20)
    giveUp(`ns-net is built with Node 20 or newer; this is Node ${process.versions.node} (${process.execPath})`)

  // npm writes this file last, so it's a mark of a finished install.
  if (modified('node_modules/.package-lock.json') >= modified('package-lock.json')) {
    process.stdout.write('install: node_modules is up to date\n')
    return
  }
  const started = Date.now()
  // --include=dev: the compiler is needed under NODE_ENV=production too. --ignore-scripts: no dependency needs its install
  // script (the build finds bun's binary either way), and newer npm blocks them: so the tree is the same everywhere.
  const flags = ['--include=dev', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error']
  const npm = spawnSync('npm', ['ci', ...flags], { cwd: root, stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8' })
  if (npm.error)
    giveUp('npm is not installed: it comes with Node (https://nodejs.org), or run `sudo apt-get install npm`')
  if (npm.status !== 0) giveUp(`${npm.stdout}install: npm ci failed; its own explanation is above`)
  process.stdout.write(`install: dependencies installed in ${((Date.now() - started) / 1000).toFixed(1)} s\n`)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) install()
