import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { parse as parseYaml } from 'yaml'
import { formatLabDocument } from './format.ts'
import { parseLabDocument } from './parse.ts'
import { labSchema } from './schema.ts'

const mistakesIn = (json: unknown) => parseLabDocument(json).mistakes.map(({ message }) => message)

function documentIn(json: unknown) {
  const { document, mistakes } = parseLabDocument(json)
  expect(mistakes.map(({ message }) => message)).toEqual([])
  return document!
}

const lab = (more: object) => ({ lab: 'x', ...more })
const node = (entry: object | null, more: object = {}) => lab({ nodes: { web: entry }, ...more })

test('every key, and what it becomes', () => {
  const document = documentIn(
    parseYaml(`
      lab: clos1
      networks:
        lan: {subnet: 10.10.0.7/24, ipv6: auto, gateway: 10.10.0.254, mtu: 1400}
        dmz: {subnets: [10.20.0.0/24, "fd00:20::/64"], internal: true, isolated: true, bridge: br-dmz}
        wan: {driver: ptp}
        old: {external: true}
        raw: {conflist: {name: raw, plugins: [{type: bridge}]}}
        any:
      nodes:
        web:
          nets: [lan, {name: dmz, ip: [10.20.0.10, "fd00:20:0::A"], mac: 02-00-00-00-00-AA, mtu: 1300, internal: true, ports: [53/udp]}]
          ports: ["8080:80", 9000]
          dns: [192.0.2.53]
          labels: {tier: front, number: 1}
          exec: python3 -m http.server 80
        r1:
          nets: [{name: lan, if: eth1}, any]
          sysctls: {net.ipv4.ip_forward: 1, net/ipv4/conf/eth0.5/rp_filter: 0}
          routes: [{dst: 10.30.0.1/24, via: 10.10.0.9}, {dst: default, via: "fd00::1", dev: eth1}]
          exec: [a, b]
        bare: {nets: []}
        plain:
      links:
        - {a: "r1:eth0", b: "web:eth9", addr: [172.16.0.1/30, null], mac: [null, 02:00:00:00:00:01], shape: {rate: 10mbit, loss: 1%}}
        - {a: host:lab0, b: "bare:eth0", addr: [["fd00::1/64", 10.9.0.1/24]], up: false, mtu: 9000}
      tests: [{from: web, to: 8.8.8.8}, {from: r1, to: "web:80", expect: fail}, {from: host, to: "[fd00::1]:443"}]
    `),
  )
  expect(document.networks.get('lan')).toEqual({
    name: 'lan',
    driver: 'bridge',
    subnets: ['10.10.0.0/24'],
    ipv6: true,
    gateway: '10.10.0.254',
    internal: false,
    isolated: false,
    mtu: 1400,
  })
  expect(document.networks.get('old')).toMatchObject({ external: true })
  expect([...document.networks.keys()]).toEqual(['lan', 'dmz', 'wan', 'old', 'raw', 'any'])
  expect(document.nodes.get('web')).toEqual({
    name: 'web',
    nets: [
      { network: 'lan', ifName: 'eth0', ips: [], internal: false, ports: [] },
      {
        network: 'dmz',
        ifName: 'eth1',
        ips: ['10.20.0.10', 'fd00:20::a'],
        mac: '02:00:00:00:00:aa',
        mtu: 1300,
        internal: true,
        ports: [{ hostPort: 53, containerPort: 53, protocol: 'udp' }],
      },
    ],
    ports: [
      { hostPort: 8080, containerPort: 80, protocol: 'tcp' },
      { hostPort: 9000, containerPort: 9000, protocol: 'tcp' },
    ],
    dns: ['192.0.2.53'],
    labels: { tier: 'front', number: '1' },
    sysctls: new Map(),
    routes: [],
    exec: ['python3 -m http.server 80'],
  })
  const r1 = document.nodes.get('r1')!
  expect(r1.nets.map(({ network, ifName }) => [network, ifName])).toEqual([
    ['lan', 'eth1'],
    ['any', 'eth2'], // eth0 is the cable's
  ])
  expect([...r1.sysctls]).toEqual([
    ['net/ipv4/ip_forward', '1'],
    ['net/ipv4/conf/eth0.5/rp_filter', '0'],
  ])
  expect(r1.routes).toEqual([
    { dst: '10.30.0.0/24', via: '10.10.0.9' },
    { dst: '::/0', via: 'fd00::1', dev: 'eth1' },
  ])
  expect(document.nodes.get('bare')!.nets).toEqual([])
  expect(document.nodes.get('plain')!.nets).toMatchObject([{ network: 'default', ifName: 'eth0' }])
  expect(document.links).toEqual([
    {
      a: { place: 'r1', ifName: 'eth0', addresses: ['172.16.0.1/30'] },
      b: { place: 'web', ifName: 'eth9', addresses: [], mac: '02:00:00:00:00:01' },
      up: true,
      shape: { rate: '10mbit', loss: '1%' },
    },
    {
      a: { place: 'host', ifName: 'lab0', addresses: ['fd00::1/64', '10.9.0.1/24'] },
      b: { place: 'bare', ifName: 'eth0', addresses: [] },
      up: false,
      mtu: 9000,
    },
  ])
  expect(document.tests).toEqual([
    { from: 'web', to: '8.8.8.8', target: { address: '8.8.8.8' }, expect: 'reach' },
    { from: 'r1', to: 'web:80', target: { node: 'web', port: 80 }, expect: 'fail' },
    { from: 'host', to: '[fd00::1]:443', target: { address: 'fd00::1', port: 443 }, expect: 'reach' },
  ])
  expect(documentIn(formatLabDocument(document))).toEqual(document)
})

