import { expect, test } from 'vitest'
import { createHost, executables, type Host, type RunOptions } from './host.ts'
import { until } from './runtimes/until.ts'

const nsNet = (host: Host, args: string[], options?: RunOptions) =>
  host.run([`${executables}/ns-net`, ...args], options)
const execAll = (host: Host, script: string, options?: RunOptions) =>
  nsNet(host, ['exec', '--all', '--', 'sh', '-c', script], options)

/** Labs in an order that is not that of their names, and a namespace that is no lab. */
function addLabs(host: Host): void {
  nsNet(host, ['add', 'web', '--no-net', '--label', 'tier=front', '--label', 'zone=a'])
  nsNet(host, ['add', 'api-server'])
  nsNet(host, ['add', 'db', '--no-net', '--label', 'tier=back', '--label', 'zone=a'])
  host.addContainer('somebody')
}
const labs = ['api-server', 'db', 'web']

test('every lab: the lines that ip netns exec prints, behind the names, in their order', () => {
  using host = createHost()
  addLabs(host)
  const theirs = labs.flatMap((lab) =>
    host
      .run(['ip', 'netns', 'exec', lab, 'ip', '-o', 'addr'])
      .stdout.trimEnd()
      .split('\n')
      .map((line) => `${lab.padEnd('api-server'.length)}  ${line}\n`),
  )
  expect(theirs.length).toBeGreaterThan(3)
  const ours = nsNet(host, ['exec', '--all', '--', 'ip', '-o', 'addr'])
  expect(ours).toEqual({ status: 0, stdout: theirs.join(''), stderr: '' })
  // Each with its own files in /etc, and nothing to read.
  host.sh('echo nameserver 192.0.2.7 >/etc/netns/db/resolv.conf')
  expect(execAll(host, 'cat; grep 192.0.2.7 /etc/resolv.conf || :', { input: 'for ns-net' }).stdout).toBe(
    'db          nameserver 192.0.2.7\n',
  )
})

test('labs with a label', () => {
  using host = createHost()
  addLabs(host)
  const names = (...labels: string[]) =>
    nsNet(host, ['exec', ...labels.flatMap((label) => ['-l', label]), '--', 'echo', 'here']).stdout
  expect(names('tier=back')).toBe('db  here\n')
  expect(names('zone=a')).toBe('db   here\nweb  here\n')
  expect(names('zone=a', 'tier=front')).toBe('web  here\n')
})

test('stdout and stderr stay apart, and exit codes are told with the labs', () => {
  using host = createHost()
  addLabs(host)
  const script = `printf '9%%\\r10%%\\n'; printf 'no end' >&2
    case $(ip netns identify $$) in db) exit 3;; web) kill -9 $$;; esac`
  expect(execAll(host, script, { expectFailure: true })).toEqual({
    status: 1,
    stdout: labs.map((lab) => `${lab.padEnd(10)}  9%\r10%\n`).join(''),
    stderr: `${labs.map((lab) => `${lab.padEnd(10)}  no end\n`).join('')}ns-net: exit codes other than 0: db 3, web 137\n`,
  })
  const json = nsNet(host, ['exec', '--all', '--json', '--', 'sh', '-c', script], { expectFailure: true })
  expect(json.status).toBe(1)
  expect(JSON.parse(json.stdout)).toEqual([
    { lab: 'api-server', exitCode: 0, stdout: '9%\r10%\n', stderr: 'no end' },
    { lab: 'db', exitCode: 3, stdout: '9%\r10%\n', stderr: 'no end' },
    { lab: 'web', exitCode: 137, stdout: '9%\r10%\n', stderr: 'no end' },
  ])
  expect(JSON.parse(json.stderr).error).toMatchObject({ code: 1, message: expect.stringContaining('db 3, web 137') })
  const none = nsNet(host, ['exec', '--all', '--', 'nosuchcommand'], { expectFailure: true })
  expect(none.status).toBe(1)
  expect(none.stderr).toMatch(/^db {10}ns-net: command not found: nosuchcommand$/m)
  expect(none.stderr).toMatch(/codes other than 0: api-server 127, db 127, web 127\n$/)
})

