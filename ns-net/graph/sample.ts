import type { Graph, GraphLink } from './graph.ts'

/** For the tests of drawings: a host with an uplink and a bridge, two labs, a cable between them, one that is broken. */

const link = (place: string, name: string, rest: Partial<GraphLink> = {}): GraphLink => ({
  id: `${place}/${name}`,
  place,
  name,
  index: 2,
  kind: 'veth',
  state: 'up',
  mtu: 1500,
  addresses: [],
  gateways: [],
  nat: [],
  ports: [],
  ...rest,
})

export const hostile = `<b>&"'\u001b[31m`

export const sample: Graph = {
  places: [
    { id: 'host', name: 'host', kind: 'host' },
    { id: 'api', name: 'api', kind: 'lab', netns: '/run/netns/api' },
    { id: 'bare', name: 'bare', kind: 'namespace', netns: '/run/netns/bare' },
    { id: 'web', name: 'web', kind: 'lab', netns: '/run/netns/web' },
    { id: hostile, name: hostile, kind: 'namespace', netns: `/run/netns/${hostile}` },
    { id: 'unknown:host:4', name: 'another namespace', kind: 'unknown' },
  ],
  nodes: [
    link('host', 'lo', { kind: 'loopback', addresses: ['127.0.0.1/8'] }),
    link('host', 'eth0', { kind: 'device', addresses: ['192.0.2.1/24', 'fe80::1/64'], gateways: ['192.0.2.254'] }),
    link('host', 'nsbr0', { kind: 'bridge', addresses: ['10.88.0.1/16'] }),
    link('host', 'veth1'),
    link('host', 'veth2'),
    link('host', 'x"<&'),
    link('host', 'lost', { state: 'no-carrier' }),
    link('api', 'eth0', { addresses: ['10.88.0.3/16'], gateways: ['10.88.0.1'], nat: ['host'] }),
    link('api', 'eth1', { addresses: ['172.16.0.1/30'], state: 'down' }),
    link('bare', 'lo', { kind: 'loopback' }),
    link('web', 'eth0', { addresses: ['10.88.0.2/16'], nat: ['host', 'r1'], ports: ['8080->80/tcp', '53->53/udp'] }),
    link('web', 'eth1', { addresses: ['172.16.0.2/30'], state: 'no-carrier' }),
    link('web', 'mac0', { kind: 'macvlan' }),
    link(hostile, 'eth0'),
    link('unknown:host:4', 'link 7', { index: 7 }),
  ],
  edges: [
    { kind: 'port', a: 'host/veth1', b: 'host/nsbr0' },
    { kind: 'cable', a: 'host/veth1', b: 'web/eth0' },
    { kind: 'port', a: 'host/veth2', b: 'host/nsbr0' },
    { kind: 'cable', a: 'host/veth2', b: 'api/eth0' },
    { kind: 'cable', a: 'host/x"<&', b: `${hostile}/eth0` },
    { kind: 'cable', a: 'host/lost', b: 'unknown:host:4/link 7' },
    { kind: 'cable', a: 'api/eth1', b: 'web/eth1' },
    { kind: 'parent', a: 'web/mac0', b: 'host/eth0' },
  ],
}
