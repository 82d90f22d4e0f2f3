import { existsSync } from 'node:fs'
import { expect, type TestContext, test } from 'vitest'
import { createHost, executables, type Host, type Place, type RunOptions, requireTool } from './host.ts'
import { makeRootFilesystem } from './runtimes/root-filesystem.ts'
import { until } from './runtimes/until.ts'

const nsNet = (host: Place, args: string[], options?: RunOptions) =>
  host.run([`${executables}/ns-net`, ...args], options)
const inContainer = (host: Place, options: string[], script: string, more?: RunOptions) =>
  nsNet(host, ['run', ...options, '--', 'sh', '-c', script], more)
/** What the tutorial types, with the same script inside. */
const inUnshare = (host: Place, options: string[], script: string) =>
  host.run(['unshare', ...options, 'sh', '-c', script])

/** What must be as before when a command has ended; forwarding is the host's own setting. */
function state(host: Host) {
  const { sysctls: _, files, ...rest } = host.snapshot({ ignoreLeaseMarks: true })
  return { ...rest, cgroups: ownCgroups(host), files: Object.keys(files).filter((path) => path !== '/etc/netns/') }
}

const ownCgroups = (host: Host): string[] =>
  host.sh('find /sys/fs/cgroup -maxdepth 2 -name "ns-net-left*" 2>/dev/null || :').stdout.split('\n').filter(Boolean)

/** A file of a control group: in version 2, or in the hierarchy of version 1 that has the controller. */
function cgroupFile(host: Host, name: string, v2: string, controller: string, v1: string): string {
  const path = host.sh(`
    for file in /sys/fs/cgroup/${name}/${v2} /sys/fs/cgroup/*${controller}*/${name}/${v1}; do
      [ ! -e "$file" ] || { cat "$file"; exit; }
    done; exit 1`)
  return path.stdout.trim()
}

function requireCgroups(host: Host, context: TestContext): void {
  const probe = host.run([`${executables}/ns-net`, 'run', '--pids', '100', '--', 'true'], { expectFailure: 'maybe' })
  if (probe.status === 5 || probe.status === 6) context.skip(`no control groups to make here: ${probe.stderr}`)
}

test.each([
  ['uts', ['--uts'], ['--uts'], ['uts']],
  ['ipc', ['-i'], ['--ipc'], ['ipc']],
  ['pid', ['-p'], ['--pid', '--fork', '--mount-proc'], ['pid']],
  ['user', ['-U'], ['--user', '--map-root-user'], ['user']],
  ['cgroup', ['-C'], ['--cgroup'], ['cgroup']],
  ['time', ['-T'], ['--time', '--fork'], ['time']],
  ['several', ['-uip'], ['--uts', '--ipc', '--pid', '--fork', '--mount-proc'], ['uts', 'ipc', 'pid']],
  ['none', [], [], []],
])('namespaces: %s, as with unshare, besides network and mounts', (_, options, tutorial, expected) => {
  using host = createHost()
  const script = 'for kind in cgroup ipc mnt net pid time user uts; do echo $kind $(readlink /proc/self/ns/$kind); done'
  const outside = host.sh(script).stdout.split('\n')
  const separate = (stdout: string) => {
    const inside = stdout.split('\n')
    return inside.filter((line, i) => line !== outside[i]).map((line) => line.split(' ')[0]!)
  }
  const ours = separate(inContainer(host, options, script).stdout)
  expect(ours).toEqual(['mnt', 'net', ...expected].sort())
  const theirs = separate(inUnshare(host, tutorial, script).stdout)
  expect(new Set([...theirs, 'mnt', 'net'])).toEqual(new Set(ours))
})

test('host name: the one asked for, else the name of the lab; outside nothing changes', () => {
  using host = createHost()
  const before = host.run(['hostname']).stdout
  const theirs = inUnshare(host, ['--uts'], 'hostname isolated-box; hostname').stdout
  expect(nsNet(host, ['run', '--hostname', 'isolated-box', '--', 'hostname']).stdout).toBe(theirs)
  expect(nsNet(host, ['run', '-u', '--name', 'box', '--', 'hostname']).stdout).toBe('box\n')
  expect(host.run(['hostname']).stdout).toBe(before)
})