test('eight at a time, and not more', () => {
  using host = createHost()
  const names = Array.from({ length: 11 }, (_, i) => `lab${String(i).padStart(2, '0')}`)
  for (const name of names) nsNet(host, ['add', name, '--no-net'])
  // Nobody goes on before eight are there together; what each sees then is never more.
  const script = `touch /run/inside/$$
    until [ -e /run/eight ]; do [ $(ls /run/inside | wc -l) -lt 8 ] || touch /run/eight; sleep 0.05; done
    ls /run/inside | wc -l; rm /run/inside/$$`
  host.sh('mkdir /run/inside')
  const { stdout } = execAll(host, script)
  const lines = stdout.trimEnd().split('\n')
  expect(lines.map((line) => line.split(' ')[0])).toEqual(names)
  for (const line of lines) expect(Number(line.split(/ +/)[1])).toBeLessThanOrEqual(8)
})

test('what the first lab says comes at once; a signal ends the command in each', async () => {
  using host = createHost()
  addLabs(host)
  const inside = () => labs.filter((lab) => host.run(['ip', 'netns', 'pids', lab]).stdout !== '')
  // Not before: a process is inside a moment before it becomes the command.
  const asleep = () =>
    labs.filter(
      (lab) => host.sh(`cat /dev/null $(ip netns pids ${lab} | sed 's|.*|/proc/&/comm|')`).stdout === 'sleep\n',
    )
  const running = host.start([
    `${executables}/ns-net`,
    'exec',
    '--all',
    '--',
    'sh',
    '-c',
    'echo begun; exec sleep 1000',
  ])
  const text = await new Promise((resolve) => running.stdout!.once('data', (bytes) => resolve(String(bytes))))
  expect(text).toBe('api-server  begun\n')
  await until('all of them run', () => asleep().length === 3)
  const ended = new Promise((resolve) => running.on('close', resolve))
  let rest = ''
  running.stdout!.on('data', (bytes) => (rest += bytes))
  running.kill('SIGTERM')
  expect(await ended).toBe(143)
  expect(rest).toBe('db          begun\nweb         begun\n')
  expect(inside()).toEqual([])
})

test('a signal ends it also when something that the command left behind could still speak', async () => {
  using host = createHost()
  addLabs(host)
  for (const script of ['sleep 1000 & echo begun; wait', 'sleep 1000 & echo begun']) {
    const running = host.start([`${executables}/ns-net`, 'exec', '--all', '--', 'sh', '-c', script])
    await new Promise((resolve) => running.stdout!.once('data', resolve))
    const ended = new Promise((resolve) => running.on('exit', resolve))
    running.kill('SIGINT')
    expect(await ended).toBe(130)
  }
})

test('a reader that goes away ends it', () => {
  using host = createHost()
  addLabs(host)
  const { stdout } = host.sh(`${executables}/ns-net exec --all -- sh -c 'while :; do echo y; done' | head -1`)
  expect(stdout).toBe('api-server  y\n')
  expect(host.sh('for lab in api-server db web; do ip netns pids $lab; done').stdout).toBe('')
})

test('a lab that is called host is not the host', () => {
  using host = createHost()
  nsNet(host, ['add', 'host', '--no-net'])
  expect(nsNet(host, ['exec', '--all', '--', 'readlink', '/proc/self/ns/net']).stdout).toBe(
    `host  ${host.run(['ip', 'netns', 'exec', 'host', 'readlink', '/proc/self/ns/net']).stdout}`,
  )
})

test('refusals', () => {
  using host = createHost()
  const cases: [args: string[], status: number, message: RegExp][] = [
    [['--all', '-l', 'a=b', '--', 'true'], 2, /--all and --selector exclude each other\nhint: /],
    [['--all', '--all-ns', '--', 'true'], 2, /--all-ns is for a process/],
    [
      ['--all', 'web', '--', 'true'],
      2,
      /--all and a target \("web"\) exclude each other\nhint: .*exec --all -- COMMAND/,
    ],
    [['--all', '--'], 2, /there is no command to run/],
    [['-l', 'tier=front', '--', 'true'], 3, /no lab has the label tier=front\nhint: /],
    [['web'], 2, /missing required argument 'command'\nhint: .*--all/],
    [[], 2, /missing required argument 'target'/],
  ]
  const none = nsNet(host, ['exec', '--all', '--', 'true'], { expectFailure: true })
  expect(none).toMatchObject({ status: 3, stderr: 'ns-net: there is no lab\nhint: ns-net add NAME makes one\n' })
  nsNet(host, ['add', 'web', '--no-net'])
  for (const [args, status, message] of cases) {
    const result = nsNet(host, ['exec', ...args], { expectFailure: true })
    expect({ args, status: result.status }).toEqual({ args, status })
    expect(result.stderr).toMatch(message)
  }
})
