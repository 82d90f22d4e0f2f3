import { expect, test } from 'vitest'
import { createHost, executables, type Host, requireTool } from './host.ts'
import { until } from './runtimes/until.ts'

interface Row {
  readonly kind: string
  readonly inode: number
  readonly processes: number
  readonly name?: string
  readonly keptBy: readonly Record<string, unknown>[]
}
interface LsnsRow {
  readonly ns: number
  readonly type: string
  readonly nprocs: number
  readonly pid: number
}

const nsNet = (host: Host, ...args: string[]) =>
  host.run([`${executables}/ns-net`, ...args], { expectFailure: 'maybe' })
const survey = (host: Host, ...args: string[]): { namespaces: Row[]; hidden: number } =>
  JSON.parse(nsNet(host, 'ls', '--all', ...args, '--json').stdout)
const rowOf = (host: Host, kind: string, inode: number): Row | undefined =>
  survey(host).namespaces.find((row) => row.kind === kind && row.inode === inode)
/** Numbers of namespaces are given again when they are free. */
const keepers = (host: Host) => survey(host).namespaces.flatMap(({ keptBy }) => keptBy)
const lsns = (host: Host, ...args: string[]): LsnsRow[] =>
  host.json(['lsns', '-J', '-o', 'NS,TYPE,NPROCS,PID', ...args]).namespaces
const inodeOf = (host: Host, file: string): number => Number(host.run(['stat', '-Lc', '%i', file]).stdout)

/** The pid of a shell that stays in the namespaces that unshare makes for it. */
async function unshared(host: Host, options: string[], script = 'sleep 1000; :'): Promise<number> {
  const child = host.start(['unshare', ...options, 'sh', '-c', `read -r pid _ </proc/self/stat; echo $pid; ${script}`])
  const text = await new Promise<Buffer>((resolve) => child.stdout!.once('data', resolve))
  return Number(String(text))
}

test('processes: what lsns lists is listed, with as many inside', async (context) => {
  requireTool('lsns', context)
  using host = createHost()
  const kinds = ['--net', '--mount', '--uts', '--ipc', '--cgroup', '--time', '--user', '--map-root-user']
  const pid = await unshared(host, [...kinds, '--pid', '--fork', '--kill-child'])
  await until('its child runs', () =>
    lsns(host, '-p', String(pid)).some(({ type, nprocs }) => type === 'pid' && nprocs === 2),
  )
  const theirs = lsns(host, '-p', String(pid))
  expect(theirs.length).toBe(8)
  for (const { ns, type, nprocs, pid: first } of theirs)
    expect(rowOf(host, type, ns)).toMatchObject({
      processes: nprocs,
      keptBy: expect.arrayContaining([
        { by: 'processes', count: nprocs, first: { pid: first, command: expect.any(String) } },
      ]),
    })
  // Of the whole machine, where others come and go: what was there before and after.
  const keys = (rows: LsnsRow[]) => rows.map(({ type, ns }) => `${type} ${ns}`)
  const before = keys(lsns(host))
  const ours = new Set(survey(host).namespaces.map(({ kind, inode }) => `${kind} ${inode}`))
  const after = new Set(keys(lsns(host)))
  expect(before.filter((key) => after.has(key) && !ours.has(key))).toEqual([])
})

test('labs and bind mounts: the name below /run/netns, the file, and none of them once it is unmounted', async () => {
  using host = createHost()
  nsNet(host, 'add', 'web', '--no-net')
  const web = inodeOf(host, '/run/netns/web')
  expect(rowOf(host, 'net', web)).toEqual({
    kind: 'net',
    inode: web,
    processes: 0,
    name: 'web',
    keptBy: [{ by: 'bind mount', path: '/run/netns/web' }],
  })
  host.sh("touch '/run/a file' /run/host; unshare --net='/run/a file' --uts=/run/host true")
  const [net, uts] = [inodeOf(host, '/run/a file'), inodeOf(host, '/run/host')]
  expect(rowOf(host, 'net', net)).toEqual({
    kind: 'net',
    inode: net,
    processes: 0,
    keptBy: [{ by: 'bind mount', path: '/run/a file' }],
  })
  expect(rowOf(host, 'uts', uts)?.keptBy).toEqual([{ by: 'bind mount', path: '/run/host' }])
  const table = nsNet(host, 'ls', '--all', '--type', 'net').stdout
  expect(table).toMatch(/^KIND +INODE +PROCS +NAME +KEPT BY\n/)
  expect(table).toMatch(new RegExp(`^net +${web} +0 +web +bind mount /run/netns/web$`, 'm'))
  expect(table).toMatch(new RegExp(`^net +${net} +0 +- +bind mount /run/a file$`, 'm'))
  expect(
    new Set(
      table
        .trim()
        .split('\n')
        .slice(1)
        .map((line) => line.split(' ')[0]),
    ),
  ).toEqual(new Set(['net']))
  host.run(['umount', '/run/a file'])
  expect(keepers(host)).not.toContainEqual({ by: 'bind mount', path: '/run/a file' })
})

