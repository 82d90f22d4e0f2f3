import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { exclusively, join, listUsers, release, type Shared, usersOf } from './users.ts'

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
  expect(folder.slice(root.length)).toMatch(/^\/network-[^/]+\/NS-NET-1\.v4$/)
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
  mkdirSync(`${root}/network-lab`, { recursive: true })
  writeFileSync(`${root}/network-lab/notes`, '')
  expect(() => listUsers(root, 'lab')).toThrow('network-lab/notes: not made by ns-net')
})

/** Things that users share, and which of them are there. */
function shop() {
  const installed = new Set<string>()
  const part = (chain: string, failure?: string): Shared => ({
    users: usersOf(root, 'lab', chain, 4),
    install() {
      if (failure) throw new Error(failure)
      installed.add(chain)
    },
  })
  return { installed, part, uninstall: ({ chain }: { chain: string }) => void installed.delete(chain) }
}
const without = (mark: string) => (users: { delete(mark: string): void }) => users.delete(mark)

test('what is shared is there from the first user to the last', () => {
  const { installed, part, uninstall } = shop()
  join(root, 'lab', 'lab c1 eth0', [part('A'), part('B')], uninstall)
  join(root, 'lab', 'lab c2 eth0', [part('B')], uninstall)
  release(root, 'lab', without('lab c1 eth0'), uninstall)
  expect([...installed]).toEqual(['B'])
  installed.clear() // somebody emptied the table
  join(root, 'lab', 'lab c2 eth0', [part('B')], uninstall)
  expect([...installed]).toEqual(['B'])
  release(root, 'web', without('lab c2 eth0'), uninstall)
  expect([...installed]).toEqual(['B'])
  for (const _time of [1, 2]) release(root, 'lab', without('lab c2 eth0'), uninstall)
  expect([...installed]).toEqual([])
  expect(existsSync(root)).toBe(false)
})

test('who cannot join all joins none, and stays a user of what it was a user of', () => {
  const { installed, part, uninstall } = shop()
  join(root, 'lab', 'lab c1 eth0', [part('A')], uninstall)
  const joining = () => join(root, 'lab', 'lab c1 eth0', [part('A'), part('B'), part('C', 'no C')], uninstall)
  expect(joining).toThrow('no C')
  expect([...installed]).toEqual(['A'])
  expect(listUsers(root, 'lab').map(({ chain }) => chain)).toEqual(['A'])
})

test('release goes on past failures, tells of all, and leaves on file what is still there', () => {
  const { installed, part, uninstall } = shop()
  join(root, 'lab', 'lab c1 eth0', [part('A'), part('B'), part('C')], uninstall)
  const failing = (users: { chain: string }) => {
    if (users.chain !== 'B') throw new Error(`${users.chain} stays`)
    uninstall(users)
  }
  const releasing = () => release(root, 'lab', without('lab c1 eth0'), failing)
  expect(releasing).toThrow(AggregateError)
  expect(releasing).toThrow(/^(A stays; C stays|C stays; A stays)$/)
  expect([...installed].sort()).toEqual(['A', 'C'])
  release(root, 'lab', without('lab c1 eth0'), uninstall)
  expect([...installed]).toEqual([])
  expect(existsSync(root)).toBe(false)
})
