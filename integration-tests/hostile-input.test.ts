import { readFileSync, writeFileSync } from 'node:fs'
import { posix } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createHost, executables, type Host, requireTool } from './host.ts'
import {
  bridgeConfig,
  type Case,
  callsOf,
  caseOf,
  type Draft,
  define,
  dice,
  type Environment,
  head,
  hostileStrings,
  places,
  plugins,
  subjects,
  verbs,
  vethConfig,
} from './hostile-input/cases.ts'
import { type Finding, judge, type Outcome, parsed, problemsOf } from './hostile-input/judge.ts'

/*
 * Calls that no sane runtime makes: documents, environments, names and addresses that are broken in ways drawn from a
 * seed. Whatever comes in, an executable ends with 0 or 1, says nothing or one JSON document, and leaves nothing.
 *
 *   HOSTILE_SEED=4711   starts from another seed
 *   HOSTILE_CASES=20000 tries more of them
 */

const firstSeed = Number(process.env.HOSTILE_SEED ?? 1)
const caseCount = Number(process.env.HOSTILE_CASES ?? 1500)

const driver = fileURLToPath(new URL('hostile-input/driver.mjs', import.meta.url))

/** A host in which everything that can be written to is its own, with one attachment that must not notice anything. */
function fortress(): Host {
  const host = createHost({ cniPath: plugins })
  host.sh(`mkdir ${plugins} /run/data /run/hostile
           mount --bind ${executables} ${plugins}
           cp ${driver} /run/driver.mjs
           : >/run/leftover
           ln -s /run/loop /run/loop
           for folder in /tmp /var/tmp /dev/shm /mnt /srv; do mount -t tmpfs -o mode=1777 tmpfs $folder; done
           mount -o remount,bind,ro / || true`)
  for (const name of ['keep', 'c1']) host.addContainer(name)
  const keep = {
    ...bridgeConfig,
    name: 'keep',
    bridge: 'br-keep',
    ipam: { type: 'host-local', ranges: [[{ subnet: '10.200.0.0/24' }], [{ subnet: 'fd00:200::/64' }]] },
  }
  const call = { containerId: 'keep', netns: '/run/netns/keep', ifName: 'eth0' }
  host.cni('bridge', 'ADD', { config: keep, ...call })
  // The tables that iptables makes at its first use stay.
  host.sh(`iptables -t nat -L >/dev/null; ip6tables -t nat -L >/dev/null
           for program in iptables ip6tables; do for action in A D; do $program -t nat -$action POSTROUTING -j RETURN; done; done`)
  // Ends with the host.
  host.start(['ip', 'netns', 'exec', 'c1', 'sh', '-c', 'echo $$ >/run/c1.pid; exec sleep 1000'])
  host.sh('until test -s /run/c1.pid; do sleep 0.01; done')
  return host
}

/** Files outside of the stores, by modification time: nothing there is any plugin's business. */
const strangers = (host: Host) =>
  host.sh(`find /tmp /var/tmp /dev/shm /mnt /srv /etc /run -xdev -newer /run/marker |
           grep -vE '^/run(/cases.json|/data.*|/ns-net.*)?$' || true`).stdout

const state = (host: Host) => {
  const { files, ...rest } = host.snapshot({ ignoreLeaseMarks: true })
  return {
    ...rest,
    files: Object.fromEntries(Object.entries(files).filter(([path]) => !path.startsWith('/run/ns-net/nat/'))),
    strangers: strangers(host),
  }
}

interface Batch {
  readonly outcomes: ReadonlyMap<number, Outcome[]>
  /** What the host looked like before and after all calls. */
  readonly before: unknown
  readonly after: unknown
}

