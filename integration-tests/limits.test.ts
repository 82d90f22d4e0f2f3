import { expect, test } from 'vitest'
import { createHost, executables, type Host, type RunOptions } from './host.ts'
import { requireUnifiedCgroups } from './kernel-feature.ts'
import { until } from './runtimes/until.ts'

const run = (host: Host, options: string[], script: string, more?: RunOptions) =>
  host.run([`${executables}/ns-net`, 'run', ...options, '--', 'sh', '-c', script], more)

const group = '/sys/fs/cgroup/ns-net-box'
const read = (host: Host, file: string): string => host.run(['cat', `${group}/${file}`]).stdout.trim()

/** One line of a file of `key value` lines. */
const counter = (host: Host, file: string, key: string): number =>
  Number(new RegExp(`^${key} (\\d+)$`, 'm').exec(read(host, file))?.[1])

/** Takes 150 MB, at once. */
const hungry = 'head -c 200000000 /dev/zero | tail -c 150000000 >/dev/null'

test('limits with cgroup v2: in one group, with the command and its children in it, gone with the command', async (context) => {
  using host = createHost()
  requireUnifiedCgroups(context, host)
  const limits = ['--name', 'box', '--memory', '100M', '--cpus', '0.5', '--pids', '20']
  const running = host.start([`${executables}/ns-net`, 'run', ...limits, '--', 'sh', '-c', 'sleep 1000; true'])
  const commands = () =>
    host.sh(`for pid in $(cat ${group}/cgroup.procs 2>/dev/null); do cat /proc/$pid/comm; done`, {
      expectFailure: 'maybe',
    })
  await until('all of it is there', () => commands().stdout.includes('sleep'))
  expect(['memory.max', 'cpu.max', 'pids.max'].map((file) => read(host, file))).toEqual([
    '104857600',
    '50000 100000',
    '20',
  ])
  running.kill('SIGTERM')
  await until('the group is gone', () => host.sh(`ls -d ${group} 2>/dev/null || true`).stdout === '')
})

test('memory with cgroup v2: who takes more is killed, and the others stay', async (context) => {
  using host = createHost()
  requireUnifiedCgroups(context, host)
  expect(run(host, ['--memory', '30M'], hungry, { expectFailure: true }).status).toBe(137)
  expect(run(host, ['--memory', '400M'], hungry).status).toBe(0)
  host.start([
    `${executables}/ns-net`,
    ...['run', '--name', 'box', '--memory', '30M', '--', 'sh', '-c', `${hungry}; exec sleep 1000`],
  ])
  await until(
    'one was killed',
    () => host.sh(`cat ${group}/memory.events 2>/dev/null || true`).stdout.match(/^oom_kill [1-9]/m) !== null,
  )
  await until('the other goes on', () =>
    host.sh(`for pid in $(cat ${group}/cgroup.procs); do cat /proc/$pid/comm; done`).stdout.includes('sleep'),
  )
  expect(counter(host, 'memory.events', 'oom_kill')).toBe(1)
})

test('cpus and pids with cgroup v2: the kernel holds back who wants more', async (context) => {
  using host = createHost()
  requireUnifiedCgroups(context, host)
  host.start([
    `${executables}/ns-net`,
    ...['run', '--name', 'box', '--cpus', '0.2', '--pids', '10', '--', 'sh', '-c', 'while :; do :; done'],
  ])
  const statistics = () => host.sh(`cat ${group}/cpu.stat 2>/dev/null || true`).stdout
  await until('it was held back', () => Number(/^nr_throttled (\d+)/m.exec(statistics())?.[1]) >= 10)
  // Of each 100 ms it had 20; what it had before the group was its is no part of that.
  const used = counter(host, 'cpu.stat', 'usage_usec')
  const periods = counter(host, 'cpu.stat', 'nr_periods')
  expect(used / periods).toBeLessThan(40_000)

  const many = 'for i in 1 2 3 4 5 6 7 8 9; do sleep 0.1 & done; wait'
  const refused = run(host, ['--pids', '5'], many, { expectFailure: true })
  expect(refused.stderr).toMatch(/[Cc]annot fork|Resource temporarily unavailable/)
  expect(run(host, ['--pids', '50'], many).status).toBe(0)
})