test('processes: the command is 1, and /proc shows what is inside and nothing else', () => {
  using host = createHost()
  const script = 'echo $$; ps -e -o pid=,args= | grep -c .; ls -d /proc/[0-9]* | head -1'
  const theirs = inUnshare(host, ['--pid', '--uts', '--mount-proc', '--fork'], script).stdout
  expect(inContainer(host, ['--pid', '--uts'], script).stdout).toBe(theirs)
  expect(theirs).toMatch(/^1\n/)
  // What a learner types after unshare; run forks and mounts /proc by itself.
  expect(inContainer(host, ['--fork', '--pid', '--mount-proc'], script).stdout).toBe(theirs)
})

test('process numbers are those of unshare: the command is 1, and its first child 2', (context) => {
  using host = createHost()
  makeRootFilesystem(host, root, context)
  host.sh(`cd ${root}/bin; ln -sf busybox ps`)
  const columns = 'pid,ppid,args'
  const tutorial = ['--user', '--pid', '--map-root-user', '--mount-proc', '--fork']
  const script = `ps -e -o ${columns}; :`
  const theirs = inUnshare(host, tutorial, script).stdout
  expect(theirs).toMatch(/^ +1 +0 sh .*\n +2 +1 ps /m)
  for (const options of [['-Up'], ['-p'], ['-p', '--net', 'host'], ['-uipCT'], ['-p', '--privileged']])
    expect(inContainer(host, options, script).stdout).toBe(theirs)
  const inRoot = inContainer(host, ['--rootfs', root], `ps -o ${columns}; :`).stdout
  expect(inRoot).toMatch(/^ +1 +0 sh .*\n +2 +1 .*ps -o/m)
})

test('users: root inside is the caller outside', () => {
  using host = createHost()
  const script = 'id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map'
  const theirs = inUnshare(host, ['--user', '--pid', '--map-root-user', '--mount-proc', '--fork'], script).stdout
  expect(inContainer(host, ['-Up'], script).stdout).toBe(theirs)
  expect(inContainer(host, ['-rp'], script).stdout).toBe(theirs)
})

test('System V IPC: a segment of outside is not seen, and one of inside is gone with the container', () => {
  using host = createHost()
  // In an ipc namespace of its own, so that nothing is made on the machine.
  const script = `
    ipcmk -M 1024 >/dev/null
    count() { "$@" ipcs -m | grep -c ^0x; }
    count env
    count unshare --ipc || :
    count ${executables}/ns-net run --ipc -- || :
    ${executables}/ns-net run --ipc -- ipcmk -M 1024 >/dev/null
    count env`
  expect(host.run(['unshare', '--ipc', 'sh', '-c', script]).stdout).toBe('1\n0\n0\n1\n')
})

test('control groups: the view is cut off at the own one', (context) => {
  using host = createHost()
  const script = 'cat /proc/self/cgroup'
  const theirs = inUnshare(host, ['--cgroup'], script).stdout
  expect(inContainer(host, ['--cgroup'], script).stdout).toBe(theirs)
  requireCgroups(host, context)
  const limited = (...options: string[]) =>
    inContainer(host, ['--name', 'left-view', '--pids', '50', ...options], script).stdout
  expect(limited()).toContain('/ns-net-left-view\n')
  expect(limited('-C')).not.toContain('ns-net-left-view')
})

test('clocks of its own', () => {
  using host = createHost()
  const uptime = (text: string) => Number(text.split(' ')[0])
  const outside = uptime(host.run(['cat', '/proc/uptime']).stdout)
  const inside = uptime(nsNet(host, ['run', '-T', '--boottime', '86400', '--', 'cat', '/proc/uptime']).stdout)
  expect(inside - outside).toBeGreaterThan(86_000)
  const back = nsNet(host, ['run', '-T', '--boottime', '-99999999', '--', 'true'], { expectFailure: true })
  expect(back.stderr).toMatch(/this clock started \d+ seconds ago/)
})

