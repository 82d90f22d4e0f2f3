import fs from 'node:fs'
import { tmpdir } from 'node:os'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type ProgramEnd, runProgram } from './program.ts'

let folder: string
beforeEach(() => {
  folder = fs.mkdtempSync(`${tmpdir()}/program-`)
})
afterEach(() => fs.rmSync(folder, { recursive: true, force: true }))

const run = (script: string, input = '', more: object = {}): ProgramEnd =>
  runProgram({ file: '/bin/sh', args: ['-c', script, 'name'], input, env: {}, ...more })

test('a program reads its input and says how it ends', () => {
  expect(run('cat; echo "grün" >&2; exit 3', 'öne')).toEqual({ status: 3, stdout: 'öne', stderr: 'grün\n' })
  expect(run('cat')).toEqual({ status: 0, stdout: '', stderr: '' })
  expect(run('kill -TERM $$')).toEqual({ signal: 'SIGTERM', stdout: '', stderr: '' })
})

test('arguments and variables arrive as they are', () => {
  expect(
    run('echo "$0|$1|$A|$PATH"', '', { args: ['-c', 'echo "$0|$1|$A"', '$x', "it's a *"], env: { A: 'b=c' } }),
  ).toEqual({ status: 0, stdout: "$x|it's a *|b=c\n", stderr: '' })
  expect(run('echo "$PATH"').stdout).toBe(`${process.env.PATH}\n`)
  expect(run('echo "$PATH"', '', { env: { PATH: '/nowhere' } }).stdout).toBe('/nowhere\n')
})

test('much goes in and out, whichever comes first', () => {
  const much = 'x'.repeat(3_000_000)
  expect(run('cat', much).stdout === much).toBe(true)
  expect(run('cat >&2', much).stderr === much).toBe(true)
})

test('one that does not read all of its input is heard all the same', () => {
  expect(run('echo refused; exit 2', 'x'.repeat(3_000_000))).toEqual({
    status: 2,
    stdout: 'refused\n',
    stderr: '',
    error: { code: 'EPIPE' },
  })
})

test('what cannot be executed is named', () => {
  fs.writeFileSync(`${folder}/plain`, 'text', { mode: 0o644 })
  const codeOf = (file: string) => runProgram({ file, input: 'x', env: {} })
  expect(codeOf(`${folder}/none`)).toEqual({ stdout: '', stderr: '', error: { code: 'ENOENT' } })
  expect(codeOf(`${folder}/plain`)).toEqual({ stdout: '', stderr: '', error: { code: 'EACCES' } })
})

test('one that takes too long is killed', () => {
  expect(run('echo begun; exec sleep 1000', '', { timeoutMs: 300 })).toMatchObject({
    error: { code: 'ETIMEDOUT' },
    signal: 'SIGKILL',
  })
})

test('a descriptor is passed on as number 3', () => {
  const file = `${folder}/kept`
  const fd = fs.openSync(file, 'w')
  try {
    expect(run('echo hello >&3; readlink /proc/$$/fd/3', '', { keepFd: fd }).stdout).toBe(`${file}\n`)
    expect(fs.readFileSync(file, 'utf8')).toBe('hello\n')
    expect(run('readlink /proc/$$/fd/*').stdout).not.toContain(file)
  } finally {
    fs.closeSync(fd)
  }
})
