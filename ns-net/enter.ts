import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import { KernelError } from '../netlink-lib/errors.ts'
import { checked, lastErrno, libc } from '../netlink-lib/libc.ts'
import { Netns } from '../netlink-lib/netns.ts'
import { CliError } from './errors.ts'
import { namespaceKinds, readNamespaces } from './processes.ts'
import { isExecutable, requirePrograms } from './run/programs.ts'

/** How a command gets into a network namespace, in place of ns-net. */

const newNetwork = 0x40000000 // CLONE_NEWNET
const newMount = 0x00020000 // CLONE_NEWNS
const newUts = 0x04000000 // CLONE_NEWUTS
const mountFlags = { bind: 0x1000, slave: 0x80000, rec: 0x4000 } // MS_BIND, MS_SLAVE, MS_REC
/** SIGPIPE and SIGXFSZ: the JavaScript runtime ignores them, and what is ignored stays so through execve(2). */
const ignoredByRuntime = [13, 25]

/** Where a command is to run. */
export interface Place {
  /** File of the network namespace. */
  readonly netns: string
  /** The lab or namespace below /run/netns whose files in /etc/netns are put over those of /etc. */
  readonly name?: string
  /** Of a uts namespace of its own. */
  readonly hostname?: string
}

/**
 * Replaces this process by a command inside, as `ip netns exec` does it: network namespace, a private mount namespace with
 * its own /sys, and the files of /etc/netns/NAME over those of /etc. The command inherits terminal, working directory and
 * process id, so its signals and exit code are its own. Returns only by throwing.
 */
export function execIn({ netns: path, name, hostname }: Place, command: readonly string[], env = process.env): never {
  using netns = Netns.open(path)
  checked(libc.setns(netns.fd, newNetwork), 'enter network namespace', path)
  checked(libc.unshare(newMount), 'create mount namespace for', path)
  // What is mounted from here on must not appear on the host.
  checked(libc.mount('', '/', 'none', mountFlags.slave | mountFlags.rec, null), 'make mounts private under', '/')
  showOwnSys()
  if (name !== undefined) bindEtc(name)
  if (hostname !== undefined) nameHost(hostname)
  return become(command, env)
}

/**
 * All namespaces of a process, as `nsenter --all` enters them: with its files, so the command is one of its own. Those that
 * it shares with us are left out: to enter them again takes rights that root of a user namespace lacks.
 */
export function execInProcess(pid: number, command: readonly string[], env = process.env): never {
  const { nsenter } = requirePrograms('nsenter')
  const [own, its] = [readNamespaces(process.pid), readNamespaces(pid)]
  const kinds = namespaceKinds.filter((kind) => its[kind] !== own[kind])
  const options = kinds.map((kind) => `--${kind === 'mnt' ? 'mount' : kind}`)
  return become([nsenter, `--target=${pid}`, ...options, '--', ...command], env)
}

/** execve(2) with the signals as a shell would leave them. */
export function become(command: readonly string[], env: NodeJS.ProcessEnv): never {
  const file = findCommand(command[0]!)
  const variables = Object.entries(env).flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${value}`]))
  for (const signal of ignoredByRuntime) libc.signal(signal, 0) // SIG_DFL
  libc.execve(file, [...command, null], [...variables, null])
  const errno = lastErrno()
  throw new CliError(errno === 2 ? 'noCommand' : 'notExecutable', new KernelError('run', command[0]!, errno).message)
}

/** /sys/class/net shows the namespace of the one who mounted it. Refused in some user namespaces: then it stays. */
function showOwnSys(): void {
  if (libc.umount2('/sys', 2) < 0 && ![22, 1].includes(lastErrno())) return // MNT_DETACH; EINVAL, EPERM
  libc.mount('sysfs', '/sys', 'sysfs', 0, null)
}

function bindEtc(name: string): void {
  const directory = `/etc/netns/${name}`
  if (!fs.existsSync(directory)) return
  for (const file of fs.readdirSync(directory)) {
    const target = `/etc/${file}`
    if (!fs.existsSync(target)) continue
    checked(libc.mount(`${directory}/${file}`, target, 'none', mountFlags.bind, null), 'bind', target)
  }
}

/** In a user namespace /proc/sys/kernel/hostname belongs to somebody else, and the system call does it. */
function nameHost(hostname: string): void {
  checked(libc.unshare(newUts), 'create uts namespace for', hostname)
  try {
    fs.writeFileSync('/proc/sys/kernel/hostname', hostname)
  } catch {
    spawnSync(requirePrograms('hostname').hostname, [hostname])
  }
}

/** PATH lookup, as execvp(3) does it. */
export function findCommand(command: string): string {
  if (command.includes('/')) return command
  const path = process.env.PATH || '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
  const file = path
    .split(':')
    .map((directory) => `${directory || '.'}/${command}`)
    .find(isExecutable)
  if (file) return file
  throw new CliError('noCommand', `command not found: ${command}`)
}
