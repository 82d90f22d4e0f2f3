import { expect, test } from 'vitest'
import { sourceSeen, tellAddress } from './echo-server.ts'
import { createHost, requireTool } from './host.ts'

const ipam = {
  type: 'host-local',
  ranges: [[{ subnet: '10.1.0.0/24' }], [{ subnet: 'fd00:1::/64' }]],
  routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
}

test.for(['veth', 'ptp'])('%s: reachable both ways at once, each family, and masqueraded outside', (type, context) => {
  for (const tool of ['ping', 'socat']) requireTool(tool, context)
  using host = createHost()
  const outside = host.addUplink()
  tellAddress(outside)
  const [a, b] = ['c1', 'c2'].map((name) => {
    const container = host.addContainer(name)
    const config = { cniVersion: '1.1.0', name: 'n1', type, ipMasq: true, ipam }
    const call = { config, containerId: name, netns: container.path, ifName: 'eth0' }
    const { json } = host.cni(type, 'ADD', call)
    // At once: neither end may wait for IPv6 duplicate address detection.
    for (const address of json.ips.map(({ address }: { address: string }) => address.split('/')[0]))
      host.run(['ping', '-c1', '-W1', address])
    return { ...container, call }
  })
  for (const address of ['10.1.0.1', '10.1.0.3', '192.0.2.2', 'fd00:1::1', 'fd00:1::3', '2001:db8::2'])
    a!.run(['ping', '-c1', '-W1', address])
  expect(sourceSeen(a!, '192.0.2.2')).toBe('192.0.2.1')
  expect(sourceSeen(a!, '2001:db8::2')).toMatch(/2001:.*db8.*1/)
  host.cni(type, 'DEL', a!.call)
  b!.run(['ping', '-c1', '-W1', '10.1.0.1'])
  host.cni(type, 'DEL', b!.call)
  expect(host.run(['ip', '-br', 'link']).stdout).not.toMatch(/^veth/m)
})
