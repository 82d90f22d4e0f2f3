import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import { tmpdir } from 'node:os'
import { afterEach, beforeEach, expect, test } from 'vitest'
import {
  cut,
  deleteDirectory,
  deleteFile,
  deleteIfEmpty,
  exists,
  findFile,
  findNames,
  findStatus,
  isDirectory,
  isExecutable,
  isRegular,
  makeDirectory,
  namesIn,
  openFile,
  openFlags,
  readFile,
  renameFile,
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
  writeFile(path('a'), 'new', openFlags.create | openFlags.truncate)
  expect(fs.readFileSync(path('a'), 'utf8')).toBe('new')
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

test('the names in a folder, of every kind and length', () => {
  const names = ['ä', 'a b', '...', '.hidden', 'x'.repeat(255), 'line\nfeed']
  for (const name of names) fs.writeFileSync(path(name), '')
  fs.mkdirSync(path('folder'))
  fs.symlinkSync(path('nowhere'), path('link'))
  fs.writeFileSync(Buffer.concat([Buffer.from(`${folder}/`), Buffer.from([0x62, 0xff])]), '')
  expect(namesIn(folder).sort()).toEqual(fs.readdirSync(folder).sort())
  expect(namesIn(folder)).toContain('b\ufffd')
  expect(namesIn(path('folder'))).toEqual([])
})

test('a folder that takes several readings', () => {
  for (let i = 0; i < 3000; i++) fs.writeFileSync(path(`name-of-a-file-that-is-not-short-${i}`), '')
  expect(namesIn(folder).sort()).toEqual(fs.readdirSync(folder).sort())
  expect(namesIn(folder, 2)).toHaveLength(2)
  expect(namesIn(folder, 1)).toHaveLength(1)
})

test('what has no names', () => {
  expect(() => namesIn(path('none'))).toThrow(`list ${path('none')}: ENOENT`)
  fs.writeFileSync(path('a'), '')
  expect(() => namesIn(path('a'))).toThrow(`list ${path('a')}: ENOTDIR`)
  execFileSync('mkfifo', [path('fifo')])
  expect(() => namesIn(path('fifo'))).toThrow('ENOTDIR')
  expect(findNames(path('none'))).toBeUndefined()
  expect(findNames(folder)?.sort()).toEqual(['a', 'fifo'])
})

test('a file takes the place of another', () => {
  fs.writeFileSync(path('a'), 'new')
  fs.writeFileSync(path('b'), 'old')
  renameFile(path('a'), path('b'))
  expect(fs.readdirSync(folder)).toEqual(['b'])
  expect(fs.readFileSync(path('b'), 'utf8')).toBe('new')
  expect(() => renameFile(path('a'), path('b'))).toThrow(`rename ${path('a')}: ENOENT`)
})

test('only empty folders are deleted', () => {
  fs.mkdirSync(path('a/b'), { recursive: true })
  deleteIfEmpty(path('a'))
  expect(() => deleteDirectory(path('a'))).toThrow(`delete ${path('a')}: ENOTEMPTY`)
  deleteIfEmpty(path('a/b'))
  deleteDirectory(path('a'))
  expect(fs.readdirSync(folder)).toEqual([])
  deleteIfEmpty(path('a'))
  expect(() => deleteDirectory(path('a'))).toThrow('ENOENT')
  fs.writeFileSync(path('file'), '')
  expect(() => deleteIfEmpty(path('file'))).toThrow('ENOTDIR')
})
