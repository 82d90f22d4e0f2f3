import { describe, expect, type TestContext, test } from 'vitest'
import { type CniCall, type Container, createHost, executables, type Host, requireTool } from './host.ts'

/*
 * Runtimes kill a plugin that takes too long, in whatever it is just doing. Here every ADD and DEL is killed before each
 * of its system calls that changes something (by strace), and at points in time over its whole duration. The DEL that
 * follows must leave the host as it was, whatever the runtime still knows by then; an ADD for another container works at
 * once. Every other point is tried where the network has no other attachment, so that what is shared comes and goes too.
 */

const ipam = { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/16' }], [{ subnet: 'fd00:1::/64' }]] }
const base = { cniVersion: '1.1.0', name: 'lab' }
const bridge = { ...base, type: 'bridge', bridge: 'br1', isDefaultGateway: true, ipMasq: true, ipam }
const veth = { ...base, type: 'veth', ipMasq: true, ipam: { ...ipam, routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }] } }

type Config = Readonly<Record<string, unknown>> & { readonly type: string }

/** What an ADD would have said, for the n-th attachment of the test. */
const resultOf = (n: number) => ({
  cniVersion: '1.1.0',
  interfaces: [{ name: 'eth0', sandbox: `/run/netns/c${n}` }],
  ips: [
    { address: `10.1.${n >> 8}.${n & 255}/16`, interface: 0 },
    { address: `fd00:1::${n.toString(16)}/64`, interface: 0 },
  ],
})

const subjects: Readonly<Record<string, (n: number) => Config>> = {
  bridge: () => bridge,
  'bridge with iptables': () => ({ ...bridge, ipMasqBackend: 'iptables' }),
  veth: () => veth,
  nat: (n) => ({ ...base, type: 'nat', prevResult: resultOf(n) }),
  'nat where iptables drops': (n) => ({ ...base, type: 'nat', backend: 'nftables', prevResult: resultOf(n) }),
  'nat with iptables': (n) => ({ ...base, type: 'nat', backend: 'iptables', prevResult: resultOf(n) }),
}

interface Attachment {
  readonly n: number
  readonly container: Container
  readonly call: CniCall & { readonly config: Config }
}

/** What a runtime may know at the DEL after a kill. */
const ways: readonly (readonly [name: string, call: (host: Host, attachment: Attachment) => CniCall])[] = [
  ['with CNI_NETNS', (_, { call }) => call],
  ['without CNI_NETNS', (_, { call }) => ({ ...call, netns: undefined })],
  [
    'with a plain file left of the namespace',
    (host, { container, call }) => {
      host.sh(`ip netns del ${container.name}; : >${container.path}`)
      return call
    },
  ],
  [
    'without prevResult',
    (_, { call }) => {
      const { prevResult: _1, ...config } = call.config
      return { ...call, config }
    },
  ],
  ['with a prevResult', (_, { n, call }) => ({ ...call, config: { ...call.config, prevResult: resultOf(n) } })],
]

/** A host, and what it looks like with nothing there but the `others` and what is shared by all. */
class Scene implements Disposable {
  readonly host = createHost()
  #made = 0
  readonly #before: unknown

  constructor(
    readonly configOf: (n: number) => Config,
    others: number,
  ) {
    for (const name of ['iptables', 'ip6tables']) this.host.run([name, '-P', 'FORWARD', 'DROP'])
    // The bridge and forwarding stay after the last attachment.
    this.del(this.add())
    for (let n = 0; n < others; n++) this.add()
    this.#before = this.state()
  }

  /** An attachment to be; addresses of a nat are its number, and 1 is the gateway's. */
  next(): Attachment {
    const n = ++this.#made + 1
    const container = this.host.addContainer(`c${n}`)
    const config = this.configOf(n)
    return { n, container, call: { config, containerId: container.name, netns: container.path, ifName: 'eth0' } }
  }

  add(attachment = this.next()): Attachment {
    const { call } = attachment
    this.host.cni(call.config.type, 'ADD', call)
    return attachment
  }

  del(attachment: Attachment): void {
    this.host.cni(attachment.call.config.type, 'DEL', attachment.call)
    this.remove(attachment)
  }

  /** Runs a verb under a program that kills it; whether it did. */
  killed(program: readonly string[], verb: string, { container, call }: Attachment): boolean {
    const { config } = call
    this.host.run(['sh', '-c', 'cat >/run/config'], { input: JSON.stringify(config) })
    // From a file: who is killed before it has read a pipe leaves its writer with an error.
    const command = ['sh', '-c', 'exec "$@" </run/config', 'sh', ...program, `${executables}/${config.type}`]
    const { status } = this.host.run(command, {
      env: {
        CNI_COMMAND: verb,
        CNI_CONTAINERID: container.name,
        CNI_NETNS: container.path,
        CNI_IFNAME: 'eth0',
        CNI_PATH: executables,
      },
      expectFailure: 'maybe',
    })
    expect([0, 124, 128, 137]).toContain(status)
    return status !== 0
  }

