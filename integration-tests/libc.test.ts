import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { findBun } from '../scripts/bundle.mjs'
import { linkPrograms } from '../scripts/plugins.mjs'
import { createHost, executables } from './host.ts'

const file = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/** What libc-calls.ts says of every call, and what the program said that it became in the end. */
function callEverything(flags: readonly string[]): { outcomes: Record<string, unknown>; last: readonly string[] } {
  using host = createHost()
  host.run(['mkdir', '/run/calls'])
  const { stdout } = host.run([findBun(), 'run', ...flags, file('libc-calls.ts')], { env: { DIRECTORY: '/run/calls' } })
  const [outcomes, ...last] = stdout.trimEnd().split('\n')
  return { outcomes: JSON.parse(outcomes!), last }
}

test("the plugins' engine makes calls of the C library, and text of bytes, as Node does", () => {
  using host = createHost()
  host.run(['mkdir', '/run/calls'])
  const folder = mkdtempSync(join(tmpdir(), 'ns-net-engine-'))
  try {
    linkPrograms(join(folder, 'libc-calls'), { 'libc-calls': 'integration-tests/libc-calls-engine.ts' })
    const { stdout } = host.run([join(folder, 'libc-calls')], { env: { DIRECTORY: '/run/calls' } })
    const inEngine = JSON.parse(stdout)
    const { outcomes } = callEverything([])
    expect(Object.keys(inEngine).length).toBeGreaterThan(40)
    expect(outcomes).toMatchObject(inEngine)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test("bun's calls of the C library return what koffi's do, each with its own errno", () => {
  const inImage = callEverything(['--define', 'NS_NET_IMAGE=true'])
  const byKoffi = callEverything([])
  expect(inImage).toEqual(byKoffi)
  // What both should say, lest both are wrong.
  expect(inImage.outcomes).toMatchObject({
    read: [3, '.hel....'],
    close: [0, 0, 'errno 9'],
    'flock taken': 'errno 11',
    ioctl: 0x40000000,
    'statx says': [0o100640, 3, '4000000000'],
    'mmap wrong': ['errno 22', 'errno 9'],
    'open with a zero': 'errno 22',
    rename: ['errno 21', 'errno 2', 0, 0],
    getdents64: [48, 24, 4, '.\0'],
    'getdents64 wrong': [0, 'errno 9', 'errno 20'],
    rmdir: ['errno 39', 0, 'errno 2'],
    nanosleep: [0, 'errno 22'],
    signal: [0, 1, 0, 'errno 22'],
    load: [],
  })
  expect(inImage.last.slice(0, 2)).toEqual(['zero öne $ä', 'a=b'])
})

/** Runs a program where memory cannot become executable (prctl(2), PR_SET_MDWE), as a hardened systemd unit does. */
const withoutExecutableMemory = `
  const library = require(${JSON.stringify(file('../node_modules/koffi'))}).load(null)
  const prctl = library.func('prctl', 'int', ['int', 'unsigned long', 'unsigned long', 'unsigned long', 'unsigned long'])
  const child = prctl(65, 1, 0, 0, 0) === 0
    ? require('node:child_process').spawnSync(process.argv[1], { stdio: 'inherit' })
    : { status: 77 }
  process.exitCode = child.status`

test('plugins work where memory may not be executed', (context) => {
  using host = createHost()
  const { path: netns, json } = host.addContainer('web')
  const { status } = host.run(
    [process.execPath, '--jitless', '-e', withoutExecutableMemory, `${executables}/loopback`],
    {
      env: { CNI_COMMAND: 'ADD', CNI_CONTAINERID: 'web', CNI_NETNS: netns, CNI_IFNAME: 'lo', CNI_PATH: executables },
      input: JSON.stringify({ cniVersion: '1.0.0', name: 'lo', type: 'loopback' }),
      expectFailure: 'maybe',
    },
  )
  if (status === 77) return context.skip('this kernel has no PR_SET_MDWE (Linux 6.3)')
  expect(json(['ip', '-json', 'link', 'show', 'up'])).toMatchObject([{ ifname: 'lo' }])
})
