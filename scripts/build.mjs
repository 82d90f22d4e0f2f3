// Compiles the executables into dist/bin: node scripts/build.mjs
//
// One image of about 100 MB serves every plugin: it acts by the name it's started under (process.argv0). The names are
// relative symlinks and not hard links, because symlinks survive cp -a, cp -r, tar, rsync -a, npm and container image
// layers as what they are; of hard links several of these make one full copy per name.

import { spawnSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { image, pluginNames } from './executables.mjs'
import { giveUp, install, isMain, modified, root } from './install.mjs'

const sourceFolders = ['netlink-lib', 'config', 'ipam', 'nat', 'plugins', 'ns-net']
const buildFiles = ['package.json', 'package-lock.json', 'scripts/build.mjs', 'scripts/executables.mjs']

/** What the image is made of; tests are no part of it. */
function sources() {
  const isSource = (path) => path.endsWith('.ts') && !path.endsWith('.test.ts')
  const inFolder = (folder) =>
    existsSync(join(root, folder))
      ? readdirSync(join(root, folder), { recursive: true }).map((path) => join(folder, path))
      : []
  return [...sourceFolders.flatMap(inFolder).filter(isSource), ...buildFiles]
}

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

function runBun(what, ...options) {
  const bun = spawnSync(findBun(), ['build', ...options], { cwd: root, encoding: 'utf8' })
  if (bun.error) giveUp(`build: ${bun.error.message}`)
  if (bun.status !== 0) giveUp(`${bun.stdout}${bun.stderr}build: bun could not compile ${what}`)
}

function compile(target) {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const common = [
    '--target=bun',
    '--format=esm',
    '--minify',
    '--define',
    'NS_NET_IMAGE=true',
    '--define',
    `NS_NET_VERSION=${JSON.stringify(version)}`,
  ]
  // All that a call of a plugin takes is one file: twenty chunks that are shared take a tenth longer to load.
  const calls = readdirSync(join(root, 'plugins'))
    .map((plugin) => `plugins/${plugin}/call.ts`)
    .filter((path) => existsSync(join(root, path)))
  runBun('the plugins', ...common, '--root=plugins', '--outdir=dist/calls', ...calls)
  runBun(
    'ns-net/main.ts',
    'ns-net/main.ts',
    ...common,
    '--conditions=image', // in package.json: the files that were just made
    '--compile',
    '--bytecode',
    // Each lazily imported part is a chunk of its own: the start reads only what this verb needs.
    '--splitting',
    // A plugin ends before code that was compiled to be fast could pay for its compilation.
    '--compile-jit-policy=10',
    // What BUN_OPTIONS says comes after these arguments, and so behind the end of options.
    '--compile-exec-argv=--',
    // A root process must not read .env or bunfig.toml from wherever it's started.
    '--no-compile-autoload-dotenv',
    '--no-compile-autoload-bunfig',
    `--outfile=${target}`,
  )
  if (!existsSync(target)) giveUp('build: bun made no image of ns-net/main.ts')
}

/** Replaces a file by rename, so that whoever runs the old one keeps it whole. */
function replace(path, write) {
  const next = join(root, 'dist', `.next-${process.pid}-${basename(path)}`)
  try {
    write(next)
    renameSync(next, path)
  } finally {
    rmSync(next, { force: true })
  }
}

function linkTarget(path) {
  try {
    return readlinkSync(path)
  } catch {
    return undefined // absent, or no symlink
  }
}

/** Installs what is needed and makes dist/bin current. Compiles only if a source is newer than the image. */
export function build() {
  install()
  const started = Date.now()
  const bin = join(root, 'dist/bin')
  mkdirSync(bin, { recursive: true })

  const current = modified(`dist/bin/${image}`) > Math.max(...sources().map(modified))
  if (!current) replace(join(bin, image), compile)
  for (const name of pluginNames)
    if (linkTarget(join(bin, name)) !== image) replace(join(bin, name), (next) => symlinkSync(image, next))

  const how = current ? 'is up to date' : `compiled in ${((Date.now() - started) / 1000).toFixed(1)} s`
  process.stdout.write(`build: dist/bin ${how}: ${[image, ...pluginNames].join(' ')}\n`)
}

if (isMain(import.meta.url)) build()
