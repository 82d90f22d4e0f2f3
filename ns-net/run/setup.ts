import fs from 'node:fs'
import { CliError } from '../errors.ts'
import type { Container } from './options.ts'

/**
 * What is done to a container before its command starts, by a process from outside that enters with nsenter: the command
 * itself has dropped the rights to do it by then, and needs no program of ours in its root. /proc of a pid namespace of its
 * own is mounted already, and as this process is not in there, it has no /proc/self.
 */

/** /sys of the own network with the control groups as they were, files of the lab. */
const onHostRoot = `
  cd /sys/fs/cgroup 2>/dev/null || cd /
  if [ "$NET" != no ] && mount -t sysfs sysfs /sys 2>/dev/null; then
    [ "$PWD" = / ] || mount -c --rbind . /sys/fs/cgroup || :
  fi
  for file in "$ETC"/*; do
    [ -e "/etc/\${file##*/}" ] && mount --bind "$file" "/etc/\${file##*/}" || :
  done`

/**
 * The directory with its /proc, a /sys, a /dev of a few devices and a /tmp of its own becomes the root. The old root then lies
 * on top of it, without a name in the new one, until {@link leaveOldRoot} takes it off.
 */
const ownRoot = `
  mount --rbind "$ROOT" "$ROOT"
  cd "$ROOT"
  mount -t sysfs -o ro sysfs sys 2>/dev/null || :
  mount -t tmpfs -o mode=755 tmpfs dev
  for device in null zero full random urandom tty; do
    : >dev/$device
    mount --bind /dev/$device dev/$device
  done
  mkdir dev/pts dev/shm
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
  mount -t tmpfs -o mode=1777 tmpfs dev/shm
  ln -s pts/ptmx dev/ptmx
  ln -s /proc/self/fd dev/fd
  for n in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/\${n%:*}" "dev/\${n#*:}"; done
  mount -t tmpfs -o mode=1777 tmpfs tmp
  for file in resolv.conf hosts; do
    [ -f "etc/$file" ] && [ ! -L "etc/$file" ] && mount --bind "$ETC/$file" "etc/$file" 2>/dev/null || :
  done
  pivot_root . .`

const hostname = `
  [ -z "$HOSTNAME_INSIDE" ] || hostname "$HOSTNAME_INSIDE"`

/** Detaches the old root: entering the mount namespace leads to what lies on top. */
export const leaveOldRoot = ['umount', '-l', '/'] as const

/** A script for sh with `-e`, and the variables it reads. */
export function setupOf(container: Container): { readonly script: string; readonly env: Record<string, string> } {
  const { name, network, rootfs } = container
  const etc = network === 'host' && rootfs ? '/etc' : `/etc/netns/${name}`
  return {
    script: `${hostname}${rootfs === undefined ? onHostRoot : ownRoot}`,
    env: {
      ETC: etc,
      HOSTNAME_INSIDE: container.hostname ?? '',
      NET: network === 'host' ? 'no' : 'yes',
      ROOT: rootfs ?? '',
    },
  }
}

const directories = ['proc', 'sys', 'dev', 'tmp']
const files = ['etc/resolv.conf', 'etc/hosts']

/**
 * Makes what the root lacks to mount something on; disposing removes it again. A symlink in there could lead anywhere, so
 * none is followed.
 */
export function makeMountPoints(root: string): Disposable {
  const made: string[] = []
  const missing = (path: string) => kindOf(path) === undefined
  for (const name of directories) {
    const path = `${root}/${name}`
    if (missing(path)) {
      fs.mkdirSync(path)
      made.push(path)
    } else if (kindOf(path) !== 'directory')
      throw new CliError('usage', `--rootfs ${root}: ${name} is not a directory in there`)
  }
  if (kindOf(`${root}/etc`) === 'directory')
    for (const path of files.map((name) => `${root}/${name}`).filter(missing)) {
      fs.writeFileSync(path, '', { flag: 'wx' })
      made.push(path)
    }
  return { [Symbol.dispose]: () => made.forEach(removeEmpty) }
}

function kindOf(path: string): 'directory' | 'other' | undefined {
  const found = fs.lstatSync(path, { throwIfNoEntry: false })
  return found && (found.isDirectory() ? 'directory' : 'other')
}

/** What the command has put there since stays. */
function removeEmpty(path: string): void {
  try {
    if (kindOf(path) === 'directory') fs.rmdirSync(path)
    else if (fs.statSync(path).size === 0) fs.unlinkSync(path)
  } catch (error) {
    if (!['ENOTEMPTY', 'ENOENT'].includes((error as { code?: string }).code ?? '')) throw error
  }
}