describe('every mistake is told with its place, what was expected, and what is there', () => {
  test.each<[string, unknown, string[]]>([
    ['no object', [1], ['the file: expected an object with the keys lab, networks, nodes, links, tests']],
    ['no name', {}, ['lab: missing; expected the name of the lab, such as clos1']],
    ['an unknown key', lab({ ndes: {} }), ['ndes: unknown key; did you mean "nodes"?']],
    ['another letter case', lab({ Nodes: {} }), ['Nodes: unknown key; did you mean "nodes"?']],
    [
      'a key that resembles nothing',
      node({ colour: 1 }),
      [expect.stringMatching(/^nodes\.web\.colour: unknown key; expected one of nets, ports, /) as never],
    ],
    [
      'a bad range',
      lab({ networks: { lan: { subnet: '10.10' } } }),
      ['networks.lan.subnet: expected a CIDR such as 10.1.0.0/16, got "10.10"'],
    ],
    [
      'a number for a range',
      lab({ networks: { lan: { subnet: 10.1 } } }),
      ['networks.lan.subnet: expected a CIDR such as 10.1.0.0/16, got 10.1'],
    ],
    [
      'a driver',
      lab({ networks: { lan: { driver: 'brigde' } } }),
      ['networks.lan.driver: expected "bridge" or "ptp" or "l2" or "macvlan", got "brigde"'],
    ],
    [
      'a contradiction',
      lab({ networks: { lan: { driver: 'l2', subnet: '10.1.0.0/24' } } }),
      ['networks.lan.subnet: a network with driver l2 has none'],
    ],
    [
      'external and more',
      lab({ networks: { lan: { external: true, mtu: 1400 } } }),
      ['networks.lan.external: excludes mtu'],
    ],
    [
      'two ranges of one family',
      lab({ networks: { lan: { subnet: ['10.1.0.0/24', '10.2.0.0/24'] } } }),
      ['networks.lan.subnet: expected one range of each family at most'],
    ],
    [
      'a gateway elsewhere',
      lab({ networks: { lan: { subnet: '10.1.0.0/24', gateway: '10.2.0.1' } } }),
      ['networks.lan.gateway: 10.2.0.1 lies in no subnet of the network (10.1.0.0/24)'],
    ],
    [
      'overlapping ranges',
      lab({ networks: { a: { subnet: '10.1.0.0/16' }, b: { subnet: '10.1.2.0/24' } } }),
      ['networks.b.subnet: 10.1.2.0/24 overlaps 10.1.0.0/16 of "a"'],
    ],
    [
      'a name that is a path',
      lab({ nodes: { '../x': {} } }),
      [expect.stringMatching(/^nodes\.\.\.\/x: bad name "\.\.\/x"/) as never],
    ],
    [
      'a name with a meaning',
      lab({ nodes: { host: {} } }),
      ['nodes.host: "host" has a meaning of its own and cannot name a node'],
    ],
    [
      'a network that is not there',
      node({ nets: ['lann'] }, { networks: { lan: null } }),
      ['nodes.web.nets[0]: no network "lann" in this file; did you mean "lan"?'],
    ],
    [
      'a port',
      node({ ports: ['80:x'] }),
      [expect.stringMatching(/^nodes\.web\.ports\[0\]: port "80:x": not understood/) as never],
    ],
    [
      'a sysctl of another kind',
      node({ sysctls: { 'kernel.hostname': 'x' } }),
      ['nodes.web.sysctls.kernel.hostname: expected a setting of the network namespace, such as net.ipv4.ip_forward'],
    ],
    [
      'a sysctl that climbs',
      node({ sysctls: { 'net/ipv4/../../kernel/hostname': 'x' } }),
      [expect.stringMatching(/^nodes\.web\.sysctls\./) as never],
    ],
    [
      'a route to nowhere',
      node({ routes: [{ dst: '10.0.0.0/8' }] }),
      ['nodes.web.routes[0].via: missing; expected the address of a router, or dev'],
    ],
    [
      'a route of two families',
      node({ routes: [{ dst: '10.0.0.0/8', via: 'fd00::1' }] }),
      ['nodes.web.routes[0].via: fd00::1 is not of the family of 10.0.0.0/8'],
    ],
    [
      'an address outside',
      node({ nets: [{ name: 'lan', ip: '10.2.0.1' }] }, { networks: { lan: { subnet: '10.1.0.0/24' } } }),
      ['nodes.web.nets[0].ip: 10.2.0.1 is not in 10.1.0.0/24 of "lan"'],
    ],
    [
      'an address twice',
      lab({
        networks: { lan: {} },
        nodes: { a: { nets: [{ name: 'lan', ip: '10.1.0.5' }] }, b: { nets: [{ name: 'lan', ip: '10.1.0.5' }] } },
      }),
      ['nodes.b.nets[0].ip: 10.1.0.5 is taken by nodes.a.nets[0]'],
    ],
    [
      'a network twice',
      node({ nets: ['lan', 'lan'] }, { networks: { lan: {} } }),
      ['nodes.web.nets[1]: "web" is attached to "lan" twice, also by nodes.web.nets[0]'],
    ],
    [
      'an interface twice',
      node({ nets: [{ name: 'lan', if: 'eth9' }] }, { networks: { lan: {} }, links: [{ a: 'web:eth9', b: 'host:x' }] }),
      ['nodes.web.nets[0]: web:eth9 is taken by links[0].a'],
    ],
    [
      'a port twice',
      lab({ nodes: { a: { ports: ['80'] }, b: { ports: ['80:81'] } } }),
      ['nodes.b.ports: port 80/tcp of the host is taken by nodes.a.ports'],
    ],
    [
      'a port where none can be',
      node({ nets: ['lan'], ports: ['80'] }, { networks: { lan: { driver: 'l2' } } }),
      ['nodes.web.ports: "web" is attached to no network that can publish 80:80'],
    ],
    [
      'a cable without an interface',
      node({}, { links: [{ a: 'web', b: 'host:x' }] }),
      ['links[0].a: expected NODE:INTERFACE, such as r1:eth9, got "web"'],
    ],
    [
      'a cable to nobody',
      node({}, { links: [{ a: 'wen:eth9', b: 'host:x' }] }),
      ['links[0].a: no node "wen" in this file; did you mean "web"?'],
    ],
    [
      'three addresses',
      node({}, { links: [{ a: 'web:eth9', b: 'host:x', addr: ['10.0.0.1/30', null, null] }] }),
      ['links[0].addr: expected one for each end, got 3'],
    ],
    [
      'a cable of the host alone',
      lab({ links: [{ a: 'host:a', b: 'host:b' }] }),
      ['links[0].b: expected a node at one end at least'],
    ],
    [
      'a test of nobody',
      node({}, { tests: [{ from: 'web', to: 'wbe:80' }] }),
      ['tests[0].to: expected a node, an address, or either with a port, got "wbe:80"; did you mean "web"?'],
    ],
    [
      'a word',
      node({}, { tests: [{ from: 'web', to: 'web', expect: 'faill' }] }),
      ['tests[0].expect: expected "reach" or "fail", got "faill"'],
    ],
    [
      'several at once',
      lab({ networks: { lan: { mtu: 1 } }, nodes: { a: { nets: 1 }, b: { dns: ['x'] } } }),
      [
        'networks.lan.mtu: expected an integer from 68 to 65535, got 1',
        'nodes.a.nets: expected a list, got 1',
        'nodes.b.dns[0]: expected an IP address, got "x"',
      ],
    ],
  ])('%s', (_, json, expected) => {
    expect(mistakesIn(json)).toEqual(expected)
  })
})