async function run(cases: readonly Case[]): Promise<Batch> {
  using host = fortress()
  host.run(['touch', '/run/marker'])
  host.run(['sleep', '0.02']) // file times have the resolution of the kernel's tick
  const before = state(host)
  writeFileSync(
    host.file('/run/cases.json'),
    JSON.stringify(cases.map((each) => ({ id: each.seed, calls: callsOf(each).calls }))),
  )
  const pid = readFileSync(host.file('/run/c1.pid'), 'utf8').trim()
  const child = host.start([process.execPath, '/run/driver.mjs', '/run/cases.json', plugins, pid])
  const [stdout, stderr] = await Promise.all([text(child.stdout!), text(child.stderr!)])
  expect(stderr).toBe('')
  const lines = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  expect(lines).toHaveLength(cases.length)
  return { outcomes: new Map(lines.map(({ id, outcomes }) => [id, outcomes])), before, after: state(host) }
}

/** What is wrong with one case, tried alone; the host before and after counts as well. */
async function tryAlone(each: Case): Promise<Finding[]> {
  const { outcomes, before, after } = await run([each])
  const made = callsOf(each)
  const findings = judge(made, outcomes.get(each.seed)!)
  if (JSON.stringify(before) !== JSON.stringify(after)) {
    expect.soft(after).toEqual(before)
    findings.push({
      problem: 'the host is not as before',
      call: made.calls.at(-1)!,
      outcome: outcomes.get(each.seed)!.at(-1)!,
    })
  }
  return findings
}

/** Leaves out every mutation that the finding does not need. */
async function shrunk(found: Case): Promise<Case> {
  let smallest = found
  for (const mutation of found.mutations) {
    const smaller = { ...smallest, mutations: smallest.mutations.filter((each) => each !== mutation) }
    if (smaller.mutations.length > 0 && (await tryAlone(smaller)).length > 0) smallest = smaller
  }
  return smallest
}

const cut = (text: string) => (text.length > 1500 ? `${text.slice(0, 1500)}… (${text.length} characters)` : text)

function report({ seed }: Case, { problem, call, outcome }: Finding): string {
  const environment = Object.entries({ ...call.env, ...call.raw }).map(
    ([name, value]) => `${name}=${JSON.stringify(value)}`,
  )
  return [
    `seed ${seed}: ${call.plugin}: ${problem}`,
    cut(environment.join(' ')),
    `stdin ${cut(JSON.stringify(Buffer.from(call.stdin, 'base64').toString('utf8')))}`,
    `exit ${outcome.status} ${outcome.signal ?? ''} stdout ${cut(outcome.stdout)} stderr ${cut(outcome.stderr)}`,
  ].join('\n')
}

/** The one of many cases that changes the host, found by halving; undefined when none does so alone. */
async function culprit(cases: readonly Case[]): Promise<Case | undefined> {
  if (cases.length === 1) return cases[0]
  for (const half of [cases.slice(0, cases.length / 2), cases.slice(cases.length / 2)]) {
    const { before, after } = await run(half)
    if (JSON.stringify(before) !== JSON.stringify(after)) return culprit(half)
  }
  return undefined
}

test(`${caseCount} hostile cases from seed ${firstSeed}`, { timeout: 600_000 }, async () => {
  const cases = Array.from({ length: caseCount }, (_, i) => caseOf(firstSeed + i))
  if (!process.env.HOSTILE_CASES)
    expect(cases.reduce((sum, each) => sum + callsOf(each).hostile, 0)).toBeGreaterThan(2000)
  const halves = [cases.slice(0, caseCount / 2), cases.slice(caseCount / 2)]
  const batches = await Promise.all(halves.map(run))

  const found = cases.flatMap((each) => {
    const outcomes = batches.map((batch) => batch.outcomes.get(each.seed)).find((known) => known !== undefined)!
    return judge(callsOf(each), outcomes).map((finding) => ({ each, finding }))
  })
  const kinds = new Map(found.map((item) => [item.finding.problem.replaceAll(/\d+/g, 'N'), item]))
  const reports: string[] = []
  for (const { each, finding } of [...kinds.values()].slice(0, 10)) {
    const small = await shrunk(each)
    const [again] = await tryAlone(small)
    reports.push(report(small, again ?? finding))
  }
  for (const [i, { before, after }] of batches.entries()) {
    if (JSON.stringify(before) === JSON.stringify(after)) continue
    expect.soft(after).toEqual(before)
    const guilty = await culprit(halves[i]!)
    if (guilty) reports.push(`the host is not as before: ${report(guilty, (await tryAlone(await shrunk(guilty)))[0]!)}`)
  }
  expect(reports.join('\n\n')).toBe('')
})

