import { existsSync } from 'node:fs'
import { expect, type TestContext, test } from 'vitest'
import { type Container, createHost, type Host, referencePlugins, requireTool } from './host.ts'
import { requireKernel } from './kernel-feature.ts'

const ipam = { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/24' }], [{ subnet: 'fd00:1::/64' }]] }
const network = { cniVersion: '1.0.0', name: 'n1', type: 'bridge', bridge: 'br1', ipam }

/** Attaches a new container called `name`; `options` are added to the network's configuration. */
function attach(host: Host, name: string, options: object, plugin = { path: undefined as string | undefined }) {
  const container = host.addContainer(name)
  const config = { ...network, ...options }
  const call = { config, containerId: name, netns: container.path, ifName: 'eth0', ...(plugin.path && plugin) }
  const result = host.cni('bridge', 'ADD', call).json
  return {
    container,
    result,
    port: result.interfaces[1].name as string,
    address: (result.ips?.[0]?.address ?? '').split('/')[0] as string,
    check: () =>
      host.cni('bridge', 'CHECK', { ...call, config: { ...config, prevResult: result }, expectFailure: 'maybe' }),
    del: () => host.cni('bridge', 'DEL', call),
  }
}

const answers = (container: Container, address: string): boolean =>
  container.run(['ping', '-c1', '-W2', address], { expectFailure: 'maybe' }).status === 0

interface Vlan {
  readonly vlan: number
  readonly vlanEnd?: number
  readonly flags?: readonly string[]
}

/** A port's VLANs as the kernel's own tool tells them, each for itself: `100 PVID Egress Untagged`, `5`, `6`. */
const vlansOf = (host: Host, port: string): string[] =>
  host
    .json(['bridge', '-j', 'vlan', 'show', 'dev', port])
    .flatMap(({ vlans }: { vlans: Vlan[] }) => vlans)
    .flatMap(({ vlan, vlanEnd = vlan, flags = [] }: Vlan) =>
      Array.from({ length: vlanEnd - vlan + 1 }, (_, i) => [vlan + i, ...flags].join(' ')),
    )

function requireVlans(context: TestContext): void {
  requireTool('bridge', context)
  requireTool('ping', context)
  requireKernel(context, 'bridge vlan filtering')
}

test('vlan: who is in it reaches each other and its gateway, and nobody else does', (context) => {
  requireVlans(context)
  using host = createHost()
  const red = { vlan: 100, preserveDefaultVlan: false, isDefaultGateway: true }
  const a = attach(host, 'a', red)
  const b = attach(host, 'b', red)
  const c = attach(host, 'c', { vlan: 200, preserveDefaultVlan: false })
  const plain = attach(host, 'plain', {})
  expect(vlansOf(host, a.port)).toEqual(['100 PVID Egress Untagged'])
  expect(vlansOf(host, c.port)).toEqual(['200 PVID Egress Untagged'])
  expect(vlansOf(host, plain.port)).toEqual(['1 PVID Egress Untagged'])
  expect(host.json(['ip', '-j', '-d', 'link', 'show', 'br1'])[0].linkinfo.info_data.vlan_filtering).toBe(1)

  for (const address of [b.address, '10.1.0.1', 'fd00:1::1', b.result.ips[1].address.split('/')[0]])
    expect({ address, reached: answers(a.container, address) }).toEqual({ address, reached: true })
  for (const [from, to] of [
    [a, c],
    [c, a],
    [a, plain],
    [plain, a],
  ] as const)
    expect(answers(from.container, to.address)).toBe(false)
  // The gateway stands on a link of the VLAN's own, so others do not reach it either.
  expect(a.result.interfaces[3]).toMatchObject({ name: 'br1.100' })
  expect(host.json(['ip', '-j', 'addr', 'show', 'br1.100'])[0].addr_info).toEqual(
    expect.arrayContaining([expect.objectContaining({ local: '10.1.0.1', prefixlen: 24 })]),
  )
  expect(answers(plain.container, '10.1.0.1')).toBe(false)

  for (const attached of [a, b, c, plain]) {
    expect(attached.check()).toMatchObject({ status: 0, stdout: '' })
    attached.del()
    host.run(['ip', 'netns', 'del', attached.container.name])
  }
  const names = host.json(['ip', '-j', 'link']).map(({ ifname }: { ifname: string }) => ifname)
  expect(names.sort()).toEqual(['br1', 'br1.100', 'lo', expect.stringMatching(/^veth/)]) // shared, so they stay
})

test('CHECK notices a port that left its VLAN, or is in it otherwise', (context) => {
  requireVlans(context)
  using host = createHost()
  const a = attach(host, 'a', { vlan: 100 })
  const trunk = attach(host, 'trunk', { vlanTrunk: [{ minID: 5, maxID: 7 }] })
  for (const { check } of [a, trunk]) expect(check()).toMatchObject({ status: 0, stdout: '' })
  host.run(['bridge', 'vlan', 'add', 'dev', a.port, 'vid', '100']) // neither PVID nor untagged now
  expect(a.check().json).toMatchObject({ code: 104, msg: expect.stringMatching(/not in VLAN 100/) })
  host.run(['bridge', 'vlan', 'add', 'dev', a.port, 'vid', '100', 'pvid', 'untagged'])
  expect(a.check().status).toBe(0)
  host.run(['bridge', 'vlan', 'del', 'dev', trunk.port, 'vid', '6'])
  expect(trunk.check().json).toMatchObject({ code: 104, msg: expect.stringMatching(/not in VLAN 6/) })
})

test('vlanTrunk: tagged frames of its VLANs pass, and of no others', (context) => {
  requireVlans(context)
  requireKernel(context, '8021q')
  using host = createHost()
  const vlanTrunk = [{ minID: 5, maxID: 7 }, { id: 9 }]
  const trunk = attach(host, 'trunk', { vlanTrunk, preserveDefaultVlan: false })
  expect(vlansOf(host, trunk.port)).toEqual(['5', '6', '7', '9'])
  for (const vlan of [6, 8, 9]) {
    const access = attach(host, `c${vlan}`, { vlan, preserveDefaultVlan: false, ipam: undefined })
    access.container.sh(`ip addr add 10.${vlan}.0.2/24 dev eth0`)
    trunk.container.sh(`ip link add link eth0 name eth0.${vlan} type vlan id ${vlan}
                        ip addr add 10.${vlan}.0.1/24 dev eth0.${vlan}
                        ip link set eth0.${vlan} up`)
    expect({ vlan, reached: answers(trunk.container, `10.${vlan}.0.2`) }).toEqual({ vlan, reached: vlan !== 8 })
  }
  expect(trunk.check()).toMatchObject({ status: 0, stdout: '' })
})

test('preserveDefaultVlan, true unless told: the port keeps VLAN 1 beside its own', (context) => {
  requireVlans(context)
  using host = createHost()
  const tagged = { vlanTrunk: [{ id: 9 }] }
  const cases: [options: object, vlans: string[]][] = [
    [{ vlan: 100 }, ['1 Egress Untagged', '100 PVID Egress Untagged']],
    [{ vlan: 100, preserveDefaultVlan: false }, ['100 PVID Egress Untagged']],
    [tagged, ['1 PVID Egress Untagged', '9']],
    [{ ...tagged, preserveDefaultVlan: false }, ['9']],
    [{ ...tagged, vlan: 100, preserveDefaultVlan: false }, ['9', '100 PVID Egress Untagged']],
    [{ preserveDefaultVlan: false }, ['1 PVID Egress Untagged']], // says nothing without VLANs
  ]
  cases.forEach(([options, vlans], i) => {
    const { port, check } = attach(host, `c${i}`, options)
    expect({ options, vlans: vlansOf(host, port) }).toEqual({ options, vlans })
    expect(check().status).toBe(0)
  })
})

test('vlan with a gateway: the same VLANs as by the reference plugin', (context) => {
  requireVlans(context)
  if (!existsSync(`${referencePlugins}/bridge`)) context.skip('containernetworking-plugins is not installed')
  const made = [undefined, referencePlugins].map((path) => {
    using host = createHost()
    const { port, container } = attach(host, 'a', { vlan: 100, isGateway: true }, { path })
    const gateway = host.json(['ip', '-j', '-d', 'link', 'show', 'br1.100'])[0]
    const reached = answers(container, '10.1.0.1')
    return { vlans: vlansOf(host, port), peer: vlansOf(host, gateway.link), kind: gateway.linkinfo.info_kind, reached }
  })
  expect(made[0]).toEqual(made[1])
  expect(made[0]).toMatchObject({ kind: 'veth', reached: true })
})

test('a bridge that does not filter VLANs is refused, and the remedy told is one', (context) => {
  requireVlans(context)
  using host = createHost()
  const container = host.addContainer('a')
  host.run(['ip', 'link', 'add', 'br1', 'type', 'bridge'])
  const call = { config: { ...network, vlan: 7 }, containerId: 'a', netns: container.path, ifName: 'eth0' }
  const { json } = host.cni('bridge', 'ADD', { ...call, expectFailure: true })
  expect(json).toMatchObject({ code: 50, msg: 'bridge "br1" cannot filter VLANs, which vlan and vlanTrunk need' })
  host.sh(/: (ip link set .*)$/.exec(json.details)![1]!)
  const port = host.cni('bridge', 'ADD', call).json.interfaces[1].name
  expect(vlansOf(host, port)).toContain('7 PVID Egress Untagged')
})
