// Compiles the executables into dist/bin: node scripts/build.mjs
//
// Two real files: `ns-net`, the command, 120 MB most of which is bun's engine, and `ns-net-plugins`, all plugins in 3 MB,
// which acts by the name it's started under. The plugins' names are relative symlinks and not hard links, because symlinks
// survive cp -a, cp -r, tar, rsync -a, npm and container image layers as what they are; of hard links several of these
// make one full copy per name.

import { existsSync, mkdirSync, readdirSync, readlinkSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { basename, join } from 'node:path'
import { bundle } from './bundle.mjs'
import { executableNames, image, pluginFolders, pluginImage, pluginNames } from './executables.mjs'
import { giveUp, install, isMain, modified, root } from './install.mjs'
import { linkPrograms } from './plugins.mjs'

const sourceFolders = ['engine', 'netlink-lib', 'config', 'ipam', 'nat', 'plugins', 'ns-net']
const buildFiles = [
  'package.json',
  'package-lock.json',
  ...['build', 'bundle', 'executables', 'plugins'].map((name) => `scripts/${name}.mjs`),
]

/** What the executables are made of; tests are no part of it. */
function sources() {
  const isSource = (path) => /\.(ts|c|h)$/.test(path) && !path.endsWith('.test.ts')
  const inFolder = (folder) =>
    existsSync(join(root, folder))
      ? readdirSync(join(root, folder), { recursive: true }).map((path) => join(folder, path))
      : []
  return [...sourceFolders.flatMap(inFolder).filter(isSource), ...buildFiles]
}

function compileCommand(target) {
  bundle(
    'ns-net/main.ts',
    '--target=bun',
    '--define',
    'NS_NET_IMAGE=true',
    '--compile',
    '--bytecode',
    // Each lazily imported part is a chunk of its own: the start reads only what this verb needs.
    '--splitting',
    // Most verbs end before code that was compiled to be fast could pay for its compilation.
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

const compilePlugins = (target) =>
  linkPrograms(
    target,
    Object.fromEntries(Object.entries(pluginFolders).map(([name, folder]) => [name, `plugins/${folder}/main.ts`])),
  )

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

  const newest = Math.max(...sources().map(modified))
  const isCurrent = (name) => modified(`dist/bin/${name}`) > newest
  const wasCurrent = [image, pluginImage].every(isCurrent)
  if (!isCurrent(image)) replace(join(bin, image), compileCommand)
  if (!isCurrent(pluginImage)) replace(join(bin, pluginImage), compilePlugins)
  for (const name of pluginNames)
    if (linkTarget(join(bin, name)) !== pluginImage) replace(join(bin, name), (next) => symlinkSync(pluginImage, next))

  const how = wasCurrent ? 'is up to date' : `compiled in ${((Date.now() - started) / 1000).toFixed(1)} s`
  process.stdout.write(`build: dist/bin ${how}: ${executableNames.join(' ')}\n`)
}

if (isMain(import.meta.url)) build()
