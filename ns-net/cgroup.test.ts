import fs from 'node:fs'
import os from 'node:os'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createCgroup, hierarchiesIn } from './cgroup.ts'

let top: string

/** A directory with the files of a version 2 hierarchy, which are all that is looked at. */
beforeEach(() => {
  top = fs.mkdtempSync(`${os.tmpdir()}/ns-net-cgroup-`)
  fs.writeFileSync(`${top}/cgroup.controllers`, 'cpuset cpu io memory pids\n')
  fs.writeFileSync(`${top}/cgroup.subtree_control`, 'cpu memory pids\n')
})
afterEach(() => fs.rmSync(top, { recursive: true }))

const unified = () => [{ path: top, version: 2, options: [] }] as const
const read = (file: string) => fs.readFileSync(`${top}/${file}`, 'utf8')

test('version 2: one group for all limits', () => {
  expect(createCgroup('c1', { memory: 104_857_600, cpus: 0.5, pids: 20 }, unified())).toEqual([`${top}/ns-net-c1`])
  expect(read('ns-net-c1/memory.max')).toBe('104857600')
  expect(read('ns-net-c1/cpu.max')).toBe('50000 100000')
  expect(read('ns-net-c1/pids.max')).toBe('20')
  expect(read('cgroup.subtree_control')).toBe('cpu memory pids\n')
})

test('version 2: a controller that groups do not have is handed on to them', () => {
  fs.writeFileSync(`${top}/cgroup.subtree_control`, 'memory pids\n')
  createCgroup('c1', { memory: 2 ** 30, cpus: 1 }, unified())
  expect(read('cgroup.subtree_control')).toBe('+cpu')
})

test('both versions: a controller is where it is mounted', () => {
  fs.mkdirSync(`${top}/v1`)
  const hierarchies = [...unified(), { path: `${top}/v1`, version: 1, options: ['rw', 'cpu', 'cpuacct'] } as const]
  expect(createCgroup('c1', { memory: 2 ** 30, cpus: 1.5 }, hierarchies)).toEqual([
    `${top}/ns-net-c1`,
    `${top}/v1/ns-net-c1`,
  ])
  expect(read('v1/ns-net-c1/cpu.cfs_quota_us')).toBe('150000')
  expect(read('v1/ns-net-c1/cpu.cfs_period_us')).toBe('100000')
  expect(read('ns-net-c1/memory.max')).toBe('1073741824')
})

test('without limits there is no group; with one that nobody carries out, a refusal and nothing left', () => {
  expect(createCgroup('c1', {}, unified())).toEqual([])
  fs.writeFileSync(`${top}/cgroup.controllers`, 'pids\n')
  expect(() => createCgroup('c1', { cpus: 1 }, unified())).toThrow(
    '--cpus: no control group hierarchy here has the controller "cpu"',
  )
  expect(() => createCgroup('c1', { memory: 1e9 }, [])).toThrow('--memory: no control group hierarchy')
  expect(fs.readdirSync(top).sort()).toEqual(['cgroup.controllers', 'cgroup.subtree_control'])
})

test('a group with processes is somebody else’s', () => {
  fs.mkdirSync(`${top}/ns-net-c1`)
  fs.writeFileSync(`${top}/ns-net-c1/cgroup.procs`, '17\n18\n')
  expect(() => createCgroup('c1', { pids: 5 }, unified())).toThrow(`control group ${top}/ns-net-c1 has processes`)
})

test('hierarchies in mountinfo (lines of Debian 12, and of a machine with version 1)', () => {
  const mountinfo = `24 30 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
28 24 0:25 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
40 35 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct`
  expect(hierarchiesIn(mountinfo)).toEqual([
    { path: '/sys/fs/cgroup', version: 2, options: ['rw', 'nsdelegate', 'memory_recursiveprot'] },
    { path: '/sys/fs/cgroup/cpu,cpuacct', version: 1, options: ['rw', 'cpu', 'cpuacct'] },
  ])
})
