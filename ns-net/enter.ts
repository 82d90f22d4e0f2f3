import fs from 'node:fs'
import { KernelError } from '../netlink-lib/errors.ts'
import { checked, lastErrno, libc } from '../netlink-lib/libc.ts'
import { Netns } from '../netlink-lib/netns.ts'
import { CliError } from './errors.ts'
import { netnsPath } from './labs.ts'

const newNetwork = 0x40000000 // CLONE_NEWNET
const newMount = 0x00020000 // CLONE_NEWNS
const mountFlags = { bind: 0x1000, slave: 0x80000, rec: 0x4000 } // MS_BIND, MS_SLAVE, MS_REC
/** SIGPIPE and SIGXFSZ: the JavaScript runtime ignores them, and what is ignored stays so through execve(2). */
const ignoredByRuntime = [13, 25]

/**
 * Replaces this process by a command inside a lab, as `ip netns exec` does it: network namespace, a private mount
 * namespace with the lab's own /sys, and the files of /etc/netns/NAME over those of /etc. The command inherits
 * terminal, working directory and process id, so its signals and exit code are its own. Returns only by throwing.
 */
export function execIn(name: string, command: readonly string[]): never {
  using netns = Netns.open(netnsPath(name))
  checked(libc.setns(netns.fd, newNetwork), 'enter network namespace of', name)
  checked(libc.unshare(newMount), 'create mount namespace for', name)
  // What is mounted from here on must not appear on the host.
  checked(libc.mount('', '/', 'none', mountFlags.slave | mountFlags.rec, null), 'make mounts private under', '/')
  showOwnSys()
  bindEtc(name)
  const file = findCommand(command[0]!)
  const env = Object.entries(process.env).map(([key, value]) => `${key}=${value}`)
  for (const signal of ignoredByRuntime) libc.signal(signal, 0) // SIG_DFL
  libc.execve(file, [...command, null], [...env, null])
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

/** PATH lookup, as execvp(3) does it. */
function findCommand(command: string): string {
  if (command.includes('/')) return command
  for (const directory of (process.env.PATH || '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin').split(
    ':',
  )) {
    const file = `${directory || '.'}/${command}`
    try {
      fs.accessSync(file, fs.constants.X_OK)
      if (fs.statSync(file).isFile()) return file
    } catch {
      // not in this directory
    }
  }
  throw new CliError('noCommand', `command not found: ${command}`)
}
