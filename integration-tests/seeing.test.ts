import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { checked, libc } from '../netlink-lib/libc.ts'
import { createHost, executables, type Host, type RunOptions, requireTool } from './host.ts'
import { inside } from './inside.ts'

const program = `${executables}/ns-net`
const nsNet = (host: Host, args: readonly string[], options?: RunOptions) => host.run([program, ...args], options)

/** A program in the background, with what it has printed until now. */
interface Running {
  readonly stdout: () => string
  readonly stderr: () => string
  /** JSON lines of stdout that are complete. */
  // biome-ignore lint/suspicious/noExplicitAny: events and packets of all kinds
  readonly lines: () => any[]
  /** Waits until it is true. */
  until(condition: () => boolean): Promise<void>
  /** Its exit code; sends the signal first when there is one. */
  end(signal?: NodeJS.Signals): Promise<number | null>
}

function follow(child: ChildProcess): Running {
  const printed = { stdout: '', stderr: '' }
  child.stdout!.setEncoding('utf8').on('data', (text) => (printed.stdout += text))
  child.stderr!.setEncoding('utf8').on('data', (text) => (printed.stderr += text))
  const closed = once(child, 'close')
  return {
    stdout: () => printed.stdout,
    stderr: () => printed.stderr,
    lines: () =>
      printed.stdout
        .slice(0, printed.stdout.lastIndexOf('\n') + 1)
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line)),
    async until(condition) {
      while (!condition()) {
        if (child.exitCode !== null) throw new Error(`ended with ${child.exitCode}: ${printed.stdout}${printed.stderr}`)
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
    },
    async end(signal) {
      if (signal) child.kill(signal)
      await closed
      return child.exitCode
    },
  }
}

async function start(host: Host, args: readonly string[]): Promise<Running> {
  const running = follow(host.start([program, ...args]))
  await running.until(() => running.stderr().includes('\n')) // it says so when it is listening
  return running
}

/** Two labs on a bridge, and a cable between them. */
function twoLabs(): Host {
  const host = createHost()
  nsNet(host, ['add', 'web', '--ip', '10.88.0.2'])
  nsNet(host, ['add', 'api', '--ip', '10.88.0.3'])
  host.sh(`ip link add eth9 netns web type veth peer name eth9 netns api
           ip -n web address add 172.16.0.1/30 dev eth9
           ip -n api address add 172.16.0.2/30 dev eth9
           ip -n web link set eth9 up
           ip -n api link set eth9 up`)
  return host
}

const ping = (host: Host, lab: string, to: string) =>
  host.run(['ip', 'netns', 'exec', lab, 'ping', '-c', '2', '-i', '0.2', '-W', '2', to])

/** As nobody: as root it wants to become another user, which it may not where the test's own root is a mapped one. */
const asNobody = ['unshare', '--user', '--']

const tcpdump = (host: Host, file: string, ...args: string[]) =>
  host
    .run([...asNobody, 'tcpdump', '-n', '-r', file, ...args])
    .stdout.trim()
    .split('\n')

test('capture: what passes several interfaces of several labs, in order, as tcpdump reads it', async (context) => {
  for (const tool of ['ping', 'tcpdump']) requireTool(tool, context)
  using host = twoLabs()
  const capture = await start(host, ['capture', 'web:eth0', 'api:eth0', 'api:eth9', '-w', '/run/x.pcapng'])
  ping(host, 'web', '10.88.0.3')
  ping(host, 'api', '172.16.0.1')
  expect(await capture.end('SIGINT')).toBe(0)
  expect(capture.stderr()).toMatch(
    /^capturing on web:eth0, api:eth0, api:eth9; .*\n\d+ packets captured to \/run\/x\.pcapng/,
  )

  const echo = (n: number) => [
    `IP 10.88.0.2 > 10.88.0.3: ICMP echo request, seq ${n}`, // leaves web
    `IP 10.88.0.2 > 10.88.0.3: ICMP echo request, seq ${n}`, // reaches api
    `IP 10.88.0.3 > 10.88.0.2: ICMP echo reply, seq ${n}`,
    `IP 10.88.0.3 > 10.88.0.2: ICMP echo reply, seq ${n}`,
  ]
  const direct = (n: number) => [
    `IP 172.16.0.2 > 172.16.0.1: ICMP echo request, seq ${n}`,
    `IP 172.16.0.1 > 172.16.0.2: ICMP echo reply, seq ${n}`,
  ]
  const seen = tcpdump(host, '/run/x.pcapng', '-t', 'icmp').map((line) => line.replace(/ id \d+,|, length \d+$/g, ''))
  expect(seen).toEqual([...echo(1), ...echo(2), ...direct(1), ...direct(2)])

  const times = tcpdump(host, '/run/x.pcapng', '-tt', '--nano').map((line) => line.split(' ')[0])
  expect(times).toEqual(times.toSorted())
  const now = Date.now() / 1000
  for (const time of times) expect(Math.abs(Number(time) - now)).toBeLessThan(60)
  const file = readFileSync(host.file('/run/x.pcapng'))
  for (const name of ['web:eth0', 'api:eth0', 'api:eth9']) expect(file.includes(name)).toBe(true)
})

