// Runs bun, the bundler and the engine of ns-net.

import { spawnSync } from 'node:child_process'
import { closeSync, existsSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { giveUp, root } from './install.mjs'

function isExecutable(path) {
  if (!existsSync(path)) return false
  const fd = openSync(path, 'r')
  try {
    const magic = Buffer.alloc(4)
    readSync(fd, magic, 0, 4, 0)
    return magic.toString('latin1') === '\x7fELF' && fstatSync(fd).size > 1_000_000
  } finally {
    closeSync(fd)
  }
}

/**
 * The bun package's install script puts the real binary over a placeholder. Where npm blocks install scripts, the
 * placeholder stays and the binary is still in the platform's own package.
 */
export function findBun() {
  const candidates = [
    'bun/bin/bun.exe',
    `@oven/bun-linux-${process.arch === 'arm64' ? 'aarch64' : process.arch}/bin/bun`,
  ]
  const found = candidates.map((path) => join(root, 'node_modules', path)).find(isExecutable)
  return (
    found ??
    giveUp(
      `build: no bun binary in node_modules (looked for ${candidates.join(', ')}): remove node_modules and run npm ci`,
    )
  )
}

const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

/** Makes one file of all that a file imports. */
export function bundle(entry, ...options) {
  const common = ['build', entry, '--format=esm', '--minify', '--define', `NS_NET_VERSION=${JSON.stringify(version)}`]
  const bun = spawnSync(findBun(), [...common, ...options], { cwd: root, encoding: 'utf8' })
  if (bun.error) giveUp(`build: ${bun.error.message}`)
  if (bun.status !== 0) giveUp(`${bun.stdout}${bun.stderr}build: bun could not compile ${entry}`)
}
