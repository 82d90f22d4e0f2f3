import { expect, test } from 'vitest'
import { createHost, type Host, requireTool } from './host.ts'

const ipam = { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/24' }], [{ subnet: 'fd00:1::/64' }]] }
const network = { cniVersion: '1.1.0', name: 'n1', type: 'bridge', bridge: 'br1', isDefaultGateway: true, ipam }

/** A host with containers c1, c2 … attached to the network; keys of `options` are added to its configuration. */
function attach(host: Host, options: object, names = ['c1']) {
  const config = { ...network, ...options }
  return names.map((name) => {
    const container = host.addContainer(name)
    const call = { config, containerId: name, netns: container.path, ifName: 'eth0' }
    const result = host.cni('bridge', 'ADD', call).json
    const check = () =>
      host.cni('bridge', 'CHECK', { ...call, config: { ...config, prevResult: result }, expectFailure: 'maybe' })
    const answers = (address: string) =>
      container.run(['ping', '-c1', '-W1', address], { expectFailure: 'maybe' }).status === 0
    return {
      container,
      result,
      check,
      answers,
      del: () => host.cni('bridge', 'DEL', call),
      outer: result.interfaces[1].name,
    }
  })
}

const port = (host: Host, name: string) =>
  host.json(['ip', '-j', '-d', 'link', 'show', name])[0].linkinfo.info_slave_data

test('portIsolation: containers reach the gateway and not each other', (context) => {
  requireTool('ping', context)
  using host = createHost()
  const [a, b] = attach(host, { portIsolation: true }, ['c1', 'c2'])
  expect(port(host, a!.outer)).toMatchObject({ isolated: true, hairpin: false })
  expect([a!.answers('10.1.0.1'), a!.answers('fd00:1::1'), a!.answers('10.1.0.3'), b!.answers('10.1.0.2')]).toEqual([
    true,
    true,
    false,
    false,
  ])
  expect(a!.check().status).toBe(0)
  host.run(['ip', 'link', 'set', a!.outer, 'type', 'bridge_slave', 'isolated', 'off'])
  expect(a!.check().json.msg).toMatch(/portIsolation/)
})

test('hairpinMode and promiscMode are seen by ip, and CHECK notices when they are changed', () => {
  using host = createHost()
  const [a] = attach(host, { hairpinMode: true })
  expect(port(host, a!.outer)).toMatchObject({ hairpin: true })
  host.run(['ip', 'link', 'set', a!.outer, 'type', 'bridge_slave', 'hairpin', 'off'])
  expect(a!.check().json).toMatchObject({ code: 104, msg: expect.stringMatching(/hairpinMode/) })

  const [b] = attach(
    host,
    {
      bridge: 'br2',
      name: 'n2',
      promiscMode: true,
      ipam: { type: 'host-local', ranges: [[{ subnet: '10.2.0.0/24' }]] },
    },
    ['c2'],
  )
  expect(host.json(['ip', '-j', 'link', 'show', 'br2'])[0].flags).toContain('PROMISC')
  host.run(['ip', 'link', 'set', 'br2', 'promisc', 'off'])
  expect(b!.check().json.msg).toMatch(/promiscMode/)
})

test('macspoofchk: frames with another source MAC are dropped, and the rules go with the last container', (context) => {
  for (const tool of ['ping', 'nft']) requireTool(tool, context)
  using host = createHost()
  const before = host.snapshot().nftables
  const [a, b] = attach(host, { macspoofchk: true }, ['c1', 'c2'])
  expect(a!.answers('10.1.0.1') && a!.answers('10.1.0.3')).toBe(true)
  expect(a!.check().status).toBe(0)
  a!.container.sh(`ip link set eth0 down
                   ip link set eth0 address 02:00:00:00:00:01
                   ip link set eth0 up
                   ip route add default via 10.1.0.1`)
  expect(a!.answers('10.1.0.1')).toBe(false)
  expect(b!.answers('10.1.0.1')).toBe(true)
  host.run(['nft', 'flush', 'chain', 'netdev', 'ns-net', b!.outer])
  expect(b!.check().json.msg).toMatch(/MAC spoofing/)
  for (const { del } of [a!, b!, b!]) del()
  expect(host.snapshot().nftables).toEqual(before)
})

test('macspoofchk: many containers attached and detached at once', (context) => {
  requireTool('nft', context)
  using host = createHost()
  const before = host.snapshot().nftables
  const config = JSON.stringify({ ...network, macspoofchk: true })
  const each = (verb: string) =>
    host.sh(
      `cd /opt 2>/dev/null || cd /
       for i in $(seq 12); do
         [ ${verb} = DEL ] || ip netns add p$i
         (echo '${config}' | CNI_COMMAND=${verb} CNI_CONTAINERID=p$i CNI_NETNS=/run/netns/p$i CNI_IFNAME=eth0 CNI_PATH=/x "$BRIDGE" >/run/out.$i || touch /run/failed) &
       done
       wait
       [ ! -e /run/failed ] || { cat /run/out.*; exit 1; }`,
      { env: { BRIDGE: new URL('../dist/bin/bridge', import.meta.url).pathname } },
    )
  each('ADD')
  expect(host.run(['nft', 'list', 'table', 'netdev', 'ns-net']).stdout.match(/hook ingress/g)).toHaveLength(12)
  each('DEL')
  expect(host.snapshot().nftables).toEqual(before)
})

test('disableContainerInterface leaves the interface down, and contradicts ipam', () => {
  using host = createHost()
  const container = host.addContainer('c1')
  const call = (config: object) => ({ config, containerId: 'c1', netns: container.path, ifName: 'eth0' })
  const { ipam: _, isDefaultGateway: __, ...layer2 } = network
  const refused = host.cni('bridge', 'ADD', {
    ...call({ ...network, disableContainerInterface: true }),
    expectFailure: true,
  })
  expect(refused.json).toMatchObject({ code: 7, msg: expect.stringMatching(/disableContainerInterface.*ipam/) })
  host.cni('bridge', 'ADD', call({ ...layer2, disableContainerInterface: true }))
  expect(container.json(['ip', '-j', 'link', 'show', 'eth0'])[0].flags).not.toContain('UP')
  host.cni('bridge', 'DEL', call({ ...layer2, disableContainerInterface: true }))
  host.cni('bridge', 'ADD', call(layer2))
  expect(container.json(['ip', '-j', 'link', 'show', 'eth0'])[0].flags).toContain('UP')
})

test('enabledad: ADD returns with addresses that have passed detection, and refuses a duplicate', {
  timeout: 60_000,
}, () => {
  using host = createHost()
  const [a] = attach(host, { enabledad: true })
  const [{ addr_info }] = a!.container.json(['ip', '-j', 'addr', 'show', 'dev', 'eth0'])
  const address = addr_info.find(({ local }: { local: string }) => local === 'fd00:1::2')
  expect(address).toBeDefined()
  expect(address).not.toHaveProperty('tentative')
  expect(address).not.toHaveProperty('nodad')

  // Somebody on the bridge has the next address already.
  host.sh(`ip netns add squatter
           ip link add sq type veth peer name eth0 netns squatter
           ip link set sq master br1 up
           ip -n squatter addr add fd00:1::3/64 dev eth0 nodad
           ip -n squatter link set eth0 up`)
  const container = host.addContainer('c2')
  const config = { ...network, enabledad: true }
  const refused = host.cni('bridge', 'ADD', {
    config,
    containerId: 'c2',
    netns: container.path,
    ifName: 'eth0',
    expectFailure: true,
  })
  expect(refused.json).toMatchObject({ code: 103, msg: expect.stringMatching(/fd00:1::3\/64 .*already used/) })
  expect(container.json(['ip', '-j', 'link'])).toHaveLength(1)
})

test('routes of the result with all attributes of 1.1 are in the kernel', () => {
  using host = createHost()
  const routes = [
    { dst: '10.9.0.0/16', gw: '10.1.0.1', mtu: 1400, advmss: 1300, priority: 50 },
    { dst: '10.8.0.0/16', table: 1000 },
    { dst: '10.7.0.0/16', scope: 253, gw: undefined },
    { dst: 'fd00:9::/64', priority: 60, mtu: 1380 },
  ]
  const [a] = attach(host, { ipam: { ...ipam, routes } })
  const ip = (...args: string[]) => a!.container.json(['ip', '-j', ...args])
  expect(ip('route', 'show', '10.9.0.0/16')).toMatchObject([
    { gateway: '10.1.0.1', metric: 50, metrics: [{ mtu: 1400, advmss: 1300 }] },
  ])
  expect(ip('route', 'show', 'table', '1000')).toMatchObject([{ dst: '10.8.0.0/16', gateway: '10.1.0.1' }])
  expect(ip('-6', 'route', 'show', 'fd00:9::/64')).toMatchObject([
    { gateway: 'fd00:1::1', metric: 60, metrics: [{ mtu: 1380 }] },
  ])
  expect(a!.result.routes).toContainEqual({ dst: '10.9.0.0/16', gw: '10.1.0.1', mtu: 1400, advmss: 1300, priority: 50 })
  expect(a!.check().status).toBe(0)
  a!.container.run(['ip', 'route', 'del', '10.8.0.0/16', 'table', '1000'])
  expect(a!.check().json.msg).toMatch(/route 10\.8\.0\.0\/16 .*is gone/)
})

test('vlan and vlanTrunk where the kernel cannot: an error that names its option, and nothing is left', (context) => {
  using host = createHost()
  const container = host.addContainer('c1')
  for (const options of [{ vlan: 100 }, { vlanTrunk: [{ minID: 5, maxID: 7 }, { id: 9 }] }]) {
    const call = { config: { ...network, ...options }, containerId: 'c1', netns: container.path, ifName: 'eth0' }
    const { status, json } = host.cni('bridge', 'ADD', { ...call, expectFailure: 'maybe' })
    if (status === 0) context.skip('this kernel can: bridge-vlans.test.ts')
    expect(json).toMatchObject({ code: 50, details: expect.stringMatching(/CONFIG_BRIDGE_VLAN_FILTERING/) })
    expect(host.json(['ip', '-j', 'link'])).toHaveLength(1)
    expect(host.run(['find', '/var/lib/cni', '-name', '10.1.0.*']).stdout).toBe('')
  }
})

test('a key that looks misspelt is told on stderr, never on stdout', () => {
  using host = createHost()
  const container = host.addContainer('c1')
  const config = { ...network, isGatway: true, kubernetes: {}, ipam: { ...ipam, rangs: [] } }
  const { stderr, json } = host.cni('bridge', 'ADD', {
    config,
    containerId: 'c1',
    netns: container.path,
    ifName: 'eth0',
  })
  expect(stderr).toBe(
    'unknown key "isGatway" is ignored; did you mean "isGateway"?\nunknown key "ipam.rangs" is ignored; did you mean "ranges"?\n',
  )
  expect(json.ips).toHaveLength(2)
})

test('a second ADD of an attachment is refused and leaves the first one working', (context) => {
  requireTool('ping', context)
  using host = createHost()
  const [a] = attach(host, {})
  const other = host.addContainer('c2')
  const before = host.snapshot()
  const call = { config: network, containerId: 'c1', ifName: 'eth0', expectFailure: true }
  expect(host.cni('bridge', 'ADD', { ...call, netns: a!.container.path }).json).toMatchObject({ code: 103 })
  expect(host.cni('bridge', 'ADD', { ...call, netns: other.path }).json).toMatchObject({
    code: 103,
    msg: expect.stringMatching(/^container c1 is already attached to network "n1" by eth0/),
  })
  expect(host.snapshot()).toEqual(before)
  expect(a!.answers('10.1.0.1')).toBe(true)
})

test('two networks with default routes: when one goes, the other takes over', (context) => {
  requireTool('ping', context)
  using host = createHost()
  host.addUplink()
  const container = host.addContainer('c1')
  const attachTo = (n: number) => {
    const own = { type: 'host-local', ranges: [[{ subnet: `10.${n}.0.0/24` }], [{ subnet: `fd00:${n}::/64` }]] }
    const config = { ...network, name: `n${n}`, bridge: `br${n}`, ipMasq: true, ipam: own }
    const call = { config, containerId: 'c1', netns: container.path, ifName: `eth${n}` }
    host.cni('bridge', 'ADD', call)
    return call
  }
  const [first] = [attachTo(1), attachTo(2)]
  const reachesOutside = () => {
    for (const address of ['192.0.2.2', '2001:db8::2']) container.run(['ping', '-c1', '-W2', address])
  }
  reachesOutside()
  host.cni('bridge', 'DEL', first!)
  reachesOutside()
  expect(container.json(['ip', '-j', 'route', 'show', 'default'])).toMatchObject([{ gateway: '10.2.0.1', dev: 'eth2' }])
})

test('ipMasq and the nat plugin in one list: the second is refused, and the first goes on', () => {
  using host = createHost()
  const [a] = attach(host, { ipMasq: true })
  const call = { containerId: 'c1', netns: a!.container.path, ifName: 'eth0' }
  const config = { cniVersion: '1.1.0', name: 'n1', type: 'nat', prevResult: a!.result }
  const exempt = { ...config, nonMasqueradeCIDRs: ['192.168.0.0/16'] }
  const before = host.snapshot()
  expect(host.cni('nat', 'ADD', { ...call, config: exempt, expectFailure: true }).json).toMatchObject({
    code: 103,
    msg: expect.stringMatching(/translated already, by other rules/),
  })
  expect(host.snapshot()).toEqual(before)
  expect(a!.check().status).toBe(0)
})

test('STATUS says when the bridge is none that ADD could use, or masquerading has no means', () => {
  using host = createHost()
  host.addContainer('c1')
  const status = (options: object) =>
    host.cni('bridge', 'STATUS', { config: { ...network, ...options }, containerId: 'c1', expectFailure: 'maybe' })
  expect(status({ ipMasq: true, ipMasqBackend: 'iptables' }).status).toBe(0)
  host.sh('ip link add br-plain type bridge; ip link add veth-a type veth peer name veth-b')
  expect(status({ bridge: 'veth-a' }).json).toMatchObject({ code: 50, msg: expect.stringMatching(/is not a bridge/) })
  expect(status({ bridge: 'br-plain', vlan: 100 }).json).toMatchObject({
    code: 50,
    details: expect.stringMatching(/CONFIG_BRIDGE_VLAN_FILTERING/),
  })
  expect(status({ bridge: 'br-plain' }).status).toBe(0)
  host.sh('mkdir /run/empty; for bin in /usr/sbin /sbin /usr/local/sbin; do mount --bind /run/empty $bin; done')
  expect(status({ ipMasq: true, ipMasqBackend: 'iptables' }).json).toMatchObject({
    code: 50,
    msg: expect.stringMatching(/iptables-save is not installed/),
  })
  expect(status({ ipMasq: true }).status).toBe(0)
  expect(status({}).status).toBe(0)
})
