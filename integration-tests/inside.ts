import { closeSync, openSync } from 'node:fs'
import { checked, libc } from '../netlink-lib/libc.ts'
import type { Host } from './host.ts'

const kinds = [
  ['net', 0x40000000], // CLONE_NEWNET
  ['mnt', 0x00020000], // CLONE_NEWNS
] as const
const ownFilesystem = 0x200 // CLONE_FS: setns(2) into a mount namespace refuses a thread that shares its root and cwd

/** Runs library code of this process inside a throw-away host. Only synchronous work, as everything in a plugin is. */
export function inside<T>(host: Host, work: () => T): T {
  const open = (who: string) => kinds.map(([kind, flag]) => ({ fd: openSync(`/proc/${who}/ns/${kind}`, 'r'), flag }))
  const [target, home] = [open(String(host.pid)), open('thread-self')]
  const enter = (namespaces: typeof home) => {
    for (const { fd, flag } of namespaces) checked(libc.setns(fd, flag), 'enter namespace of', 'the host')
  }
  checked(libc.unshare(ownFilesystem), 'unshare', 'root and working directory')
  enter(target)
  try {
    return work()
  } finally {
    enter(home)
    for (const { fd } of [...target, ...home]) closeSync(fd)
  }
}
