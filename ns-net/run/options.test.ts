import { expect, test } from 'vitest'
import { parseContainer, type RunOptions } from './options.ts'

const namespaces = (options: RunOptions) => parseContainer(options).namespaces

test('what implies what', () => {
  expect(namespaces({})).toEqual([])
  expect(namespaces({ hostname: 'box' })).toEqual(['uts'])
  expect(namespaces({ mapRootUser: true, pid: true })).toEqual(['user', 'pid'])
  expect(namespaces({ rootfs: '/usr' })).toEqual(['uts', 'ipc', 'pid'])
  expect(namespaces({ time: true, cgroup: true, user: true })).toEqual(['user', 'cgroup', 'time'])
})

test('names: of the lab, of the host, of the network', () => {
  expect(parseContainer({})).toMatchObject({ name: `run-${process.pid}`, network: 'default', hostname: undefined })
  expect(parseContainer({ net: true, uts: true, name: 'c1' })).toMatchObject({ network: 'default', hostname: 'c1' })
  expect(parseContainer({ net: 'none', hostname: 'box', name: 'c1' })).toMatchObject({
    network: 'none',
    hostname: 'box',
  })
})

test.each([
  ['100M', 104_857_600],
  ['1.5g', 1_610_612_736],
  ['2GiB', 2_147_483_648],
  ['104857600', 104_857_600],
])('--memory %s', (text, bytes) => {
  expect(parseContainer({ memory: text }).limits.memory).toBe(bytes)
})

test('rights', () => {
  const kept = (options: RunOptions) => parseContainer(options).capabilities
  expect(kept({})).not.toContain('sys_admin')
  expect(kept({ capAdd: ['CAP_SYS_ADMIN', 'net_raw'] })).toEqual([...(kept({}) as string[]), 'sys_admin'])
  expect(kept({ capAdd: ['net_admin', 'ALL'] })).toBe('all')
  expect(parseContainer({ privileged: true })).toMatchObject({ capabilities: 'all', newPrivileges: true })
})

test.each([
  [{ hostname: 'run_1' }, 'bad host name "run_1"'],
  [{ uts: true, name: 'run_1' }, 'bad host name "run_1"'],
  [{ monotonic: '5' }, '--monotonic needs --time'],
  [{ time: true, monotonic: 'soon' }, '--monotonic soon: expected seconds'],
  [{ memory: '1K' }, '--memory 1K: expected at least 1M'],
  [{ cpus: '0.001' }, '--cpus 0.001: expected a number from 0.01'],
  [{ pids: '0' }, '--pids 0: expected a number from 1'],
  [{ rootfs: '/etc/passwd' }, 'not a directory'],
])('%j is refused', (options, message) => {
  expect(() => parseContainer(options)).toThrow(message)
})
