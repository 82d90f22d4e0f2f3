import { readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

/*
 * The directions of import (docs/architecture.md). Layers look down only; what two plugins share sinks a layer, never
 * sideways.
 */

const root = fileURLToPath(new URL('.', import.meta.url))
const outside = new Set(['node_modules', 'dist', '.git'])

interface Source {
  /** Path from the root: `plugins/bridge/bridge.ts`. */
  readonly path: string
  /** Paths of our own files, and names of packages. */
  readonly imports: readonly string[]
}

/** Static, dynamic, type-only and re-exporting imports, and what createRequire loads. */
const importPatterns = [
  /^\s*(?:import|export)\b[^'"`;]*?\bfrom\s*(['"])(.+?)\1/gm,
  /^\s*import\s*(['"])(.+?)\1/gm,
  /\b(?:import|require)\s*\(\s*(['"])(.+?)\1/g,
]

function importsOf(path: string): string[] {
  const text = readFileSync(join(root, path), 'utf8')
  const specifiers = importPatterns.flatMap((pattern) => [...text.matchAll(pattern)].map((match) => match[2]!))
  return specifiers.map((specifier) => {
    return specifier.startsWith('.') ? relative(root, join(root, dirname(path), specifier)) : specifier
  })
}

function sourcesIn(directory: string): Source[] {
  return readdirSync(join(root, directory), { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) return outside.has(entry.name) ? [] : sourcesIn(path)
    return path.endsWith('.ts') ? [{ path, imports: importsOf(path) }] : []
  })
}

const sources = sourcesIn('')
const isTest = (path: string) => path.endsWith('.test.ts')

/** nat/ without nat/filter/. */
const translation = sources.map(({ path }) => path).filter((path) => dirname(path) === 'nat')

/** What the files below a folder may import of ours, as prefixes of paths. The first folder that matches decides. */
function allowedFor(path: string): readonly string[] | undefined {
  const engine = 'engine/'
  const kernel = ['netlink-lib/', 'engine/engine.ts']
  const policy = [...kernel, 'config/', 'ipam/', 'nat/']
  const contract = [...policy, 'plugins/contract/']
  const plugin = path.match(/^plugins\/[^/]+\//)?.[0]
  if (path.startsWith(engine)) return [engine]
  if (path.startsWith('netlink-lib/')) return kernel
  if (path.startsWith('config/')) return ['config/', 'netlink-lib/ip.ts']
  if (path.startsWith('ipam/')) return [...kernel, 'config/', 'ipam/']
  if (path.startsWith('nat/filter/')) return [...kernel, 'config/', 'nat/']
  if (path.startsWith('nat/')) return [...kernel, 'config/', ...translation]
  if (path.startsWith('plugins/contract/')) return contract
  if (plugin) return [...contract, plugin, 'engine/globals.ts']
  if (path.startsWith('ns-net/')) return [...contract, 'plugins/', 'ns-net/']
  return undefined // tests of the whole, benchmarks, examples
}

const isOurs = (imported: string) => sources.some(({ path }) => path === imported)

test('the imports of this project are found', () => {
  // Without this an empty list would pass everything below.
  expect(sources.find(({ path }) => path === 'netlink-lib/socket.ts')?.imports).toEqual(
    expect.arrayContaining(['netlink-lib/bytes.ts', 'netlink-lib/errors.ts', 'netlink-lib/libc.ts']),
  )
  expect(sources.find(({ path }) => path === 'vitest.config.ts')?.imports).toEqual(['vitest/config'])
})

test('every import goes down the layers', () => {
  const wrong = sources.flatMap(({ path, imports }) => {
    const allowed = allowedFor(path)
    if (!allowed) return []
    const upward = imports.filter((name) => isOurs(name) && !allowed.some((prefix) => name.startsWith(prefix)))
    return upward.map((name) => `${path} imports ${name}`)
  })
  expect(wrong).toEqual([])
})

test('nothing imports ns-net but itself and tests, nor integration-tests but the tests and benchmarks', () => {
  const wrong = sources.flatMap(({ path, imports }) =>
    imports
      .filter(
        (name) =>
          (name.startsWith('ns-net/') && !/^(ns-net|integration-tests)\//.test(path)) ||
          (name.startsWith('integration-tests/') && !/^(integration-tests|bench)\//.test(path)),
      )
      .map((name) => `${path} imports ${name}`),
  )
  expect(wrong).toEqual([])
})

test('imports of our own files carry their ending and lead to a file', () => {
  const broken = sources.flatMap(({ path, imports }) =>
    imports
      .filter((name) => !name.startsWith('node:') && /^[a-z-]+\//.test(name) && /\.(ts|js)$/.test(name))
      .filter((name) => !isOurs(name) && !name.startsWith('netlink/'))
      .map((name) => `${path} imports ${name}`),
  )
  expect(broken).toEqual([])
})

// Measured: each of these costs a plugin's start milliseconds, or would judge our bytes by our own judge.
const costly = ['ip-cidr', 'commander', 'netlink', 'node:crypto', 'crypto']

test('what every plugin loads imports no costly package', () => {
  const wrong = sources
    .filter(({ path }) => /^(netlink-lib|config|ipam|nat|plugins)\//.test(path) && !isTest(path))
    .flatMap(({ path, imports }) =>
      imports
        .filter((name) => costly.some((one) => name === one || name.startsWith(`${one}/`)))
        .map((name) => `${path} imports ${name}`),
    )
  expect(wrong).toEqual([])
})

/** The engine of the plugins has nothing of Node (engine/README.md). Of these files only ns-net loads what is named. */
const onlyInNsNet = ['netlink-lib/packet.ts']

test('what plugins load imports nothing of Node', () => {
  const wrong = sources
    .filter(({ path }) => /^(engine|netlink-lib|config|ipam|nat|plugins)\//.test(path) && !isTest(path))
    .filter(({ path }) => !onlyInNsNet.includes(path))
    .flatMap(({ path, imports }) =>
      imports.filter((name) => name.startsWith('node:')).map((name) => `${path}: ${name}`),
    )
  expect(wrong).toEqual([])
})

test('files are named for what they hold', () => {
  const vague = /^(index|utils?|helpers?|common|manager|misc)(\.test)?\.ts$/
  expect(sources.map(({ path }) => path).filter((path) => vague.test(basename(path)))).toEqual([])
})