test('mounts inside are not seen outside', () => {
  using host = createHost()
  const before = host.snapshot().mounts
  const script = 'mount --bind /etc /mnt && ls /mnt/passwd; grep -c " /mnt " /proc/self/mounts'
  expect(inContainer(host, ['--cap-add', 'SYS_ADMIN'], script).stdout).toBe(inUnshare(host, ['--mount'], script).stdout)
  expect(host.snapshot().mounts).toEqual(before)
})

test('network: the default one, another, none, or the host itself', (context) => {
  requireTool('ping', context)
  using host = createHost()
  const pings = (options: string[], to: string) =>
    inContainer(host, options, `ping -c1 -W2 ${to} >/dev/null`, { expectFailure: 'maybe' }).status === 0
  expect(pings([], '10.88.0.1')).toBe(true)
  nsNet(host, ['net', 'create', 'lan', '--subnet', '10.77.0.0/24'])
  expect(pings(['--net', 'lan'], '10.77.0.1')).toBe(true)
  expect(inContainer(host, ['--net', 'none'], 'ls /sys/class/net; ip -br addr show lo').stdout).toMatch(
    /^lo\nlo +UNKNOWN +127\.0\.0\.1/,
  )
  const inode = (options: string[]) => inContainer(host, options, 'readlink /proc/self/ns/net').stdout
  expect(inode(['--net', 'host'])).toBe(host.run(['readlink', '/proc/self/ns/net']).stdout)
  // -n without a name is unshare's letter, and grouped letters are letters.
  expect(inContainer(host, ['-np'], 'echo $$; ls /sys/class/net').stdout).toBe('1\neth0\nlo\n')
  const nowhere = nsNet(host, ['run', '--net', 'nosuch', '--', 'true'], { expectFailure: true })
  expect(nowhere.status).toBe(3)
  expect(nowhere.stderr).toContain('no network "nosuch"')
})

test('DNS and names of other labs come from the lab', () => {
  using host = createHost()
  host.sh('echo nameserver 192.0.2.53 >/etc/resolv.conf')
  nsNet(host, ['add', 'web'])
  expect(inContainer(host, [], 'cat /etc/resolv.conf').stdout).toContain('nameserver 192.0.2.53')
  expect(inContainer(host, [], 'getent hosts web').stdout).toMatch(/^10\.88\.0\.2 +web/)
  expect(host.run(['cat', '/etc/resolv.conf']).stdout).toBe('nameserver 192.0.2.53\n')
})

const root = '/run/rootfs'

/** The tutorial's script without limits, and with the bind mount and the directories that it forgets. */
const miniContainer = `
  exec unshare --pid --uts --mount --net --ipc --fork sh -ec '
    hostname mini-container
    mount --bind ${root} ${root}
    mount -t proc proc ${root}/proc
    mount -t sysfs sys ${root}/sys
    mount -t tmpfs tmp ${root}/tmp
    cd ${root}
    mkdir -p .old_root
    pivot_root . .old_root
    exec /bin/sh -c "$0"' "$1"`

test('a directory as root: what mini-container.sh shows, and a network besides', (context) => {
  using host = createHost()
  makeRootFilesystem(host, root, context)
  host.sh(`cd ${root}/bin; for program in ls ps mount umount rmdir cat readlink; do ln -sf busybox $program; done`)
  const before = host.sh(`find ${root} | sort`).stdout
  const script = 'hostname; ls /; busybox ps -o pid | wc -l; echo $$; readlink /proc/self; ls /proc/1/root/bin/sh'
  const theirs = host.run(['sh', '-c', miniContainer, 'sh', `umount -l /.old_root; rmdir /.old_root; ${script}`])
  const ours = nsNet(host, ['run', '--rootfs', root, '--hostname', 'mini-container', '--', '/bin/sh', '-c', script])
  expect(ours.stdout.replace(/^\d+$/gm, 'N')).toBe(theirs.stdout.replace(/^\d+$/gm, 'N'))
  const facts = inContainer(
    host,
    ['--rootfs', root],
    `ls /sys/class/net; busybox ip -4 -o addr show eth0; busybox ping -c1 -W2 10.88.0.1 >/dev/null && echo gateway
     echo x >/dev/null && head -c1 /dev/zero | wc -c; [ -c /dev/tty ] && echo tty; busybox touch /tmp/file; ls /tmp
     grep -c . /proc/mounts; grep " /[^ ]*old" /proc/mounts; ls /etc`.replaceAll(/\b(head|wc|grep) /g, 'busybox $1 '),
    { expectFailure: 'maybe' },
  ).stdout
  expect(facts).toMatch(
    /^eth0\nlo\n2: eth0 +inet 10\.88\.0\.\d+\/16 .*\ngateway\n1\ntty\nfile\n\d+\nhosts\nresolv\.conf\n$/,
  )
  expect(host.sh(`find ${root} | sort`).stdout).toBe(before)
})