test('a bind mount that only other processes have is theirs', async () => {
  using host = createHost()
  const pid = await unshared(
    host,
    ['--mount', '--propagation', 'private'],
    'touch /run/theirs; unshare --net=/run/theirs true; stat -Lc %i /run/theirs >/run/inode.new; mv /run/inode.new /run/inode; sleep 1000; :',
  )
  await until('it is mounted', () => host.run(['test', '-e', '/run/inode'], { expectFailure: 'maybe' }).status === 0)
  const net = Number(host.run(['cat', '/run/inode']).stdout)
  expect(rowOf(host, 'net', net)?.keptBy).toEqual([{ by: 'bind mount', path: '/run/theirs', pid }])
})

test('open files: a namespace that nobody is in, held by a shell', async () => {
  using host = createHost()
  const inside = await unshared(host, ['--net', '--ipc'])
  const holder = host.start([
    'sh',
    '-c',
    `exec 9</proc/${inside}/ns/net; echo open; read -r line; exec 9<&-; echo closed; read -r line`,
  ])
  const said = () => new Promise<string>((resolve) => holder.stdout!.once('data', (bytes) => resolve(String(bytes))))
  expect(await said()).toBe('open\n')
  const net = inodeOf(host, `/proc/${inside}/ns/net`)
  expect(rowOf(host, 'net', net)?.processes).toBe(2) // the shell and its sleep
  process.kill(Number(host.run(['pgrep', '-P', String(inside)]).stdout), 'SIGKILL')
  await until('nobody is inside', () => rowOf(host, 'net', net)?.processes === 0)
  expect(rowOf(host, 'net', net)?.keptBy).toEqual([
    { by: 'open file', pid: holder.pid, command: expect.stringMatching(/^sh -c exec 9</), fd: 9 },
  ])
  holder.stdin!.write('go on\n')
  expect(await said()).toBe('closed\n')
  expect(keepers(host)).not.toContainEqual(expect.objectContaining({ by: 'open file', pid: holder.pid }))
})

test('namespaces that only others keep: of a child, of what it owns, of a process that only its children will be in', async () => {
  using host = createHost()
  // A user namespace without processes: it owns the network namespace that is mounted.
  host.sh('touch /run/owned; unshare --user --map-root-user true')
  host.sh(`unshare --user --map-root-user --net sh -c 'echo $$ >/run/pid; sleep 1000' & 
    for i in $(seq 100); do [ -s /run/pid ] && break; sleep 0.05; done
    mount --bind /proc/$(cat /run/pid)/ns/net /run/owned; stat -Lc %i /proc/$(cat /run/pid)/ns/user >/run/owner
    kill -9 $(pgrep -P $(cat /run/pid)) $(cat /run/pid)`)
  const [net, owner] = [inodeOf(host, '/run/owned'), Number(host.run(['cat', '/run/owner']).stdout)]
  await until('nobody is inside', () => rowOf(host, 'user', owner)?.processes === 0)
  expect(rowOf(host, 'user', owner)).toMatchObject({
    processes: 0,
    keptBy: [{ by: 'namespaces below', count: 1, first: { kind: 'net', inode: net } }],
  })

  const parent = host.start(['unshare', '--pid', '--fork', '--kill-child', 'sleep', '1000'])
  let pid = ''
  await until('its child runs', () => {
    pid = host.run(['pgrep', '-P', String(parent.pid)], { expectFailure: 'maybe' }).stdout.trim()
    return pid !== ''
  })
  expect(rowOf(host, 'pid', inodeOf(host, `/proc/${pid}/ns/pid`))?.keptBy).toEqual([
    { by: 'processes', count: 1, first: { pid: Number(pid), command: 'sleep 1000' } },
    { by: 'children to come', pid: parent.pid, command: expect.stringMatching(/^unshare --pid/) },
  ])
})

test('without root: what may be seen, and how many processes may not', (context) => {
  using host = createHost()
  const asNobody = ['setpriv', '--reuid', '65534', '--clear-groups']
  if (host.run([...asNobody, 'true'], { expectFailure: 'maybe' }).status !== 0)
    context.skip('no other user to become in this user namespace')
  const ls = (...args: string[]) => host.run([...asNobody, `${executables}/ns-net`, 'ls', '--all', ...args]).stdout
  const { namespaces, hidden } = JSON.parse(ls('--json'))
  expect(namespaces.map(({ kind }: Row) => kind)).toContain('net')
  // Processes of root: at least those of this test.
  expect(hidden).toBeGreaterThan(2)
  expect(ls()).toMatch(/\n\d+ processes belong to others and could not be looked into: try it with sudo\n$/)
  expect(survey(host).hidden).toBe(0)
})

test('options that exclude each other, and kinds that do not exist', () => {
  using host = createHost()
  for (const [args, message] of [
    [['--all', '-l', 'a=b'], /--all and --selector exclude each other\nhint: /],
    [['--type', 'net'], /--type needs --all\nhint: /],
    [['--all', '--type', 'foo'], /unknown kind of namespace "foo"\nhint: expected net, /],
  ] as const) {
    const { status, stderr } = nsNet(host, 'ls', ...args)
    expect({ args, status }).toEqual({ args, status: 2 })
    expect(stderr).toMatch(message)
  }
})
