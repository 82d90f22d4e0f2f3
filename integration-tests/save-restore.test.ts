import { cpSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
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
const nsNet = (host: Host, args: string[], options: RunOptions = {}): RunResult => host.run([program, ...args], options)

/** A second host with the disk of the first one, as after a reboot: what was in memory is gone. */
function reboot(host: Host): Host {
  const next = createHost()
  for (const directory of ['/etc/ns-net', '/etc/netns', '/var/lib/cni'])
    if (existsSync(host.file(directory))) {
      mkdirSync(next.file(directory), { recursive: true })
      cpSync(host.file(directory), next.file(directory), { recursive: true, verbatimSymlinks: true })
    }
  return next
}

type Row = Readonly<Record<string, unknown>>

/** Links with their MACs and addresses, and routes, as ip(8) tells them. */
function inside(host: Host, lab: string) {
  const links: Row[] = host.json(['ip', '-j', '-n', lab, 'addr'])
  const routes: Row[] = host.json(['ip', '-j', '-n', lab, 'route']) ?? []
  return {
    links: links
      .map(({ ifname, mtu, address, operstate, addr_info }) => ({
        ifname,
        mtu,
        address,
        operstate,
        addresses: (addr_info as Row[])
          .filter(({ scope }) => scope === 'global')
          .map(({ local, prefixlen }) => `${local}/${prefixlen}`),
      }))
      .sort((a, b) => (String(a.ifname) < String(b.ifname) ? -1 : 1)),
    routes: routes.map(({ dst, gateway, dev }) => `${dst} ${gateway ?? '-'} ${dev}`).sort(),
  }
}

const labs = ['web', 'api', 'r1']
const everything = (host: Host) => ({
  inside: labs.map((lab) => inside(host, lab)),
  rules: (host.json(['nft', '-j', 'list', 'ruleset']).nftables as Row[])
    .filter((object) => !('metainfo' in object))
    .map((object) => JSON.stringify(object).replaceAll(/"(handle|packets|bytes)":\d+,?/g, ''))
    .sort(),
  shape: host.run(['tc', '-n', 'r1', 'qdisc', 'show', 'dev', 'eth9']).stdout.replaceAll(/refcnt \d+/g, ''),
  ports: nsNet(host, ['port', 'ls']).stdout,
  networks: nsNet(host, ['net', 'ls']).stdout,
  labels: (JSON.parse(nsNet(host, ['ls', '--json']).stdout) as Row[]).map(({ name, labels }) => [name, labels]),
})

function fill(host: Host): void {
  const document = {
    lab: 'clos1',
    networks: { lan: { subnet: '10.10.0.0/24', ipv6: 'auto' } },
    nodes: {
      r1: { nets: ['lan'], sysctls: { 'net.ipv4.ip_forward': 1 }, routes: [{ dst: '10.30.0.0/24', via: '10.10.0.9' }] },
      web: { nets: ['lan'], ports: ['8080:80'], exec: ["socat TCP-LISTEN:80,fork,reuseaddr SYSTEM:'echo web'"] },
    },
    links: [{ a: 'r1:eth9', b: 'web:eth9', addr: ['172.16.0.1/30', '172.16.0.2/30'], shape: { rate: '10mbit' } }],
  }
  nsNet(host, ['apply', '-f', '-'], { input: JSON.stringify(document) })
  nsNet(host, ['add', 'api', '-p', '9000:90', '--label', 'tier=back'])
}

test('after a reboot everything is as it was: addresses, MACs, ports, cables, shapes, commands', (context) => {
  for (const tool of ['nft', 'tc', 'socat']) requireTool(tool, context)
  using host = createHost()
  fill(host)
  const before = everything(host)
  expect(nsNet(host, ['save']).stdout).toBe('/etc/ns-net/saved.json  3 labs, 2 networks, 1 links\n')

  using next = reboot(host)
  expect(nsNet(next, ['restore']).status).toBe(0)
  expect(everything(next)).toEqual(before)
  const ask = ['socat', '-T5', '-u', 'TCP:127.0.0.1:8080,retry=50,interval=0.1', '-']
  expect(next.run(ask).stdout).toBe('web\n')

  // What is there stays, and the lab file is known.
  const made = [everything(next), next.json(['ip', '-j', '-n', 'web', 'link'])]
  expect(nsNet(next, ['restore']).stdout).toBe('/etc/ns-net/saved.json  nothing to do\n')
  expect([everything(next), next.json(['ip', '-j', '-n', 'web', 'link'])]).toEqual(made)
  expect(nsNet(next, ['down', 'clos1']).stdout).toMatch(/^web {2}deleted$/m)
  nsNet(next, ['del', 'api'])
  expect(next.run(['ip', 'netns', 'list']).stdout).toBe('')
  expect(next.run(['sh', '-c', 'find /var/lib/cni -type f -name "10.*"']).stdout).toBe('')
})

test('labs on routed links and on macvlan keep their MACs, over a reboot and over export and apply', (context) => {
  if (!existsSync(`${referencePlugins}/macvlan`)) context.skip(`${referencePlugins}/macvlan is not installed`)
  using host = createHost()
  host.addUplink()
  nsNet(host, ['net', 'create', 'routed', '--driver', 'ptp', '--subnet', '10.20.0.0/24', '--internal'])
  for (const [name, ...more] of [['outer'], ['inner', '--internal']] as const)
    nsNet(host, ['net', 'create', name, '--driver', 'macvlan', '--parent', 'eth0', ...more])
  nsNet(host, ['add', 'a', '--net', 'routed', '--net', 'outer', '--net', 'inner'])
  nsNet(host, ['add', 'b', '--net', 'routed:mac=02:00:00:00:00:0b', '--net', 'outer:mac=02:00:00:00:00:1b'])
  const macs = ({ links }: ReturnType<typeof inside>) => links.map(({ ifname, address }) => [ifname, address])
  const view = (on: Host) => ['a', 'b'].map((lab) => inside(on, lab))
  const before = view(host)
  expect(macs(before[1]!)).toEqual([
    ['eth0', '02:00:00:00:00:0b'],
    ['eth1', '02:00:00:00:00:1b'],
    ['lo', '00:00:00:00:00:00'],
  ])

  const document = nsNet(host, ['export']).stdout
  expect(document).not.toContain('conflist')
  expect(nsNet(host, ['diff', '-f', '-'], { input: document }).stdout).toBe('')
  using applied = createHost()
  applied.addUplink()
  nsNet(applied, ['apply', '-f', '-'], { input: document })
  expect(view(applied)).toEqual(before)

  nsNet(host, ['save'])
  using next = reboot(host)
  next.addUplink()
  nsNet(next, ['restore'])
  expect(view(next)).toEqual(before)
})

test('restore adds what is missing and changes nothing else', () => {
  using host = createHost()
  fill(host)
  nsNet(host, ['save', '/run/saved.json'])
  nsNet(host, ['del', 'web', '--kill'])
  nsNet(host, ['port', 'rm', 'api', '9000'])
  nsNet(host, ['port', 'add', 'api', '9001:90'])
  const api = [nsNet(host, ['port', 'ls', 'api']).stdout, inside(host, 'api')]
  const { stdout } = nsNet(host, ['restore', '/run/saved.json'])
  expect(stdout.split('\n').filter((line) => !line.startsWith('start'))).toEqual([
    expect.stringMatching(/^create lab web {2}lan eth0 10\.10\.0\.\d fd\S+ [0-9a-f:]{17}$/),
    'add cable r1:eth9  web:eth9',
    'shape r1:eth9  rate 10mbit',
    '/run/saved.json  4 steps done',
    '',
  ])
  expect([nsNet(host, ['port', 'ls', 'api']).stdout, inside(host, 'api')]).toEqual(api)
  expect(nsNet(host, ['diff', '-f', '-'], { input: nsNet(host, ['export']).stdout }).status).toBe(0)
})

test('a name that somebody else has taken meanwhile is left out, and told', () => {
  using host = createHost()
  fill(host)
  nsNet(host, ['save'])
  using next = reboot(host)
  next.addContainer('web')
  const { stdout } = nsNet(next, ['restore'])
  expect(stdout).toMatch(/^note: lab web is not restored: a namespace of that name was not made by ns-net$/m)
  expect(next.json(['ip', '-j', '-n', 'web', 'link'])).toHaveLength(1)
  expect(inside(next, 'api')).toEqual(inside(host, 'api'))
})

test('a failing step is told, and the next restore goes on', (context) => {
  requireTool('socat', context)
  using host = createHost()
  fill(host)
  nsNet(host, ['save'])
  using next = reboot(host)
  next.sh('ip link add dummy0 type veth peer name dummy1; ip addr add 10.10.0.200/24 dev dummy0; ip link set dummy0 up')
  const refused = nsNet(next, ['restore', '--json'], { expectFailure: true })
  expect(refused.status).toBe(8)
  expect(JSON.parse(refused.stdout)).toMatchObject({ failed: { action: 'create network', subject: 'lan' } })
  next.sh('ip link del dummy0')
  nsNet(next, ['restore'])
  for (const lab of labs) expect(inside(next, lab)).toEqual(inside(host, lab))
})

test('what cannot be read is refused; before anything was saved there is nothing to do', () => {
  using host = createHost()
  expect(nsNet(host, ['restore']).stdout).toBe('nothing was saved: /etc/ns-net/saved.json does not exist\n')
  expect(nsNet(host, ['restore', '/run/none.json'], { expectFailure: true }).status).toBe(3)
  host.run(['tee', '/run/other.json'], { input: '{"a": 1}' })
  expect(nsNet(host, ['restore', '/run/other.json'], { expectFailure: true })).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('/run/other.json was not written by ns-net save'),
  })
})

test('the systemd unit restores at boot and saves at shutdown', (context) => {
  using host = createHost()
  const unit = nsNet(host, ['save', '--unit']).stdout
  expect(unit).toContain(`ExecStart=${program} restore\n`)
  expect(unit).toContain(`ExecStop=${program} save\n`)
  expect(nsNet(host, ['save', '--install-unit']).stdout).toMatch(
    /^\/etc\/systemd\/system\/ns-net\.service {2}written$/m,
  )
  expect(readFileSync(host.file('/etc/systemd/system/ns-net.service'), 'utf8')).toBe(unit)
  const analyze = requireTool('systemd-analyze', context)
  const judged = host.run([analyze, 'verify', '/etc/systemd/system/ns-net.service'], { expectFailure: 'maybe' })
  expect(judged.stderr.split('\n').filter((line) => line.includes('ns-net'))).toEqual([])
})
