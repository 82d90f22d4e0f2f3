import { expect, test } from 'vitest'
import { reach } from '../ns-net/diagnosis/reachability.ts'
import { createHost, executables, type Host, requireTool } from './host.ts'
import { inside } from './inside.ts'

const nsNet = (host: Host, ...args: string[]) =>
  host.run([`${executables}/ns-net`, ...args], { expectFailure: 'maybe', timeout: 120_000 })

interface Pair {
  readonly from: string
  readonly to: string
  readonly reachable: boolean
  readonly reason?: string
}

function matrix(host: Host, ...args: string[]) {
  const { status, stdout } = nsNet(host, 'matrix', ...args, '--json')
  const json = JSON.parse(stdout)
  const failed = (json.pairs as Pair[]).filter(({ reachable }) => !reachable)
  return { status, ...json, failed: failed.map(({ from, to, reason }) => [from, to, reason]) }
}

function labs(host: Host, ...names: string[]): void {
  for (const name of names) host.run([`${executables}/ns-net`, 'add', name])
}

const pings = (host: Host, from: string, to: string): boolean =>
  host.run(['ip', 'netns', 'exec', from, 'ping', '-c1', '-W1', to], { expectFailure: 'maybe' }).status === 0

const addressOf = (host: Host, name: string): string =>
  host
    .json(['ip', '-j', '-n', name, '-4', 'addr', 'show', 'dev', 'eth0'])[0]
    .addr_info.find(({ scope }: { scope: string }) => scope === 'global').local

test('who reaches whom is what ping says', () => {
  using host = createHost()
  host.addUplink()
  labs(host, 'a', 'b', 'c')
  expect(matrix(host, '--to', '192.0.2.2')).toMatchObject({ status: 0, total: 12, reachable: 12, failed: [] })
  expect(nsNet(host, 'matrix').stdout).toBe(
    'FROM  gateway  a   b   c\na     ok       -   ok  ok\nb     ok       ok  -   ok\nc     ok       ok  ok  -\n\n9 of 9 reachable\n',
  )
  host.sh(`ip netns exec b nft add table ip t
           ip netns exec b nft add chain ip t in '{ type filter hook input priority 0; }'
           ip netns exec b nft add rule ip t in ip saddr ${addressOf(host, 'a')} drop
           ip -n c route del default`)
  const found = matrix(host, '--to', '192.0.2.2')
  expect(found.status).toBe(1)
  const actual = ['a', 'b', 'c'].flatMap((from) =>
    ['a', 'b', 'c']
      .filter((to) => to !== from)
      .filter((to) => !pings(host, from, addressOf(host, to)))
      .map((to) => [from, to, 'no answer']),
  )
  expect(actual).toEqual([
    ['a', 'b', 'no answer'],
    ['b', 'a', 'no answer'], // the answers of a
  ])
  expect(pings(host, 'c', '192.0.2.2')).toBe(false)
  expect(found.failed).toEqual([...actual, ['c', '192.0.2.2', 'no route']])
  expect(nsNet(host, 'matrix').stdout).toMatch(/^a +ok +- +FAIL +ok$/m)
})

test('a port, and only some labs', (context) => {
  requireTool('socat', context)
  using host = createHost()
  labs(host, 'a', 'b', 'c')
  host.start(['ip', 'netns', 'exec', 'b', 'socat', 'TCP-LISTEN:80,fork', '-'])
  host.sh('for i in $(seq 100); do ip netns exec b ss -Hlnt | grep -q :80 && exit; sleep 0.05; done; exit 1')
  expect(matrix(host, 'a', 'b', '--port', '80')).toMatchObject({
    status: 1,
    protocol: 'tcp',
    port: 80,
    labs: ['a', 'b'],
    total: 2,
    failed: [['b', 'a', 'refused']],
  })
})

test('two networks: the address that both have a link to', () => {
  using host = createHost()
  host.sh(`${executables}/ns-net net create back --subnet 10.50.0.0/24 --internal
           ${executables}/ns-net add a --net default --net back
           ${executables}/ns-net add b --net back`)
  const { pairs, status } = matrix(host)
  expect(status).toBe(0)
  expect(pairs.find(({ from, to }: Pair) => from === 'b' && to === 'a').address).toMatch(/^10\.50\.0\./)
})

test('fifty labs, more than the neighbour table has room for, and one that is deaf', () => {
  using host = createHost()
  labs(host, ...Array.from({ length: 50 }, (_, i) => `l${i}`))
  expect(matrix(host)).toMatchObject({ status: 0, total: 2500, reachable: 2500 })
  host.run(['ip', '-n', 'l7', 'link', 'set', 'eth0', 'down'])
  const { failed } = matrix(host)
  expect(failed).toHaveLength(50 + 49)
  expect(failed.every(([from, to]: string[]) => from === 'l7' || to === 'l7')).toBe(true)
  // What the measurement has filled it with is gone again.
  expect(host.run(['ip', '-n', 'l1', 'neigh']).stdout.split('\n').length).toBeLessThan(10)
}, 180_000)

test('reach, for the tests of a lab file', (context) => {
  requireTool('socat', context)
  using host = createHost()
  labs(host, 'a', 'b')
  host.start(['ip', 'netns', 'exec', 'b', 'socat', 'TCP-LISTEN:80,fork', '-'])
  host.sh('for i in $(seq 100); do ip netns exec b ss -Hlnt | grep -q :80 && exit; sleep 0.05; done; exit 1')
  const asked = inside(host, () => [
    reach('a', 'b'),
    reach('a', 'host'),
    reach('a', 'b:80'),
    reach('a', 'b', 81),
    reach('a', '10.88.0.99'),
    reach('host', 'a'),
  ])
  expect(asked).toEqual([true, true, true, false, false, true])
})

test('refusals', () => {
  using host = createHost()
  const cases: [args: string[], status: number, message: RegExp][] = [
    [['matrix'], 3, /^ns-net: there is no lab\nhint: /],
    [['matrix', 'nope'], 3, /^ns-net: no lab "nope"/],
    [['matrix', '--port', '70000'], 2, /expected a number from 1 to 65535/],
  ]
  for (const [args, status, message] of cases) {
    const result = nsNet(host, ...args)
    expect(result.stderr).toMatch(message)
    expect(result.status).toBe(status)
  }
  labs(host, 'a')
  expect(nsNet(host, 'matrix', '--to', 'x').stderr).toMatch(/^ns-net: "x" is not an IP address/)
})
