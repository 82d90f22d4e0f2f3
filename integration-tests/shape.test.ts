import { expect, type TestContext, test } from 'vitest'
import { createHost, executables, type Host, type Place, type RunOptions, requireTool } from './host.ts'

const nsNet = (host: Host, args: string[], options?: RunOptions) =>
  host.run([`${executables}/ns-net`, ...args], options)
const inLab = (host: Host, name: string): Place => ({
  ...host,
  run: (command, options) => host.run(['ip', 'netns', 'exec', name, ...command], options),
})

interface Qdisc {
  readonly kind: string
  readonly handle: string
  readonly options: { readonly rate?: number; readonly burst?: number }
}

/** The root qdisc of a link, as tc has it; rates are bytes per second. */
const rootQdisc = (host: Host, netns: string[], link: string): Qdisc =>
  host.json(['tc', ...netns, '-j', 'qdisc', 'show', 'dev', link]).find((qdisc: { root?: boolean }) => qdisc.root)

/** Name of the other end of a lab's link. */
const hostEnd = (host: Host, lab: string, link = 'eth0'): string => {
  const [inner] = host.json(['ip', '-j', '-n', lab, 'link', 'show', 'dev', link])
  return host.json(['ip', '-j', 'link']).find(({ ifindex }: { ifindex: number }) => ifindex === inner.link_index).ifname
}

/** What nft says of rules that drop in a table of family netdev, by device. */
function losses(host: Host, enter: string[] = []): Record<string, unknown> {
  const { nftables } = host.json([...enter, 'nft', '-j', 'list', 'ruleset'])
  const found: Record<string, unknown> = {}
  for (const { rule } of nftables) if (rule?.family === 'netdev') found[rule.chain] = rule.expr
  return found
}

const tables = (host: Host, enter: string[] = []): string[] =>
  host
    .run([...enter, 'nft', 'list', 'tables'])
    .stdout.split('\n')
    .filter((line) => line.includes('netdev'))

/** Of packets sent one after the other, how many found no way there and back. */
function lostPings(place: Place, to: string, count: number): number {
  const { stdout } = place.run(['ping', '-q', '-i', '0.01', '-W', '1', '-c', String(count), to], {
    expectFailure: 'maybe',
  })
  return count - Number(/(\d+) received/.exec(stdout)?.[1])
}

/** Seconds that these bytes take from the lab to the host, and from the host to the lab. */
function transferTimes(host: Host, lab: string, bytes: number, context: TestContext): [up: number, down: number] {
  requireTool('socat', context)
  const time = (receiver: Place, sender: Place, address: string) => {
    receiver.start(['socat', '-t30', 'TCP-LISTEN:7001,reuseaddr', 'EXEC:"wc -c"'])
    const started = Date.now()
    // Until the count has come back: what is sent may only wait in the sender's buffer.
    const script = `head -c ${bytes} /dev/zero | socat -t30 - TCP:${address}:7001,retry=50,interval=0.1`
    expect(sender.run(['sh', '-c', script]).stdout).toBe(`${bytes}\n`)
    return (Date.now() - started) / 1000
  }
  const inside: Place = {
    ...inLab(host, lab),
    start: (command) => host.start(['ip', 'netns', 'exec', lab, ...command]),
  }
  return [time(host, inside, '10.88.0.1'), time(inside, host, '10.88.0.2')]
}

test('rate and loss are in the kernel for both directions; without options shape tells them', (context) => {
  for (const tool of ['tc', 'nft']) requireTool(tool, context)
  using host = createHost()
  nsNet(host, ['add', 'web'])
  const inside = ['ip', 'netns', 'exec', 'web']
  const outer = hostEnd(host, 'web')
  const plain = nsNet(host, ['shape', 'web', '--json']).stdout
  expect(JSON.parse(plain)).toEqual({ target: 'web', links: [{ ifName: 'eth0', sends: {}, receives: {} }] })

  const told = { rate: 2_000_000, burst: 10_240, loss: 5 }
  const set = nsNet(host, ['shape', 'web', '--rate', '2mbit', '--burst', '10kb', '--loss', '5%', '--json'])
  expect(JSON.parse(set.stdout)).toEqual({ target: 'web', links: [{ ifName: 'eth0', sends: told, receives: told }] })
  for (const qdisc of [rootQdisc(host, ['-n', 'web'], 'eth0'), rootQdisc(host, [], outer)])
    expect(qdisc).toMatchObject({ kind: 'tbf', handle: '6e73:', options: { rate: 250_000, burst: 10_240 } })
  const random = [
    { match: { op: '<', left: { numgen: { mode: 'random', mod: 1000, offset: 0 } }, right: 50 } },
    { drop: null },
  ]
  expect(losses(host)).toEqual({ [outer]: random })
  expect(losses(host, inside)).toEqual({ eth0: random })
  expect(nsNet(host, ['shape', 'web']).stdout).toMatch(
    /^LINK +DIRECTION +RATE +BURST +LOSS .*\nweb:eth0 +sends +2mbit +10240b +5% +- +-\nweb:eth0 +receives +2mbit +10240b +5%/,
  )

  // A new shape takes the place of the old one, whole.
  nsNet(host, ['shape', 'web:eth0', '--loss', '100%'])
  expect(rootQdisc(host, [], outer).kind).toBe('noqueue')
  expect(losses(host)).toEqual({ [outer]: [{ drop: null }] })
  nsNet(host, ['shape', 'web', 'reset'])
  expect(tables(host)).toEqual([])
  expect(tables(host, inside)).toEqual([])
  expect(nsNet(host, ['shape', 'web', '--json']).stdout).toBe(plain)
  nsNet(host, ['shape', 'web', '--reset']) // again, and nothing is wrong
})