test('capture: lines and JSON, a filter, and an end after so many packets', async (context) => {
  requireTool('ping', context)
  using host = twoLabs()
  const args = ['web:eth0', 'api:eth0', '-f', 'icmp and src host 10.88.0.2', '-c', '4']
  const [lines, json] = [await start(host, ['capture', ...args]), await start(host, ['capture', ...args, '--json'])]
  ping(host, 'web', '10.88.0.3')
  expect([await lines.end(), await json.end()]).toEqual([0, 0])
  const pattern = (name: string, direction: string, n: number) =>
    new RegExp(
      `^\\d\\d:\\d\\d:\\d\\d\\.\\d{6}  ${name}  ${direction} +10\\.88\\.0\\.2 > 10\\.88\\.0\\.3  ICMP echo request id \\d+ seq ${n}, 98 bytes$`,
    )
  const printed = lines.stdout().trimEnd().split('\n')
  expect(printed).toHaveLength(4)
  for (const [i, line] of printed.entries())
    expect(line).toMatch(pattern(i % 2 === 0 ? 'web:eth0' : 'api:eth0', i % 2 === 0 ? 'out' : 'in', i < 2 ? 1 : 2))
  const packet = { source: '10.88.0.2', destination: '10.88.0.3', protocol: 'ICMP', family: 4, length: 98 }
  expect(json.lines()).toMatchObject([
    { ...packet, interface: 'web:eth0', direction: 'out' },
    { ...packet, interface: 'api:eth0', direction: 'in' },
    { ...packet, interface: 'web:eth0', direction: 'out' },
    { ...packet, interface: 'api:eth0', direction: 'in' },
  ])
  const [listening, summary] = json
    .stderr()
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  expect(listening).toEqual({ capturing: ['web:eth0', 'api:eth0'] })
  expect(summary).toMatchObject({ captured: 4, dropped: 0, interfaces: [{ name: 'web:eth0' }, { name: 'api:eth0' }] })
})

test('capture: to a pipe, cut to --snaplen, ended by SIGTERM and by the time', async (context) => {
  for (const tool of ['ping', 'tcpdump']) requireTool(tool, context)
  using host = twoLabs()
  const command = `echo $$ >/run/pid; exec ${program} capture web -w - --snaplen 40`
  const piped = follow(
    host.start(['sh', '-c', `sh -c '${command}' | ${asNobody.join(' ')} tcpdump -n -v -r - icmp >&2`]),
  )
  await piped.until(() => piped.stderr().includes('capturing on web:eth0, web:eth9'))
  const timed = await start(host, [
    ...['capture', `pid:${host.pid}:nsbr0`, 'path:/run/netns/web:eth9', 'host:nsbr0'],
    ...['--timeout', '1', '-w', '/run/timed.pcapng'],
  ])
  expect(timed.stderr()).toContain(`capturing on pid:${host.pid}:nsbr0, path:/run/netns/web:eth9, host:nsbr0;`)
  const terminated = await start(host, ['capture', 'web', '-w', '/run/terminated.pcapng'])
  ping(host, 'web', '10.88.0.3')
  expect(await terminated.end('SIGTERM')).toBe(0)
  expect(tcpdump(host, '/run/terminated.pcapng', 'icmp')).toHaveLength(4)
  expect(await timed.end()).toBe(0)
  expect(timed.stderr()).toContain('packets captured')
  host.sh('kill -INT $(cat /run/pid)')
  expect(await piped.end()).toBe(0)
  expect(piped.stderr()).toMatch(/snapshot length 40/)
  expect(piped.stderr().match(/echo request|\[\|icmp\]/g)?.length).toBeGreaterThan(1)
})

