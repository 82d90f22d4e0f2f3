import fs from 'node:fs'
import { tmpdir } from 'node:os'
import { afterEach, beforeEach, expect, test } from 'vitest'
import {
  cut,
  deleteFile,
  exists,
  findFile,
  findStatus,
  isDirectory,
  isExecutable,
  isRegular,
  makeDirectory,
  namesIn,
  openFile,
  openFlags,
  readFile,
  requireAccess,
  setModified,
  statusOf,
  statusOfOpen,
  write,
  writeFile,
} from './files.ts'

// node:fs is the judge.

let folder: string
beforeEach(() => {
  folder = fs.mkdtempSync(`${tmpdir()}/files-`)
})
afterEach(() => fs.rmSync(folder, { recursive: true, force: true }))
const path = (name: string) => `${folder}/${name}`

test.each([0, 1, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 1_000_000])('a file of %d bytes is read whole', (size) => {
  const text = 'x'.repeat(size)
  fs.writeFileSync(path('a'), text)
  expect(readFile(path('a')) === text).toBe(true)
})

test('a letter that lies across two readings', () => {
  const text = `${'x'.repeat(64 * 1024 - 1)}é`
  fs.writeFileSync(path('a'), text)
  expect(readFile(path('a')) === text).toBe(true)
})

test('files of /proc', () => {
  expect(readFile('/proc/sys/kernel/random/boot_id')).toBe(fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8'))
})

test('an absent file is undefined, everything else that fails is told', () => {
  expect(findFile(path('none'))).toBeUndefined()
  expect(() => readFile(path('none'))).toThrow(`open ${path('none')}: ENOENT`)
  expect(() => findFile(folder)).toThrow(`read ${folder}: EISDIR`)
  expect(() => findFile(`${folder}/none\0`)).toThrow('EINVAL')
})

test('the flags say what may be there', () => {
  expect(() => writeFile(path('a'), 'text', 0)).toThrow('ENOENT')
  writeFile(path('a'), 'gr\u00fcn', openFlags.create | openFlags.exclusive, 0o640)
  expect(() => writeFile(path('a'), 'text', openFlags.create | openFlags.exclusive)).toThrow('EEXIST')
  writeFile(path('a'), '!', openFlags.append)
  expect(fs.readFileSync(path('a'), 'utf8')).toBe('gr\u00fcn!')
  writeFile(path('a'), 'G', 0)
  expect(fs.readFileSync(path('a'), 'utf8')).toBe('Gr\u00fcn!')
  expect(fs.statSync(path('a')).mode & 0o777).toBe(0o640 & ~process.umask())
})

test('an open file is written on, cut and closed with its block', () => {
  let descriptor: number
  {
    using file = openFile(path('a'), openFlags.create | openFlags.writeOnly)
    descriptor = file.fd
    write(file.fd, 'hello ', path('a'))
    write(file.fd, 'world', path('a'))
    cut(file.fd, 7, path('a'))
    expect(statusOfOpen(file.fd, path('a')).inode).toBe(fs.statSync(path('a')).ino)
    expect(fs.readFileSync(`/proc/self/fdinfo/${descriptor}`, 'utf8')).toMatch(/flags:\s+0?2\d{6}/) // O_CLOEXEC
  }
  expect(fs.readFileSync(path('a'), 'utf8')).toBe('hello w')
  expect(() => fs.fstatSync(descriptor)).toThrow('EBADF')
})

test('what a file is', () => {
  fs.writeFileSync(path('a'), 'text', { mode: 0o640 })
  fs.linkSync(path('a'), path('b'))
  setModified(path('a'), 1_700_000_000)
  const { ino, mode, nlink, mtimeMs } = fs.statSync(path('a'))
  expect(statusOf(path('a'))).toMatchObject({ inode: ino, mode, links: nlink, modified: mtimeMs })
  expect(mtimeMs).toBe(1_700_000_000_000)
  expect([statusOf(path('a')), statusOf(folder)].map((status) => [isRegular(status), isDirectory(status)])).toEqual([
    [true, false],
    [false, true],
  ])
  expect(statusOf('/proc').device).not.toBe(statusOf(folder).device)
  expect(findStatus(path('none'))).toBeUndefined()
  expect(() => findStatus(path('a/b'))).toThrow('ENOTDIR')
})

test('fractions of a second', () => {
  fs.writeFileSync(path('a'), '')
  expect(statusOf(path('a')).modified).toBeCloseTo(fs.statSync(path('a')).mtimeMs, 3)
})

test('what is there and what may be done with it', () => {
  fs.writeFileSync(path('a'), '', { mode: 0o600 })
  expect([exists(path('a')), exists(folder), exists(path('none'))]).toEqual([true, true, false])
  expect([isExecutable(path('a')), isExecutable(process.execPath), isExecutable(path('none'))]).toEqual([
    false,
    true,
    false,
  ])
  requireAccess(folder, 2 | 1)
  expect(() => requireAccess(path('none'), 2)).toThrow('ENOENT')
})

test('directories: with all that lead to them, and no complaint when they are there', () => {
  makeDirectory(path('a/b/c'), 0o700)
  expect(fs.statSync(path('a/b')).mode & 0o777).toBe(0o700)
  makeDirectory(path('a/b/c'))
  makeDirectory('/')
  fs.writeFileSync(path('file'), '')
  expect(() => makeDirectory(path('file'))).toThrow(`make directory ${path('file')}: EEXIST`)
  expect(() => makeDirectory(path('file/d'))).toThrow('ENOTDIR')
  fs.symlinkSync(path('nowhere'), path('dangling'))
  expect(() => makeDirectory(path('dangling/d'))).toThrow('EEXIST')
  fs.symlinkSync(path('a'), path('link'))
  makeDirectory(path('link/b/d'))
  expect(namesIn(path('a/b')).sort()).toEqual(['c', 'd'])
  expect(() => namesIn(path('none'))).toThrow(`list ${path('none')}: ENOENT`)
})

test('deleting what is not there is done', () => {
  fs.writeFileSync(path('a'), '')
  deleteFile(path('a'))
  deleteFile(path('a'))
  expect(fs.readdirSync(folder)).toEqual([])
  expect(() => deleteFile(folder)).toThrow('EISDIR')
})
