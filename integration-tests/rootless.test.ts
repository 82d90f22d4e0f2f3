import { expect, type TestContext, test } from 'vitest'
import { sourceSeen, tellAddress } from './echo-server.ts'
import { createHost, executables, type Host, type Place, type RunOptions, requireTool } from './host.ts'
import { makeRootFilesystem } from './runtimes/root-filesystem.ts'
import { until } from './runtimes/until.ts'

const uid = 65534
const asUser = ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '--inh-caps=-all']
const home = '/run/home'
const runtime = `/run/user/${uid}`

/** An ordinary user of the host, with the directories that a login gives one. */
function addUser(host: Host, context: TestContext): Place {
  requireTool('setpriv', context)
  host.sh(`mkdir -p ${home} ${runtime}; chown ${uid}:${uid} ${home} ${runtime} || :; chmod 700 ${home} ${runtime}`)
  const env = { HOME: home, XDG_RUNTIME_DIR: runtime, SHELL: '/bin/sh' }
  const probe = host.run([...asUser, 'unshare', '--user', '--map-root-user', 'true'], { expectFailure: 'maybe' })
  if (probe.status !== 0) context.skip(`no second user with user namespaces here: ${probe.stderr.trim()}`)
  return {
    ...host,
    run: (command, options = {}) => host.run([...asUser, ...command], { ...options, env: { ...env, ...options.env } }),
  }
}

const rootless = (user: Place, args: string[], options?: RunOptions) =>
  user.run([`${executables}/ns-net`, '--rootless', ...args], options)

/** Processes that are there for the user's namespaces, as the host sees them. */
const processes = (host: Host): string[] =>
  host
    .sh('ps -e -o uid=,stat=,args=')
    .stdout.split('\n')
    .filter((line) => new RegExp(`^ *${uid} +[^Z].*(sleep|pasta|slirp4netns)`).test(line))

test('every verb works for an ordinary user, on a host of his own that stop ends', (context) => {
  using host = createHost()
  const user = addUser(host, context)
  const before = host.snapshot()
  const denied = user.run([`${executables}/ns-net`, 'add', 'web'], { expectFailure: true })
  expect(denied.status).toBe(5)
  expect(denied.stderr).toMatch(/\nhint: .*ns-net --rootless add/)

  const first = rootless(user, ['add', 'web'])
  expect(first.stdout).toMatch(/^web {2}10\.88\.0\.2\/16 via 10\.88\.0\.1/)
  expect(first.stderr).toMatch(/^rootless: process \d+ keeps a host of your own; to end it: ns-net --rootless stop\n/)
  // The second finds the same host, says nothing, and takes the option behind the verb too.
  const second = user.run([`${executables}/ns-net`, 'add', '--rootless', 'api'])
  expect(second.stderr).toBe('')
  const names = (text: string) => JSON.parse(text).map(({ name }: { name: string }) => name)
  expect(names(rootless(user, ['ls', '--json']).stdout)).toEqual(['api', 'web'])

  const ping = rootless(user, ['exec', 'web', '--', 'ping', '-c1', '-W2', '10.88.0.3'], { expectFailure: 'maybe' })
  expect(ping.stdout).toContain('1 received')
  expect(rootless(user, ['exec', 'web', '--', 'id', '-u']).stdout).toBe('0\n')
  expect(rootless(user, ['exec', 'web', '--', 'sh', '-c', 'exit 7'], { expectFailure: true }).status).toBe(7)
  expect(rootless(user, ['shell', 'web'], { input: 'hostname; cat /proc/self/uid_map' }).stdout).toMatch(
    new RegExp(`^web\\n +0 +${uid} +1\\n$`),
  )
  rootless(user, ['shape', 'web', '--rate', '1mbit', '--loss', '1%'])
  const qdisc = rootless(user, ['exec', 'web', '--', 'tc', '-j', 'qdisc', 'show', 'dev', 'eth0']).stdout
  expect(JSON.parse(qdisc)).toMatchObject([{ kind: 'tbf' }])
  // Nothing of this is on the host around.
  expect({ ...host.snapshot(), files: before.files }).toEqual(before)
  expect(host.run(['ls', '/run']).stdout).not.toContain('netns')

  const busy = rootless(user, ['stop'], { expectFailure: true })
  expect(busy.status).toBe(4)
  expect(busy.stderr).toMatch(/still inside: lab api, lab web\nhint: .*--force/)
  rootless(user, ['del', 'web', 'api'])
  expect(processes(host)).toHaveLength(1)
  expect(rootless(user, ['stop']).stdout).toBe('rootless host  stopped\n')
  expect(processes(host)).toEqual([])
  expect(host.run(['find', runtime]).stdout).toBe(`${runtime}\n`)
  expect(rootless(user, ['stop'], { expectFailure: true }).status).toBe(3)
})

