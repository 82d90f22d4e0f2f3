import { expect, test } from 'vitest'
import {
  createHost,
  executables,
  type Host,
  type RunOptions,
  type RunResult,
  referencePlugins,
  requireTool,
} from './host.ts'

const program = `${executables}/ns-net`
const examples = new URL('../conf-examples', import.meta.url).pathname
const nsNet = (host: Host, args: string[], options: RunOptions = {}): RunResult => host.run([program, ...args], options)

interface Leftover {
  readonly kind: string
  readonly name: string
}
const leftovers = (host: Host): Leftover[] =>
  JSON.parse(nsNet(host, ['prune', '--json'], { expectFailure: 'maybe' }).stdout).leftovers
const kinds = (host: Host): string[] => [...new Set(leftovers(host).map(({ kind }) => kind))].sort()

/** Forwarding is the host's own setting: others may rely on it by now. */
function state(host: Host) {
  const { sysctls: _, files, routes, ...rest } = host.snapshot({ ignoreLeaseMarks: true })
  const kept = (routes as { type?: string }[]).filter(({ type }) => type !== 'anycast')
  return { ...rest, routes: kept, files: Object.entries(files).filter(([path]) => path !== '/etc/netns/') }
}

/** Labs whose records and namespaces are lost: nothing but what the plugins and ns-net left on the host. */
function lose(host: Host, ...labs: string[]): void {
  for (const lab of labs) host.sh(`rm /run/ns-net/labs/${lab}.json; ip netns del ${lab}`)
  // The links go some time after the namespace.
  host.sh(
    'for i in $(seq 100); do ip -o link | grep -q "alias ns-net:.*:\\(web\\|limited\\|tuned\\|spoof\\|older\\):" || break; sleep 0.05; done',
  )
}

test('what crashes left is found by our marks, shown, and removed when told to', (context) => {
  for (const tool of ['nft', 'iptables', 'tc']) requireTool(tool, context)
  using host = createHost()
  // The first rule makes iptables' own chains, which stay.
  nsNet(host, ['add', 'older', '--conf', `${examples}/bridge-iptables.conflist`])
  nsNet(host, ['del', 'older'])
  const before = state(host)
  expect(nsNet(host, ['prune']).stdout).toBe('nothing to prune\n')
  nsNet(host, ['add', 'web', '-p', '8080:80'])
  nsNet(host, ['add', 'limited', '--conf', `${examples}/bandwidth.conflist`])
  nsNet(host, ['add', 'tuned', '--conf', `${examples}/tuning.conflist`])
  nsNet(host, ['add', 'spoof', '--conf', `${examples}/bridge-macspoofchk.conflist`])
  nsNet(host, ['add', 'older', '--conf', `${examples}/bridge-iptables.conflist`])
  lose(host, 'web', 'limited', 'tuned', 'spoof', 'older')
  host.sh(
    'mkdir -p /run/ns-net/exec/web /run/ns-net/applied; touch /run/ns-net/labs/web.json.new /run/ns-net/exec/web/0.log',
  )

  const crashed = state(host)
  const shown = nsNet(host, ['prune'], { expectFailure: true })
  expect(shown).toMatchObject({ status: 1, stderr: '' })
  expect(shown.stdout).toMatch(/^KIND +NAME +WHY\n/)
  expect(shown.stdout).toMatch(/^lease +10\.88\.0\.2 on default +web is gone$/m)
  expect(shown.stdout).toMatch(/ns-net prune --yes removes them$/m)
  expect(kinds(host)).toEqual(['bridge', 'chain', 'file', 'lease', 'link', 'result', 'rules', 'settings'])
  expect(state(host)).toEqual(crashed)

  expect(nsNet(host, ['prune', '--yes']).stdout).toMatch(/^removed (\d+) of \1$/m)
  expect(nsNet(host, ['prune']).stdout).toBe('nothing to prune\n')
  const { files, ...rest } = state(host)
  const { files: filesBefore, ...restBefore } = before
  expect(rest).toEqual(restBefore)
  const known = (entries: typeof files) =>
    entries.filter(([path]) => !path.endsWith('/') && !path.endsWith('default.conflist'))
  expect(known(files)).toEqual(known(filesBefore))
})

test('a record whose namespace is gone', () => {
  using host = createHost()
  const before = state(host)
  nsNet(host, ['add', 'web', '-p', '8080:80'])
  host.run(['ip', 'netns', 'del', 'web'])
  expect(leftovers(host)).toEqual(expect.arrayContaining([expect.objectContaining({ kind: 'lab', name: 'web' })]))
  nsNet(host, ['prune', '--yes'])
  expect(state(host)).toEqual(before)
})

test('chains of iptables whose records are lost', (context) => {
  requireTool('iptables', context)
  using host = createHost()
  host.run(['iptables', '-t', 'nat', '-A', 'POSTROUTING', '-s', '192.0.2.0/24', '-j', 'MASQUERADE'])
  const before = state(host)
  nsNet(host, ['add', 'older', '--conf', `${examples}/bridge-iptables.conflist`])
  lose(host, 'older')
  host.sh('rm -r /run/ns-net/nat')
  expect(host.run(['iptables-save', '-t', 'nat']).stdout).toContain('NS-NET-')
  nsNet(host, ['prune', '--yes'])
  expect(state(host).iptables).toEqual(before.iptables)
})

