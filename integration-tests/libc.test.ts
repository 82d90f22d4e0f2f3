import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { findBun } from '../scripts/build.mjs'
import { createHost, executables, type RunResult } from './host.ts'

const file = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/** What libc-calls.ts says of every call, and what the program said that it became in the end. */
function callEverything(flags: readonly string[]): { outcomes: Record<string, unknown>; last: readonly string[] } {
  using host = createHost()
  host.run(['mkdir', '/run/calls'])
  const { stdout } = host.run([findBun(), 'run', ...flags, file('libc-calls.ts'), '/run/calls'])
  const [outcomes, ...last] = stdout.trimEnd().split('\n')
  return { outcomes: JSON.parse(outcomes!), last }
}

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

test('where memory may not be executed, VERSION works and the rest says what is missing', (context) => {
  using host = createHost()
  const { path: netns } = host.addContainer('web')
  const call = (CNI_COMMAND: string): RunResult =>
    host.run([process.execPath, '--jitless', '-e', withoutExecutableMemory, `${executables}/loopback`], {
      env: { CNI_COMMAND, CNI_CONTAINERID: 'web', CNI_NETNS: netns, CNI_IFNAME: 'lo', CNI_PATH: executables },
      input: JSON.stringify({ cniVersion: '1.0.0', name: 'lo', type: 'loopback' }),
      expectFailure: 'maybe',
    })
  const version = call('VERSION')
  if (version.status === 77) return context.skip('this kernel has no PR_SET_MDWE (Linux 6.3)')
  expect(JSON.parse(version.stdout).supportedVersions).toContain('1.1.0')
  const { status, stdout } = call('ADD')
  expect(status).toBe(1)
  expect(JSON.parse(stdout)).toMatchObject({ code: 999, msg: expect.stringContaining('MemoryDenyWriteExecute=no') })
})
