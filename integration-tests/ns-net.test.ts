import { expect, test } from 'vitest'
import { sourceSeen, tellAddress } from './echo-server.ts'
import { createHost, executables, type Host, type Place, type RunOptions, requireTool } from './host.ts'

const nsNet = (host: Host, ...args: string[]) => host.run([`${executables}/ns-net`, ...args])
const refused = (host: Host, args: string[], options: RunOptions = {}) =>
  host.run([`${executables}/ns-net`, ...args], { expectFailure: true, ...options })
const inLab = (host: Host, name: string): Place => ({
  ...host,
  run: (command, options) => host.run(['ip', 'netns', 'exec', name, ...command], options),
})

/**
 * What must be as before after the last del. Forwarding is the host's own setting, others may rely on it by now; an
 * empty /etc/netns goes with the last lab, unless it is a mount point.
 */
function state(host: Host) {
  const { sysctls: _, files, ...rest } = host.snapshot({ ignoreLeaseMarks: true })
  return { ...rest, files: Object.entries(files).filter(([path]) => path !== '/etc/netns/') }
}

/** What a person types after reading a tutorial, with the parts that tutorials forget: forwarding and DNS. */
function tutorial(host: Host, names: readonly string[]): void {
  host.sh(`ip link add br0 type bridge
           ip addr add 10.88.0.1/16 dev br0
           ip link set br0 up
           echo 1 > /proc/sys/net/ipv4/ip_forward
           nft add table ip nat
           nft add chain ip nat post '{ type nat hook postrouting priority srcnat; }'
           nft add rule ip nat post ip saddr 10.88.0.0/16 ip daddr != 10.88.0.0/16 masquerade`)
  for (const [i, name] of names.entries())
    host.sh(`ip netns add ${name}
             ip link add veth-${i} type veth peer name eth0 netns ${name}
             ip link set veth-${i} master br0 up
             ip -n ${name} addr add 10.88.0.${i + 2}/16 dev eth0
             ip -n ${name} link set eth0 up
             ip -n ${name} link set lo up
             ip -n ${name} route add default via 10.88.0.1
             mkdir -p /etc/netns/${name}
             echo nameserver 192.0.2.2 > /etc/netns/${name}/resolv.conf`)
}

/** What a lab's user notices: who answers, and as whom one is seen outside. */
function reachability(host: Host, outside: Place) {
  const ping = (from: string, to: string) =>
    inLab(host, from).run(['ping', '-c1', '-W2', to], { expectFailure: 'maybe' }).status === 0
  const back = (to: string) => outside.run(['ping', '-c1', '-W1', to], { expectFailure: 'maybe' }).status === 0
  return {
    gateway: ping('web', '10.88.0.1'),
    itself: ping('web', '127.0.0.1'),
    other: ping('web', '10.88.0.3') && ping('api', '10.88.0.2'),
    outside: ping('web', '192.0.2.2'),
    sourceOutside: sourceSeen(inLab(host, 'web'), '192.0.2.2'),
    fromOutside: back('10.88.0.2'),
    addresses: host
      .json(['ip', '-j', '-n', 'web', 'addr', 'show', 'dev', 'eth0'])[0]
      .addr_info.filter(({ scope }: { scope: string }) => scope === 'global')
      .map(({ local, prefixlen }: { local: string; prefixlen: number }) => `${local}/${prefixlen}`),
    routes: host
      .json(['ip', '-j', '-n', 'web', 'route'])
      .map(({ dst, gateway, dev }: Record<string, string>) => ({ dst, gateway, dev })),
    loUp: host.json(['ip', '-j', '-n', 'web', 'link', 'show', 'lo'])[0].flags.includes('UP'),
    nameserver: inLab(host, 'web').run(['grep', 'nameserver', '/etc/resolv.conf']).stdout.trim(),
  }
}

function hostWithUplink(): { host: Host; outside: Place } {
  const host = createHost()
  const outside = host.addUplink()
  tellAddress(outside)
  host.sh('echo nameserver 192.0.2.2 > /etc/resolv.conf')
  return { host, outside }
}

