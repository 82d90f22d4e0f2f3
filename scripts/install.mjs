// Brings node_modules in line with package-lock.json: node scripts/install.mjs

import { spawnSync } from 'node:child_process'
import { readFileSync, realpathSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '')

/** True in the script that node was started with, given its import.meta.url. */
export function isMain(url) {
  return realpathSync(process.argv[1]) === fileURLToPath(url)
}

/** Prints one sentence and ends the process. */
export function giveUp(sentence, code = 1) {
  process.stderr.write(`${sentence}\n`)
  process.exit(code)
}

/** When a path below the project was last written, 0 when it's missing. */
export function modified(path) {
  return statSync(join(root, path), { throwIfNoEntry: false })?.mtimeMs ?? 0
}

/**
 * What bun's install script does: puts the binary where `npx bun` finds it. When it fails the build still finds the
 * binary in the platform's package.
 */
function finishBun() {
  const { size = 0 } = statSync(join(root, 'node_modules/bun/bin/bun.exe'), { throwIfNoEntry: false }) ?? {}
  if (size < 1_000_000) spawnSync(process.execPath, ['install.js'], { cwd: join(root, 'node_modules/bun') })
}

/** Installs the dependencies if they are missing or older than the lock file. */
export function install() {
  if (process.platform !== 'linux')
    giveUp(`ns-net needs Linux: it talks to the Linux kernel; this is ${process.platform}`)
  const needed = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).engines.node.replace('>=', '')
  if (process.versions.node.localeCompare(needed, 'en', { numeric: true }) < 0)
    giveUp(`ns-net is built with Node ${needed} or newer; this is Node ${process.versions.node} (${process.execPath})`)

  // npm writes this file last, so it's a mark of a finished install.
  if (modified('node_modules/.package-lock.json') >= modified('package-lock.json')) {
    finishBun()
    process.stdout.write('install: node_modules is up to date\n')
    return
  }
  const started = Date.now()
  // --include=dev: the compiler is needed under NODE_ENV=production too. --ignore-scripts: newer npm blocks them, older
  // ones run them all; so the tree is the same everywhere.
  const flags = ['--include=dev', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error']
  const npm = spawnSync('npm', ['ci', ...flags], { cwd: root, stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8' })
  if (npm.error)
    giveUp('npm is not installed: it comes with Node (https://nodejs.org), or run `sudo apt-get install npm`')
  if (npm.status !== 0) giveUp(`${npm.stdout}install: npm ci failed; its own explanation is above`)
  finishBun()
  process.stdout.write(`install: dependencies installed in ${((Date.now() - started) / 1000).toFixed(1)} s\n`)
}

if (isMain(import.meta.url)) install()