  /** The DEL of the runtime, twice; then everything must be as before. */
  expectUndone(attachment: Attachment, way: number): void {
    const [name, call] = ways[way % ways.length]!
    const asked = call(this.host, attachment)
    for (const attempt of [1, 2]) {
      const { stdout, stderr } = this.host.cni(attachment.call.config.type, 'DEL', asked)
      expect({ name, attempt, stdout, stderr }).toEqual({ name, attempt, stdout: '', stderr: '' })
    }
    const { container } = attachment
    const links = container.run(['ip', '-json', 'link'], { expectFailure: 'maybe' })
    if (links.status === 0)
      expect(JSON.parse(links.stdout).map(({ ifname }: { ifname: string }) => ifname)).toEqual(['lo'])
    this.remove(attachment)
    expect(this.state(), name).toEqual(this.#before)
  }

  /** An ADD while a killed one has not been cleaned up yet. */
  expectAddWorks(): Attachment {
    const attachment = this.add()
    const { type } = attachment.call.config
    if (type !== 'nat') {
      const address = this.host.run(['ip', '-n', attachment.container.name, '-4', 'route', 'show', 'default']).stdout
      attachment.container.run(['ping', '-c1', '-W2', address.split(' ')[2]!])
    }
    return attachment
  }

  state() {
    return this.host.snapshot({ ignoreLeaseMarks: true })
  }

  remove({ container }: Attachment): void {
    this.host.run(['ip', 'netns', 'del', container.name], { expectFailure: 'maybe' })
    this.host.run(['rm', '-f', container.path])
  }

  [Symbol.dispose](): void {
    this.host[Symbol.dispose]()
  }
}

interface Point {
  readonly systemCall: string
  /** How many of the same name have been before it, plus one. */
  readonly nth: number
  readonly line: string
}

/** System calls before which a kill can make a difference. */
const changing = 'sendto,openat,write,setns,flock,ftruncate,utimensat,unlink,unlinkat,rmdir,mkdir,clone,clone3,vfork'

/** Where a verb can be killed, seen on a call that is not. */
function pointsOf(strace: string, scene: Scene, command: string, attachment: Attachment): Point[] {
  expect(scene.killed([strace, '-o', '/run/trace', '-e', `trace=${changing}`], command, attachment)).toBe(false)
  const lines = scene.host.run(['cat', '/run/trace']).stdout.split('\n')
  const seen = new Map<string, number>()
  const points = lines.flatMap((line): Point[] => {
    const systemCall = /^(\w+)\(/.exec(line)?.[1]
    if (!systemCall) return []
    const nth = (seen.get(systemCall) ?? 0) + 1
    seen.set(systemCall, nth)
    return [{ systemCall, nth, line }]
  })
  const isOurs = ({ line }: Point) => /O_CREAT|\/ns\/net|netns/.test(line)
  // Until the first file of ours is opened, the process is still starting.
  const start = points.findIndex((point) => point.systemCall === 'openat' && isOurs(point))
  return points.slice(start).filter((point) => point.systemCall !== 'openat' || isOurs(point))
}

const injected = (strace: string, { systemCall, nth }: Point) => [
  strace,
  '-o',
  '/dev/null',
  '-e',
  `trace=${systemCall}`,
  `--inject=${systemCall}:signal=KILL:when=${nth}`,
]

/** Fractions of a verb's duration, seen on calls that are not killed; a little more than all of it. */
function timesOf(count: number, work: () => void): string[] {
  const start = performance.now()
  work()
  const longest = ((performance.now() - start) / 1000) * 1.1
  return Array.from({ length: count }, (_, i) => ((longest * (i + 1)) / count).toFixed(4))
}

/** Like a runtime: the process it started, and none that this one has started. */
const deadline = (seconds: string) => ['timeout', '--foreground', '-s', 'KILL', seconds]

function judges(context: TestContext): string {
  for (const tool of ['nft', 'iptables', 'timeout']) requireTool(tool, context)
  return requireTool('strace', context)
}

describe.each(Object.entries(subjects))('%s', { timeout: 240_000 }, (_name, configOf) => {
  test('ADD killed before every system call that changes something', (context) => {
    const strace = judges(context)
    using alone = new Scene(configOf, 0)
    using shared = new Scene(configOf, 2)
    const traced = alone.next()
    const points = pointsOf(strace, alone, 'ADD', traced)
    alone.expectUndone(traced, 0)
    let hits = 0
    for (const [i, point] of points.entries()) {
      const scene = i % 2 === 0 ? alone : shared
      const attachment = scene.next()
      if (scene.killed(injected(strace, point), 'ADD', attachment)) hits++
      const another = scene === shared ? scene.expectAddWorks() : undefined
      if (another) scene.del(another)
      try {
        scene.expectUndone(attachment, i)
      } catch (error) {
        throw new Error(`killed before ${point.line}`, { cause: error })
      }
    }
    expect(hits).toBeGreaterThan(points.length / 2) // with others there it makes fewer calls
  })

  test('ADD killed at points in time over its whole duration', (context) => {
    judges(context)
    using scene = new Scene(configOf, 1)
    const sample = scene.next()
    const times = timesOf(10, () => scene.add(sample))
    scene.expectUndone(sample, 0)
    for (const [i, time] of times.entries()) {
      const attachment = scene.next()
      scene.killed(deadline(time), 'ADD', attachment)
      const another = i % 2 === 0 ? scene.expectAddWorks() : undefined
      if (another) scene.del(another)
      try {
        scene.expectUndone(attachment, i)
      } catch (error) {
        throw new Error(`killed after ${time} s`, { cause: error })
      }
    }
  })

  test('DEL killed before every system call that changes something, and at points in time', (context) => {
    const strace = judges(context)
    using alone = new Scene(configOf, 0)
    using shared = new Scene(configOf, 2)
    const traced = alone.add()
    const points = pointsOf(strace, alone, 'DEL', traced).map((point) => ({
      program: injected(strace, point),
      when: `before ${point.line}`,
    }))
    alone.expectUndone(traced, 0)
    const sample = alone.add()
    const times = timesOf(5, () => alone.del(sample)).map((time) => ({
      program: deadline(time),
      when: `after ${time} s`,
    }))
    for (const [i, { program, when }] of [...points, ...times].entries()) {
      const scene = i % 2 === 0 ? alone : shared
      const attachment = scene.add()
      scene.killed(program, 'DEL', attachment)
      try {
        scene.expectUndone(attachment, i)
      } catch (error) {
        throw new Error(`killed ${when}`, { cause: error })
      }
    }
  })
})

describe('killed with iptables', () => {
  const configOf = subjects['nat with iptables']!

  test('no lock stays behind', (context) => {
    const strace = judges(context)
    using scene = new Scene(configOf, 0)
    const before = scene.host.snapshot()
    const attachment = scene.next()
    expect(scene.killed(injected(strace, { systemCall: 'flock', nth: 1, line: '' }), 'ADD', attachment)).toBe(true)
    scene.expectUndone(attachment, 0)
    expect(scene.host.snapshot()).toEqual(before)
  })

  /** Makes iptables-restore take its time, for those who find it in this PATH. */
  function slowPath(host: Host): string {
    host.sh(`mkdir /run/slow
      for program in iptables-restore ip6tables-restore; do
        printf '#!/bin/sh\\nsleep 0.5\\nexec %s "$@"\\n' $(command -v $program) >/run/slow/$program
        chmod 755 /run/slow/$program
      done`)
    return `/run/slow:${host.run(['sh', '-c', 'echo $PATH']).stdout.trim()}`
  }

  /** Starts a verb whose iptables-restore goes on after the kill. */
  const killedMeanwhile = (scene: Scene, command: string, attachment: Attachment) =>
    scene.killed(['env', `PATH=${slowPath(scene.host)}`, ...deadline('0.3')], command, attachment)

  test('ADD killed while iptables-restore runs: DEL leaves no rule', (context) => {
    judges(context)
    using scene = new Scene(configOf, 0)
    const attachment = scene.next()
    expect(killedMeanwhile(scene, 'ADD', attachment)).toBe(true)
    scene.host.cni('nat', 'DEL', attachment.call)
    scene.host.run(['sleep', '1.5'])
    scene.expectUndone(attachment, 0)
  })

  test('DEL killed while iptables-restore runs: the next ADD keeps its rules', (context) => {
    judges(context)
    using scene = new Scene(configOf, 0)
    const attachment = scene.add()
    expect(killedMeanwhile(scene, 'DEL', attachment)).toBe(true)
    const another = scene.add()
    scene.host.run(['sleep', '1.5'])
    for (const program of ['iptables', 'ip6tables'])
      expect(scene.host.run([program, '-t', 'nat', '-S']).stdout).toMatch(/^-A NS-NET-.* -j MASQUERADE$/m)
    scene.del(another)
    scene.expectUndone(attachment, 0)
  })
})