const rightEnvironment = { CNI_CONTAINERID: 'c1', CNI_NETNS: '/run/netns/c1', CNI_IFNAME: 'eth0', CNI_PATH: plugins }
const searchPath = '/usr/sbin:/usr/bin:/sbin:/bin'

/** One call in a fortress, with these variables and no others. */
function callWith(host: Host, plugin: string, env: Environment, config: object, before: readonly string[] = []) {
  const given = { PATH: searchPath, ...rightEnvironment, ...env }
  const pairs = Object.entries(given).flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${value}`]))
  // From a file: who ends before it has read a pipe leaves its writer with an error.
  writeFileSync(host.file('/run/stdin'), JSON.stringify(config))
  const fromFile = ['/bin/sh', '-c', 'exec "$@" </run/stdin', 'sh']
  const command = [...fromFile, '/usr/bin/env', '-i', ...pairs, ...before, `${plugins}/${plugin}`]
  return host.run(command, { expectFailure: 'maybe' })
}

/** The error object of a call; what is no such thing fails the test. */
function errorOf(outcome: { status: number; stdout: string; stderr: string }) {
  const call = { plugin: '', env: {}, stdin: '' }
  expect(
    problemsOf(call, { ...outcome, signal: null, milliseconds: 0, left: { links: [], inside: [], files: [] } }),
  ).toEqual([])
  expect(outcome.status).toBe(1)
  return parsed(outcome.stdout)
}

const l2 = { ...head, type: 'bridge', bridge: 'br1' }

test('nothing outside of their folders is opened for writing, and no program but theirs is started', (context) => {
  const strace = requireTool('strace', context)
  using host = fortress()
  const own =
    /^\/(var\/lib\/cni|run\/data|run\/ns-net|run\/xtables\.lock|proc\/sys\/net|proc\/(thread-)?self|dev\/(null|tty|pts))(\/|$)/
  const programs =
    /^\/(run\/cni\/[\w-]+|(usr\/)?s?bin\/(xtables-nft-multi|ip6?tables(-nft|-legacy)?(-save|-restore)?|modprobe))$/
  const strangers = new Set<string>()
  for (let seed = 1; seed <= 90; seed++) {
    const d = dice(seed)
    const [plugin, ...configs] = d.pick(subjects)
    const draft: Draft = {
      plugin,
      verb: d.pick(verbs),
      document: structuredClone(d.pick(configs)),
      bytes: undefined,
      env: {},
      raw: undefined,
    }
    draft.env.CNI_COMMAND = draft.verb
    const all = places(draft.document).filter(({ holder, key }) => typeof holder[key] === 'string')
    for (let i = 0; i < 2; i++) {
      const { holder, key } = d.pick(all)
      if (key !== 'dataDir') define(holder, key, d.pick(hostileStrings))
    }
    draft.env[d.pick(['CNI_CONTAINERID', 'CNI_IFNAME', 'CNI_NETNS', 'CNI_ARGS'])] =
      d.pick(hostileStrings).replaceAll('\0', '') || 'x'
    const traced =
      'openat,open,creat,mkdir,mkdirat,unlink,unlinkat,rmdir,rename,renameat,renameat2,link,linkat,symlink,symlinkat,truncate,chmod,mknod,mknodat,execve'
    callWith(host, plugin, draft.env, draft.document as object, [
      strace,
      '-f',
      '-o',
      '/run/trace',
      '-s',
      '4096',
      '-e',
      `trace=${traced}`,
    ])
    for (const line of host.run(['cat', '/run/trace']).stdout.split('\n')) {
      const [, systemCall = '', path = ''] = /^\d+\s+(\w+)\((?:AT_FDCWD, )?"((?:[^"\\]|\\.)*)"/.exec(line) ?? []
      if (systemCall === '' || / = -1 /.test(line)) continue
      if (
        systemCall === 'execve'
          ? programs.test(path) || path === `${plugins}/${plugin}`
          : own.test(posix.normalize(path))
      )
        continue
      if (systemCall.startsWith('open') && !/O_WRONLY|O_RDWR|O_CREAT|O_TRUNC/.test(line)) continue
      strangers.add(line)
    }
  }
  expect([...strangers]).toEqual([])
})

/** Foreign IPAM plugins that keep to no contract, by what they do on ADD. */
const delegates: Readonly<Record<string, string>> = {
  garbage: 'echo hello',
  nothing: '',
  'a list': 'echo []',
  'a number': 'echo 7',
  'an object': 'echo {}',
  'two objects': "echo '{}{}'",
  'bytes that are no text': "printf '\\377\\376'",
  'a flood': "head -c 3000000 /dev/zero | tr '\\0' x 2>/dev/null",
  'an address that is none': `echo '{"cniVersion":"1.1.0","ips":[{"address":"x"}]}'`,
  'ips that are no list': `echo '{"cniVersion":"1.1.0","ips":7}'`,
  'a version to come': `echo '{"cniVersion":"9.0.0","ips":[]}'`,
  'a result and exit code 1': `echo '{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.5/24"}]}'; exit 1`,
  'a kill': 'kill -9 $$',
  'exit code 77': 'exit 77',
  'an error without an object': 'echo oops; exit 1',
  'the error null': 'echo null; exit 1',
  null: 'echo null',
  'an error without code': 'echo {}; exit 1',
  'an error whose code is text': `echo '{"code":"x","msg":5}'; exit 1`,
  'an error whose code is endless': `echo '{"code":1e999,"msg":"m"}'; exit 1`,
  'an error whose details are a list': `echo '{"code":7,"msg":"m","details":[1]}'; exit 1`,
}
describe('delegates', () => {
  let host: Host
  beforeAll(() => {
    host = fortress()
  })
  afterAll(() => host[Symbol.dispose]())

  for (const [what, script] of Object.entries(delegates)) {
    test(`an IPAM that answers with ${what}`, () => {
      host.sh('cat >/run/hostile/acme; chmod 755 /run/hostile/acme', {
        input: `#!/bin/sh\ncat >/dev/null\n[ "$CNI_COMMAND" = ADD ] || exit 0\n${script}\n`,
      })
      for (const [plugin, config] of [
        ['veth', vethConfig],
        ['bridge', l2],
      ] as const) {
        const given = { ...config, ipam: { type: 'acme' } }
        const env = { CNI_PATH: '/run/hostile' }
        callWith(host, plugin, { ...env, CNI_COMMAND: 'DEL' }, given)
        const before = host.snapshot({ ignoreLeaseMarks: true })
        errorOf(callWith(host, plugin, { ...env, CNI_COMMAND: 'ADD' }, given))
        host.run(['ip', 'link', 'delete', 'br1'], { expectFailure: 'maybe' })
        const { sysctls: _, ...after } = host.snapshot({ ignoreLeaseMarks: true })
        expect({ ...after, sysctls: before.sysctls }).toEqual(before)
      }
    })
  }
})

