/**
 * The JSON schema of lab files, as editors read it. `docs/lab.schema.json` is the same; the reader in parse.ts says more
 * than a schema can, such as which names lead nowhere.
 */

const text = (description: string, more: object = {}) => ({ type: 'string', description, ...more })
const flag = (description: string, value = false) => ({ type: 'boolean', default: value, description })
const name = '^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$'
const linkName = '^[A-Za-z0-9_.@+-]{1,15}$'
const mtu = { type: 'integer', minimum: 68, maximum: 65535, description: 'bytes' }
const mac = text('unicast hardware address', {
  pattern: '^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$',
  examples: ['02:00:00:00:00:01'],
})
const port = {
  description: '[HOSTIP:]HOSTPORT:PORT[/tcp|udp|sctp]; PORT alone stands for the same on both sides',
  type: ['string', 'integer'],
  examples: ['8080:80', '127.0.0.1:5353:53/udp'],
}
const oneOrMore = (items: object, description: string) => ({
  description,
  oneOf: [items, { type: 'array', items }],
})
const object = (description: string, properties: object, required: readonly string[] = []) => ({
  type: 'object',
  description,
  additionalProperties: false,
  ...(required.length > 0 && { required }),
  properties,
})

const shape = object('a link made worse on purpose, in both directions, as ns-net shape does it', {
  rate: text('at most so much', { examples: ['10mbit'] }),
  delay: text('how late (needs netem in the kernel)', { examples: ['20ms'] }),
  jitter: text('by how much the delay varies', { examples: ['5ms'] }),
  loss: { type: ['string', 'number'], description: 'lost packets', examples: ['1%'] },
})

const range = text('a range of addresses', { examples: ['10.10.0.0/24', 'fd00:10::/64'] })

const network = object('a network that nodes are attached to; an entry without a value has all defaults', {
  subnet: oneOrMore(range, 'its range, or one for each family; a free one is chosen unless told'),
  subnets: oneOrMore(range, 'the same'),
  ipv6: { enum: ['auto', true, false], default: false, description: 'also an IPv6 range, chosen unless told' },
  gateway: text("the host's address in it; the first unless told"),
  internal: flag('no way out and none in: neither default route nor NAT, and nothing is forwarded'),
  isolated: flag('its nodes do not reach each other'),
  driver: { enum: ['bridge', 'ptp', 'l2', 'macvlan'], default: 'bridge', description: 'how nodes are connected' },
  mtu,
  bridge: text('name of the bridge; ns-NAME unless told', { pattern: linkName }),
  parent: text('link of the host, for macvlan', { pattern: linkName }),
  external: flag('made by somebody else: used, and neither made nor removed'),
  conflist: { type: 'object', description: 'a CNI conflist in place of all other keys' },
})

const net = object(
  'a network with more to say',
  {
    name: text('of the network'),
    ip: oneOrMore(text('an address'), 'fixed addresses, one for each family at most'),
    if: text('the interface inside; the first free ethN unless told', { pattern: linkName }),
    'host-if': text('one name more for its end on the host', { pattern: '^[^-\\s/:%][^\\s/:%]*$', maxLength: 127 }),
    mac,
    mtu,
    internal: flag('no way out by this network'),
    ports: { type: 'array', items: port, description: 'ports of the host that lead here by this network' },
    shape,
  },
  ['name'],
)

const node = object('a lab', {
  nets: {
    type: 'array',
    default: ['default'],
    description: 'networks, in the order in which they are attached; [] is none',
    items: { oneOf: [text('a network'), net] },
  },
  ports: { type: 'array', items: port, description: 'ports of the host that lead here' },
  dns: {
    type: 'array',
    items: text('an address'),
    description: "name servers; the network's or the host's unless told",
  },
  labels: {
    type: 'object',
    description: 'for ns-net ls -l and del -l',
    additionalProperties: { type: ['string', 'number', 'boolean'] },
  },
  sysctls: {
    type: 'object',
    description: 'settings of the namespace, by names that begin with net',
    additionalProperties: { type: ['string', 'number', 'boolean'] },
    examples: [{ 'net.ipv4.ip_forward': 1 }],
  },
  routes: {
    type: 'array',
    description: 'routes besides those of the networks',
    items: object(
      'via, dev or both',
      {
        dst: text('a range of addresses, or default'),
        via: text('address of the router'),
        dev: text('the interface', { pattern: linkName }),
      },
      ['dst'],
    ),
  },
  exec: oneOrMore(text('for sh -c'), 'commands that run inside in the background, from the creation of the node on'),
})

const end = text('NODE:INTERFACE, or host:INTERFACE', {
  pattern: '^[^:]+:[A-Za-z0-9_.@+-]{1,15}$',
  examples: ['r1:eth9'],
})
const pair = (items: object, description: string) => ({ type: 'array', maxItems: 2, items, description })

const link = object(
  'a direct cable',
  {
    a: end,
    b: end,
    addr: pair(
      { oneOf: [{ type: ['string', 'null'] }, { type: 'array', items: { type: 'string' } }] },
      'an address with prefix length for each end, or several; either may be null',
    ),
    mac: pair({ type: ['string', 'null'] }, 'a MAC address for each end; either may be null'),
    mtu,
    up: flag('false is a broken cable', true),
    shape,
  },
  ['a', 'b'],
)

const test = object(
  'who reaches whom when all is there',
  {
    from: text('a node, or host'),
    to: text('a node, an address, or either with a port (TCP)', { examples: ['web', 'web:80', '8.8.8.8'] }),
    expect: { enum: ['reach', 'fail'], default: 'reach' },
  },
  ['from', 'to'],
)

const byName = (entry: object, description: string) => ({
  type: 'object',
  description,
  propertyNames: { pattern: name },
  additionalProperties: { oneOf: [entry, { type: 'null' }] },
})

export const labSchema = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  title: 'ns-net lab file',
  ...object(
    'A lab: networks, nodes and cables, for ns-net apply.',
    {
      lab: text('the name, for ns-net down', { pattern: name }),
      networks: byName(network, 'networks by name'),
      nodes: byName(node, 'labs by name'),
      links: { type: 'array', items: link, description: 'cables' },
      tests: { type: 'array', items: test, description: 'carried out at the end of apply' },
    },
    ['lab'],
  ),
}