test('a root gets its mount points, loses them again, and a symlink in it leads nowhere', (context) => {
  using host = createHost()
  makeRootFilesystem(host, root, context)
  host.sh(`cd ${root}; rmdir dev proc sys tmp; ln -s /run/secret etc/resolv.conf; echo secret >/run/secret`)
  const before = host.sh(`find ${root} | sort; cat /run/secret`).stdout
  expect(inContainer(host, ['--rootfs', root], 'busybox ls -d /proc/1 /dev/null /sys/class /tmp').stdout).toBe(
    '/dev/null\n/proc/1\n/sys/class\n/tmp\n',
  )
  expect(host.sh(`find ${root} | sort; cat /run/secret`).stdout).toBe(before)
  host.sh(`ln -s /tmp ${root}/proc`)
  const refused = nsNet(host, ['run', '--rootfs', root, '--', 'sh'], { expectFailure: true })
  expect(refused.status).toBe(2)
  expect(refused.stderr).toContain('proc is not a directory in there')
})

test('limits are in the control group while the command runs, and hold', async (context) => {
  using host = createHost()
  requireCgroups(host, context)
  const limits = ['--memory', '100M', '--cpus', '0.5', '--pids', '20']
  const running = host.start([`${executables}/ns-net`, 'run', '--name', 'left-c1', ...limits, '--', 'sleep', '1000'])
  await until('the command runs', () => host.sh('ip netns pids left-c1 2>/dev/null | wc -l').stdout !== '0\n')
  const file = (v2: string, controller: string, v1: string) =>
    cgroupFile(host, 'ns-net-left-c1', v2, controller, v1).split(' ')[0]
  await until('it is in its control group', () => file('cgroup.procs', 'memory', 'cgroup.procs') !== '')
  expect(file('memory.max', 'memory', 'memory.limit_in_bytes')).toBe('104857600')
  expect(file('cpu.max', 'cpu', 'cpu.cfs_quota_us')).toBe('50000')
  expect(file('pids.max', 'pids', 'pids.max')).toBe('20')
  running.kill('SIGTERM')
  await until('all of it is gone', () => ownCgroups(host).length === 0)

  const hungry = 'head -c 200000000 /dev/zero | tail -c 150000000 >/dev/null'
  expect(inContainer(host, ['--memory', '30M'], hungry, { expectFailure: true }).status).toBe(137)
  expect(inContainer(host, ['--memory', '400M'], hungry).status).toBe(0)
  const many = 'for i in 1 2 3 4 5 6 7 8 9; do sleep 0.1 & done; wait'
  const refused = inContainer(host, ['--pids', '5'], many, { expectFailure: true })
  expect(refused.stderr).toMatch(/[Cc]annot fork|Resource temporarily unavailable/)
  expect(inContainer(host, ['--pids', '50'], many).status).toBe(0)
})

test('rights: a small set unless told, and no way to new ones', () => {
  using host = createHost()
  const field = (name: string, ...options: string[]) =>
    new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(inContainer(host, options, 'cat /proc/self/status').stdout)?.[1]
  const all = /^CapBnd:\s*(\S+)/m.exec(host.run(['cat', '/proc/self/status']).stdout)?.[1]
  // chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw sys_chroot setfcap
  for (const set of ['CapEff', 'CapPrm', 'CapBnd']) expect(field(set)).toBe('00000000800425fb')
  for (const set of ['CapInh', 'CapAmb']) expect(field(set)).toBe('0000000000000000')
  expect(field('NoNewPrivs')).toBe('1')
  expect(field('CapEff', '--cap-add', 'NET_ADMIN')).toBe('00000000800435fb')
  expect(field('CapEff', '--cap-add', 'all')).toBe(all)
  expect(field('CapEff', '--privileged')).toBe(all)
  expect(field('NoNewPrivs', '--privileged')).toBe('0')
  const refused = inContainer(host, [], 'ip link set lo down', { expectFailure: true })
  expect(refused.stderr).toContain('Operation not permitted')
})