test('the published schema is the one of the program', () => {
  const file = fileURLToPath(new URL('../../docs/lab.schema.json', import.meta.url))
  expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual(JSON.parse(JSON.stringify(labSchema)))
})

test('the schema has the keys that are read, and no others', () => {
  interface Schema {
    readonly properties: Record<
      string,
      { items?: Schema & { oneOf?: Schema[] }; additionalProperties?: { oneOf: Schema[] } } & Schema
    >
  }
  const { properties } = labSchema as unknown as Schema
  const keys = (schema: Schema | undefined) => Object.keys(schema!.properties)
  const nodeSchema = properties.nodes!.additionalProperties!.oneOf[0]!
  const linkSchema = properties.links!.items!
  const cases: [path: string, keys: string[], wrap: (entry: object) => object][] = [
    ['', keys({ properties }), (entry) => entry],
    ['networks.x.', keys(properties.networks!.additionalProperties!.oneOf[0]), (x) => lab({ networks: { x } })],
    ['nodes.x.', keys(nodeSchema), (x) => lab({ nodes: { x } })],
    [
      'nodes.web.nets[0].',
      keys(nodeSchema.properties.nets!.items!.oneOf![1]),
      (x) => node({ nets: [{ name: 'default', ...x }] }),
    ],
    [
      'nodes.web.routes[0].',
      keys(nodeSchema.properties.routes!.items),
      (x) => node({ routes: [{ dst: 'default', via: '10.0.0.1', ...x }] }),
    ],
    ['links[0].', keys(linkSchema), (x) => node({}, { links: [{ a: 'web:x', b: 'host:x', ...x }] })],
    [
      'links[0].shape.',
      keys(linkSchema.properties.shape),
      (shape) => node({}, { links: [{ a: 'web:x', b: 'host:x', shape }] }),
    ],
    ['tests[0].', keys(properties.tests!.items), (x) => node({}, { tests: [{ from: 'web', to: 'web', ...x }] })],
  ]
  for (const [path, known, wrap] of cases) {
    // The reader names the keys that it knows when one resembles none of them.
    const [message] = mistakesIn(wrap({ unheardOf: 1 })).filter((each) => each.includes('unheardOf'))
    const told = message?.split('expected one of ')[1]?.split(', ')
    expect({ path, keys: told?.sort() }).toEqual({ path, keys: known.sort() })
  }
})
