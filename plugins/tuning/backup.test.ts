import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { refuseForbidden } from './allowlist.ts'
import { deleteBackup, findBackup, staleBackups, writeBackup } from './backup.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(`${tmpdir()}/ns-net-tuning-`)
})
afterEach(() => rmSync(folder, { recursive: true }))

const attachment = (containerId: string, network = 'lab') => ({ network, containerId, ifName: 'eth0' })
const old = { mac: '02:00:00:00:00:01', promiscuous: false, mtu: 1500, allMulticast: false, txQueueLength: 0 }

test('what is written is found again, and gone after it is deleted', () => {
  writeBackup(`${folder}/a/b`, attachment('c1'), old)
  expect(findBackup(`${folder}/a/b`, attachment('c1'))).toEqual(old)
  expect(findBackup(`${folder}/a/b`, attachment('c2'))).toBeUndefined()
  for (const _ of [1, 2]) deleteBackup(`${folder}/a/b`, attachment('c1'))
  expect(readdirSync(`${folder}/a/b`)).toEqual([])
})

test('the file has the keys of the reference plugin', () => {
  writeBackup(folder, attachment('c1'), { mtu: 1500 })
  expect(JSON.parse(readFileSync(`${folder}/c1_eth0.json`, 'utf8'))).toEqual({ mtu: 1500, network: 'lab' })
  writeFileSync(`${folder}/c2_eth0.json`, '{\n "mac": "9E:0f:52:38:b8:6a",\n "promisc": false,\n "mtu": 1500\n}')
  expect(findBackup(folder, attachment('c2'))).toEqual({ mac: '9e:0f:52:38:b8:6a', promiscuous: false, mtu: 1500 })
})

test.each(['', '{"mac": "9e', '{"mtu": "much"}', '[]', 'null'])('a file that says %j restores nothing', (text) => {
  writeFileSync(`${folder}/c1_eth0.json`, text)
  expect(findBackup(folder, attachment('c1'))).toEqual({})
})

test('stale are the files of this network that nobody valid owns', () => {
  for (const id of ['c1', 'c2']) writeBackup(folder, attachment(id), old)
  writeBackup(folder, attachment('c3', 'other'), old)
  writeFileSync(`${folder}/c4_eth0.json`, '{"mtu": 1500}')
  writeFileSync(`${folder}/notes`, '{"network": "lab"}')
  expect(staleBackups(folder, 'lab', [attachment('c2')])).toEqual([`${folder}/c1_eth0.json`])
  expect(staleBackups(`${folder}/absent`, 'lab', [])).toEqual([])
})

const sysctl = (key: string) => ({ key, name: key.split('.').slice(1), value: '1' })

test('the allow-list: unanchored expressions, one per line', () => {
  const file = `${folder}/allowlist.conf`
  const refuse = (...keys: string[]) => refuseForbidden(keys.map(sysctl), file)
  refuse('net.core.somaxconn')
  writeFileSync(file, '\n  core.somax\n^net.ipv4.conf.IFNAME.[a-z_]*$\n')
  refuse('net.core.somaxconn', 'net.ipv4.conf.IFNAME.arp_filter')
  refuse()
  expect(() => refuse('net.core.somaxconn', 'net.ipv4.conf.eth0.arp_filter')).toThrow(
    'sysctl "net.ipv4.conf.eth0.arp_filter" is not allowed on this host',
  )
  writeFileSync(file, '')
  expect(() => refuse('net.core.somaxconn')).toThrow('is not allowed')
  writeFileSync(file, 'net.core\n(\n')
  expect(() => refuse('net.core.somaxconn')).toThrow(`${file}:2: `)
})