test('exit codes are those of the command, and of what kept it from running', (context) => {
  using host = createHost()
  makeRootFilesystem(host, root, context)
  const status = (...args: string[]) => nsNet(host, ['run', ...args], { expectFailure: 'maybe' }).status
  for (const options of [[], ['-p'], ['-Up']]) {
    expect(status(...options, '--', 'sh', '-c', 'exit 7')).toBe(7)
    expect(status(...options, '--', 'true')).toBe(0)
    expect(status(...options, '--', 'nosuchcommand')).toBe(127)
    expect(status(...options, '--', '/nonexistent')).toBe(127)
    expect(status(...options, '--', '/etc/passwd')).toBe(126)
  }
  expect(status('--', 'sh', '-c', 'kill -9 $$')).toBe(137)
  expect(status('--', 'sh', '-c', 'kill -TERM $$')).toBe(143)
  expect(status('--rootfs', root, '--', 'nosuchcommand')).toBe(127)
  expect(status('--rootfs', root, '--', '/etc')).toBe(126)
  expect(nsNet(host, ['run', '--', 'cat'], { input: 'through stdin' }).stdout).toBe('through stdin')
  expect(nsNet(host, ['run', '--', 'sh', '-c', 'echo $FLAVOUR; pwd'], { env: { FLAVOUR: 'salt' } }).stdout).toMatch(
    /^salt\n/,
  )
  const silent = nsNet(host, ['run', '-p', '--', 'sh', '-c', 'exit 3'], { expectFailure: true })
  expect(silent.stderr).toBe('')
})

/** Starts a command in a container and waits until it is itself. */
async function startContainer(host: Host, options: string[], command: string[]) {
  const running = host.start([`${executables}/ns-net`, 'run', '--name', 'left', ...options, '--', ...command])
  const ended = new Promise<number | null>((resolve) => running.on('exit', resolve))
  await until('the command runs', () => pidsOf(host, command).length > 0)
  return { running, ended }
}

/** Of those that are what the command says by now; the programs before it have more words. */
const pidsOf = (host: Host, command: string[]): string[] =>
  host
    .sh('for pid in $(ip netns pids left 2>/dev/null); do echo "$pid $(tr "\\0" " " <"/proc/$pid/cmdline")"; done')
    .stdout.split('\n')
    .filter((line) => line.trim().endsWith(command.join(' ')) && /^\d+ (sleep|sh -c trap)/.test(line))

test.each([
  ['SIGTERM', [], 143],
  ['SIGINT', [], 130],
  ['SIGHUP', ['-p'], 129],
  // The first process of a pid namespace ignores what it has no handler for: it is killed instead.
  ['SIGTERM', ['-p'], 143],
  ['SIGINT', ['-Up'], 130],
] as const)('%s to ns-net ends the command (options: %j), and nothing is left', async (signal, options, status) => {
  using host = createHost()
  const before = state(host)
  const { running, ended } = await startContainer(host, [...options], ['sleep', '1000'])
  running.kill(signal)
  expect(await ended).toBe(status)
  expect(state(host)).toEqual(before)
})

test('a signal that the command handles is left to it', async () => {
  using host = createHost()
  const script = 'trap "exit 9" TERM; while :; do sleep 0.05; done'
  const { running, ended } = await startContainer(host, ['-p'], ['sh', '-c', script])
  running.kill('SIGTERM')
  expect(await ended).toBe(9)
})

test('Ctrl-C on a terminal ends the command, also as process 1', (context) => {
  requireTool('socat', context)
  using host = createHost()
  for (const options of ['', '-p']) {
    const command = `${executables}/ns-net run --name left ${options} -- sleep 1000`
    const { stderr } = host.sh(
      `press() {
         for i in $(seq 200); do ip netns pids left 2>/dev/null | grep -q . && break; sleep 0.05; done
         sleep 0.5; printf '\\003'; sleep 3
       }
       press | socat - EXEC:'${command}',pty,setsid,ctty`,
      { expectFailure: 'maybe' },
    )
    expect(stderr).toMatch(/child \d+ exited with status 130/)
  }
})

