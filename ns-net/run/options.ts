import fs from 'node:fs'
import type { Limits } from '../cgroup.ts'
import { CliError } from '../errors.ts'
import { checkLabName } from '../labs.ts'
import { keptCapabilities } from './capabilities.ts'

/** The options of `ns-net run` as they were typed. Letters and long names of the first ones are those of unshare(1). */
export interface RunOptions {
  readonly mount?: boolean
  readonly uts?: boolean
  readonly ipc?: boolean
  /** `true` for `--net` without a name. */
  readonly net?: string | true
  readonly pid?: boolean
  readonly user?: boolean
  readonly cgroup?: boolean
  readonly time?: boolean
  /** What unshare needs to be told and run does by itself. */
  readonly fork?: boolean
  readonly mountProc?: boolean
  readonly mapRootUser?: boolean
  readonly monotonic?: string
  readonly boottime?: string
  readonly hostname?: string
  readonly name?: string
  readonly rootfs?: string
  readonly memory?: string
  readonly cpus?: string
  readonly pids?: string
  readonly privileged?: boolean
  readonly capAdd?: readonly string[]
}

/** Namespaces that are the container's own, besides mount. */
export type OwnNamespace = 'uts' | 'ipc' | 'pid' | 'user' | 'cgroup' | 'time'

/** A container as it is to be. */
export interface Container {
  readonly name: string
  /** Name of a network, `none` for nothing but lo, `host` for the host's. */
  readonly network: string
  readonly namespaces: readonly OwnNamespace[]
  /** Seconds to add to the clocks of a time namespace. */
  readonly clocks: { readonly monotonic?: string; readonly boottime?: string }
  /** Undefined where the uts namespace is the host's. */
  readonly hostname?: string
  /** The directory that becomes `/`. */
  readonly rootfs?: string
  readonly limits: Limits
  readonly capabilities: 'all' | readonly string[]
  readonly newPrivileges: boolean
}

export function parseContainer(options: RunOptions): Container {
  const name = options.name ?? `run-${process.pid}`
  checkLabName(name)
  refuseContradictions(options)
  const namespaces = namespacesOf(options)
  return {
    name,
    network: options.net === undefined || options.net === true ? 'default' : options.net,
    namespaces,
    clocks: { monotonic: seconds('monotonic', options.monotonic), boottime: seconds('boottime', options.boottime) },
    hostname: namespaces.includes('uts') ? hostnameOf(options.hostname ?? name) : undefined,
    rootfs: options.rootfs === undefined ? undefined : rootOf(options.rootfs),
    limits: limitsOf(options),
    capabilities: options.privileged ? 'all' : keptCapabilities(options.capAdd ?? []),
    newPrivileges: options.privileged ?? false,
  }
}

function refuseContradictions({
  privileged,
  capAdd,
  time,
  monotonic,
  boottime,
  pid,
  rootfs,
  mountProc,
}: RunOptions): void {
  const refuse = (message: string, hint: string): never => {
    throw new CliError('usage', message, hint)
  }
  if (privileged && capAdd)
    refuse('--privileged and --cap-add exclude each other', '--privileged keeps all capabilities')
  for (const [option, value] of Object.entries({ monotonic, boottime }))
    if (value !== undefined && !time)
      refuse(`--${option} needs --time`, `the clocks of the host cannot be set back: add --time`)
  if (mountProc && !pid && !rootfs)
    refuse(
      '--mount-proc needs --pid',
      'without it /proc would show the same processes: add --pid, which mounts /proc by itself',
    )
}

/** A directory as root makes a container: the namespaces of the tutorials' mini-container.sh. */
function namespacesOf({ rootfs, hostname, mapRootUser, ...asked }: RunOptions): OwnNamespace[] {
  const implied: Partial<Record<OwnNamespace, boolean>> = {
    uts: hostname !== undefined || rootfs !== undefined,
    ipc: rootfs !== undefined,
    pid: rootfs !== undefined,
    user: mapRootUser,
  }
  return (['user', 'uts', 'ipc', 'pid', 'cgroup', 'time'] as const).filter((kind) => asked[kind] || implied[kind])
}

function hostnameOf(text: string): string {
  if (/^[a-zA-Z0-9][a-zA-Z0-9.-]{0,63}$/.test(text)) return text
  // A lab may be called run_1, a host may not.
  const usable = text.replace(/[^a-zA-Z0-9.-]/g, '-')
  throw new CliError(
    'usage',
    `bad host name "${text}"`,
    `at most 64 letters, digits, "." and "-": --hostname ${usable}`,
  )
}

function rootOf(directory: string): string {
  let path: string
  try {
    path = fs.realpathSync(directory)
  } catch (error) {
    throw new CliError('notFound', `--rootfs ${directory}: ${(error as { code?: string }).code}`)
  }
  if (!fs.statSync(path).isDirectory()) throw new CliError('usage', `--rootfs ${directory}: not a directory`)
  if (path === '/')
    throw new CliError(
      'usage',
      '--rootfs /: that is the root already',
      'leave --rootfs out to see the files of the host',
    )
  return path
}

/** Whole seconds, forward or back; no clock goes below 0. */
function seconds(option: string, text: string | undefined): string | undefined {
  if (text === undefined) return text
  if (!/^-?\d{1,9}$/.test(text))
    throw new CliError('usage', `--${option} ${text}: expected seconds`, `as --${option} 86400`)
  const uptime = Math.floor(Number(fs.readFileSync('/proc/uptime', 'utf8').split(' ')[0]))
  if (Number(text) >= -uptime) return text
  throw new CliError(
    'usage',
    `--${option} ${text}: this clock started ${uptime} seconds ago`,
    'it can be set back to 0 at most',
  )
}

function limitsOf({ memory, cpus, pids }: RunOptions): Limits {
  return {
    memory: memory === undefined ? undefined : parseBytes(memory),
    cpus: cpus === undefined ? undefined : number('cpus', cpus, 0.01, 4096),
    pids: pids === undefined ? undefined : Math.floor(number('pids', pids, 1, 4_194_304)),
  }
}

function number(option: string, text: string, min: number, max: number): number {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN
  if (value >= min && value <= max) return value
  throw new CliError('usage', `--${option} ${text}: expected a number from ${min} to ${max}`)
}

const units = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 }

function parseBytes(text: string): number {
  const [, digits = '', unit = ''] = /^(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?$/i.exec(text) ?? []
  const bytes = Math.floor(Number(digits || 'x') * units[unit.toUpperCase() as keyof typeof units])
  if (bytes >= units.M && bytes <= Number.MAX_SAFE_INTEGER) return bytes
  throw new CliError('usage', `--memory ${text}: expected at least 1M`, 'bytes, or with K, M, G or T: --memory 100M')
}