test('packets are lost, in either direction, and none without a shape', (context) => {
  requireTool('ping', context)
  using host = createHost()
  nsNet(host, ['add', 'web'])
  const web = inLab(host, 'web')
  expect(lostPings(web, '10.88.0.1', 100)).toBe(0)
  // There and back, so 75 of 100 are lost: between 40 and 95 in all but one of 10^11 cases.
  nsNet(host, ['shape', 'web', '--loss', '50%'])
  const lost = lostPings(web, '10.88.0.1', 100)
  expect(lost).toBeGreaterThan(40)
  expect(lost).toBeLessThanOrEqual(100)
  nsNet(host, ['shape', 'web', '--loss', '100%'])
  expect(lostPings(web, '10.88.0.1', 10)).toBe(10)
  nsNet(host, ['shape', 'web', 'reset'])
  expect(lostPings(web, '10.88.0.1', 20)).toBe(0)
})

test('a limited link is slow in both directions', (context) => {
  using host = createHost()
  nsNet(host, ['add', 'web'])
  const bytes = 300_000
  const usual = transferTimes(host, 'web', bytes, context)
  nsNet(host, ['shape', 'web', '--rate', '1mbit'])
  // 2.4 seconds at that rate.
  const slow = transferTimes(host, 'web', bytes, context)
  for (const i of [0, 1]) expect(slow[i]).toBeGreaterThan(usual[i]! + 1)
})

test('a cable between labs is shaped at both ends', () => {
  using host = createHost()
  for (const name of ['r1', 'r2']) nsNet(host, ['add', name, '--no-net'])
  nsNet(host, ['link', 'add', 'r1:eth5', 'r2:eth6'])
  nsNet(host, ['shape', 'r1', '--rate', '1mbit', '--loss', '100%'])
  for (const [lab, link] of [
    ['r1', 'eth5'],
    ['r2', 'eth6'],
  ] as const) {
    expect(rootQdisc(host, ['-n', lab], link)).toMatchObject({ kind: 'tbf', options: { rate: 125_000 } })
    expect(losses(host, ['ip', 'netns', 'exec', lab])).toEqual({ [link]: [{ drop: null }] })
  }
  // From the other end it is the same shape.
  expect(JSON.parse(nsNet(host, ['shape', 'r2', '--json']).stdout).links).toEqual([
    {
      ifName: 'eth6',
      sends: { rate: 1_000_000, burst: 3036, loss: 100 },
      receives: { rate: 1_000_000, burst: 3036, loss: 100 },
    },
  ])
  nsNet(host, ['del', 'r1'])
  expect(tables(host, ['ip', 'netns', 'exec', 'r2'])).toEqual([])
})

test('del leaves nothing of a shape, nor of one whose link went without us', () => {
  using host = createHost()
  nsNet(host, ['add', 'api'])
  const before = host.snapshot({ ignoreLeaseMarks: true })
  nsNet(host, ['add', 'web'])
  nsNet(host, ['shape', 'web', '--rate', '1mbit', '--loss', '3%'])
  nsNet(host, ['shape', 'api', '--loss', '4%'])
  nsNet(host, ['del', 'web'])
  expect(Object.values(losses(host))).toHaveLength(1) // api's
  nsNet(host, ['shape', 'api', 'reset'])
  expect(host.snapshot({ ignoreLeaseMarks: true })).toEqual(before)

  nsNet(host, ['add', 'web'])
  nsNet(host, ['shape', 'web', '--loss', '3%'])
  host.run(['ip', 'link', 'del', hostEnd(host, 'web')])
  nsNet(host, ['del', 'web'])
  expect(tables(host)).toEqual([])
})