test('capture: a VLAN tag that the link took off is in the file', async (context) => {
  requireTool('tcpdump', context)
  using host = twoLabs()
  const capture = await start(host, ['capture', 'api:eth9', '-f', 'arp', '-c', '1', '-w', '/run/x.pcapng'])
  const frame = Buffer.from(
    'ffffffffffff0200000000018100200a08060001080006040001020000000001ac100001000000000000ac100002',
    'hex',
  )
  const index = host.json(['ip', '-j', '-n', 'web', 'link', 'show', 'eth9'])[0].ifindex
  sendFrame(host, 'web', index, frame)
  expect(await capture.end()).toBe(0)
  const [line] = tcpdump(host, '/run/x.pcapng', '-e')
  expect(line).toContain('ethertype 802.1Q (0x8100), length 46: vlan 10, p 1, ethertype ARP')
})

test('capture: a link that goes away ends it, and no deleted lab is kept alive', async () => {
  using host = twoLabs()
  const capture = await start(host, ['capture', 'web', 'api:eth9'])
  host.sh('ip -n api link set eth9 down')
  await capture.until(() => capture.stderr().includes('api:eth9 is down'))
  nsNet(host, ['del', 'web', 'api'])
  expect(await capture.end()).toBe(0)
  for (const name of ['web:eth0', 'web:eth9', 'api:eth9']) expect(capture.stderr()).toContain(`${name} is gone\n`)
  expect(host.json(['ip', '-j', 'link']).map(({ ifname }: { ifname: string }) => ifname)).toEqual(['lo'])
})

test('capture: what it refuses, and what stays as it was', () => {
  using host = twoLabs()
  const refused = (status: number, message: string, ...args: string[]) => {
    const result = nsNet(host, ['capture', ...args], { expectFailure: true })
    expect(result).toMatchObject({ status, stdout: '' })
    expect(result.stderr).toContain(message)
  }
  host.sh('echo precious >/run/notes')
  refused(4, '/run/notes exists and is no capture file', 'web', '-w', '/run/notes')
  expect(readFileSync(host.file('/run/notes'), 'utf8')).toBe('precious\n')
  refused(3, 'cannot write /run/none/x', 'web', '-w', '/run/none/x')
  refused(3, 'no lab "nope"', 'nope')
  refused(3, '"web" has no interface "eth7"\nhint: there are: web:lo, web:eth0, web:eth9', 'web:eth7')
  refused(2, '"web:" names no interface', 'web:')
  refused(2, 'filter "tcp or udp": "or" where only "and" can be', 'web', '-f', 'tcp or udp')
  host.sh('ip -n web link set eth0 down; ip -n web link set eth9 down')
  refused(3, '"web" has no interface that is up', 'web')
  nsNet(host, ['capture', 'web:lo', '--timeout', '1', '-w', '/run/notes', '--force'])
  expect(readFileSync(host.file('/run/notes')).subarray(0, 4).toString('hex')).toBe('0a0d0d0a')
  // As with tcpdump, a capture replaces the one before.
  nsNet(host, ['capture', 'web:lo', '--timeout', '1', '-w', '/run/notes'])
})

const withoutCapability = (name: string) => ['setpriv', `--bounding-set=-${name}`, `--inh-caps=-${name}`, '--']

test('without the rights each verb says what it needs', (context) => {
  requireTool('setpriv', context)
  using host = twoLabs()
  for (const verb of [['capture', 'web'], ['watch'], ['graph']]) {
    const { status, stderr } = host.run([...asNobody, program, ...verb], { expectFailure: true })
    expect(status).toBe(5)
    expect(stderr).toContain(`${verb[0]} needs root`)
  }
  const { status, stderr } = host.run([...withoutCapability('net_raw'), program, 'capture', 'web'], {
    expectFailure: true,
  })
  expect(status).toBe(5)
  expect(stderr).toMatch(/cannot capture on web:eth0: open packet socket on eth0: EPERM/)
})

/** Sends a frame from a link of a namespace, past all that would change it. */
function sendFrame(host: Host, lab: string, index: number, frame: Buffer): void {
  inside(host, () => {
    const fd = checked(libc.open(`/run/netns/${lab}`, 0, 0), 'open namespace of', lab)
    checked(libc.setns(fd, 0x40000000), 'enter namespace of', lab)
    const socket = checked(libc.socket(17, 3, 0), 'open packet socket in', lab) // AF_PACKET, SOCK_RAW
    const address = Buffer.alloc(20) // struct sockaddr_ll
    address.writeUInt16LE(17, 0)
    address.writeInt32LE(index, 4)
    checked(Number(libc.sendto(socket, frame, frame.length, 0, address, 20)), 'send frame from', lab)
    libc.close(socket)
    libc.close(fd)
  })
}

