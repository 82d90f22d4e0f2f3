import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { exclusively, listUsers, usersOf } from './users.ts'

let base: string
let root: string
beforeEach(() => {
  base = mkdtempSync(`${tmpdir()}/ns-net-users-`)
  root = `${base}/nat`
})
afterEach(() => rmSync(base, { recursive: true }))

test('a chain has users until the last one leaves', () => {
  const users = usersOf(root, 'lab', 'NS-NET-1', 4)
  for (const mark of ['lab c1 eth0', 'lab c2 eth0', 'lab c2 eth0']) users.add(mark)
  expect(listUsers(root, 'lab')).toEqual([users])
  expect(listUsers(root, 'web')).toEqual([])
  expect(users.list().sort()).toEqual(['lab c1 eth0', 'lab c2 eth0'])

  users.delete('lab c1 eth0')
  users.delete('lab c1 eth0')
  expect(users.has('lab c1 eth0')).toBe(false)
  expect(users.isEmpty).toBe(false)
  users.delete('lab c2 eth0')
  expect(users.isEmpty).toBe(true)
  users.forget()
  expect(listUsers(root, 'lab')).toEqual([])
})

test('the two families and the networks have users of their own', () => {
  usersOf(root, 'lab', 'NS-NET-1', 4).add('lab c1 eth0')
  usersOf(root, 'lab', 'NS-NET-2', 6).add('lab c1 eth0')
  expect(listUsers(root, 'lab').map(({ chain, family }) => [chain, family])).toEqual([
    ['NS-NET-1', 4],
    ['NS-NET-2', 6],
  ])
})

test.each(['..', '.', '../..', 'a/b', ''])('a network named "%s" stays inside the folder', (network) => {
  const { folder } = usersOf(root, network, 'NS-NET-1', 4)
  expect(folder.slice(root.length)).toMatch(/^\/masquerade-[^/]+\/NS-NET-1\.v4$/)
})

test('the folder is gone after work that leaves no users, and stays while there are some', () => {
  exclusively(root, 'lab', () => usersOf(root, 'lab', 'NS-NET-1', 4).add('lab c1 eth0'))
  expect(existsSync(`${root}/lock`)).toBe(true)
  exclusively(root, 'lab', () => {
    const [users] = listUsers(root, 'lab')
    users!.delete('lab c1 eth0')
    users!.forget()
  })
  expect(existsSync(root)).toBe(false)
})

test('the lock is free again after work that throws', () => {
  for (const attempt of [1, 2])
    expect(() =>
      exclusively(root, 'lab', () => {
        throw Object.assign(new Error(`attempt ${attempt}`), { code: 'ENOENT' })
      }),
    ).toThrow(`attempt ${attempt}`)
})

test('an entry that is not ours is named, not guessed at', () => {
  mkdirSync(`${root}/masquerade-lab`, { recursive: true })
  writeFileSync(`${root}/masquerade-lab/notes`, '')
  expect(() => listUsers(root, 'lab')).toThrow('masquerade-lab/notes: not made by ns-net')
})
