import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { expect, type TestContext, test } from 'vitest'
import { createHost, executables, type Host, referencePlugins, requireTool } from './host.ts'
import { kernelState } from './kernel-state.ts'

/* The name that a person gives to the host's end of an attachment: iproute2 judges whether the kernel knows it. */

const nsNet = (host: Host, ...args: string[]) => host.run([`${executables}/ns-net`, ...args])
const refused = (host: Host, ...args: string[]) => host.run([`${executables}/ns-net`, ...args], { expectFailure: true })

/** Of the host's link that has this name, or undefined. */
function linkCalled(host: Host, name: string): { ifname: string; altnames: string[] } | undefined {
  const { status, stdout } = host.run(['ip', '-j', 'link', 'show', 'dev', name], { expectFailure: 'maybe' })
  return status === 0 ? JSON.parse(stdout)[0] : undefined
}

function requireReference(context: TestContext): void {
  if (!existsSync(`${referencePlugins}/macvlan`)) context.skip('containernetworking-plugins is not installed')
}

const pair = ['--ptp', '--subnet', '10.0.0.0/24', '--ip', '10.0.0.2', '--if', 'veth-container']

test('the tutorial with both names: ip and ping take the one on the host', (context) => {
  requireTool('ping', context)
  using host = createHost()
  const before = host.json(['ip', '-j', 'link', 'show'])
  nsNet(host, 'add', 'mycontainer', ...pair, '--host-if', 'veth-host')
  expect(linkCalled(host, 'veth-host')).toMatchObject({
    ifname: expect.stringMatching(/^veth[0-9a-f]{11}$/),
    altnames: ['veth-host'],
  })
  expect(linkCalled(host, 'veth-container')).toBeUndefined()
  host.run(['ip', '-n', 'mycontainer', 'link', 'show', 'dev', 'veth-container'])
  host.run(['ping', '-c1', '-W5', '-I', 'veth-host', '10.0.0.2'])

  const json = JSON.parse(nsNet(host, 'show', 'mycontainer', '--json').stdout)
  expect(json.networks[0]).toMatchObject({ ifName: 'veth-container', hostIf: 'veth-host' })
  expect(nsNet(host, 'show', 'mycontainer').stdout).toMatch(/^network .* veth-host$/m)
  nsNet(host, 'del', 'mycontainer')
  expect(host.json(['ip', '-j', 'link', 'show'])).toEqual(before)
})

test('tcpdump takes the name on the host', (context) => {
  for (const tool of ['ping', 'tcpdump']) requireTool(tool, context)
  // It changes to a user of its own.
  if (readFileSync('/proc/self/gid_map', 'utf8').trim().split(/\s+/)[2] === '1')
    context.skip('a user namespace with one group: tcpdump cannot become its own user')
  using host = createHost()
  nsNet(host, 'add', 'mycontainer', ...pair, '--host-if', 'veth-host')
  const seen = host.sh('ping -i0.2 10.0.0.2 >/dev/null & timeout 20 tcpdump -nc1 -i veth-host icmp; kill $!').stdout
  expect(seen).toContain('ICMP echo')
})

test('a network with a bridge, a setting of --net, attach, and a name of 127 bytes', () => {
  using host = createHost()
  const long = 'w'.repeat(127)
  nsNet(host, 'net', 'create', 'back', '--internal')
  nsNet(host, 'net', 'create', 'side', '--internal')
  nsNet(host, 'add', 'web', '--net', 'default:host-if=web-out', '--net', 'back:host-if=web.back,if=net1')
  nsNet(host, 'attach', 'web', 'side', '--host-if', long)
  for (const name of ['web-out', 'web.back', long]) expect(linkCalled(host, name)?.altnames).toEqual([name])
  nsNet(host, 'detach', 'web', 'back')
  expect(linkCalled(host, 'web.back')).toBeUndefined()
  expect(linkCalled(host, 'web-out')).toBeDefined()
})

test('the end that a plugin of somebody else made', (context) => {
  requireReference(context)
  using host = createHost()
  const ipam = { type: 'host-local', subnet: '10.1.0.0/24' }
  const plugins = [{ type: 'theirs', bridge: 'br1', isGateway: true, ipam }]
  writeFileSync(host.file('/run/theirs.conflist'), JSON.stringify({ cniVersion: '1.0.0', name: 'theirs', plugins }))
  host.sh(
    `mkdir /run/plugins; cp ${referencePlugins}/bridge /run/plugins/theirs; cp ${referencePlugins}/host-local /run/plugins/`,
  )
  const env = { CNI_PATH: '/run/plugins' }
  host.run([`${executables}/ns-net`, 'add', 'web', '--conf', '/run/theirs.conflist', '--host-if', 'out'], { env })
  expect(linkCalled(host, 'out')?.ifname).toMatch(/^veth[0-9a-f]{8}$/)
})