test('containers of an ordinary user: own processes, own root, and limits refused with a reason', (context) => {
  using host = createHost()
  const user = addUser(host, context)
  const root = `${runtime}/rootfs`
  makeRootFilesystem(host, root, context)
  host.sh(`chown -R ${uid} ${root}`)
  const run = (...args: string[]) => rootless(user, ['run', ...args])
  expect(run('-p', '--hostname', 'box', '--', 'sh', '-c', 'echo $$; hostname').stdout).toBe('1\nbox\n')
  const script = 'echo $$; ls /sys/class/net; busybox id -u; [ -c /dev/null ] && echo null; busybox touch /tmp/file'
  expect(run('--rootfs', root, '--', 'sh', '-c', script.replace('ls ', 'busybox ls ')).stdout).toBe(
    '1\neth0\nlo\n0\nnull\n',
  )
  expect(JSON.parse(rootless(user, ['ls', '--json']).stdout)).toEqual([])
  const limited = rootless(user, ['run', '--memory', '100M', '--', 'true'], { expectFailure: true })
  expect([5, 6]).toContain(limited.status)
  expect(limited.stderr).toMatch(/cannot create control group|no control group hierarchy/)
  rootless(user, ['stop'])
})

test('working directory, environment and words behind -- are left as they are', (context) => {
  using host = createHost()
  const user = addUser(host, context)
  const ns = `${executables}/ns-net`
  rootless(user, ['add', 'web', '--no-net'])
  const seen = user.run([
    'sh',
    '-c',
    `cd /usr/lib && FLAVOUR=salt ${ns} --rootless exec web -- sh -c 'pwd; echo $FLAVOUR'`,
  ])
  expect(seen.stdout).toBe('/usr/lib\nsalt\n')
  const words = rootless(user, ['exec', 'web', '--', 'echo', '--rootless', 'stop'])
  expect(words.stdout).toBe('--rootless stop\n')
  expect(rootless(user, ['run', 'echo', '--rootless']).stdout).toBe('--rootless\n')
  // Inside there is no second one.
  expect(rootless(user, ['exec', 'self', '--', ns, '--rootless', 'ls', '--json']).stdout).toContain('"web"')
  rootless(user, ['stop', '--force'])
})

test('a host whose process is gone is made anew, and a directory that others can write to is not used', async (context) => {
  using host = createHost()
  const user = addUser(host, context)
  const pidOf = () => Number(JSON.parse(host.run(['cat', `${runtime}/ns-net/rootless.json`]).stdout).pid)
  rootless(user, ['ls'])
  const first = pidOf()
  host.run(['kill', '-9', String(first)])
  await until('it is gone', () => processes(host).length === 0)
  expect(rootless(user, ['ls', '--json']).stdout).toBe('[]\n')
  expect(pidOf()).not.toBe(first)
  // stop --force ends what is inside, with the labs.
  rootless(user, ['add', 'web', '--no-net'])
  rootless(user, ['exec', 'web', '--', 'sh', '-c', 'sleep 1000 >/dev/null 2>&1 &'])
  rootless(user, ['stop', '--force'])
  expect(processes(host)).toEqual([])

  host.sh(`mkdir ${runtime}/ns-net; chown 1:1 ${runtime}/ns-net; chmod 777 ${runtime}/ns-net`)
  expect(rootless(user, ['ls', '--json']).stdout).toBe('[]\n')
  expect(host.run(['find', `${home}/.local/state/ns-net`, '-name', '*.json']).stdout).toContain('rootless.json')
  expect(host.run(['ls', '-A', `${runtime}/ns-net`]).stdout).toBe('')
  rootless(user, ['stop'])
})