test('ns-net add reaches what the tutorial reaches, and del takes all of it back', (context) => {
  for (const tool of ['ping', 'socat', 'nft']) requireTool(tool, context)
  const byHand = hostWithUplink()
  using theirs = byHand.host
  tutorial(theirs, ['web', 'api'])
  const expected = reachability(theirs, byHand.outside)
  expect(expected).toMatchObject({ gateway: true, other: true, outside: true, sourceOutside: '192.0.2.1', loUp: true })

  const byUs = hostWithUplink()
  using ours = byUs.host
  const before = state(ours)
  nsNet(ours, 'add', 'web')
  nsNet(ours, 'add', 'api')
  expect(reachability(ours, byUs.outside)).toEqual(expected)
  expect(ours.run(['ip', 'netns', 'list']).stdout).toMatch(/^(web|api)( .*)?\n(web|api)( .*)?\n$/)

  nsNet(ours, 'del', 'web')
  nsNet(ours, 'del', 'api')
  expect(state(ours)).toEqual(before)
  expect(
    ours.run(['find', '/var/lib/cni', '/run/ns-net.lock', '/run/ns-net', '-type', 'f'], { expectFailure: 'maybe' })
      .stdout,
  ).toBe('')
})

test('every verb as JSON', () => {
  using host = createHost()
  const json = (...args: string[]) => JSON.parse(nsNet(host, ...args, '--json').stdout)
  const attached = { network: 'default', ifName: 'eth0', addresses: ['10.88.0.2/16'] }
  expect(json('add', 'web')).toEqual({
    name: 'web',
    netns: '/run/netns/web',
    networks: [{ ...attached, gateway: '10.88.0.1', bridge: 'nsbr0', nat: true }],
  })
  expect(json('ls')).toMatchObject([{ name: 'web', state: 'ok', processes: 0, networks: [attached] }])
  const shown = json('show', 'web')
  expect(shown).toMatchObject({
    name: 'web',
    drift: [],
    networks: [{ ...attached, gateway: '10.88.0.1', bridge: 'nsbr0' }],
  })
  expect(shown.routes).toContainEqual({ dst: 'default', gateway: '10.88.0.1', link: 'eth0' })
  expect(json('ping', 'web', '-c', '1')).toMatchObject({ from: 'web', to: '10.88.0.1', sent: 1, received: 1 })
  expect(json('del', 'web')).toEqual([{ name: 'web', deleted: true }])
  expect(json('ls')).toEqual([])
})

test('show names what is missing or different', () => {
  using host = createHost()
  nsNet(host, 'add', 'web')
  host.run(['ip', '-n', 'web', 'addr', 'del', '10.88.0.2/16', 'dev', 'eth0'])
  expect(nsNet(host, 'show', 'web').stdout).toMatch(/^state\s+drift: .*10\.88\.0\.2\/16 is gone/m)
})

test('refusals: one sentence, a hint, an exit code of its own', () => {
  using host = createHost()
  nsNet(host, 'add', 'web')
  host.addContainer('foreign')
  const cases: [args: string[], status: number, message: RegExp][] = [
    [['add', 'web'], 4, /^ns-net: lab "web" already exists\nhint: .+\n$/],
    [['add', 'foreign'], 4, /^ns-net: a network namespace "foreign" already exists.*\nhint: .*ip netns del foreign\n$/],
    [['del', 'nothere'], 3, /^ns-net: no lab "nothere"\nhint: .+\n$/],
    [['del', 'foreign'], 3, /^ns-net: "foreign" was not made by ns-net\nhint: .+\n$/],
    [['show', 'nothere'], 3, /^ns-net: no lab "nothere"/],
    [['exec', 'nothere', '--', 'true'], 3, /^ns-net: no lab "nothere"/],
    [['add', '../etc'], 2, /^ns-net: bad name "\.\.\/etc"\nhint: .+\n$/],
    [['add', '-x'], 2, /^ns-net: unknown option '-x'/],
    [['add'], 2, /^ns-net: missing required argument 'name'/],
    [['frobnicate'], 2, /^ns-net: unknown command 'frobnicate'/],
    [['add', 'x', '--conf', '/nonexistent'], 3, /^ns-net: .*\/nonexistent/],
    [['ping', 'web', 'not-an-address'], 2, /^ns-net: "not-an-address" is neither an IP address nor a lab/],
    [['ping', 'web', '192.0.2.77', '-c', '1'], 1, /^ns-net: no reply from 192\.0\.2\.77/],
  ]
  for (const [args, status, message] of cases) {
    const result = refused(host, args)
    expect({ args, status: result.status }).toEqual({ args, status })
    expect(result.stderr).toMatch(message)
    expect(result.stdout).toBe('')
  }
  const asJson = refused(host, ['add', 'web', '--json'])
  expect(JSON.parse(asJson.stderr)).toMatchObject({ error: { code: 4, kind: 'conflict', hint: expect.any(String) } })
})

