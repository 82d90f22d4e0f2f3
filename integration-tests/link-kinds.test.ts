import { existsSync, writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { createHost, executables, type Host, type RunOptions, referencePlugins, requireTool } from './host.ts'
import { requireKernel } from './kernel-feature.ts'

// Links of kinds that ns-net makes none of, and meets.

const nsNet = (host: Host, args: string[], options?: RunOptions) =>
  host.run([`${executables}/ns-net`, ...args], options)

/** A lab with a dummy link, a VLAN on its eth0, an ipvlan on the host's dummy link, and eth0 in a VRF of its own. */
function makeLinks(host: Host): void {
  nsNet(host, ['add', 'web'])
  host.sh(`
    ip link add d0 type dummy
    ip addr add 10.50.0.1/24 dev d0
    ip link set d0 up
    ip link add iv0 link d0 netns web type ipvlan mode l2
    ip -n web link add link eth0 name eth0.7 type vlan id 7
    ip -n web link add d1 type dummy
    ip -n web link add red type vrf table 10
    ip -n web link set d1 master red
    ip -n web link set red up
    ip -n web link set d1 up
    ip -n web link set iv0 up
    ip -n web addr add 10.50.0.2/24 dev iv0`)
}

test('graph tells kinds and who stands on whom, as ip does', (context) => {
  requireKernel(context, 'dummy', 'ipvlan', '8021q', 'vrf')
  using host = createHost()
  makeLinks(host)
  const { nodes, edges } = JSON.parse(nsNet(host, ['graph', '--json']).stdout)
  const kindOf = (id: string) => nodes.find((node: { id: string }) => node.id === id)?.kind
  const inWeb = host.json(['ip', '-j', '-d', '-n', 'web', 'link'])
  for (const { ifname, linkinfo } of inWeb)
    expect([ifname, kindOf(`web/${ifname}`)]).toEqual([ifname, linkinfo?.info_kind ?? 'loopback'])
  expect(kindOf('host/d0')).toBe('dummy')
  expect(edges).toEqual(
    expect.arrayContaining([
      { kind: 'parent', a: 'web/iv0', b: 'host/d0' },
      { kind: 'parent', a: 'web/eth0.7', b: 'web/eth0' },
    ]),
  )
})

test('the verbs that look go on beside them, and del leaves what is not ours', (context) => {
  requireKernel(context, 'dummy', 'ipvlan', '8021q', 'vrf')
  using host = createHost()
  const before = host.json(['ip', '-j', 'link'])
  makeLinks(host)
  nsNet(host, ['add', 'api'])
  for (const args of [['ls', '--all'], ['show', 'web'], ['ping', 'web'], ['matrix'], ['export', '--all'], ['doctor']]) {
    const { status, stderr } = nsNet(host, args, { expectFailure: 'maybe' })
    expect({ args, status, stderr }).toEqual({
      args,
      status: expect.toSatisfy((code) => code <= 1),
      stderr: expect.not.stringMatching(/ at |internal/),
    })
  }
  nsNet(host, ['del', 'web'])
  nsNet(host, ['del', 'api'])
  const left = host.json(['ip', '-j', 'link']).map(({ ifname }: { ifname: string }) => ifname)
  expect(left.filter((name: string) => !name.startsWith('nsbr'))).toEqual([
    ...before.map(({ ifname }: { ifname: string }) => ifname),
    'd0',
  ])
})

const ipam = { type: 'host-local', subnet: '10.60.0.0/24' }

/** Adds a lab by a list of plugins, and tells what ip says of its eth0. */
function addBy(host: Host, lab: string, ...plugins: object[]) {
  writeFileSync(host.file('/run/list.conflist'), JSON.stringify({ cniVersion: '1.0.0', name: 'list', plugins }))
  nsNet(host, ['add', lab, '--conf', '/run/list.conflist'])
  return host.json(['ip', '-j', '-d', '-n', lab, 'link', 'show', 'dev', 'eth0'])[0]
}

test('labs by the reference plugins ipvlan and vlan, and eth0 put into a VRF', (context) => {
  requireKernel(context, 'dummy', 'ipvlan', '8021q', 'vrf')
  requireTool('ping', context)
  if (!existsSync(`${referencePlugins}/vrf`)) context.skip('containernetworking-plugins is not installed')
  using host = createHost()
  host.sh('ip link add d0 type dummy; ip link set d0 up')
  const before = host.run(['ip', 'link']).stdout
  const ping = (lab: string, ...args: string[]) =>
    host.run(['ip', 'netns', 'exec', lab, 'ping', '-c1', '-W5', ...args], { expectFailure: 'maybe' }).status

  const ipvlan = { type: 'ipvlan', master: 'd0', ipam }
  expect(addBy(host, 'a', ipvlan).linkinfo.info_kind).toBe('ipvlan')
  addBy(host, 'b', ipvlan)
  expect(ping('a', '10.60.0.3')).toBe(0)
  expect(JSON.parse(nsNet(host, ['show', 'a', '--json']).stdout).networks).toMatchObject([{ ifName: 'eth0' }])
  for (const lab of ['a', 'b']) nsNet(host, ['del', lab])

  const tagged = addBy(host, 'c', { type: 'vlan', master: 'd0', vlanId: 7, ipam })
  expect(tagged.linkinfo).toMatchObject({ info_kind: 'vlan', info_data: { id: 7 } })
  nsNet(host, ['del', 'c'])
  expect(host.run(['ip', 'link']).stdout).toBe(before)

  const bridge = { type: 'bridge', bridge: 'br60', isGateway: true, ipam }
  expect(addBy(host, 'd', bridge, { type: 'vrf', vrfname: 'red' }).master).toBe('red')
  expect(ping('d', '10.60.0.1')).not.toBe(0) // no route outside of the VRF
  expect(ping('d', '-I', 'red', '10.60.0.1')).toBe(0)
  nsNet(host, ['del', 'd'])
  expect(host.run(['ip', 'link']).stdout).toBe(before)
})