/** What an event says, without its time. */
const told = ({ place, kind, action, what }: Record<string, string>) => [place, kind, action, what].join(' ')

test('watch: what ip and nft do on the host, in a lab, and in a lab made meanwhile', async (context) => {
  requireTool('nft', context)
  using host = createHost()
  host.sh(`ip netns add old; ip netns add '<b>&'; touch /run/netns/no-namespace`)
  const watch = await start(host, ['watch', '--json'])
  expect(watch.stderr()).toBe('{"watching":["host","<b>&","old"]}\n')
  const heard = (...expected: string[]) =>
    watch.until(() => expected.every((each) => watch.lines().some((event) => told(event) === each)))

  host.sh(
    'ip link add br0 type bridge; ip link add v0 type veth peer name eth0 netns old; ip link set v0 master br0 up',
  )
  await heard('host link added br0', 'host link added v0', 'old link added eth0', 'host link changed v0')
  host.sh('ip -n old address add 10.1.0.2/16 dev eth0; ip -n old link set eth0 up')
  await heard('old address added 10.1.0.2/16 on eth0', 'old route added 10.1.0.0/16 on eth0')
  host.sh(
    'ip -n old route add default via 10.1.0.1; ip -n old neighbour add 10.1.0.9 lladdr 02:00:00:00:00:09 dev eth0',
  )
  await heard('old route added default via 10.1.0.1 on eth0', 'old neighbour added 10.1.0.9 on eth0')
  host.sh('ip -n old rule add from 10.3.0.0/16 lookup 100 priority 77; ip -n old link set eth0 mtu 1400')
  await heard('old rule added priority 77 from 10.3.0.0/16 table 100')
  const shorter = () => watch.lines().find(({ remark }) => remark === 'mtu 1400')
  await watch.until(() => shorter() !== undefined)
  expect(shorter()).toMatchObject({
    place: 'old',
    details: { link: 'eth0', mtu: 1400, state: 'up', linkKind: 'veth' },
  })

  host.run(['ip', 'netns', 'add', 'young'])
  await heard('young place appeared ')
  host.sh('ip -n young link add eth5 type bridge; ip -n young address add 10.5.0.1/24 dev eth5')
  await heard('young link added eth5', 'young address added 10.5.0.1/24 on eth5')
  host.sh('ip netns exec young nft add table ip t; ip netns exec young nft delete table ip t')
  await watch.until(() => watch.lines().filter(({ kind }) => kind === 'nftables').length >= 2)
  expect(watch.lines().filter(({ kind }) => kind === 'nftables')).toMatchObject([
    {
      place: 'young',
      details: { process: 'nft', changes: [{ action: 'added', object: 'table', of: 'ip t', count: 1 }] },
    },
    {
      place: 'young',
      details: { process: 'nft', changes: [{ action: 'deleted', object: 'table', of: 'ip t', count: 1 }] },
    },
  ])

  host.sh('ip netns del young; ip link del v0')
  await heard('young place disappeared ', 'host link deleted v0', 'old link deleted eth0')
  host.run(['ip', 'netns', 'add', 'young'])
  await watch.until(() => watch.lines().filter((event) => told(event) === 'young place appeared ').length === 2)
  expect(await watch.end('SIGINT')).toBe(0)
  for (const { time } of watch.lines()) expect(Math.abs(Date.parse(time) - Date.now())).toBeLessThan(60_000)
})

test('watch: a lab that appears is told with what it has; a deleted one goes at once', async () => {
  using host = createHost()
  const watch = await start(host, ['watch'])
  nsNet(host, ['add', 'web'])
  await watch.until(() => /web +route +(found|default)/.test(watch.stdout()) || watch.stdout().includes('default via'))
  expect(watch.stdout()).toMatch(/^\d\d:\d\d:\d\d\.\d{3} {2}web +place +appeared$/m)
  expect(watch.stdout()).toMatch(/ {2}web +link +eth0 (found|added): veth, /)
  expect(watch.stdout()).toMatch(/ {2}web +address +10\.88\.0\.2\/16 on eth0 (found|added)$/m)
  nsNet(host, ['del', 'web'])
  await watch.until(() => / {2}web +place +disappeared$/m.test(watch.stdout()))
  expect(await watch.end('SIGTERM')).toBe(0)
})

