import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { tellAddress } from '../echo-server.ts'
import { type Host, type Place, requireTool } from '../host.ts'
import {
  answers,
  type Cluster,
  createCluster,
  eventually,
  families,
  gateways,
  hasConfiguration,
  mtu,
  type Node,
  outside,
  type Pod,
} from './nodes.ts'

/* What pods notice of the network that the agents make: who answers, and as whom one is seen. */

beforeEach((context) => {
  for (const tool of ['ping', 'socat', 'nft', 'openssl']) requireTool(tool, context)
})

/** The address that the server sees this client under; empty when it does not answer. */
function sourceSeen(client: Place, address: string, port = 7000): string {
  const to = `TCP:${address.includes(':') ? `[${address}]` : address}:${port},connect-timeout=3`
  const seen = client.run(['socat', '-T3', '-u', to, '-'], { expectFailure: 'maybe' }).stdout.trim()
  return seen.startsWith('[') ? new URL(`http://${seen}`).hostname.slice(1, -1) : seen
}

const service = { 4: '10.96.0.10', 6: 'fd00:10:96::10' } as const

/** What kube-proxy makes of a service with one pod: a destination for its address, and a source for who asks itself. */
function provideService(host: Host, { address }: Pod): void {
  host.run(['nft', '-f', '-'], {
    input: `
      table inet service
      delete table inet service
      table inet service {
        chain prerouting {
          type nat hook prerouting priority dstnat;
          ip daddr ${service[4]} dnat ip to ${address[4]}
          ip6 daddr ${service[6]} dnat ip6 to ${address[6]}
        }
        chain postrouting {
          type nat hook postrouting priority srcnat;
          ct status dnat ip saddr ${address[4]} ip daddr ${address[4]} masquerade
          ct status dnat ip6 saddr ${address[6]} ip6 daddr ${address[6]} masquerade
        }
      }`,
  })
}

describe.each(['veth', 'bridge'] as const)('mode %s', (mode) => {
  let cluster: Cluster
  let [near, far]: Node[] = []
  let [web, api, published, remote]: Pod[] = []

  beforeAll(async () => {
    cluster = createCluster()
    near = cluster.addNode('near', 1)
    far = cluster.addNode('far', 2)
    for (const node of [near, far]) node.startAgent('--mode', mode)
    await eventually('configurations', () => hasConfiguration(near!) && hasConfiguration(far!))
    const portMappings = [{ HostPort: 8080, ContainerPort: 7000, Protocol: 'tcp', HostIP: '' }]
    web = near.pod('web')
    api = near.pod('api')
    published = near.pod('published', { portMappings })
    remote = far.pod('remote')
    for (const place of [web, api, published, remote, near.host, far.host, cluster.fabric]) tellAddress(place)
  })
  afterAll(() => cluster[Symbol.dispose]())

  describe.each(families)('IPv%i', (family) => {
    test('a pod reaches one on its node and one on another, under its own address', async () => {
      await eventually('the way to the other node', () => answers(web!, remote!.address[family]))
      expect(sourceSeen(web!, api!.address[family])).toBe(web!.address[family])
      expect(sourceSeen(web!, remote!.address[family])).toBe(web!.address[family])
      expect(sourceSeen(remote!, web!.address[family])).toBe(remote!.address[family])
    })

    test('outside sees the node, every node sees the pod', () => {
      expect(sourceSeen(web!, outside[family])).toBe(near!.address[family])
      expect(sourceSeen(web!, near!.address[family])).toBe(web!.address[family])
      expect(sourceSeen(web!, far!.address[family])).toBe(web!.address[family])
      expect(sourceSeen(near!.host, web!.address[family])).not.toBe('')
    })

    test.each(['0', '1'])('a service with a pod on the same node, bridge-nf-call-iptables %s', (filtered) => {
      const setting = `/proc/sys/net/bridge/bridge-nf-call-ip${family === 6 ? '6' : ''}tables`
      // Without br_netfilter there is no such file, and the kernel does as with 0.
      near!.host.run(['sh', '-c', `[ ! -e ${setting} ] || echo ${filtered} > ${setting}`])
      provideService(near!.host, api!)
      // A host that sees packets leave by the link they came in tells of shorter ways; nobody must take them.
      for (const [from, to] of [
        [web, api],
        [api, web],
      ] as const)
        from!.run(['ping', '-q', '-i', '0.1', '-c', '8', to!.address[family]])
      for (let i = 0; i < 3; i++) {
        expect(sourceSeen(web!, service[family])).toBe(web!.address[family])
        expect(sourceSeen(web!, api!.address[family])).toBe(web!.address[family])
        expect(sourceSeen(api!, web!.address[family])).toBe(api!.address[family])
      }
      expect(sourceSeen(api!, service[family])).not.toBe('') // a pod of the service asks for it
    })

    test('a service with a pod on another node', () => {
      provideService(near!.host, remote!)
      expect(sourceSeen(web!, service[family])).toBe(web!.address[family])
    })

    test('a host port, from outside, from nodes and from pods', () => {
      const seen = (from: Place) => sourceSeen(from, near!.address[family], 8080)
      expect(seen(cluster.fabric)).toBe(gateways[family])
      expect(seen(far!.host)).toBe(far!.address[family])
      expect(seen(remote!)).toBe(remote!.address[family])
      expect(seen(near!.host)).not.toBe('')
      expect(seen(web!)).not.toBe('')
      expect(seen(published!)).not.toBe('') // its own
    })

    test("packets as large as the nodes' link takes, and no larger", () => {
      const payload = mtu - (family === 4 ? 28 : 48)
      const options = (size: number) => ['-M', 'do', '-s', String(size)]
      expect(answers(web!, remote!.address[family], ...options(payload))).toBe(true)
      expect(answers(web!, outside[family], ...options(payload))).toBe(true)
      expect(answers(web!, remote!.address[family], ...options(payload + 1))).toBe(false)
      expect(near!.host.json(['ip', '-j', '-n', web!.name, 'link', 'show', 'eth0'])[0].mtu).toBe(mtu)
    })

    test('an address that no pod has is nowhere, and does not leave the node', () => {
      const nobody = family === 4 ? '10.244.1.200' : 'fd00:10:244:1::200'
      expect(answers(web!, nobody)).toBe(false)
      if (mode === 'veth')
        expect(near!.host.run(['ip', 'route', 'get', nobody], { expectFailure: true }).stderr).toMatch(
          /No route|unreach/,
        )
    })
  })

  test('a stopped pod leaves nothing behind', () => {
    const before = near!.host.snapshot({ ignoreLeaseMarks: true })
    const pod = near!.pod('short')
    pod.stop()
    const after = near!.host.snapshot({ ignoreLeaseMarks: true })
    expect({ ...after, files: undefined }).toEqual({ ...before, files: undefined })
    expect(near!.host.run(['ls', '/run/ns-net/ipam/ns-net']).stdout).not.toContain(pod.address[4])
  })
})