test('delay where the kernel has no netem: one clear refusal, and what was there stays', (context) => {
  using host = createHost()
  nsNet(host, ['add', 'web'])
  host.run(['ip', 'link', 'add', 'probe', 'type', 'veth', 'peer', 'name', 'probe2'])
  const netem = host.run(['tc', 'qdisc', 'add', 'dev', 'probe', 'root', 'netem'], { expectFailure: 'maybe' })
  if (netem.status === 0) context.skip('this kernel has it: lateness.test.ts')
  nsNet(host, ['shape', 'web', '--rate', '1mbit', '--loss', '2%'])
  const before = host.snapshot().nftables
  const asked = ['shape', 'web', '--delay', '50ms', '--jitter', '5ms', '--rate', '5mbit']
  const refused = nsNet(host, asked, { expectFailure: true })
  expect(refused.status).toBe(6)
  expect(refused.stderr).toMatch(
    /^ns-net: .*--delay: this kernel has no CONFIG_NET_SCH_NETEM\nhint: nothing was changed\n$/,
  )
  expect(host.snapshot().nftables).toEqual(before)
  for (const qdisc of [rootQdisc(host, ['-n', 'web'], 'eth0'), rootQdisc(host, [], hostEnd(host, 'web'))])
    expect(qdisc).toMatchObject({ kind: 'tbf', options: { rate: 125_000 } })
})

test('refusals', () => {
  using host = createHost()
  nsNet(host, ['add', 'web'])
  nsNet(host, ['add', 'two'])
  nsNet(host, ['link', 'add', 'two:eth5', 'web:eth5'])
  nsNet(host, ['add', 'own'])
  host.run([
    'tc',
    '-n',
    'own',
    'qdisc',
    'add',
    'dev',
    'eth0',
    'root',
    'tbf',
    'rate',
    '1mbit',
    'burst',
    '10k',
    'latency',
    '50ms',
  ])
  const cases: [args: string[], status: number, message: RegExp][] = [
    [['two', '--loss', '5%'], 2, /"two" has several links: eth0 eth5\nhint: .*two:eth0/],
    [['two:eth9', '--loss', '5%'], 3, /no link "eth9"/],
    [['two:lo', '--loss', '5%'], 6, /"lo" is .*cannot be shaped/],
    [['nothere', '--loss', '5%'], 3, /no lab "nothere"/],
    [['own', '--rate', '1mbit'], 4, /"eth0" is shaped by somebody else: it has a root qdisc tbf\nhint: .+/],
    [['web:eth0', '--rate', 'fast'], 2, /--rate fast: not understood\nhint: .*mbit/],
    [['web:eth0', '--rate', '0'], 2, /--rate 0/],
    [['web:eth0', '--loss', '0.01'], 2, /--loss 0\.01.*\nhint: .*0\.1%/],
    [['web:eth0', '--loss', '101%'], 2, /--loss 101%/],
    [['web:eth0', '--delay', '10'], 2, /--delay 10: not understood\nhint: .*ms/],
    [['web:eth0', '--jitter', '10ms'], 2, /--jitter needs --delay/],
    [['web:eth0', '--delay', '1ms', '--jitter', '10ms'], 2, /--jitter 10ms is more than --delay 1ms/],
    [['web:eth0', '--burst', '10kb'], 2, /--burst needs --rate/],
    [['web:eth0', '--rate', '1mbit', '--burst', '100'], 2, /--burst 100: less than a packet/],
    [['web:eth0', 'reset', '--loss', '5%'], 2, /reset takes no other options/],
    [['web:eth0', 'undo'], 2, /unknown word "undo"/],
  ]
  for (const [args, status, message] of cases) {
    const result = nsNet(host, ['shape', ...args], { expectFailure: true })
    expect({ args, status: result.status }).toEqual({ args, status })
    expect(result.stderr).toMatch(message)
  }
  expect(tables(host)).toEqual([])
})

test('an attachment or a cable that goes takes its loss along', () => {
  using host = createHost()
  const run = (...args: string[]) => host.run([`${executables}/ns-net`, ...args])
  run('add', 'a')
  run('add', 'b', '--no-net')
  run('link', 'add', 'a:x0', 'b:x0')
  run('shape', 'a:eth0', '--loss', '10%')
  run('shape', 'a:x0', '--loss', '10%')
  const rules = () =>
    [[], ['ip', 'netns', 'exec', 'a'], ['ip', 'netns', 'exec', 'b']]
      .map((enter) => host.run([...enter, 'nft', 'list', 'ruleset']).stdout)
      .filter((text) => text.includes('ns-net-shape')).length
  expect(rules()).toBe(3)
  run('link', 'del', 'b:x0')
  run('detach', 'a', 'default')
  expect(rules()).toBe(0)
})