test('watch: given places only, and an end after so many events or some time', async () => {
  using host = createHost()
  host.sh('ip netns add loud; ip netns add quiet')
  const watch = await start(host, ['watch', 'quiet', '-c', '1'])
  host.sh('ip -n loud link set lo mtu 1400; ip -n quiet link set lo mtu 1300')
  expect(await watch.end()).toBe(0)
  expect(watch.stdout()).toMatch(/^\S+ {2}quiet +link +lo changed: mtu 1300\n$/)
  expect(nsNet(host, ['watch', 'quiet', '--timeout', '1'])).toMatchObject({ status: 0, stdout: '' })
  expect(nsNet(host, ['watch', 'nope'], { expectFailure: true })).toMatchObject({ status: 3 })
  const sleeper = host.start(['unshare', '--net', 'sleep', '600'])
  const ended = await start(host, ['watch', `pid:${sleeper.pid}`])
  sleeper.kill('SIGKILL')
  expect(await ended.end()).toBe(0) // its number may be somebody else's next time
  const piped = follow(host.start(['sh', '-c', `${program} watch quiet 2>/run/log | head -n 1`]))
  await piped.until(() => readIfThere(host.file('/run/log')).includes('watching'))
  host.sh('ip -n quiet link set lo mtu 1200')
  await piped.until(() => piped.stdout().includes('mtu 1200'))
  host.sh('ip -n quiet link set lo mtu 1100') // the next line has no reader
  expect(await piped.end()).toBe(0)
})

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

/** `ip -j`, for every namespace: what the graph must show. */
function linksByIp(host: Host, places: readonly string[]) {
  return places.flatMap((place) => {
    const inPlace = place === 'host' ? [] : ['-n', place]
    // biome-ignore lint/suspicious/noExplicitAny: the JSON of ip
    return host.json(['ip', '-j', '-d', ...inPlace, 'address']).map((link: any) => ({
      id: `${place}/${link.ifname}`,
      place,
      name: link.ifname,
      index: link.ifindex,
      mtu: link.mtu,
      kind: link.linkinfo?.info_kind ?? 'loopback',
      state: !link.flags.includes('UP') ? 'down' : link.flags.includes('LOWER_UP') ? 'up' : 'no-carrier',
      mac: link.address,
      addresses: link.addr_info
        .map(({ local, prefixlen }: { local: string; prefixlen: number }) => `${local}/${prefixlen}`)
        .sort(),
    }))
  })
}

const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1)

