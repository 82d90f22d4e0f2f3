import { expect, type TestContext, test } from 'vitest'
import { createHost, executables, type Host, type RunOptions, requireTool } from './host.ts'
import { requireKernel } from './kernel-feature.ts'

const nsNet = (host: Host, args: string[], options?: RunOptions) =>
  host.run([`${executables}/ns-net`, ...args], options)

function lateHost(context: TestContext): Host {
  for (const tool of ['tc', 'ping']) requireTool(tool, context)
  requireKernel(context, 'netem')
  return createHost()
}

// biome-ignore lint/suspicious/noExplicitAny: as tc prints it
const qdiscs = (host: Host, netns: string[], link: string): any[] =>
  host.json(['tc', ...netns, '-j', 'qdisc', 'show', 'dev', link])

const hostEnd = (host: Host, lab: string): string => {
  const [inner] = host.json(['ip', '-j', '-n', lab, 'link', 'show', 'dev', 'eth0'])
  return host.json(['ip', '-j', 'link']).find(({ ifindex }: { ifindex: number }) => ifindex === inner.link_index).ifname
}

/** The shortest of some round trips, in milliseconds; the first ones, with the search for the neighbour, are no part. */
function roundTrip(host: Host, lab: string, to: string): number {
  const ping = (count: number) =>
    host.run(['ip', 'netns', 'exec', lab, 'ping', '-q', '-i0.2', '-W10', '-c', String(count), to]).stdout
  ping(1)
  return Number(/= ([\d.]+)\//.exec(ping(4))?.[1])
}

test('delay: each direction is late by that, in the kernel and for packets, until reset', (context) => {
  using host = lateHost(context)
  nsNet(host, ['add', 'web'])
  const outer = hostEnd(host, 'web')
  const usual = roundTrip(host, 'web', '10.88.0.1')
  const set = JSON.parse(nsNet(host, ['shape', 'web', '--delay', '150ms', '--json']).stdout)
  expect(set).toEqual(JSON.parse(nsNet(host, ['shape', 'web', '--json']).stdout))
  const told = { delay: 150 } // milliseconds
  expect(set.links).toEqual([{ ifName: 'eth0', sends: told, receives: told }])
  for (const found of [qdiscs(host, ['-n', 'web'], 'eth0'), qdiscs(host, [], outer)])
    expect(found).toMatchObject([
      { kind: 'netem', handle: '6e73:', root: true, options: { limit: 1000, delay: { delay: 0.15, jitter: 0 } } },
    ])
  const late = roundTrip(host, 'web', '10.88.0.1')
  expect(late).toBeGreaterThanOrEqual(300)
  expect(late - usual).toBeGreaterThan(250)

  nsNet(host, ['shape', 'web', '--delay', '20ms', '--jitter', '5ms'])
  expect(qdiscs(host, [], outer)).toMatchObject([{ options: { delay: { delay: 0.02, jitter: 0.005 } } }])
  expect(nsNet(host, ['shape', 'web']).stdout).toMatch(/^web:eth0 +sends +- +- +- +20ms +5ms/m)
  nsNet(host, ['shape', 'web', 'reset'])
  for (const found of [qdiscs(host, ['-n', 'web'], 'eth0'), qdiscs(host, [], outer)])
    expect(found).toMatchObject([{ kind: 'noqueue' }])
  expect(roundTrip(host, 'web', '10.88.0.1')).toBeLessThan(late - 150)
})

test('delay, rate and loss together: the bucket below netem, and all three are told', (context) => {
  using host = lateHost(context)
  nsNet(host, ['add', 'web'])
  nsNet(host, ['shape', 'web', '--delay', '50ms', '--rate', '2mbit', '--loss', '5%'])
  for (const found of [qdiscs(host, ['-n', 'web'], 'eth0'), qdiscs(host, [], hostEnd(host, 'web'))])
    expect(found).toMatchObject([
      { kind: 'netem', handle: '6e73:', root: true, options: { delay: { delay: 0.05 } } },
      { kind: 'tbf', handle: '6e74:', parent: '6e73:1', options: { rate: 250_000 } },
    ])
  expect(nsNet(host, ['shape', 'web']).stdout).toMatch(/^web:eth0 +sends +2mbit +\S+ +5% +50ms/m)
  // A new shape replaces the old one whole, in both orders.
  nsNet(host, ['shape', 'web', '--rate', '1mbit'])
  expect(qdiscs(host, ['-n', 'web'], 'eth0')).toMatchObject([{ kind: 'tbf', handle: '6e73:', root: true }])
  nsNet(host, ['shape', 'web', '--delay', '1ms'])
  expect(qdiscs(host, ['-n', 'web'], 'eth0')).toMatchObject([{ kind: 'netem', handle: '6e73:', root: true }])
})

test('the commands that --explain prints make the same', (context) => {
  using host = lateHost(context)
  nsNet(host, ['add', 'web'])
  const ends = () => [qdiscs(host, ['-n', 'web'], 'eth0'), qdiscs(host, [], hostEnd(host, 'web'))]
  const asked = ['shape', 'web', '--delay', '20ms', '--jitter', '5ms', '--rate', '1mbit']
  const script = nsNet(host, [...asked, '--dry-run']).stdout
  expect(script).toContain('netem')
  nsNet(host, asked)
  const ours = ends()
  nsNet(host, ['shape', 'web', 'reset'])
  host.sh(script)
  // netem's seed is its own affair.
  const facts = (found: ReturnType<typeof ends>) =>
    found.map((list) =>
      list.map(({ kind, handle, parent, options: { seed: _, ...options } }) => ({ kind, handle, parent, options })),
    )
  expect(facts(ends())).toEqual(facts(ours))
})

test('a lab file with a late cable: as told, and found again', (context) => {
  using host = lateHost(context)
  const file = '/run/late.yaml'
  host.run(['sh', '-c', `cat >${file}`], {
    input: `lab: late
nodes:
  a: {}
  b: {}
links:
  - { a: "a:x0", b: "b:x0", addr: [10.7.0.1/24, 10.7.0.2/24], shape: { delay: 100ms, rate: 10mbit } }
`,
  })
  nsNet(host, ['apply', '-f', file])
  expect(qdiscs(host, ['-n', 'a'], 'x0')[0]).toMatchObject({ kind: 'netem', options: { delay: { delay: 0.1 } } })
  expect(roundTrip(host, 'a', '10.7.0.2')).toBeGreaterThanOrEqual(200)
  expect(nsNet(host, ['diff', '-f', file]).stdout).not.toContain('shape')
  expect(nsNet(host, ['export']).stdout).toMatch(/delay: 100ms/)
})