test('without privileges there is one clear sentence, and ls still works', (context) => {
  requireTool('setpriv', context)
  using host = createHost()
  nsNet(host, 'add', 'web')
  const asNobody = ['setpriv', '--reuid=65534', '--clear-groups', '--inh-caps=-all', `${executables}/ns-net`]
  const probe = host.run([...asNobody, 'ls'], { expectFailure: 'maybe' })
  if (/setpriv:/.test(probe.stderr)) context.skip('this user namespace has no second user')
  expect(probe.stdout).toContain('web')
  for (const args of [
    ['add', 'x'],
    ['del', 'web'],
    ['show', 'web'],
    ['exec', 'web', 'true'],
  ]) {
    const result = host.run([...asNobody, ...args], { expectFailure: true })
    expect(result.status).toBe(5)
    expect(result.stderr).toMatch(/^ns-net: \w+ needs root \(CAP_SYS_ADMIN and CAP_NET_ADMIN\)\nhint: .+\n$/)
  }
})

test('exec replaces the process: exit code, signals, directory, environment and files are those of the command', () => {
  using host = createHost()
  nsNet(host, 'add', 'web')
  const exec = (script: string, options: RunOptions = {}) =>
    host.run([`${executables}/ns-net`, 'exec', 'web', '--', 'sh', '-c', script], options)
  expect(exec('exit 7', { expectFailure: true }).status).toBe(7)
  expect(exec('cat', { input: 'through stdin' }).stdout).toBe('through stdin')
  expect(exec('ls /sys/class/net').stdout.split('\n').sort()).toEqual(['', 'eth0', 'lo'])
  expect(exec('cat /etc/resolv.conf').stdout).toContain('written by ns-net')
  expect(exec('echo $FLAVOUR', { env: { FLAVOUR: 'salt' } }).stdout).toBe('salt\n')
  const signals = ['grep', '-E', 'Sig(Blk|Ign)', '/proc/self/status']
  expect(host.run([`${executables}/ns-net`, 'exec', 'web', '--', ...signals]).stdout).toBe(host.run(signals).stdout)
  // The shell's own pid is what it would be without us: nothing waits in between.
  const pid = host
    .sh(`sh -c 'echo $$; exec ${executables}/ns-net exec web -- sh -c "echo \\$\\$"'`)
    .stdout.trim()
    .split('\n')
  expect(pid[0]).toBe(pid[1])
  for (const [command, status] of [
    ['nosuchcommand', 127],
    ['/etc/passwd', 126],
  ] as const)
    expect(refused(host, ['exec', 'web', '--', command]).status).toBe(status)
  expect(host.run(['cat', '/etc/resolv.conf']).stdout).not.toContain('written by ns-net')
})

test('del refuses while processes are inside, and --kill ends them', () => {
  using host = createHost()
  nsNet(host, 'add', 'web')
  host.start([`${executables}/ns-net`, 'exec', 'web', '--', 'sleep', '1000'])
  host.sh('for i in $(seq 100); do [ -n "$(ip netns pids web)" ] && exit; sleep 0.05; done; exit 1')
  const busy = refused(host, ['del', 'web'])
  expect(busy.status).toBe(4)
  expect(busy.stderr).toContain(host.run(['ip', 'netns', 'pids', 'web']).stdout.trim())
  nsNet(host, 'del', 'web', '--kill')
  expect(host.run(['ip', 'netns', 'list']).stdout).toBe('')
})

test('add rolls back whole when a later step fails', () => {
  using host = createHost()
  // A link in the way of the bridge's name: the namespace and its record exist by then.
  host.run(['ip', 'link', 'add', 'nsbr0', 'type', 'veth', 'peer', 'name', 'other'])
  const before = host.snapshot({ ignoreLeaseMarks: true })
  const result = refused(host, ['add', 'web'])
  expect(result.status).toBe(4)
  expect(result.stderr).toMatch(/^ns-net: cannot add "web": "nsbr0" already exists but is not a bridge\nhint: .+\n$/)
  expect(host.snapshot({ ignoreLeaseMarks: true })).toEqual(before)
})

test('del finishes what a killed add left behind', () => {
  using host = createHost()
  const before = state(host)
  for (const milliseconds of [4, 6, 8, 10, 12, 15, 20]) {
    host.sh(`timeout -s KILL ${milliseconds / 1000} ${executables}/ns-net add web || true`)
    host.run([`${executables}/ns-net`, 'del', 'web'], { expectFailure: 'maybe' })
    // Killed before the record was written, an add may leave an empty network behind; the next add and del clear it.
    nsNet(host, 'add', 'web')
    nsNet(host, 'del', 'web')
    expect(state(host)).toEqual(before)
  }
})