test('a command that ends, fails, is killed, or leaves others behind: nothing is left', () => {
  using host = createHost()
  const before = state(host)
  inContainer(host, ['--name', 'left', '--pids', '100'], 'exit 0', { expectFailure: 'maybe' })
  inContainer(host, ['--name', 'left'], 'kill -9 $$', { expectFailure: true })
  inContainer(host, ['--name', 'left'], 'sleep 1000 >/dev/null 2>&1 & exit 4', { expectFailure: true })
  inContainer(host, ['--name', 'left', '-p'], 'sleep 1000 >/dev/null 2>&1 & exit 4', { expectFailure: true })
  nsNet(host, ['run', '--name', 'left', '--net', 'host', '--', 'true'])
  nsNet(host, ['run', '--name', 'left', '--', 'nosuch'], { expectFailure: true })
  expect(state(host)).toEqual(before)
})

test('a run that is killed takes its command along, and del takes the rest', async () => {
  using host = createHost()
  const before = state(host)
  for (const options of [[], ['-p'], ['-Up']]) {
    const { running, ended } = await startContainer(host, options, ['sleep', '1000'])
    running.kill('SIGKILL')
    await ended
    await until('the command is gone', () => pidsOf(host, ['sleep', '1000']).length === 0)
    expect(JSON.parse(nsNet(host, ['ls', '--json']).stdout)).toMatchObject([{ name: 'left' }])
    nsNet(host, ['del', 'left'])
    expect(state(host)).toEqual(before)
  }
})

test('refusals: one sentence, a hint, an exit code of its own', () => {
  using host = createHost()
  nsNet(host, ['add', 'web'])
  const before = state(host)
  const cases: [args: string[], status: number, message: RegExp][] = [
    [['--privileged', '--cap-add', 'net_admin', '--', 'true'], 2, /--privileged and --cap-add exclude each other/],
    [['--cap-add', 'fly', '--', 'true'], 2, /--cap-add fly: no such capability/],
    [['--boottime', '5', '--', 'true'], 2, /--boottime needs --time/],
    [['--mount-proc', '--', 'true'], 2, /--mount-proc needs --pid/],
    [['--memory', '10', '--', 'true'], 2, /--memory 10: expected at least 1M/],
    [['--memory', 'much', '--', 'true'], 2, /--memory much/],
    [['--cpus', '0', '--', 'true'], 2, /--cpus 0: expected a number from 0\.01/],
    [['--pids', '-1', '--', 'true'], 2, /--pids -1/],
    [['--hostname', 'a b', '--', 'true'], 2, /bad host name "a b"/],
    [['--name', '../x', '--', 'true'], 2, /bad name/],
    [['--name', 'web', '--', 'true'], 4, /lab "web" already exists/],
    [['--rootfs', '/nonexistent', '--', 'true'], 3, /--rootfs \/nonexistent/],
    [['--rootfs', '/etc/passwd', '--', 'true'], 2, /not a directory/],
    [['--rootfs', '/', '--', 'true'], 2, /that is the root already/],
    [['--'], 2, /missing required argument/],
  ]
  for (const [args, status, message] of cases) {
    const result = nsNet(host, ['run', ...args], { expectFailure: true })
    expect({ args, status: result.status }).toEqual({ args, status })
    expect(result.stderr).toMatch(message)
  }
  expect(state(host)).toEqual(before)
})

test('a program that is missing is named, with its package', () => {
  using host = createHost()
  const setpriv = host.sh('command -v setpriv').stdout.trim()
  expect(existsSync(setpriv)).toBe(true)
  const before = state(host)
  host.sh(`mount --bind /dev/null ${setpriv}`)
  const result = nsNet(host, ['run', '--', 'true'], { expectFailure: true })
  expect(result.status).toBe(125)
  expect(result.stderr).toMatch(/setpriv is not installed\nhint: it is part of util-linux/)
  host.sh(`umount ${setpriv}`)
  expect(state(host)).toEqual(before)
})
