import type { ChildProcess } from 'node:child_process'
import { readFileSync } from 'node:fs'
import type { TestContext } from 'vitest'
import { createHost, executables, type Host, type Place, requireTool } from '../host.ts'
import { type Snapshot, takeSnapshot } from '../snapshot.ts'
import { until } from './until.ts'

/** A host that a container runtime takes for a machine: what it starts lives in a process tree that ends with the host. */
export interface Machine extends Place, Disposable {
  readonly host: Host
  /** A namespace outside, 192.0.2.2 and 2001:db8::2, that has no route to any container. */
  readonly outside: Place
  /**
   * The state to compare, without what the first container leaves on purpose: the marks of host-local, and forwarding,
   * which others may rely on by then.
   */
  state(): Snapshot
}

/** Where a machine has the executables. Not their own path, which may lie below what is hidden. */
export const plugins = '/run/plugins'

/**
 * The first process of the tree. A shell, since orphans become its children and a shell reaps them; it reads its stdin,
 * so that nothing outlives the test.
 *
 * - crun asks /sys/fs/cgroup for its version and refuses the mixture of both that some machines mount there. Read-only:
 *   this is the machine's own tree, and the containers do without groups.
 * - podman numbers its locks in /dev/shm, where a podman of the real machine keeps its own.
 * - Whatever configuration the machine has for its runtimes is hidden.
 */
const firstProcess = `
  mkdir ${plugins}
  mount --bind ${executables} ${plugins}
  umount -R /sys/fs/cgroup 2>/dev/null || true
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  mount -o remount,bind,ro /sys/fs/cgroup
  for directory in /dev/shm /tmp /var/tmp; do mount -t tmpfs -o mode=1777 tmpfs $directory; done
  for directory in /etc/containers /etc/containerd; do
    mkdir -p $directory
    mount -t tmpfs -o mode=755 tmpfs $directory
  done
  touch /run/ready
  cat
  exit
`

const forwarding = 'ipv4/ip_forward ipv6/conf/all/forwarding'

/** iptables makes tables and chains at their first use and never deletes them: here they are from the beginning. */
const emptyTables = `
  command -v iptables >/dev/null || exit 0
  for iptables in iptables ip6tables; do
    for chain in 'filter INPUT' 'filter FORWARD' 'filter OUTPUT' \\
      'nat PREROUTING' 'nat INPUT' 'nat OUTPUT' 'nat POSTROUTING'; do
      for action in A D; do $iptables -t \${chain% *} -$action \${chain#* } -j RETURN; done
    done
  done
`

/** Makes a machine with an uplink. Skips the test with the reason where programs are missing or this is no real root. */
export async function createMachine(context: TestContext, programs: readonly string[]): Promise<Machine> {
  requireRealRoot(context)
  for (const program of programs) requireTool(program, context)
  const host = createHost()
  try {
    const outside = host.addUplink()
    host.sh(emptyTables)
    const namespaces = ['--pid', '--fork', '--kill-child', '--mount-proc', '--ipc', '--uts', '--cgroup']
    const keeper = host.start(['unshare', ...namespaces, '--', 'sh', '-ec', firstProcess])
    await untilReady(host, keeper)
    // The keeper itself stays in the old PID namespace and the new ones of every other kind.
    const proc = `/proc/${keeper.pid}`
    const kinds = ['mount', 'ipc', 'uts', 'cgroup']
    const enter = ['nsenter', `--target=${keeper.pid}`, ...kinds.map((kind) => `--${kind}`)]
    const inside = (command: readonly string[]) => [...enter, `--pid=${proc}/ns/pid_for_children`, '--', ...command]
    const place: Place = {
      run: (command, options) => host.run(inside(command), options),
      sh: (script, options) => host.run(inside(['sh', '-ec', script]), options),
      json: (command, options) => host.json(inside(command), options),
      start: (command) => host.start(inside(command)),
    }
    return {
      ...place,
      host,
      outside,
      state() {
        // Forwarding of IPv6 brings routes with it, so it's not enough to leave the settings out.
        const before = host.sh(`cd /proc/sys/net; cat ${forwarding}; echo 0 | tee ${forwarding} >/dev/null`).stdout
        const state = takeSnapshot(place, host.file, { ignoreLeaseMarks: true })
        const [ipv4, ipv6] = before.split('\n')
        host.sh(`cd /proc/sys/net; set -- ${forwarding}; echo ${ipv4} >$1; echo ${ipv6} >$2`)
        return state
      },
      [Symbol.dispose]: () => host[Symbol.dispose](),
    }
  } catch (error) {
    host[Symbol.dispose]()
    throw error
  }
}

async function untilReady(host: Host, keeper: ChildProcess): Promise<void> {
  let complaint = ''
  keeper.stderr?.on('data', (text) => {
    complaint += text
  })
  await until('the process tree is ready', () => {
    if (keeper.exitCode !== null) throw new Error(`no process tree of its own can be made: ${complaint.trim()}`)
    return host.run(['test', '-e', '/run/ready'], { expectFailure: 'maybe' }).status === 0
  })
}

/** A runtime mounts, makes device nodes and sets limits that a user namespace has no say in. */
function requireRealRoot(context: TestContext): void {
  const map = readFileSync('/proc/self/uid_map', 'utf8').trim().split(/\s+/).join(' ')
  if (process.getuid?.() === 0 && map === '0 0 4294967295') return
  const reason = 'container runtimes are run by the real root, and this is a user namespace'
  console.warn(`skipped: ${context.task.name}: ${reason}`)
  context.skip(reason)
}
