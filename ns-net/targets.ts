import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import { CliError } from './errors.ts'
import { checkLabName, findLab, listNetnsNames, netnsPath } from './labs.ts'

/** What a verb is pointed at: a lab or other named namespace, a process, a namespace file, or the host. */
export type Target =
  | { readonly kind: 'name'; readonly name: string; readonly netns: string }
  | { readonly kind: 'process'; readonly pid: number; readonly netns: string }
  | { readonly kind: 'path'; readonly netns: string }
  | { readonly kind: 'host'; readonly netns: string }

/** Parses `NAME`, `pid:N`, `podman:NAME`, `docker:NAME`, `self`, `path:FILE` or `host`; throws when there is no such thing. */
export function parseTarget(text: string): Target {
  if (text === 'host') return { kind: 'host', netns: '/proc/1/ns/net' }
  if (text === 'self') return processTarget(process.pid)
  const [, scheme, rest = ''] = /^(pid|path|podman|docker):(.*)$/.exec(text) ?? []
  if (scheme === 'pid') return processTarget(/^[1-9]\d*$/.test(rest) ? Number(rest) : badTarget(text))
  if (scheme === 'podman' || scheme === 'docker') return processTarget(pidOfContainer(scheme, rest))
  if (scheme === 'path') {
    if (!fs.existsSync(rest)) throw new CliError('notFound', `no file ${rest}`)
    return { kind: 'path', netns: rest }
  }
  checkLabName(text)
  if (!findLab(text) && !listNetnsNames().includes(text))
    throw new CliError('notFound', `no lab "${text}"`, 'ns-net ls shows all')
  return { kind: 'name', name: text, netns: netnsPath(text) }
}

function processTarget(pid: number): Target {
  if (!fs.existsSync(`/proc/${pid}`)) throw new CliError('notFound', `no process ${pid}`)
  return { kind: 'process', pid, netns: `/proc/${pid}/ns/net` }
}

/** The first process of a container, asked of the program that keeps it. */
function pidOfContainer(program: 'podman' | 'docker', name: string): number {
  const { status, error, stdout, stderr } = spawnSync(
    program,
    ['inspect', '--type', 'container', '--format', '{{.State.Pid}}', '--', name],
    { encoding: 'utf8' },
  )
  if (error) throw new CliError('notFound', `${program} is not installed`, `or it is not in PATH: ${process.env.PATH}`)
  if (status !== 0) throw new CliError('notFound', `no container "${name}": ${stderr.trim().split('\n').at(-1)}`)
  const pid = Number(stdout.trim())
  if (pid > 0) return pid
  throw new CliError('notFound', `container "${name}" does not run`, `${program} start ${name}`)
}

function badTarget(text: string): never {
  throw new CliError(
    'usage',
    `bad target "${text}"`,
    'expected NAME, pid:N, podman:NAME, docker:NAME, self, path:FILE or host',
  )
}

/** Inode of a namespace; the number that lsns(8) shows. */
export function inodeOf(netns: string): number {
  try {
    return fs.statSync(netns).ino
  } catch (error) {
    const { code } = error as { code?: string }
    if (code === 'EACCES' || code === 'EPERM')
      throw new CliError('permission', `you may not look at ${netns}`, 'it belongs to another user: try it with sudo')
    throw new CliError('notFound', `no namespace at ${netns}`)
  }
}