test('five at once make one host', (context) => {
  using host = createHost()
  const user = addUser(host, context)
  const ns = `${executables}/ns-net`
  user.run(['sh', '-c', `for i in 1 2 3 4 5; do ${ns} --rootless add lab$i >/dev/null 2>&1 & done; wait`])
  expect(JSON.parse(rootless(user, ['ls', '--json']).stdout)).toHaveLength(5)
  expect(processes(host)).toHaveLength(1)
  rootless(user, ['stop', '--force'])
})

test('a machine that refuses user namespaces says which switch it is', () => {
  using host = createHost()
  // The limit is for the namespaces below the one it is written in: of this machine nothing changes.
  const script = `mkdir -p /run/x && echo 0 >/proc/sys/user/max_user_namespaces && exec ${executables}/ns-net --rootless ls`
  const refused = host.run(['unshare', '--user', '--map-root-user', 'sh', '-c', script], {
    env: { XDG_RUNTIME_DIR: '/run/x' },
    expectFailure: true,
  })
  expect(refused.status).toBe(5)
  expect(refused.stderr).toMatch(
    /user\.max_user_namespaces is 0\): sudo sysctl -w user\.max_user_namespaces=15000\nhint/,
  )
})

const connectors = ['pasta', 'slirp4netns'] as const

/** As if they were not installed. */
function hide(host: Host, programs: readonly string[]): void {
  for (const program of programs) host.sh(`path=$(command -v ${program}) || exit 0; mount --bind /dev/null "$path"`)
}

/** Both need it; some machines keep it from ordinary users. */
function allowTun(host: Host, user: Place, context: TestContext): void {
  const usable = () => user.run(['sh', '-c', ': <>/dev/net/tun'], { expectFailure: 'maybe' }).status === 0
  if (usable()) return
  const script = 'mknod /run/tun c 10 200 && chmod 666 /run/tun && mount --bind /run/tun /dev/net/tun'
  host.run(['sh', '-c', script], { expectFailure: 'maybe' })
  if (!usable()) context.skip('this machine keeps /dev/net/tun from ordinary users')
}

for (const connector of connectors)
  test(`labs reach the outside through ${connector}, and the outside does not reach them`, (context) => {
    requireTool('socat', context)
    using host = createHost()
    if (host.run(['sh', '-c', `command -v ${connector}`], { expectFailure: 'maybe' }).status !== 0)
      context.skip(`${connector} is not installed`)
    const user = addUser(host, context)
    allowTun(host, user, context)
    hide(
      host,
      connectors.filter((other) => other !== connector),
    )
    const outside = host.addUplink()
    tellAddress(outside)
    expect(rootless(user, ['add', 'web']).stderr).not.toContain('nothing outside')
    const web: Place = {
      ...user,
      run: (command, options) => rootless(user, ['exec', 'web', '--', ...command], options),
    }
    expect(sourceSeen(web, '192.0.2.2')).toBe('192.0.2.1')
    expect(outside.run(['ping', '-c1', '-W1', '10.88.0.2'], { expectFailure: true }).status).not.toBe(0)
    rootless(user, ['stop', '--force'])
    expect(processes(host)).toEqual([])
  })

test('without a program for it, it is said that nothing outside can be reached', (context) => {
  using host = createHost()
  const user = addUser(host, context)
  hide(host, connectors)
  expect(rootless(user, ['ls']).stderr).toMatch(
    /\nrootless: nothing outside can be reached without pasta \(package passt\) or slirp4netns\n$/,
  )
  rootless(user, ['stop'])
})