describe.each(['bridge', 'veth'])('%s', (plugin) => {
  test.each(['ADD', 'DEL', 'STATUS'])('%s with itself as IPAM', (verb) => {
    using host = fortress()
    const { status, stdout, stderr } = callWith(
      host,
      plugin,
      { CNI_COMMAND: verb },
      { ...head, type: plugin, bridge: 'br1', ipam: { type: plugin } },
      ['/usr/bin/unshare', '--pid', '--fork', '--kill-child=KILL', '/usr/bin/timeout', '-s', 'KILL', '0.6'],
    )
    errorOf({ status, stdout, stderr })
  })
})

test('a bridge whose name is a pattern for the kernel', () => {
  using host = fortress()
  const before = host.run(['ip', '-o', 'link']).stdout.split('\n').length
  errorOf(callWith(host, 'bridge', { CNI_COMMAND: 'ADD' }, { ...l2, bridge: 'br%d' }))
  expect(host.run(['ip', '-o', 'link']).stdout.split('\n')).toHaveLength(before)
})

test('an interface whose name is a pattern for the kernel', () => {
  using host = fortress()
  expect(errorOf(callWith(host, 'bridge', { CNI_COMMAND: 'ADD', CNI_IFNAME: 'eth%d' }, l2))).toMatchObject({ code: 4 })
})

