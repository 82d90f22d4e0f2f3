import { expect, test } from 'vitest'
import { createHost, executables, type Host, type RunOptions, requireTool } from './host.ts'
import { until } from './runtimes/until.ts'

const nsNet = (host: Host, args: string[], options?: RunOptions) =>
  host.run([`${executables}/ns-net`, ...args], options)

/** What a person sees who types these lines at a terminal. */
function atTerminal(host: Host, command: string, lines: string[], env: Record<string, string> = {}) {
  const typed = lines.map((line) => `echo '${line}'`).join('; ')
  const script = `(${typed}; sleep 2) | socat - EXEC:'${command}',pty,setsid,ctty,stderr`
  return host.sh(script, { env, expectFailure: 'maybe' })
}

test('shell: on a terminal, in the lab, with its name as host name and in the prompt', (context) => {
  requireTool('socat', context)
  using host = createHost()
  nsNet(host, ['add', 'web'])
  const before = host.run(['hostname']).stdout
  const shell = atTerminal(host, `${executables}/ns-net shell web`, ['tty; hostname; ls /sys/class/net', 'exit 4'], {
    SHELL: '/bin/sh',
  })
  expect(shell.stdout).toMatch(/\[web\] \$ .*\/dev\/pts\/\d+\s+web\s+eth0\s+lo\s/s)
  expect(shell.stderr).toMatch(/exited with status 4/)
  const bash = atTerminal(host, `${executables}/ns-net shell web`, ['echo $0', 'exit'], { SHELL: '/nonexistent' })
  expect(bash.stdout).toMatch(/web.*\/bin\/(ba)?sh/s)
  expect(host.run(['hostname']).stdout).toBe(before)
})

test('shell and exec: whatever is a target', async (context) => {
  requireTool('nsenter', context)
  using host = createHost()
  nsNet(host, ['add', 'web'])
  const container = host.start([
    'unshare',
    '--net',
    '--uts',
    '--pid',
    '--fork',
    '--kill-child',
    '--mount-proc',
    'sh',
    '-c',
    'hostname box; ip link set lo up; echo ready; sleep 1000; :',
  ])
  await new Promise((resolve) => container.stdout!.once('data', resolve))
  let pid = ''
  await until('the container runs', () => {
    pid = host.run(['pgrep', '-P', String(container.pid)], { expectFailure: 'maybe' }).stdout.trim()
    return pid !== ''
  })
  const inside = (target: string, ...options: string[]) =>
    nsNet(host, ['exec', target, ...options, '--', 'sh', '-c', 'readlink /proc/self/ns/net; hostname']).stdout
  const nsenter = (...options: string[]) =>
    host.run(['nsenter', `--target=${pid}`, ...options, 'sh', '-c', 'readlink /proc/self/ns/net; hostname']).stdout
  expect(inside(`pid:${pid}`)).toBe(nsenter('--net'))
  expect(inside(`pid:${pid}`, '--all-ns')).toBe(nsenter('--mount', '--uts', '--net', '--pid'))
  expect(inside(`pid:${pid}`, '--all-ns')).toMatch(/\nbox\n$/)
  expect(inside('path:/run/netns/web')).toBe(inside('web'))
  expect(inside('self')).toBe(host.sh('readlink /proc/self/ns/net; hostname').stdout)
  // The options may stand in front of the target as well, and the exit code stays the command's.
  expect(nsNet(host, ['exec', '--all-ns', `pid:${pid}`, 'sh', '-c', 'exit 7'], { expectFailure: true }).status).toBe(7)
  expect(nsNet(host, ['shell', `pid:${pid}`, '--all-ns'], { input: 'hostname; exit' }).stdout).toBe('box\n')
  expect(
    nsNet(host, ['shell', `pid:${pid}`], { input: 'readlink /proc/self/ns/net', env: { SHELL: '/bin/sh' } }).stdout,
  ).toBe(inside(`pid:${pid}`).split('\n')[0]!.concat('\n'))
})

test('exec podman:NAME and docker:NAME ask the program for the process', () => {
  using host = createHost()
  nsNet(host, ['add', 'web'])
  const running = host.start([`${executables}/ns-net`, 'exec', 'web', '--', 'sleep', '1000'])
  host.sh('for i in $(seq 100); do [ -n "$(ip netns pids web)" ] && exit; sleep 0.05; done; exit 1')
  const pid = host.run(['ip', 'netns', 'pids', 'web']).stdout.trim()
  // What both print for a container that runs, for one that does not, and for none.
  host.sh(`mkdir /run/bin
    printf '%s\\n' '#!/bin/sh' 'case "$*" in *demo) echo ${pid};; *old) echo 0;; *) echo "Error: no such container" >&2; exit 125;; esac' >/run/bin/docker
    chmod 755 /run/bin/docker; cp /run/bin/docker /run/bin/podman`)
  const env = { PATH: `/run/bin:${process.env.PATH}` }
  for (const program of ['docker', 'podman']) {
    const inside = nsNet(host, ['exec', `${program}:demo`, '--', 'ls', '/sys/class/net'], { env })
    expect(inside.stdout).toBe('eth0\nlo\n')
    for (const [name, message] of [
      ['old', /container "old" does not run\nhint: .* start old/],
      ['nope', /no container "nope": Error: no such container/],
    ] as const) {
      const refused = nsNet(host, ['exec', `${program}:${name}`, 'true'], { env, expectFailure: true })
      expect(refused.status).toBe(3)
      expect(refused.stderr).toMatch(message)
    }
  }
  const absent = nsNet(host, ['exec', 'docker:demo', 'true'], { env: { PATH: '/nonexistent' }, expectFailure: true })
  expect(absent.stderr).toContain('docker is not installed')
  running.kill('SIGKILL')
})

test('refusals', () => {
  using host = createHost()
  nsNet(host, ['add', 'web'])
  const cases: [args: string[], status: number, message: RegExp][] = [
    [['shell', 'nothere'], 3, /^ns-net: no lab "nothere"\nhint: .+\n$/],
    [['exec', 'web', '--all-ns', '--', 'true'], 2, /"web" is a network namespace and nothing else\nhint: .*pid:N/],
    [['exec', 'pid:x', 'true'], 2, /bad target "pid:x"/],
    [['exec', 'pid:99999999', 'true'], 3, /no process 99999999/],
    [['exec', 'path:/etc/passwd', 'true'], 125, /is not a network namespace/],
    [['exec', 'path:/nonexistent', 'true'], 3, /no file/],
  ]
  for (const [args, status, message] of cases) {
    const result = nsNet(host, args, { expectFailure: true })
    expect({ args, status: result.status }).toEqual({ args, status })
    expect(result.stderr).toMatch(message)
  }
})