test('graph: nodes and edges are those of ip in every namespace', (context) => {
  requireTool('iptables-nft', context)
  using host = twoLabs()
  nsNet(host, ['net', 'create', 'lan', '--subnet', '10.10.0.0/24', '--internal'])
  nsNet(host, ['add', 'db', '--net', 'lan', '-p', '5432:5432'])
  host.sh(`ip netns add r1
           ip link add to-r1 type veth peer name eth0 netns r1
           ip link set to-r1 up
           ip -n r1 address add 10.99.0.2/24 dev eth0
           ip -n r1 link set eth0 up
           ip netns exec r1 sysctl -qw net.ipv4.ip_forward=1
           ip netns exec r1 iptables-nft -t nat -A POSTROUTING -s 172.16.0.0/30 -o eth0 -j MASQUERADE
           nft add table ip hand
           nft add chain ip hand post '{ type nat hook postrouting priority 110; }'
           nft add rule ip hand post ip saddr 10.99.0.0/24 ip daddr != 10.99.0.0/24 masquerade
           ip link add mac0 link to-r1 netns api type macvlan
           ip link add one type veth peer name two
           ip -n web link set eth9 down`)
  const { pid } = host.start(['unshare', '--net', 'sleep', '600'])
  host.sh(`while [ "$(readlink /proc/${pid}/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.02; done
           ip link add to-pid type veth peer name eth0 netns ${pid}`)

  const graph = JSON.parse(nsNet(host, ['graph', '--json']).stdout)
  const places = ['host', 'api', 'db', 'r1', 'web']
  expect(graph.places.map(({ id, kind }: Record<string, string>) => [id, kind])).toEqual([
    ['host', 'host'],
    ['api', 'lab'],
    ['db', 'lab'],
    ['r1', 'namespace'],
    ['web', 'lab'],
    [`pid:${pid}`, 'process'],
  ])
  // biome-ignore lint/suspicious/noExplicitAny: the graph as JSON
  const nodes: any[] = graph.nodes
  const known = nodes.filter(({ place }) => places.includes(place))
  expect(
    known
      .map(({ nat: _, ports: __, gateways: ___, ...rest }) => ({ ...rest, addresses: rest.addresses.toSorted() }))
      .sort(byId),
  ).toEqual(linksByIp(host, places).sort(byId))

  const veth = (lab: string) =>
    host.json(['ip', '-j', 'link']).find(({ ifalias }: { ifalias?: string }) => ifalias?.endsWith(`:${lab}:eth0`))
      .ifname
  const edges = [
    ['cable', `host/${veth('web')}`, 'web/eth0'],
    ['cable', `host/${veth('api')}`, 'api/eth0'],
    ['cable', `host/${veth('db')}`, 'db/eth0'],
    ['cable', 'host/to-r1', 'r1/eth0'],
    ['cable', 'host/to-pid', `pid:${pid}/eth0`],
    ['cable', 'host/one', 'host/two'],
    ['cable', 'web/eth9', 'api/eth9'],
    ['parent', 'api/mac0', 'host/to-r1'],
    ['port', `host/${veth('web')}`, 'host/nsbr0'],
    ['port', `host/${veth('api')}`, 'host/nsbr0'],
    ['port', `host/${veth('db')}`, 'host/ns-lan'],
  ]
  const ends = (edge: string[]) => (edge[0] === 'cable' ? ['cable', ...edge.slice(1).sort()] : edge).join(' ')
  expect(graph.edges.map(({ kind, a, b }: Record<string, string>) => ends([kind!, a!, b!])).sort()).toEqual(
    edges.map(ends).sort(),
  )

  const of = (id: string) => nodes.find((node) => node.id === id)
  expect(of('web/eth0')).toMatchObject({ gateways: ['10.88.0.1'], nat: ['host'], ports: [] })
  expect(of('db/eth0')).toMatchObject({ gateways: [], nat: [], ports: ['5432->5432/tcp'] })
  expect(of('r1/eth0').nat).toEqual(['host']) // by the rule that was typed
  expect(of('api/eth9').nat).toEqual(['r1']) // by iptables in another lab
  expect(of('web/eth9').state).toBe('down')
  expect(of('api/eth9').state).toBe('no-carrier')
})

test('graph: drawn in every format, to stdout and into files', () => {
  using host = twoLabs()
  host.sh('ip link add bad type veth peer name "x<&" netns api')
  const draw = (...args: string[]) => nsNet(host, ['graph', ...args], { env: { LC_ALL: 'C.UTF-8' } }).stdout
  const text = draw()
  expect(text).toMatch(/^host\n/)
  expect(text).toMatch(/^│ {2}├─ veth\w+ {2}═══ web:eth0 {2}10\.88\.0\.2\/16/m)
  expect(text).toMatch(/^├─ eth9 +172\.16\.0\.2\/30 {2}═══ web:eth9 {2}172\.16\.0\.1\/30$/m)
  for (const line of text.split('\n')) expect(line.length).toBeLessThanOrEqual(80)
  const plain = nsNet(host, ['graph'], { env: { LC_ALL: 'C' } }).stdout
  expect(plain).toMatch(/^\|- /m)
  expect(plain).not.toMatch(/[├└│═]/)

  expect(draw('--format', 'mermaid')).toMatch(/^flowchart LR\n {2}subgraph p0\["host"\]\n/)
  expect(draw('--format', 'dot')).toMatch(/^graph "ns-net" \{\n/)
  for (const [file, beginning] of [
    ['labs.svg', '<svg xmlns="http://www.w3.org/2000/svg"'],
    ['labs.mmd', 'flowchart LR'],
    ['labs.dot', 'graph "ns-net" {'],
    ['labs.txt', 'host\n'],
  ] as const) {
    expect(draw('-o', `/run/${file}`)).toBe(`/run/${file}\n`)
    expect(readFileSync(host.file(`/run/${file}`), 'utf8').startsWith(beginning)).toBe(true)
  }
  const svg = draw('--format', 'svg')
  for (const name of ['web', 'api', 'nsbr0', '10.88.0.2/16', '172.16.0.1/30', 'x&lt;&amp;'])
    expect(svg).toContain(`>${name}</text>`)
  expect(nsNet(host, ['graph', '-o', '/run/none/x.svg'], { expectFailure: true })).toMatchObject({ status: 3 })
  expect(nsNet(host, ['graph', '--format', 'png'], { expectFailure: true })).toMatchObject({ status: 2 })
})