test('what lives stays as it is: labs, what others attached by our plugins, and all that only looks like ours', (context) => {
  for (const tool of ['nft', 'iptables']) requireTool(tool, context)
  using host = createHost()
  nsNet(host, ['add', 'live', '-p', '8081:80'])
  nsNet(host, ['net', 'create', 'unused'])
  // A container of another runtime, whose cache we do not know: its namespace has a name.
  const container = host.addContainer('cni-7c1f')
  const config = {
    cniVersion: '1.0.0',
    name: 'theirs',
    type: 'bridge',
    bridge: 'cni0',
    isGateway: true,
    ipMasq: true,
    ipam: { type: 'host-local', ranges: [[{ subnet: '10.99.0.0/24' }]] },
  }
  host.cni('bridge', 'ADD', { config, containerId: 'abc', netns: container.path, ifName: 'eth0' })
  // One that only a process holds.
  const sleeper = host.start(['unshare', '--net', 'sleep', '1000'])
  host.sh(
    `for i in $(seq 100); do [ "$(readlink /proc/${sleeper.pid}/ns/net)" != "$(readlink /proc/self/ns/net)" ] && break; sleep 0.05; done`,
  )
  host.cni('bridge', 'ADD', { config, containerId: 'def', netns: `/proc/${sleeper.pid}/ns/net`, ifName: 'eth0' })
  // Look-alikes: names as ours, and no mark.
  host.sh(`
    ip link add ns-fake type bridge
    ip link add nsbr1 type bridge
    ip link add veth12345678901 type veth peer name veth12345678902
    ip link add vethalias type veth peer name vethalias2
    ip link set vethalias alias ns-net:x
    ip link add bwp123456789012 type ifb
    nft add table inet ns-net-mine
    nft add chain inet ns-net-mine forward
    nft add table netdev ns-net-theirs
    iptables -N NS-NETWORK
    iptables -A FORWARD -j NS-NETWORK
    mkdir -p /etc/netns/mine /etc/netns/half /run/cni/tuning /var/lib/cni/networks/old
    echo nameserver 192.0.2.1 > /etc/netns/mine/resolv.conf
    echo nameserver 192.0.2.1 > /etc/netns/half/resolv.conf
    echo '{"mac": "02:00:00:00:00:01"}' > /run/cni/tuning/abc_eth0.json
    printf 'gone\\r\\neth0' > /var/lib/cni/networks/old/10.77.0.2
    ip netns add plain`)
  // The reference's own lease in a folder that we use as well.
  const reference = { ...config, ipam: { ...config.ipam, ranges: [[{ subnet: '10.98.0.0/24' }]] } }
  const judge = host.run(['test', '-x', `${referencePlugins}/host-local`], { expectFailure: 'maybe' }).status === 0
  if (judge)
    host.run([`${referencePlugins}/host-local`], {
      input: JSON.stringify(reference),
      env: {
        CNI_COMMAND: 'ADD',
        CNI_CONTAINERID: 'ghi',
        CNI_NETNS: '/gone',
        CNI_IFNAME: 'eth0',
        CNI_PATH: referencePlugins,
      },
    })
  const before = state(host)
  expect(leftovers(host)).toEqual([])
  expect(nsNet(host, ['prune', '--yes']).stdout).toBe('nothing to prune\n')
  expect(state(host)).toEqual(before)

  // With something to prune on the same networks, the same stays.
  nsNet(host, ['add', 'web', '-p', '8080:80'])
  const second = host.addContainer('cni-9999')
  host.cni('bridge', 'ADD', { config, containerId: 'xyz', netns: second.path, ifName: 'eth0' })
  lose(host, 'web')
  host.run(['ip', 'netns', 'del', 'cni-9999'])
  host.sh('for i in $(seq 100); do ip -o link | grep -q "alias ns-net:theirs:xyz:" || break; sleep 0.05; done')
  expect(leftovers(host)).toEqual(
    expect.arrayContaining([
      expect.objectContaining({ kind: 'lease', name: '10.99.0.4 on theirs' }),
      expect.objectContaining({ kind: 'rules', name: 'theirs xyz eth0' }),
      expect.objectContaining({ kind: 'rules', name: 'default web eth0' }),
    ]),
  )
  nsNet(host, ['prune', '--yes'])
  expect(state(host)).toEqual(before)

  sleeper.kill('SIGKILL')
  host.run(['ip', 'netns', 'del', 'cni-7c1f'])
  host.sh('for i in $(seq 100); do ip -o link | grep -q "alias ns-net:theirs:" || break; sleep 0.05; done')
  nsNet(host, ['prune', '--yes'])
  expect(host.run(['nft', 'list', 'ruleset']).stdout).not.toContain('comment "theirs ')
  expect(host.run(['ip', 'link', 'show', 'cni0'], { expectFailure: true }).stderr).toContain('does not exist')
  expect(nsNet(host, ['show', 'live', '--json']).stdout).toContain('"drift": []')
})

test('on a terminal it asks, and takes everything but a yes for a no', (context) => {
  const script = requireTool('script', context)
  using host = createHost()
  nsNet(host, ['add', 'web'])
  host.run(['ip', 'netns', 'del', 'web'])
  const answer = (text: string) =>
    host.run([script, '-qec', `${program} prune`, '/dev/null'], { input: `${text}\n`, expectFailure: 'maybe' })
  const no = answer('n')
  expect(no.stdout).toContain('remove all')
  expect(no.stdout).toContain('nothing was removed')
  expect(no.status).toBe(1)
  expect(leftovers(host)).not.toEqual([])
  expect(answer('y').stdout).toMatch(/removed (\d+) of \1/)
  expect(leftovers(host)).toEqual([])
})
