import { readFileSync, readlinkSync } from 'node:fs'
import { expect, type TestContext, test } from 'vitest'
import { sourceSeen, tellAddress } from './echo-server.ts'
import { createHost, executables, type Host, type Place, type RunOptions, requireTool } from './host.ts'
import { makeRootFilesystem } from './runtimes/root-filesystem.ts'
import { until } from './runtimes/until.ts'

// The commands of five tutorials on namespaces beside ours, judged by the tutorials' own tools. docs/tutorial.md lists
// them, and where the capabilities that are not here are tested.

const kinds = ['net', 'mnt', 'pid', 'user', 'uts', 'ipc', 'cgroup', 'time'] as const
type Kind = (typeof kinds)[number]

const nsNet = (host: Place, args: readonly string[], options?: RunOptions) =>
  host.run([`${executables}/ns-net`, ...args], options)
const json = (host: Place, ...args: string[]) =>
  JSON.parse(nsNet(host, [...args, '--json'], { expectFailure: 'maybe' }).stdout)
const inode = (pid: number, kind: string) => Number(/\d+/.exec(readlinkSync(`/proc/${pid}/ns/${kind}`))![0])

const inNamespace = (host: Host, name: string): Place => ({
  ...host,
  run: (command, options) => host.run(['ip', 'netns', 'exec', name, ...command], options),
})

const pings = (place: Place, to: string): boolean =>
  place.run(['ping', '-c1', '-W1', to], { expectFailure: 'maybe' }).status === 0

/** Starts a sleeping process behind a command that enters some place and becomes it; its pid. */
async function sleeper(host: Host, ...enter: string[]): Promise<number> {
  const { pid } = host.start([...enter, 'sleep', '1000'])
  await until('it sleeps', () => readFileSync(`/proc/${pid}/comm`, 'utf8') === 'sleep\n')
  return pid!
}

/** The same behind a command that forks. */
async function forkedSleeper(host: Host, ...enter: string[]) {
  const outer = host.start([...enter, 'sleep', '1000'])
  const found = () => host.run(['pgrep', '-P', String(outer.pid), '-x', 'sleep'], { expectFailure: 'maybe' }).stdout
  await until('it sleeps', () => found() !== '')
  return { outer, pid: Number(found()) }
}

/** Word for word, but for sudo. */
const stepFour = `
  # Create a named network namespace
  ip netns add mycontainer

  # Create a virtual ethernet pair
  ip link add veth-host type veth peer name veth-container

  # Move one end into the namespace
  ip link set veth-container netns mycontainer

  # Configure the host side
  ip addr add 10.0.0.1/24 dev veth-host
  ip link set veth-host up

  # Configure the container side
  ip netns exec mycontainer ip addr add 10.0.0.2/24 dev veth-container
  ip netns exec mycontainer ip link set veth-container up
  ip netns exec mycontainer ip link set lo up

  # Test connectivity
  ip netns exec mycontainer ping -c 3 10.0.0.1
  # Success! Container can reach the host

  # Enable internet access via NAT
  iptables -t nat -A POSTROUTING -s 10.0.0.0/24 -j MASQUERADE
  ip netns exec mycontainer ip route add default via 10.0.0.1`

/** What a reader of step 4 has in the end. */
function stepFourFacts(host: Host) {
  const inside = inNamespace(host, 'mycontainer')
  const link = host.json(['ip', '-j', '-n', 'mycontainer', 'addr', 'show', 'dev', 'veth-container'])[0]
  return {
    addresses: link.addr_info
      .filter(({ family }: { family: string }) => family === 'inet')
      .map(({ local, prefixlen, scope }: Record<string, string>) => `${local}/${prefixlen} ${scope}`),
    up: link.flags.includes('UP'),
    loUp: host.json(['ip', '-j', '-n', 'mycontainer', 'link', 'show', 'lo'])[0].flags.includes('UP'),
    links: host.json(['ip', '-j', '-n', 'mycontainer', 'link']).map(({ ifname }: { ifname: string }) => ifname),
    defaultRoute: host
      .json(['ip', '-j', '-n', 'mycontainer', 'route', 'show', 'default'])
      .map(({ gateway, dev }: Record<string, string>) => ({ gateway, dev })),
    gateway: pings(inside, '10.0.0.1'),
    fromHost: pings(host, '10.0.0.2'),
    outside: pings(inside, '192.0.2.2'),
  }
}

function hostOfStepFour(context: TestContext): Host {
  for (const tool of ['ping', 'socat', 'iptables']) requireTool(tool, context)
  const host = createHost()
  tellAddress(host.addUplink())
  return host
}

