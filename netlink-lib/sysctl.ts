import { KernelError } from './errors.ts'
import { findStatus, readFile, writeFile } from './files.ts'
import { journal } from './journal.ts'

/**
 * Network sysctls, as /proc/sys/net shows them to the calling thread: those of its network namespace.
 * Names are given in parts, because a link's name may contain dots: `['ipv4', 'conf', 'eth0.100', 'arp_notify']`.
 */
export type SysctlName = readonly string[]

const fileOf = (name: SysctlName) => `/proc/sys/net/${name.join('/')}`

/**
 * The value, or undefined when there is none: this kernel has no such sysctl (IPv6 switched off, feature not built), or
 * it can only be written.
 */
export function findSysctl(name: SysctlName): string | undefined {
  try {
    return readFile(fileOf(name)).trim()
  } catch (error) {
    const { code } = error as { code?: string }
    if (code === 'ENOENT' || (code === 'EACCES' && isWriteOnly(name))) return undefined
    throw failure('read', name, error)
  }
}

/** True for a sysctl that does something when it is written and has no value, such as net.ipv4.route.flush. */
export function isWriteOnly(name: SysctlName): boolean {
  const file = findStatus(fileOf(name))
  return file !== undefined && (file.mode & 0o444) === 0
}

/** Writes a value only where it differs: /proc/sys is read-only in many containers although all is set as wanted. */
export function setSysctl(name: SysctlName, value: string): void {
  if (findSysctl(name) === value) return
  const obeyed = journal?.before({ kind: 'sysctl', name, value })
  try {
    writeFile(fileOf(name), value, 0)
    obeyed?.()
  } catch (error) {
    throw failure(`write ${value} to`, name, error)
  }
}

/** As {@link setSysctl}; a sysctl that this kernel lacks, or may not be changed, is left alone. For niceties only. */
export function trySysctl(name: SysctlName, value: string): void {
  try {
    setSysctl(name, value)
  } catch (error) {
    if (!(error instanceof KernelError)) throw error
  }
}

function failure(operation: string, name: SysctlName, error: unknown): KernelError {
  return new KernelError(`${operation} sysctl`, `net.${name.join('.')}`, (error as KernelError).errno)
}