test('a name that is taken names its holder, and nothing is left', () => {
  using host = createHost()
  host.sh('ip link add br9 type bridge; ip link property add dev br9 altname second')
  nsNet(host, 'add', 'web', '--host-if', 'out')
  // What a first lab leaves on the host is there already.
  const before = { kernel: kernelState(host), netns: host.run(['ip', 'netns']).stdout }
  for (const [name, holder] of [
    ['out', /by link veth[0-9a-f]{11} \(ns-net:default:web:eth0\)/],
    ['br9', /by a bridge link/],
    ['second', /by link br9/],
  ] as const) {
    for (const args of [[], pair]) {
      const { status, stderr } = refused(host, 'add', 'api', '--host-if', name, ...args)
      expect({ status, stderr }).toMatchObject({ status: 4, stderr: expect.stringMatching(holder) })
    }
    expect({ kernel: kernelState(host), netns: host.run(['ip', 'netns']).stdout }).toEqual(before)
  }
  nsNet(host, 'net', 'create', 'back')
  expect(refused(host, 'attach', 'web', 'back', '--host-if', 'out').status).toBe(4)
  expect(JSON.parse(nsNet(host, 'show', 'web', '--json').stdout).networks).toHaveLength(1)
  expect({ kernel: kernelState(host), netns: host.run(['ip', 'netns']).stdout }).toEqual(before)
})

test('names that are no names, and networks without an end on the host', (context) => {
  requireReference(context) // its macvlan
  using host = createHost()
  host.addUplink()
  for (const name of ['', 'a b', 'a/b', 'a:b', 'a%d', '-a', '.', '..', 'x'.repeat(128), 'ü'.repeat(64)]) {
    const { status, stderr } = refused(host, 'add', 'web', `--host-if=${name}`)
    expect({ name, status, stderr }).toMatchObject({ status: 2, stderr: expect.stringContaining('bad name') })
  }
  expect(refused(host, 'add', 'web', '--no-net', '--host-if', 'out')).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('--host-if needs a network'),
  })
  const ipam = { type: 'host-local', subnet: '10.77.0.0/24' }
  const plugins = [{ type: 'macvlan', master: 'eth0', ipam }]
  writeFileSync(host.file('/run/lan.conflist'), JSON.stringify({ cniVersion: '1.0.0', name: 'lan', plugins }))
  const { status, stderr } = refused(host, 'add', 'web', '--conf', '/run/lan.conflist', '--host-if', 'out')
  expect({ status, stderr }).toMatchObject({ status: 2, stderr: expect.stringContaining('no end on the host') })
  expect(host.run(['ip', 'netns']).stdout).toBe('')
  expect(host.run(['find', '/var/lib/cni/networks', '-name', '10.77.*']).stdout).toBe('')
})

test('lab files: the name is applied, changed and taken away, exported, saved and restored', () => {
  using host = createHost()
  const file = (hostIf?: string) => ({
    lab: 'demo',
    nodes: { web: { nets: [{ name: 'default', ...(hostIf && { 'host-if': hostIf }) }] } },
  })
  const apply = (...names: [string?]) =>
    host.run([`${executables}/ns-net`, 'apply', '-f', '-'], { input: JSON.stringify(file(...names)) }).stdout
  apply('out')
  expect(linkCalled(host, 'out')).toBeDefined()
  expect(apply('out')).toContain('nothing to do')
  const exported = nsNet(host, 'export', 'demo').stdout
  expect(exported).toContain('host-if: out')
  expect(host.run([`${executables}/ns-net`, 'apply', '-f', '-'], { input: exported }).stdout).toContain('nothing to do')

  nsNet(host, 'save')
  nsNet(host, 'del', '--all')
  expect(linkCalled(host, 'out')).toBeUndefined()
  nsNet(host, 'restore')
  expect(linkCalled(host, 'out')).toBeDefined()

  apply('other')
  expect([linkCalled(host, 'out'), linkCalled(host, 'other')?.altnames]).toEqual([undefined, ['other']])
  apply()
  expect(linkCalled(host, 'other')).toBeUndefined()
  const bad = { input: JSON.stringify(file('a b')), expectFailure: true }
  expect(host.run([`${executables}/ns-net`, 'validate', '-f', '-'], bad).stderr).toContain('nodes.web.nets[0].host-if')
})

test('--explain tells it as a command, whose paste on another host makes the same, and del takes it back', () => {
  using first = createHost()
  using second = createHost()
  const told = nsNet(first, 'add', 'web', ...pair, '--host-if', 'out', '--explain').stdout
  expect(told).toMatch(/^ip link property add dev veth[0-9a-f]{11} altname out$/m)
  second.run(['sh', '-e'], { input: told })
  expect(linkCalled(second, 'out')).toEqual({
    ...linkCalled(first, 'out'),
    address: linkCalled(second, 'out') && expect.any(String),
  })

  const gone = nsNet(first, 'del', 'web', '--explain').stdout
  const [, undo = ''] = /^: <<'UNDO'.*\n([\s\S]*?)^UNDO$/m.exec(gone) ?? []
  first.run(['sh', '-e'], { input: undo })
  expect(linkCalled(first, 'out')?.altnames).toEqual(['out'])
})

test('--dry-run knows the names that are taken', () => {
  using host = createHost()
  nsNet(host, 'add', 'web', '--host-if', 'out')
  expect(refused(host, 'add', 'api', '--host-if', 'out', '--dry-run').stderr).toContain('taken on the host')
  expect(nsNet(host, 'add', 'api', '--host-if', 'other', '--dry-run').stdout).toContain('altname other')
  expect(linkCalled(host, 'other')).toBeUndefined()
})