test('tutorial 2, step 4: one command instead of the network chapter', (context) => {
  using theirs = hostOfStepFour(context)
  theirs.sh(stepFour)
  const byHand = stepFourFacts(theirs)
  expect(byHand).toMatchObject({ addresses: ['10.0.0.2/24 global'], gateway: true, fromHost: true, loUp: true })
  // The tutorial forgets forwarding, so its last step is without effect.
  expect(byHand.outside).toBe(false)
  theirs.sh('echo 1 >/proc/sys/net/ipv4/ip_forward')
  const mended = stepFourFacts(theirs)
  expect(mended).toEqual({ ...byHand, outside: true })
  const source = sourceSeen(inNamespace(theirs, 'mycontainer'), '192.0.2.2')
  expect(source).toBe('192.0.2.1')

  using ours = hostOfStepFour(context)
  const state = () => ({
    links: ours.json(['ip', '-j', 'link']).map(({ ifname }: { ifname: string }) => ifname),
    rules: ours.run(['nft', 'list', 'ruleset']).stdout + ours.run(['iptables-save']).stdout.replaceAll(/^#.*\n/gm, ''),
    namespaces: ours.run(['ip', 'netns', 'list']).stdout,
  })
  const before = state()
  const options = [
    '--ptp',
    '--subnet',
    '10.0.0.0/24',
    '--ip',
    '10.0.0.2',
    '--if',
    'veth-container',
    '--host-if',
    'veth-host',
  ]
  nsNet(ours, ['add', 'mycontainer', ...options])
  const addressOutside = (host: Host) =>
    host.run(['ip', '-br', '-4', 'addr', 'show', 'veth-host']).stdout.split(/\s+/)[2]
  expect(addressOutside(ours)?.split('/')[0]).toBe(addressOutside(theirs)?.split('/')[0])
  expect(stepFourFacts(ours)).toEqual(mended)
  expect(sourceSeen(inNamespace(ours, 'mycontainer'), '192.0.2.2')).toBe(source)
  nsNet(ours, ['del', 'mycontainer'])
  expect(state()).toEqual(before)
})

test('tutorial 2, step 4: what was made by hand is adopted, connected further, and deleted', async (context) => {
  using host = hostOfStepFour(context)
  host.sh(`${stepFour}
           echo 1 >/proc/sys/net/ipv4/ip_forward`)
  const before = stepFourFacts(host)
  nsNet(host, ['adopt', 'mycontainer'])
  expect(stepFourFacts(host)).toEqual(before)
  nsNet(host, ['net', 'create', 'back', '--subnet', '10.9.0.0/24', '--internal'])
  nsNet(host, ['attach', 'mycontainer', 'back', '--ip', '10.9.0.7'])
  expect(host.run(['ip', '-n', 'mycontainer', '-br', '-4', 'addr', 'show', 'eth0']).stdout).toContain(' 10.9.0.7/24')
  const inside = inNamespace(host, 'mycontainer')
  expect([pings(inside, '10.9.0.1'), pings(inside, '10.0.0.1')]).toEqual([true, true])
  nsNet(host, ['detach', 'mycontainer', 'back'])
  expect(stepFourFacts(host)).toEqual(before)
  nsNet(host, ['del', 'mycontainer'])
  expect(host.run(['ip', 'netns', 'list']).stdout).toBe('')
  // The kernel takes the cable away with the namespace, a little later.
  const cable = () => host.run(['ip', 'link', 'show', 'veth-host'], { expectFailure: 'maybe' }).status === 0
  await until('the cable is gone', () => !cable())
  // A rule of somebody else.
  expect(host.run(['iptables', '-t', 'nat', '-S', 'POSTROUTING']).stdout).toContain('-s 10.0.0.0/24 -j MASQUERADE')
})

test('tutorials 0, 1: lsns and ns-net ps list the same namespaces, until the last process ends', async (context) => {
  requireTool('lsns', context)
  using host = createHost()
  const separate = ['--uts', '--ipc', '--net', '--mount', '--user', '--map-root-user', '--cgroup', '--time']
  const { outer, pid } = await forkedSleeper(host, 'unshare', ...separate, '--pid', '--kill-child', '--fork')
  const lsns = (...options: string[]) =>
    host
      .run(['lsns', '--raw', '--noheadings', ...options], { expectFailure: 'maybe' })
      .stdout.split('\n')
      .map((line) => line.split(' '))
  const theirs = Object.fromEntries(
    lsns('-p', String(pid), '-o', 'TYPE,NS')
      .filter(([kind]) => kind)
      .map(([kind, ns]) => [kind, Number(ns)]),
  )
  expect(Object.keys(theirs).sort()).toEqual([...kinds].sort())
  expect(json(host, 'ps', '-p', String(pid))).toMatchObject([{ pid, namespaces: theirs }])

  const processes = (kind: Kind): number =>
    json(host, 'ps', '--type', kind).filter(
      ({ namespaces }: { namespaces: Record<string, number> }) => namespaces[kind] === theirs[kind],
    ).length
  const nprocs = (kind: Kind) =>
    Number(lsns('--type', kind, '-o', 'NS,NPROCS').find(([ns]) => ns === String(theirs[kind]))?.[1] ?? 0)
  for (const kind of kinds) expect([kind, processes(kind)]).toEqual([kind, nprocs(kind)])
  expect(processes('pid')).toBe(1)

  outer.kill('SIGKILL')
  // Not by their numbers, which the kernel gives to the next ones at once.
  await until('lsns knows it no more', () => lsns('-p', String(pid), '-o', 'NS').join() === '')
  // Until somebody waits for it, a process that has ended still has its user and its pid namespace.
  const isListed = (kind: Kind) =>
    json(host, 'ps', '--type', kind).some((process: { pid: number }) => process.pid === pid)
  await until('ps lists it no more', () => !kinds.some(isListed))
  expect(nsNet(host, ['ps', '-p', String(pid)], { expectFailure: 'maybe' }).stdout).not.toContain('sleep')
})

test('tutorial 0: children inherit, and ns-net ps --tree shows whose they are', async () => {
  using host = createHost()
  const shell = host.start(['unshare', '--uts', 'sh', '-c', 'sleep 1000 & wait'])
  const children = () => host.run(['pgrep', '-P', String(shell.pid)], { expectFailure: 'maybe' }).stdout.trim()
  await until('the child runs', () =>
    /^sleep/.test(host.sh('ps -o comm= -p "$0" || :'.replace('$0', children() || '0')).stdout),
  )
  expect(inode(Number(children()), 'uts')).toBe(inode(shell.pid!, 'uts'))
  expect(inode(shell.pid!, 'uts')).not.toBe(inode(host.pid, 'uts'))
  const lines = nsNet(host, ['ps', '--tree', '--type', 'uts']).stdout.split('\n')
  const column = (pid: string, command: string) => lines.find((line) => line.startsWith(`${pid} `))?.indexOf(command)
  expect(column(children(), 'sleep 1000')).toBeGreaterThan(column(String(shell.pid), 'sh -c')!)
  expect(json(host, 'ps', '-p', children())).toMatchObject([{ parent: shell.pid }])
  // The host ends the shell; its child would stay.
  process.kill(Number(children()), 'SIGKILL')
})

test('tutorials 1, 2: ns-net same finds the differences that diff finds in /proc/PID/ns', async (context) => {
  requireTool('bash', context)
  using host = createHost()
  nsNet(host, ['add', 'web'])
  const plain = await sleeper(host)
  const inLab = await sleeper(host, `${executables}/ns-net`, 'exec', 'web', '--')
  const byHand = await sleeper(host, 'ip', 'netns', 'exec', 'web')
  const { pid: container } = await forkedSleeper(
    host,
    'unshare',
    '--uts',
    '--ipc',
    '--net',
    '--mount',
    '--pid',
    '--kill-child',
    '--fork',
  )
  // The directory with what a kind of children has is no namespace of the process.
  const diff = (a: number, b: number) =>
    host
      .run(
        [
          'bash',
          '-c',
          `diff <(ls -l /proc/${a}/ns | awk '{print $9, $11}') <(ls -l /proc/${b}/ns | awk '{print $9, $11}')`,
        ],
        { expectFailure: 'maybe' },
      )
      .stdout.split('\n')
      .flatMap((line) => /^> (\S+) /.exec(line)?.[1] ?? [])
      .filter((kind) => !kind.endsWith('_for_children'))
  const separate = (a: string, b: string): string[] =>
    json(host, 'same', a, b)
      .namespaces.filter(({ relation }: { relation: string }) => relation === 'separate')
      .map(({ kind }: { kind: string }) => kind)
      .sort()
  for (const [a, b] of [
    [plain, plain],
    [plain, inLab],
    [inLab, byHand],
    [inLab, container],
    [plain, container],
  ] as const) {
    const expected = diff(a, b)
    expect(separate(`pid:${a}`, `pid:${b}`)).toEqual(expected)
    expect(nsNet(host, ['same', `pid:${a}`, `pid:${b}`], { expectFailure: 'maybe' }).status).toBe(expected.length && 1)
  }
  expect(diff(plain, container)).toEqual(['ipc', 'mnt', 'net', 'pid', 'uts'])
  // docker inspect --format={{.State.Pid}}, as tutorial 1 has it; there is no daemon here to ask.
  host.sh(`mkdir /run/bin; printf '#!/bin/sh\\necho ${container}\\n' >/run/bin/docker; chmod 755 /run/bin/docker`)
  const docker = nsNet(host, ['same', `pid:${plain}`, 'docker:demo'], {
    env: { PATH: `/run/bin:${process.env.PATH}` },
    expectFailure: true,
  })
  expect(docker.stdout.match(/^\w+(?= .*separate$)/gm)?.sort()).toEqual(diff(plain, container))
})

test('tutorial 1: nsenter -t PID -n and ns-net exec pid:PID see the same', async (context) => {
  for (const tool of ['nsenter', 'socat', 'ss']) requireTool(tool, context)
  using host = createHost()
  const { pid } = await forkedSleeper(host, 'unshare', '--net', '--pid', '--kill-child', '--fork')
  const nsenter = ['nsenter', '-t', String(pid), '-n']
  host.run([...nsenter, 'ip', 'link', 'set', 'lo', 'up'])
  host.start([...nsenter, 'socat', 'TCP-LISTEN:8080,fork', '-'])
  await until('it listens', () => host.run([...nsenter, 'ss', '-Htln']).stdout !== '')
  for (const command of ['ip addr', 'ip route show table all', 'ss -tlnp', 'readlink /proc/self/ns/net', 'ls /']) {
    const words = command.split(' ')
    const theirs = host.run([...nsenter, ...words]).stdout
    expect(nsNet(host, ['exec', `pid:${pid}`, '--', ...words]).stdout).toBe(theirs)
    expect(theirs).not.toBe('')
  }
})

test('tutorial 1: ip netns exec and ns-net exec are the same, in labs and in namespaces made by hand', (context) => {
  requireTool('ip', context)
  using host = createHost()
  nsNet(host, ['add', 'lab'])
  host.sh(`ip netns add demo
           ip netns exec demo ip link set lo up
           mkdir -p /etc/netns/demo
           echo nameserver 192.0.2.77 >/etc/netns/demo/resolv.conf`)
  const script = `ip addr; ip route; cat /etc/resolv.conf; ls /sys/class/net; hostname; id; pwd; env | sort
                  readlink /proc/self/ns/net /proc/self/ns/uts /proc/self/ns/pid; ls -A /etc`
  for (const name of ['lab', 'demo']) {
    const command = ['sh', '-c', script]
    const theirs = host.run(['ip', 'netns', 'exec', name, ...command]).stdout
    expect(nsNet(host, ['exec', name, '--', ...command]).stdout).toBe(theirs)
    expect(theirs).toContain(name === 'lab' ? '10.88.0.2/16' : 'nameserver 192.0.2.77')
  }
  const list = () => host.run(['ip', 'netns', 'list']).stdout.match(/^\S+/gm)?.sort()
  expect(
    json(host, 'ls')
      .map(({ name }: { name: string }) => name)
      .sort(),
  ).toEqual(list())
  nsNet(host, ['del', 'lab'])
  expect(list()).toEqual(['demo'])
})

test('tutorials 0, 1: a fresh namespace has lo and no route, which ns-net why says and mends', (context) => {
  requireTool('ping', context)
  using host = createHost()
  host.addUplink().run(['ip', 'addr', 'add', '8.8.8.8/32', 'dev', 'lo'])
  host.run(['ip', 'netns', 'add', 'demo'])
  const links = host.json(['ip', 'netns', 'exec', 'demo', 'ip', '-j', 'link'])
  expect(links).toMatchObject([{ ifname: 'lo', operstate: 'DOWN' }])
  const ping = ['ping', '-c1', '-W1', '8.8.8.8']
  const theirs = host.run(['ip', 'netns', 'exec', 'demo', ...ping], { expectFailure: true })
  expect(theirs.stderr).toMatch(/Network is unreachable/)
  expect(nsNet(host, ['exec', 'demo', '--', ...ping], { expectFailure: true })).toEqual(theirs)

  // A lab without a network is what the tutorial has after its next line.
  host.sh('ip netns exec demo ip link set lo up')
  nsNet(host, ['add', 'lab', '--no-net'])
  const addresses = (name: string) => host.run(['ip', 'netns', 'exec', name, 'ip', 'addr']).stdout
  expect(addresses('lab')).toBe(addresses('demo'))

  const env = { PATH: `${process.env.PATH}:/usr/local/sbin:/usr/sbin:/sbin:${executables}` }
  for (const name of ['demo', 'lab']) {
    expect(pings(inNamespace(host, name), '8.8.8.8')).toBe(false)
    const { reachable, verdict, fix } = json(host, 'why', name, '8.8.8.8')
    expect({ reachable, verdict }).toEqual({ reachable: false, verdict: `${name} has no route to 8.8.8.8` })
    for (const line of fix) host.sh(line, { env })
    expect(pings(inNamespace(host, name), '8.8.8.8')).toBe(true)
  }
})

test('tutorial 1: what deleting does to processes inside', async (context) => {
  for (const tool of ['nsenter', 'ping']) requireTool(tool, context)
  using host = createHost()
  const of = (pid: number): Place => ({
    ...host,
    run: (command, options) => host.run(['nsenter', '-t', String(pid), '-n', ...command], options),
  })
  host.sh(`ip netns add hand
           ip link add v0 type veth peer name eth0 netns hand
           ip addr add 10.0.0.1/24 dev v0; ip link set v0 up
           ip -n hand addr add 10.0.0.2/24 dev eth0; ip -n hand link set eth0 up`)
  const byHand = await sleeper(host, 'ip', 'netns', 'exec', 'hand')
  host.run(['ip', 'netns', 'del', 'hand'])
  // Otherwise than the tutorial says: the namespace lost its name and nothing else.
  expect(pings(of(byHand), '10.0.0.1')).toBe(true)

  const alive = (pid: number) => host.run(['ps', '-o', 'stat=', '-p', String(pid)], { expectFailure: 'maybe' }).stdout
  nsNet(host, ['add', 'web'])
  const inWeb = await sleeper(host, 'ip', 'netns', 'exec', 'web')
  const refused = nsNet(host, ['del', 'web'], { expectFailure: true })
  expect(refused.status).toBe(4)
  expect(refused.stderr).toContain(String(inWeb))
  expect(pings(of(inWeb), '10.88.0.1')).toBe(true)
  nsNet(host, ['del', 'web', '--force'])
  expect(alive(inWeb)).toMatch(/^S/)
  expect(of(inWeb).run(['ip', '-o', 'link']).stdout).toMatch(/^1: lo:.*\n$/)

  nsNet(host, ['add', 'web'])
  const next = await sleeper(host, 'ip', 'netns', 'exec', 'web')
  nsNet(host, ['del', 'web', '--kill'])
  expect(alive(next)).not.toMatch(/^[SR]/)
  expect(host.run(['ip', 'netns', 'list']).stdout).toBe('')
})

test('tutorial 1: the sockets of every namespace in one table', async (context) => {
  for (const tool of ['nsenter', 'socat', 'ss']) requireTool(tool, context)
  using host = createHost()
  nsNet(host, ['add', 'web'])
  nsNet(host, ['add', 'api'])
  const servers = [
    host.start(['ip', 'netns', 'exec', 'web', 'socat', 'TCP-LISTEN:80,fork', '-']),
    host.start(['ip', 'netns', 'exec', 'api', 'socat', 'TCP6-LISTEN:8080,fork', '-']),
  ]
  const sockets = (pid: number | undefined) =>
    host
      .run(['nsenter', '-t', String(pid), '-n', 'ss', '-Htan'])
      .stdout.split('\n')
      .filter(Boolean)
      .map((line) => line.trim().split(/\s+/))
      .map(([state, , , local, remote]) => ({
        state,
        local: local!.replace('*:', '[::]:'),
        remote: remote!.replace('*:', '[::]:'),
      }))
  await until('both listen', () =>
    servers.every(({ pid }) => readFileSync(`/proc/${pid}/comm`, 'utf8') === 'socat\n' && sockets(pid).length === 1),
  )
  host.start(['ip', 'netns', 'exec', 'api', 'socat', 'TCP:10.88.0.2:80', '-'])
  await until('they talk', () => servers.every(({ pid }) => sockets(pid).length === 2))
  const table = Object.fromEntries(
    json(host, 'ss').map(({ place, sockets: found }: { place: string; sockets: { protocol: string }[] }) => [
      place,
      new Set(found.map(({ protocol: _, ...socket }) => ({ ...socket }))),
    ]),
  )
  expect(table).toEqual({ web: new Set(sockets(servers[0]!.pid)), api: new Set(sockets(servers[1]!.pid)) })
})

test('tutorial 1: the container of a mystery process, from its control group', async (context) => {
  using host = createHost()
  const id = 'abc123deadbeef'.padEnd(64, '0')
  const group = `docker-${id}.scope`
  const made = host.sh(
    `for top in /sys/fs/cgroup/unified /sys/fs/cgroup; do
       [ -e $top/cgroup.procs ] && mkdir $top/${group} && echo $top/${group} && exit; done; exit 1`,
    { expectFailure: 'maybe' },
  )
  if (made.status !== 0) context.skip(`no control group to make here: ${made.stderr}`)
  const directory = made.stdout.trim()
  const pid = await sleeper(host)
  try {
    host.sh(`echo ${pid} >${directory}/cgroup.procs`)
    expect(host.run(['grep', '-E', '^[0-9]+', `/proc/${pid}/cgroup`]).stdout).toContain(`0::/${group}`)
    expect(nsNet(host, ['whose', String(pid)]).stdout).toContain(id.slice(0, 12))
    expect(JSON.stringify(json(host, 'whose', String(pid)))).toContain(id)
  } finally {
    process.kill(pid, 'SIGKILL')
    await until('the group is empty', () => host.run(['rmdir', directory], { expectFailure: 'maybe' }).status === 0)
  }
})

test('tutorial 4: without root, lsns and ns-net ps show the same, also where there is no lsns', async (context) => {
  for (const tool of ['setpriv', 'lsns']) requireTool(tool, context)
  using host = createHost()
  nsNet(host, ['add', 'web'])
  const ofRoot = await sleeper(host, 'ip', 'netns', 'exec', 'web')
  const asNobody = ['setpriv', '--reuid=65534', '--clear-groups', '--inh-caps=-all']
  const probe = host.run([...asNobody, 'unshare', '--user', '--net', 'true'], { expectFailure: 'maybe' })
  if (probe.status !== 0) context.skip(`no second user with user namespaces here: ${probe.stderr.trim()}`)
  const own = await sleeper(host, ...asNobody, 'unshare', '--user', '--net')
  const lsns = host.run([...asNobody, 'lsns', '--raw', '--noheadings', '-o', 'NS,TYPE']).stdout
  const ps = () => JSON.parse(host.run([...asNobody, `${executables}/ns-net`, 'ps', '--json']).stdout)
  const namespaces = (pid: number) => ps().find((process: { pid: number }) => process.pid === pid)?.namespaces ?? {}
  for (const [pid, visible] of [
    [own, true],
    [ofRoot, false],
  ] as const)
    for (const kind of ['user', 'net'] as const) {
      // Root's user namespace is that of everybody.
      if (!visible && kind === 'user') continue
      expect(lsns.includes(`${inode(pid, kind)} ${kind}\n`)).toBe(visible)
      expect(namespaces(pid)[kind] === inode(pid, kind)).toBe(visible)
    }
  host.sh('mount --bind /dev/null "$(command -v lsns)"')
  expect(host.run([...asNobody, 'lsns'], { expectFailure: 'maybe' }).stdout).toBe('')
  const proc = host.sh(`${asNobody.join(' ')} ls -l /proc/${own}/ns`).stdout
  for (const kind of kinds) expect(proc).toContain(`${kind}:[${namespaces(own)[kind]}]`)
})

test('tutorial 4: pidof says 1 inside and another number outside, and ns-net ps both', async (context) => {
  requireTool('pidof', context)
  using host = createHost()
  host.sh('cp "$(readlink -f "$(command -v sh)")" /run/tutorialsh')
  const pidof = () => host.run(['pidof', 'tutorialsh'], { expectFailure: 'maybe' }).stdout.trim()
  const first = () => host.run(['ps', '-o', 'args=', '1']).stdout
  expect(pidof()).toBe('')
  const before = first()
  const shell = ['/run/tutorialsh', '-c', 'pidof tutorialsh; read line; exit 0']
  for (const enter of [
    ['unshare', '--fork', '--pid', '--mount-proc'],
    [`${executables}/ns-net`, 'run', '--pid', '--'],
  ]) {
    const running = host.start([...enter, ...shell])
    let inside = ''
    running.stdout!.on('data', (data) => {
      inside += data
    })
    await until('pidof answers inside', () => inside.endsWith('\n'))
    expect(inside).toBe('1\n')
    const outside = Number(pidof())
    expect(outside).toBeGreaterThan(1)
    expect(first()).toBe(before)
    expect(json(host, 'ps', '-p', String(outside))).toMatchObject([{ pid: outside, nsPids: [outside, 1] }])
    const ended = new Promise((resolve) => running.once('exit', resolve))
    running.stdin!.end('\n')
    await ended
    expect(pidof()).toBe('')
  }
})

test('tutorial 3: the letters of unshare --help', (context) => {
  requireTool('unshare', context)
  using host = createHost()
  const help = host.run(['unshare', '--help']).stdout
  const letters = [...help.matchAll(/^ +-(\w), --\w+\[=<file>\] /gm)].map(([, letter]) => letter!)
  expect(letters.sort()).toEqual(['C', 'T', 'U', 'i', 'm', 'n', 'p', 'u'])
  const script = 'for kind in cgroup ipc mnt net pid time user uts; do readlink /proc/self/ns/$kind; done'
  const outside = host.sh(script).stdout.split('\n')
  const separate = (command: readonly string[]) =>
    host
      .run([...command, 'sh', '-c', script])
      .stdout.split('\n')
      .filter((namespace, i) => namespace !== outside[i])
      .map((namespace) => namespace.split(':')[0])
  for (const letter of letters) {
    const theirs = separate(['unshare', `-${letter}f`])
    // A lab has a network and mounts of its own in any case.
    const expected = [...new Set([...theirs, 'mnt', 'net'])].sort()
    expect([letter, ...separate([`${executables}/ns-net`, 'run', `-${letter}f`, '--'])]).toEqual([letter, ...expected])
  }
})

test('tutorial 3: ps -ef inside shows what is inside, all of it of root, and the shell as 1', () => {
  using host = createHost()
  const shell = ['sh', '-c', 'ps -ef; exit 0']
  // UID, PID, PPID and CMD. Numbers above 1 go on from what was needed to start the command.
  const processes = (command: readonly string[]) =>
    host
      .run([...command, ...shell])
      .stdout.trim()
      .split('\n')
      .map((line) => line.split(/\s+/))
      .map(([uid, pid, ppid, , , , , ...args]) => [uid, pid === '1' ? pid : 'N', ppid, args.join(' ')])
  const theirs = processes(['unshare', '--user', '--pid', '--map-root-user', '--mount-proc', '--fork'])
  expect(theirs.slice(1)).toEqual([
    ['root', '1', '0', 'sh -c ps -ef; exit 0'],
    ['root', 'N', '1', 'ps -ef'],
  ])
  expect(processes([`${executables}/ns-net`, 'run', '-Up', '--'])).toEqual(theirs)
})

test('tutorials 1, 3: a namespace that is pinned to a file outlives its processes', async (context) => {
  for (const tool of ['nsenter', 'unshare', 'findmnt']) requireTool(tool, context)
  using host = createHost()
  const pid = await sleeper(host, 'unshare', '--net')
  const pinned = inode(pid, 'net')
  host.sh(`mkdir -p /run/netns; touch /run/netns/hand /run/file
           mount --bind /proc/${pid}/ns/net /run/netns/hand
           unshare --net=/run/file true`)
  process.kill(pid, 'SIGKILL')
  const namespace = ['readlink', '/proc/self/ns/net']
  expect(host.run(['ip', 'netns', 'exec', 'hand', ...namespace]).stdout).toBe(`net:[${pinned}]\n`)
  expect(nsNet(host, ['exec', 'hand', '--', ...namespace]).stdout).toBe(`net:[${pinned}]\n`)
  const ofFile = host.run(['nsenter', '--net=/run/file', ...namespace]).stdout
  expect(nsNet(host, ['exec', 'path:/run/file', '--', ...namespace]).stdout).toBe(ofFile)
  nsNet(host, ['add', 'lab', '--no-net'])
  const pin = (path: string) =>
    host.run(['findmnt', '-no', 'FSTYPE,SOURCE', path]).stdout.split('\n')[0]!.replace(/\d+/, 'N')
  expect(pin('/run/netns/lab')).toBe(pin('/run/netns/hand'))
})

test('tutorial 0: mounts below a shared mount stay inside as well', (context) => {
  requireTool('findmnt', context)
  using host = createHost()
  host.sh(
    'mkdir /run/shared; mount -t tmpfs shared /run/shared; mount --make-shared /run/shared; mkdir /run/shared/test',
  )
  const propagation = ['findmnt', '-rno', 'PROPAGATION', '/run/shared']
  expect(host.run(propagation).stdout).toBe('shared\n')
  const script = `${propagation.join(' ')}; mount --bind /etc /run/shared/test; ls /run/shared/test/passwd`
  const theirs = host.run(['unshare', '--mount', 'sh', '-ec', script]).stdout
  expect(theirs).toBe('private\n/run/shared/test/passwd\n')
  expect(nsNet(host, ['run', '--mount', '--privileged', '--', 'sh', '-ec', script]).stdout).toBe(theirs)
  expect(host.run(['ls', '/run/shared/test']).stdout).toBe('')
})

const root = '/run/rootfs'

test('tutorial 0: busybox in a directory with chroot', (context) => {
  using host = createHost()
  makeRootFilesystem(host, root, context)
  host.sh(`cd ${root}/bin; for program in mount umount ls mkdir ps; do ln -sf busybox $program; done`)
  const script = 'hostname; ls /; echo $$; ps -o args; ls /sys/class/net; ip addr; ping -c1 -W1 127.0.0.1 | grep -c ttl'
  // Its bind mount of dev on itself has no effect, and bash is not there to become.
  const byHand = `
    ROOTFS=${root}
    mount --bind "$ROOTFS/dev" "$ROOTFS/dev"
    mount -t proc proc "$ROOTFS/proc"
    mount -t sysfs sys "$ROOTFS/sys"
    hostname isolated-box
    ip link set lo up
    exec chroot "$ROOTFS" /bin/sh -c "$0"`
  host.sh(`ln -sf busybox ${root}/bin/grep`)
  const namespaces = ['--mount', '--pid', '--uts', '--ipc', '--net', '--fork']
  const theirs = host.run(['unshare', ...namespaces, 'sh', '-ec', byHand, script]).stdout
  expect(theirs).toMatch(/^isolated-box\nbin\n[\s\S]*\n1\nCOMMAND/)
  const options = ['--rootfs', root, '--hostname', 'isolated-box']
  const ours = (...more: string[]) => nsNet(host, ['run', ...options, ...more, '--', '/bin/sh', '-c', script]).stdout
  expect(ours('--net', 'none')).toBe(theirs)
  // What the tutorial leaves to the reader: a cable to the outside.
  expect(ours()).toContain('\neth0\nlo\n')
})

test('tutorial 2, step 5: limits of the mini container', (context) => {
  using host = createHost()
  const v2 = host.sh('[ -e /sys/fs/cgroup/cgroup.controllers ]', { expectFailure: 'maybe' }).status === 0
  const probe = nsNet(host, ['run', '--memory', '100M', '--cpus', '0.5', '--', 'true'], { expectFailure: 'maybe' })
  if (probe.status === 5 || probe.status === 6) context.skip(`no control groups to make here: ${probe.stderr}`)
  const name = `mini-container-${process.pid}`
  const directories = (v2 ? [''] : ['memory/', 'cpu/']).map((controller) => `/sys/fs/cgroup/${controller}${name}`)
  const files = v2 ? ['memory.max', 'cpu.max'] : ['memory.limit_in_bytes', 'cpu.cfs_quota_us', 'cpu.cfs_period_us']
  const limit = v2
    ? `echo 104857600 >${directories[0]}/memory.max; echo "50000 100000" >${directories[0]}/cpu.max`
    : `echo 104857600 >${directories[0]}/memory.limit_in_bytes
       echo 100000 >${directories[1]}/cpu.cfs_period_us; echo 50000 >${directories[1]}/cpu.cfs_quota_us`
  const enter = directories.map((directory) => `echo $$ >${directory}/cgroup.procs`).join('; ')
  // What the kernel says of the groups of the process that asks.
  const script = `
    for file in ${files.join(' ')}; do
      group=$(sed -nE "s/^[0-9]+:([a-z,]*${v2 ? '' : '$' + '{file%%.*}'}):(.*)$/\\2/p" /proc/self/cgroup | head -n1)
      cat /sys/fs/cgroup${v2 ? '' : '/$' + '{file%%.*}'}$group/$file
    done
    sh -c 'head -c 300000000 /dev/zero | tail -c 250000000 >/dev/null' 2>/dev/null; echo $?`
  try {
    host.sh(`mkdir ${directories.join(' ')}; ${limit}`)
    const theirs = host.sh(`${enter}; set +e; ${script}`).stdout
    expect(theirs).toMatch(/^104857600\n50000[\s]100000\n137\n$/)
    const limits = ['--memory', '100M', '--cpus', '0.5']
    expect(nsNet(host, ['run', ...limits, '--', 'sh', '-c', script], { expectFailure: 'maybe' }).stdout).toBe(theirs)
  } finally {
    host.run(['rmdir', ...directories], { expectFailure: 'maybe' })
  }
})

test('tutorial 3: a lab that floods or crashes does not take its neighbour along', async (context) => {
  requireTool('ping', context)
  using host = createHost()
  nsNet(host, ['add', 'calm'])
  nsNet(host, ['add', 'wild'])
  const calm = await sleeper(host, 'ip', 'netns', 'exec', 'calm')
  host.start(['ip', 'netns', 'exec', 'wild', 'ping', '-f', '-q', '-s', '1400', '10.88.0.1'])
  // A first process that is killed takes the rest of its namespace along, and nobody else.
  for (const enter of [
    ['unshare', '--pid', '--fork', '--mount-proc', '--kill-child'],
    [`${executables}/ns-net`, 'run', '--name', 'crash', '--pid', '--'],
  ]) {
    const crashing = host.start([...enter, 'sh', '-c', 'sleep 4321 & sleep 4321 & wait'])
    const ended = new Promise((resolve) => crashing.once('exit', resolve))
    const inside = () =>
      json(host, 'ps', '--type', 'pid').filter(({ command }: { command: string }) => /sleep 4321/.test(command))
    await until('both run', () => inside().length === 3)
    const shell = inside().find(({ nsPids }: { nsPids: number[] }) => nsPids.at(-1) === 1)
    process.kill(shell.pid, 'SIGKILL')
    await ended
    await until('all of it is gone', () => inside().length === 0)
    expect(pings(inNamespace(host, 'calm'), '10.88.0.1')).toBe(true)
  }
  expect(inNamespace(host, 'calm').run(['ping', '-c5', '-i0.2', '-W2', '10.88.0.1']).stdout).toContain('5 received')
  expect(host.run(['ps', '-o', 'args=', '-p', String(calm)]).stdout).toBe('sleep 1000\n')
})
