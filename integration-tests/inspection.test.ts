import { once } from 'node:events'
import { readFileSync, readlinkSync } from 'node:fs'
import { expect, test } from 'vitest'
import { createHost, executables, type Host, requireTool } from './host.ts'

const nsNet = (host: Host, ...args: string[]) =>
  host.run([`${executables}/ns-net`, ...args], { expectFailure: 'maybe' })
const inode = (pid: number, kind: string) => Number(/\d+/.exec(readlinkSync(`/proc/${pid}/ns/${kind}`))![0])

/** A process in lab web that listens on port 80; its pid as this process sees it. */
function listener(host: Host): number {
  nsNet(host, 'add', 'web')
  host.start([`${executables}/ns-net`, 'exec', 'web', '--', 'socat', 'TCP-LISTEN:80,fork', '-'])
  host.sh('for i in $(seq 100); do ip netns exec web ss -Hltn | grep -q :80 && exit; sleep 0.05; done; exit 1')
  return Number(host.run(['ip', 'netns', 'pids', 'web']).stdout.trim().split('\n')[0])
}

test('ps, whose and ss find the process of a lab, its namespace and its socket', (context) => {
  requireTool('socat', context)
  using host = createHost()
  const pid = listener(host)
  const expected = { pid, lab: 'web', namespaces: { net: inode(pid, 'net') } }
  expect(JSON.parse(nsNet(host, 'ps', 'web', '--json').stdout)).toMatchObject([expected])
  expect(JSON.parse(nsNet(host, 'ps', '--json').stdout)).toContainEqual(expect.objectContaining({ pid, lab: 'web' }))
  expect(nsNet(host, 'ps', 'web').stdout).toMatch(
    new RegExp(`^PID +NSPID +UID +LAB +NET +COMMAND\n${pid} .* web .*socat TCP-LISTEN:80,fork -\n$`),
  )
  expect(JSON.parse(nsNet(host, 'whose', String(pid), '--json').stdout)).toMatchObject(expected)
  const listening = { protocol: 'tcp', state: 'LISTEN', local: '0.0.0.0:80', remote: '0.0.0.0:*' }
  expect(JSON.parse(nsNet(host, 'ss', '--json').stdout)).toEqual([
    { place: 'web', visible: true, sockets: [listening] },
  ])
  nsNet(host, 'add', 'empty') // nobody inside: read by entering
  expect(JSON.parse(nsNet(host, 'ss', 'empty', '--json').stdout)).toEqual([
    { place: 'empty', visible: true, sockets: [] },
  ])
})

test('a command with line feeds and escapes in it stays one line of the table', () => {
  using host = createHost()
  nsNet(host, 'add', 'web')
  host.start(['ip', 'netns', 'exec', 'web', 'sh', '-c', 'read line', '\n\x1b[31m', '2'])
  host.sh('for i in $(seq 50); do ip netns pids web | grep -q . && exit; sleep 0.1; done; exit 1')
  const lines = nsNet(host, 'ps', 'web').stdout.trim().split('\n')
  expect(lines).toHaveLength(2)
  expect(lines[1]).toMatch(/ sh -c read line {2,}\[31m 2$/)
})

test('same says for each kind what two processes share, with exit code 1 when not all of it', (context) => {
  requireTool('socat', context)
  using host = createHost()
  const pid = listener(host)
  const { status, stdout } = nsNet(host, 'same', `pid:${host.pid}`, `pid:${pid}`, '--json')
  expect(status).toBe(1)
  const { namespaces } = JSON.parse(stdout)
  for (const { kind, a, b, relation } of namespaces) {
    expect([a, b]).toEqual([inode(host.pid, kind), inode(pid, kind)])
    expect(relation).toBe(a === b ? 'shared' : 'separate')
  }
  expect(
    namespaces
      .filter(({ relation }: { relation: string }) => relation === 'separate')
      .map(({ kind }: { kind: string }) => kind)
      .sort(),
  ).toEqual(['mnt', 'net'])
  expect(nsNet(host, 'same', 'self', 'self').status).toBe(0)
  expect(nsNet(host, 'same', 'web', `pid:${pid}`).stdout).toMatch(/^net .* shared$/m)
})

test('numbers inside a pid namespace stand beside those outside', () => {
  using host = createHost()
  const child = host.start(['unshare', '--pid', '--fork', '--kill-child', '--mount-proc', 'sleep', '1000'])
  expect(child.pid).toBeDefined()
  const sleeping = () =>
    JSON.parse(nsNet(host, 'ps', '--type', 'pid', '--json').stdout).find(
      ({ command }: { command: string }) => command === 'sleep 1000',
    )
  let found = sleeping()
  for (let i = 0; i < 50 && !found; i++) found = sleeping()
  const nsPid = /^NSpid:\s+(.*)$/m.exec(readFileSync(`/proc/${found.pid}/status`, 'utf8'))![1]!
  expect(found.nsPids).toEqual(nsPid.split(/\s+/).map(Number))
  expect(found.nsPids.at(-1)).toBe(1)
})

test('targets that are not there, and kinds that do not exist', () => {
  using host = createHost()
  for (const [args, status, message] of [
    [['same', 'nothere', 'self'], 3, /^ns-net: no lab "nothere"/],
    [['same', 'pid:0', 'self'], 2, /^ns-net: bad target "pid:0"/],
    [['ps', 'path:/nonexistent'], 3, /^ns-net: no file \/nonexistent/],
    [['ps', '--type', 'foo'], 2, /^ns-net: unknown kind of namespace "foo"\nhint: expected net, /],
    [['whose', '4194304'], 3, /^ns-net: no process 4194304/],
  ] as const) {
    const result = nsNet(host, ...args)
    expect({ args, status: result.status }).toEqual({ args, status })
    expect(result.stderr).toMatch(message)
  }
})

test('ps -p tells the uid_map of a user namespace as /proc does', async () => {
  using host = createHost()
  const child = host.start(['unshare', '--user', '--map-root-user', 'sh', '-c', 'echo ready; exec sleep 60'])
  await once(child.stdout!, 'data')
  const map = host
    .run(['cat', `/proc/${child.pid}/uid_map`])
    .stdout.trim()
    .split(/\s+/)
    .map(Number)
  const ps = (...more: string[]) => host.run([`${executables}/ns-net`, 'ps', '-p', String(child.pid), ...more]).stdout
  const [inside, outside, count] = map
  expect(JSON.parse(ps('--json'))[0].uidMap).toEqual([{ inside, outside, count }])
  expect(ps()).toMatch(new RegExp(`^${inside} +${outside} +${count}$`, 'm'))
})
