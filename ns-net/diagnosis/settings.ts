import fs from 'node:fs'
import { netnsDirectory } from '../../netlink-lib/netns.ts'
import { listLabs } from '../labs.ts'
import { type Check, ok, unknown } from './checkup.ts'

/** Settings of the machine that labs depend on, as /proc and /sys show them to everybody. */

export function read(path: string): string | undefined {
  try {
    return fs.readFileSync(path, 'utf8').trim()
  } catch {
    return undefined // this kernel does not have it, or this user may not look
  }
}

/** Which setting keeps ordinary users from namespaces of their own. */
export function checkUserNamespaces(): Check[] {
  const check = 'user-namespaces'
  const obstacles = [
    ['/proc/sys/user/max_user_namespaces', '0', 'user.max_user_namespaces', '15000'],
    ['/proc/sys/kernel/unprivileged_userns_clone', '0', 'kernel.unprivileged_userns_clone', '1'],
    [
      '/proc/sys/kernel/apparmor_restrict_unprivileged_userns',
      '1',
      'kernel.apparmor_restrict_unprivileged_userns',
      '0',
    ],
  ] as const
  const blocking = obstacles.filter(([file, value]) => read(file) === value)
  if (blocking.length > 0)
    return blocking.map(([, value, name, wanted]) => ({
      check,
      state: 'warn',
      finding: `${name} = ${value}: ordinary users cannot have labs (--rootless)`,
      fix: `sysctl -w ${name}=${wanted}`,
    }))
  const most = read('/proc/sys/user/max_user_namespaces')
  return [most === undefined ? unknown(check, 'this kernel does not tell') : ok(check, `allowed, at most ${most}`)]
}

export function checkCgroups(): Check[] {
  const check = 'cgroups'
  if (fs.existsSync('/sys/fs/cgroup/cgroup.controllers')) return [ok(check, 'version 2')]
  const mounts = read('/proc/self/mounts') ?? ''
  if (/ cgroup2 /.test(mounts)) return [ok(check, 'version 2, beside version 1')]
  if (/ cgroup /.test(mounts))
    return [
      {
        check,
        state: 'warn',
        finding: 'version 1 only: limits of memory and CPU do not work',
        advice: 'boot with systemd.unified_cgroup_hierarchy=1',
      },
    ]
  return [unknown(check, 'not mounted')]
}

export function checkForwarding(): Check[] {
  const check = 'ip_forward'
  const isOn = read('/proc/sys/net/ipv4/ip_forward') === '1'
  if (isOn) return [ok(check, 'net.ipv4.ip_forward = 1')]
  const isNeeded = listLabs().some(({ attachments }) => attachments.some(({ gateway }) => gateway !== undefined))
  if (!isNeeded) return [ok(check, 'net.ipv4.ip_forward = 0; ns-net add switches it on')]
  return [
    {
      check,
      state: 'fail',
      finding: 'net.ipv4.ip_forward = 0: labs reach no further than the host',
      fix: 'sysctl -w net.ipv4.ip_forward=1',
    },
  ]
}

/** Namespaces pinned in a directory that is not shared are seen in one mount namespace only. */
export function checkNetnsDirectory(): Check[] {
  const check = netnsDirectory
  const mounts = (read('/proc/self/mountinfo') ?? '').split('\n').map((line) => line.split(' '))
  const own = mounts.findLast(([, , , , place]) => place === netnsDirectory)
  if (!own) {
    const isUsed = fs.existsSync(netnsDirectory) && fs.readdirSync(netnsDirectory).length > 0
    if (!isUsed) return [ok(check, 'made by the first ns-net add')]
    return [
      {
        check,
        state: 'warn',
        finding: 'no mount point: namespaces in it are seen in one mount namespace only',
        fix: `mount --bind ${netnsDirectory} ${netnsDirectory} && mount --make-shared ${netnsDirectory}`,
      },
    ]
  }
  if (own.slice(6, own.indexOf('-')).some((option) => option.startsWith('shared:')))
    return [ok(check, 'a shared mount')]
  return [
    {
      check,
      state: 'warn',
      finding: 'a private mount: services in mount namespaces of their own do not see new labs',
      fix: `mount --make-shared ${netnsDirectory}`,
    },
  ]
}
