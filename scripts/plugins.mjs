// Makes the one executable of the plugins: each plugin's main.ts becomes bytecode of QuickJS, and all bytecode is linked
// with the engine (engine/) and the C library into one file that needs nothing else.

import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { bundle } from './bundle.mjs'
import { giveUp, root } from './install.mjs'

const quickjs = 'node_modules/qjsc/deps/quickjs_2021_03_27'
const engine = [
  ...['engine', 'memory', 'program'].map((name) => `engine/${name}.c`),
  ...['quickjs', 'cutils', 'libbf', 'libregexp', 'libunicode'].map((name) => `${quickjs}/${name}.c`),
]
const defined = ['-D_GNU_SOURCE', '-DCONFIG_BIGNUM', '-DCONFIG_VERSION="2021-03-27"']
const flags = ['-O2', '-fwrapv', '-w', '-static', `-I${quickjs}`, '-Iengine', ...defined]

function run(program, args, options) {
  const child = spawnSync(program, args, { cwd: root, maxBuffer: 1 << 28, ...options })
  if (child.error) giveUp(`build: ${program}: ${child.error.message}`)
  if (child.status !== 0) giveUp(`${child.stderr}build: ${program} ${args.join(' ')}: exit ${child.status}`)
  return child.stdout
}

/**
 * The compiler: CC, or zig's, a package of npm that brings the C library musl; where it has none for this processor, what
 * the system has. With musl an empty program starts in 0.06 ms, with glibc in 0.5: that asks the processor about its
 * caches (cpuid), which is slow in a virtual machine.
 */
function findCompiler() {
  const zig = join(root, `node_modules/@zigc/linux-${process.arch}/bin/zig`)
  const ofZig = [
    zig,
    'cc',
    '-target',
    `${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-musl`,
    '-fno-sanitize=all',
  ]
  const candidates = process.env.CC ? [[process.env.CC]] : [ofZig, ['musl-gcc'], ['cc']]
  const found = candidates.find((command) => spawnSync(command[0], [...command.slice(1), '--version']).status === 0)
  return found ?? giveUp('build: there is no C compiler: remove node_modules and run npm ci, or install musl-gcc')
}

/** Compiles and links, what has not changed since the last time from zig's cache. */
function link(output, sources) {
  const [compiler, ...common] = findCompiler()
  const cache = join(root, 'node_modules/.cache/zig')
  const env = { ...process.env, ZIG_GLOBAL_CACHE_DIR: cache, ZIG_LOCAL_CACHE_DIR: cache }
  run(compiler, [...common, ...flags, ...sources, '-lm', '-s', '-o', output], { env })
}

/** Links an executable that acts by the name it's started under; `programs` has for each name the file that it runs. */
export function linkPrograms(target, programs) {
  mkdirSync(join(root, 'dist'), { recursive: true })
  // A new folder each time: of a file that .incbin names, zig's cache sees only the path.
  const folder = mkdtempSync(join(root, 'dist/.bytecode-'))
  const clear = () => rmSync(folder, { recursive: true, force: true })
  process.once('exit', clear) // where a step gives up, nothing below is reached
  linkIn(folder, target, programs)
  clear()
}

function linkIn(folder, target, programs) {
  const made = (name) => join(folder, name)
  link(made('compiler'), ['engine/compiler.c', ...engine])
  const entries = [...new Set(Object.values(programs))]
  const symbols = new Map(entries.map((entry, n) => [entry, `code${n}`]))
  for (const [entry, symbol] of symbols) {
    bundle(entry, '--target=browser', '--define', 'NS_NET_ENGINE=true', `--outfile=${made(`${symbol}.js`)}`)
    writeFileSync(made(symbol), run(made('compiler'), [], { input: readFileSync(made(`${symbol}.js`)) }))
  }
  writeFileSync(made('code.s'), assembly(folder, [...symbols.values()]))
  writeFileSync(made('programs.c'), listOf(Object.entries(programs), symbols))
  link(target, ['engine/main.c', ...engine, made('programs.c'), made('code.s')])
}

function assembly(folder, symbols) {
  const visible = symbols.map((symbol) => `.global ${symbol}, ${symbol}_end`)
  const included = symbols.map((symbol) => `${symbol}: .incbin "${folder}/${symbol}"\n${symbol}_end:\n.balign 16`)
  return `${['.section .rodata', ...visible, ...included, '.section .note.GNU-stack,"",%progbits'].join('\n')}\n`
}

function listOf(programs, symbols) {
  const declared = [...symbols.values()].map((symbol) => `extern const uint8_t ${symbol}[], ${symbol}_end[];`)
  const rows = programs.map(([name, entry]) => `  { "${name}", ${symbols.get(entry)}, ${symbols.get(entry)}_end },`)
  const list = ['const struct program programs[] = {', ...rows, '  { 0, 0, 0 }', '};']
  return `${['#include "engine.h"', ...declared, ...list].join('\n')}\n`
}