test('a result that the version cannot tell', () => {
  using host = fortress()
  host.sh('ip link add br1 type bridge; ip link set br1 up')
  const links = () => host.json(['ip', '-j', 'link']).map(({ ifname }: { ifname: string }) => ifname)
  const before = links()
  errorOf(callWith(host, 'bridge', { CNI_COMMAND: 'ADD' }, { ...l2, cniVersion: '0.2.0' }))
  expect(links()).toEqual(before)
})

test('a document of a million levels is refused, and so is one that ends inside of them', () => {
  using host = fortress()
  const deep = '['.repeat(1_000_000)
  for (const document of [`{"deep":${deep}${deep.replaceAll('[', ']')}}`, deep]) {
    writeFileSync(host.file('/run/deep'), document)
    const variables = Object.entries(rightEnvironment).map(([name, value]) => `${name}=${value}`)
    const call = ['/usr/bin/env', '-i', ...variables, 'CNI_COMMAND=ADD', `${plugins}/bridge`]
    const { status, stdout } = host.run(['/bin/sh', '-c', 'exec "$@" </run/deep', 'sh', ...call], {
      expectFailure: true,
    })
    expect([status, parsed(stdout)?.code]).toEqual([1, 6])
  }
})

test('a key with control characters', () => {
  using host = fortress()
  const { stderr } = callWith(host, 'bridge', { CNI_COMMAND: 'ADD' }, { ...l2, 'isGateway\u001b': true, 'mtu\n': 1 })
  expect(stderr).not.toContain('\u001b')
  expect(stderr.trimEnd().split('\n')).toHaveLength(2)
})

describe('variables that runtimes of JavaScript read before us', () => {
  function expectVersion(name: string, value: string) {
    using host = fortress()
    host.sh(`echo 'require("fs").writeFileSync("/tmp/pwned", "")' >/tmp/evil.js`)
    const { stdout } = callWith(host, 'bridge', { CNI_COMMAND: 'VERSION', [name]: value }, {})
    expect(parsed(stdout)?.supportedVersions).toContain('1.1.0')
    host.run(['test', '-e', '/tmp/pwned'], { expectFailure: true })
  }

  test.each([
    ...['--help', '--version', '--nonsense', '--preload=/tmp/evil.js', '-e 1'].map((value) => ['BUN_OPTIONS', value]),
    ['BUN_BE_BUN', '1'],
    ['NODE_OPTIONS', '--require=/tmp/evil.js'],
    ['LD_PRELOAD', '/tmp/evil.js'],
  ])('%s=%s', (name, value) => expectVersion(name!, value!))
})

test('files in the current directory that Bun would read', () => {
  using host = fortress()
  host.sh(`cd /tmp
    echo CNI_COMMAND=ADD >.env
    echo CNI_CONTAINERID=evil >.env.production
    printf 'preload = ["./evil.js"]\n' >bunfig.toml
    echo 'require("fs").writeFileSync("/tmp/pwned", "")' >evil.js
    echo '{"imports":{"#x":"./evil.js"}}' >package.json`)
  const enter = ['/bin/sh', '-c', 'cd /tmp; exec "$@"', 'sh']
  expect(callWith(host, 'bridge', { CNI_COMMAND: undefined }, {}, enter)).toMatchObject({ status: 0, stdout: '' })
  const { stdout } = callWith(host, 'bridge', { CNI_COMMAND: 'VERSION' }, {}, enter)
  expect(parsed(stdout)?.supportedVersions).toContain('1.1.0')
  host.run(['test', '-e', '/tmp/pwned'], { expectFailure: true })
})