test('twenty adds at once get twenty addresses', () => {
  using host = createHost()
  host.sh(`for i in $(seq 20); do ${executables}/ns-net add lab$i >/dev/null & done; wait`)
  const labs = JSON.parse(nsNet(host, 'ls', '--json').stdout)
  expect(labs).toHaveLength(20)
  const addresses = labs.map(({ networks }: { networks: { addresses: string[] }[] }) => networks[0]!.addresses[0])
  expect(new Set(addresses).size).toBe(20)
  host.sh(`for i in $(seq 20); do ${executables}/ns-net del lab$i >/dev/null & done; wait`)
  expect(host.run(['ip', '-br', 'link']).stdout.trim().split('\n')).toHaveLength(1)
})

test('the default range avoids what the host already routes', () => {
  using host = createHost()
  host.sh(`ip link add x type veth peer name y
           ip addr add 10.88.7.1/24 dev x
           ip link set x up`)
  expect(JSON.parse(nsNet(host, 'add', 'web', '--json').stdout).networks[0].addresses).toEqual(['10.89.0.2/16'])
})

test('what other runtimes keep below /run/ns-net stays', () => {
  using host = createHost()
  host.sh('mkdir -p /run/ns-net/nat/net1; echo user > /run/ns-net/nat/net1/chain')
  refused(host, ['del', 'nothere'])
  nsNet(host, 'add', 'web')
  nsNet(host, 'del', 'web')
  expect(host.run(['find', '/run/ns-net', '-type', 'f']).stdout).toBe('/run/ns-net/nat/net1/chain\n')
})

test('a configuration that cannot be used is told once, with exit code 2, and keys match in any letter case', () => {
  using host = createHost()
  const conf = (bridge: object) =>
    host.run(['tee', '/run/lab.conflist'], {
      input: JSON.stringify({
        cniVersion: '1.1.0',
        name: 'own',
        plugins: [{ type: 'bridge', isGateway: true, ipam: { type: 'host-local', SUBNET: '10.5.0.0/24' }, ...bridge }],
      }),
    })
  conf({ mtu: '1500' })
  const wrong = refused(host, ['add', 'web', '--conf', '/run/lab.conflist'])
  expect(wrong.status).toBe(2)
  expect(wrong.stderr.match(/mtu: expected an integer/g)).toHaveLength(1)
  conf({ BRIDGE: 'lab0' })
  nsNet(host, 'add', 'web', '--conf', '/run/lab.conflist')
  expect(host.run(['ip', '-br', 'link', 'show', 'lab0']).stdout).toMatch(/^lab0/)
  expect(nsNet(host, 'exec', 'web', '--json', '--', 'echo', 'hello').stdout).toBe('hello\n')
  nsNet(host, 'del', 'web')
  expect(host.json(['ip', '-j', 'link'])).toHaveLength(1)
})

test('reload puts back what a flush took: for labs, and for attachments that another runtime recorded', (context) => {
  for (const tool of ['nft', 'socat']) requireTool(tool, context)
  const { host, outside: _ } = hostWithUplink()
  using _host = host
  nsNet(host, 'add', 'web')
  nsNet(host, 'add', 'api')
  const before = host.snapshot()
  expect(sourceSeen(inLab(host, 'web'), '192.0.2.2')).toBe('192.0.2.1')
  host.sh('nft flush ruleset; echo 0 > /proc/sys/net/ipv4/ip_forward; rm -rf /run/ns-net') // the labs' own records too
  expect(() => sourceSeen(inLab(host, 'web'), '192.0.2.2')).toThrow()
  expect(JSON.parse(nsNet(host, 'reload', '--json').stdout)).toEqual([
    { container: 'api', network: 'default', ifName: 'eth0' },
    { container: 'web', network: 'default', ifName: 'eth0' },
  ])
  expect(sourceSeen(inLab(host, 'web'), '192.0.2.2')).toBe('192.0.2.1')
  nsNet(host, 'reload') // again, and nothing changes
  expect(host.snapshot().nftables).toEqual(before.nftables)
})

test('a lab gets out although iptables forwards nothing, as Docker sets it', (context) => {
  for (const tool of ['iptables', 'socat']) requireTool(tool, context)
  const { host, outside: _ } = hostWithUplink()
  using _host = host
  host.sh(
    'iptables -P FORWARD DROP; ip6tables -P FORWARD DROP; iptables -N DOCKER-USER; iptables -A FORWARD -j DOCKER-USER',
  )
  // Chains that iptables makes at their first use, and keeps.
  nsNet(host, 'add', 'web')
  nsNet(host, 'del', 'web')
  const before = state(host)
  nsNet(host, 'add', 'web')
  expect(sourceSeen(inLab(host, 'web'), '192.0.2.2')).toBe('192.0.2.1')
  nsNet(host, 'del', 'web')
  expect(state(host)).toEqual(before)
})
