import { add, check, del, onHost, type Scenario, type Step } from './scenario.ts'

/** IPAM plugins look at no namespace: none is made, and CNI_NETNS, which must be there, names nothing. */
const netns = '/run/netns/none'
const lease = (container = 'c1', options: Parameters<typeof add>[0] = {}): Step => add({ container, netns, ...options })
const verify = (container = 'c1', options: Parameters<typeof add>[0] = {}): Step =>
  check({ container, netns, ...options })
const release = (container = 'c1', options: Parameters<typeof add>[0] = {}): Step =>
  del({ container, netns, ...options })
const life: readonly Step[] = [lease(), verify(), release()]

interface Row {
  readonly name: string
  /** The ipam section; other keys of the configuration in `config`. */
  readonly ipam?: object
  readonly config?: object
  readonly steps?: readonly Step[]
}

const subnet = '10.1.0.0/24'
const store = '/var/lib/cni/networks/net'

const hostLocal: readonly Row[] = [
  // Ranges
  { name: 'one subnet', ipam: { subnet }, steps: [...life, release()] },
  { name: 'one subnet of IPv6', ipam: { subnet: 'fd00:1::/64' }, steps: life },
  { name: 'range sets of both families', ipam: { ranges: [[{ subnet }], [{ subnet: 'fd00:1::/64' }]] }, steps: life },
  {
    name: 'range set of two subnets',
    ipam: { ranges: [[{ subnet: '10.1.0.0/30' }, { subnet: '10.2.0.0/30' }]] },
    steps: [lease('c1'), lease('c2'), lease('c3'), release('c1'), lease('c3'), lease('c4')],
  },
  {
    name: 'subnet and ranges',
    ipam: { subnet, ranges: [[{ subnet: '10.2.0.0/24' }], [{ subnet: 'fd00:1::/64' }]] },
  },
  {
    name: 'ipRanges, subnet and ranges',
    ipam: { subnet, ranges: [[{ subnet: '10.2.0.0/24' }]] },
    config: { runtimeConfig: { ipRanges: [[{ subnet: '10.3.0.0/24' }], [{ subnet: 'fd00:3::/64' }]] } },
  },
  { name: 'ipRanges alone', ipam: {}, config: { runtimeConfig: { ipRanges: [[{ subnet: '10.3.0.0/24' }]] } } },
  {
    name: 'walk through a /29',
    ipam: { subnet: '10.1.0.0/29' },
    steps: [
      ...['c1', 'c2', 'c3', 'c4', 'c5', 'c6'].map((container) => lease(container)),
      release('c2'),
      release('c4'),
      lease('c7'),
      lease('c8'),
      lease('c9'),
    ],
  },
  {
    name: 'freed address is given last',
    ipam: { subnet: '10.1.0.0/29' },
    steps: [lease('c1'), lease('c2'), release('c1'), lease('c3'), lease('c4'), lease('c5'), lease('c6')],
  },
  { name: 'walk through an IPv6 /126', ipam: { subnet: 'fd00::/126' }, steps: [lease('c1'), lease('c2'), lease('c3')] },
  {
    name: 'rangeStart and rangeEnd',
    ipam: { subnet, rangeStart: '10.1.0.100', rangeEnd: '10.1.0.101' },
    steps: [lease('c1'), lease('c2'), lease('c3')],
  },
  {
    name: 'network and broadcast address in the range',
    ipam: { subnet: '10.1.0.0/30', rangeStart: '10.1.0.0', rangeEnd: '10.1.0.3' },
    steps: [lease('c1'), lease('c2'), lease('c3'), lease('c4')],
  },
  { name: 'gateway in the range', ipam: { subnet, gateway: '10.1.0.2' }, steps: [lease('c1'), lease('c2')] },
  { name: 'gateway outside the subnet', ipam: { subnet, gateway: '10.9.0.1' } },
  { name: 'IPv6 in other spellings', ipam: { subnet: 'FD00:0001::/64', rangeStart: 'fd00:1:0:0:0:0:0:00AB' } },
  { name: 'last address given at the end of the range', ipam: { subnet: '10.1.0.0/29' }, steps: afterLast('10.1.0.6') },
  { name: 'last address given outside the range', ipam: { subnet: '10.1.0.0/29' }, steps: afterLast('10.7.0.6') },
  { name: 'last address given is no address', ipam: { subnet: '10.1.0.0/29' }, steps: afterLast('nonsense') },
  { name: 'last address given with a newline', ipam: { subnet: '10.1.0.0/29' }, steps: afterLast('10.1.0.3\\n') },

  // Routes, DNS, store
  {
    name: 'routes',
    ipam: {
      subnet,
      routes: [{ dst: '0.0.0.0/0' }, { dst: '10.5.6.7/8', gw: '10.1.0.9' }, { dst: 'FD00::/8', gw: 'fd00:0::1' }],
    },
  },
  { name: 'empty routes', ipam: { subnet, routes: [] } },
  {
    name: 'resolvConf',
    ipam: { subnet, resolvConf: '/run/resolv.conf' },
    steps: [
      onHost(`cat >/run/resolv.conf <<'EOF'
# comment
; another
nameserver 10.0.0.53
nameserver   fd00::53
domain first
domain second
search lan home
search more
options ndots:2 rotate
options timeout:1
sortlist 10.0.0.0
EOF`),
      ...life,
    ],
  },
  { name: 'resolvConf that is empty', ipam: { subnet, resolvConf: '/dev/null' } },
  { name: 'resolvConf that is not there', ipam: { subnet, resolvConf: '/run/nothing' } },
  { name: 'dataDir', ipam: { subnet, dataDir: '/var/lib/cni/elsewhere' }, steps: life },
  { name: 'dataDir with a slash at the end', ipam: { subnet, dataDir: '/var/lib/cni/elsewhere/' }, steps: life },
  { name: 'name with dots', ipam: { subnet }, config: { name: 'a.b-c_d' }, steps: life },

  // One container, several leases
  { name: 'the same attachment twice', ipam: { subnet }, steps: [lease(), lease(), release()] },
  {
    name: 'two interfaces of one container',
    ipam: { subnet },
    steps: [lease(), lease('c1', { ifName: 'net1' }), release(), verify('c1', { ifName: 'net1' }), lease()],
  },
  {
    name: 'the same attachment in two networks',
    ipam: { subnet },
    steps: [lease(), lease('c1', { config: { name: 'other' } }), release()],
  },
  {
    name: 'the same attachment after its network got another subnet',
    ipam: { subnet },
    steps: [lease(), lease('c1', { config: { ipam: { type: 'host-local', subnet: '10.2.0.0/24' } } }), release()],
  },

  // Requested addresses
  { name: 'IP in CNI_ARGS', ipam: { subnet }, steps: [lease('c1', { args: 'IP=10.1.0.77' }), lease('c2')] },
  {
    name: 'IP of IPv6 in CNI_ARGS',
    ipam: { subnet: 'fd00:1::/64' },
    steps: [lease('c1', { args: 'IP=FD00:1::0:77' })],
  },
  { name: 'IP with prefix length in CNI_ARGS', ipam: { subnet }, steps: [lease('c1', { args: 'IP=10.1.0.77/16' })] },
  {
    name: 'two IPs in CNI_ARGS',
    ipam: { subnet },
    steps: [lease('c2'), lease('c1', { args: 'IP=10.1.0.77,10.1.0.78' })],
  },
  { name: 'IP in args', ipam: { subnet }, config: { args: { cni: { ips: ['10.1.0.77'] } } } },
  { name: 'IP with prefix length in args', ipam: { subnet }, config: { args: { cni: { ips: ['10.1.0.77/24'] } } } },
  { name: 'IP in runtimeConfig', ipam: { subnet }, config: { runtimeConfig: { ips: ['10.1.0.77'] } } },
  {
    name: 'IP with prefix length in runtimeConfig',
    ipam: { subnet },
    config: { runtimeConfig: { ips: ['10.1.0.77/24'] } },
  },
  {
    name: 'IPs by all channels',
    ipam: { ranges: [[{ subnet }], [{ subnet: '10.2.0.0/24' }], [{ subnet: 'fd00:1::/64' }]] },
    config: { args: { cni: { ips: ['10.2.0.88'] } }, runtimeConfig: { ips: ['fd00:1::99'] } },
    steps: [lease('c1', { args: 'IP=10.1.0.77' })],
  },
  {
    name: 'the same IP by two channels',
    ipam: { subnet },
    config: { args: { cni: { ips: ['10.1.0.77'] } }, runtimeConfig: { ips: ['10.1.0.77/24'] } },
  },
  { name: 'two IPs of one set', ipam: { subnet }, config: { args: { cni: { ips: ['10.1.0.77', '10.1.0.78'] } } } },
  { name: 'IP of no range', ipam: { subnet }, config: { args: { cni: { ips: ['10.9.0.77'] } } } },
  { name: 'IP of the gateway', ipam: { subnet }, config: { args: { cni: { ips: ['10.1.0.1'] } } } },
  { name: 'IP of the network', ipam: { subnet }, config: { args: { cni: { ips: ['10.1.0.0'] } } } },
  { name: 'IP of broadcast', ipam: { subnet }, config: { args: { cni: { ips: ['10.1.0.255'] } } } },
  {
    name: 'IP that is taken',
    ipam: { subnet },
    steps: [lease('c1'), lease('c2', { config: { runtimeConfig: { ips: ['10.1.0.2'] } } }), lease('c2')],
  },
  {
    name: 'IP that is taken in the second set',
    ipam: { ranges: [[{ subnet }], [{ subnet: '10.2.0.0/24' }]] },
    steps: [lease('c1'), lease('c2', { config: { runtimeConfig: { ips: ['10.2.0.2'] } } })],
  },
  { name: 'IP that is none', ipam: { subnet }, config: { args: { cni: { ips: ['soon'] } } } },
  { name: 'IP that is none in CNI_ARGS', ipam: { subnet }, steps: [lease('c1', { args: 'IP=soon' })] },
  {
    name: 'no IPs in the channels',
    ipam: { subnet },
    config: { args: { cni: { ips: [] } }, runtimeConfig: { ips: [] } },
  },
  {
    name: 'IPv4 address in IPv6 spelling',
    ipam: { subnet },
    config: { args: { cni: { ips: ['::ffff:10.1.0.77'] } } },
  },
  {
    name: 'arguments of Kubernetes',
    ipam: { subnet },
    steps: [
      lease('c1', { args: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=c1' }),
    ],
  },
  { name: 'MAC in CNI_ARGS', ipam: { subnet }, steps: [lease('c1', { args: 'MAC=02:00:00:00:00:11' })] },
  { name: 'unknown argument', ipam: { subnet }, steps: [lease('c1', { args: 'COLOUR=blue' })] },
  { name: 'argument without value', ipam: { subnet }, steps: [lease('c1', { args: 'IP' })] },
  { name: 'argument with two values', ipam: { subnet }, steps: [lease('c1', { args: 'IP=10.1.0.7=8' })] },
  { name: 'IgnoreUnknown that is neither', ipam: { subnet }, steps: [lease('c1', { args: 'IgnoreUnknown=perhaps' })] },

  // Teardown and CHECK
  { name: 'released without lease', ipam: { subnet }, steps: [release()] },
  { name: 'checked without lease', ipam: { subnet }, steps: [verify()] },
  { name: 'checked after its file', ipam: { subnet }, steps: [lease(), onHost(`rm ${store}/10.1.0.2`), verify()] },
  { name: 'released without CNI_NETNS', ipam: { subnet }, steps: [lease(), release('c1', { netns: '' })] },
  {
    name: 'released with another configuration',
    ipam: { subnet },
    steps: [lease(), release('c1', { config: { ipam: { type: 'host-local', subnet: '10.9.0.0/24' } } })],
  },
  {
    name: 'file of the oldest format',
    ipam: { subnet },
    steps: [onHost(`mkdir -p ${store}; printf c1 >${store}/10.1.0.9`), verify(), release(), lease()],
  },
  {
    name: 'file of the oldest format beside a lease',
    ipam: { subnet },
    steps: [
      onHost(`mkdir -p ${store}; printf c1 >${store}/10.1.0.9`),
      lease('c1', { ifName: 'net1' }),
      release('c1', { ifName: 'net1' }),
    ],
  },
  {
    name: 'file with blanks around',
    ipam: { subnet },
    steps: [onHost(`mkdir -p ${store}; printf ' c1\\r\\neth0\\n ' >${store}/10.1.0.9`), verify(), release()],
  },
  {
    name: "somebody else's files",
    ipam: { subnet },
    steps: [
      onHost(`mkdir -p ${store}/folder; echo c1 >${store}/readme; printf 'c2\\r\\neth0' >${store}/10.1.0.2`),
      ...life,
    ],
  },
  {
    name: 'leases of the reference',
    ipam: { subnet: '10.1.0.0/29' },
    steps: [
      lease('c1', { by: 'reference' }),
      lease('c2'),
      lease('c3', { by: 'reference' }),
      verify('c2', { by: 'reference' }),
      verify('c3'),
      release('c1'),
      release('c2', { by: 'reference' }),
      lease('c4'),
      lease('c5', { by: 'reference' }),
      lease('c6'),
    ],
  },
  { name: 'result of another plugin on ADD', ipam: { subnet }, steps: [lease('c1', { prevResult: { ips: [] } })] },

  // Wrong configurations
  { name: 'no ranges', ipam: {} },
  { name: 'empty ranges', ipam: { ranges: [] } },
  { name: 'empty range set', ipam: { ranges: [[]] } },
  { name: 'range that is no set', ipam: { ranges: [{ subnet }] } },
  { name: 'range without subnet', ipam: { ranges: [[{ rangeStart: '10.1.0.5' }]] } },
  { name: 'subnet without prefix length', ipam: { subnet: '10.1.0.0' } },
  { name: 'subnet that is none', ipam: { subnet: 'here' } },
  { name: 'subnet with leading zeros', ipam: { subnet: '010.001.0.0/24' } },
  { name: 'subnet with host bits', ipam: { subnet: '10.1.0.1/24' } },
  { name: 'subnet of two addresses', ipam: { subnet: '10.1.0.0/31' } },
  { name: 'subnet of one address', ipam: { subnet: '10.1.0.0/32' } },
  { name: 'subnet of two IPv6 addresses', ipam: { subnet: 'fd00::/127' } },
  { name: 'subnet as number', ipam: { subnet: 10 } },
  { name: 'rangeStart outside', ipam: { subnet, rangeStart: '10.2.0.5' } },
  { name: 'rangeEnd outside', ipam: { subnet, rangeEnd: '10.2.0.5' } },
  { name: 'rangeStart behind rangeEnd', ipam: { subnet, rangeStart: '10.1.0.9', rangeEnd: '10.1.0.5' } },
  { name: 'rangeStart of the other family', ipam: { subnet, rangeStart: 'fd00::5' } },
  { name: 'gateway that is none', ipam: { subnet, gateway: 'door' } },
  { name: 'empty gateway', ipam: { subnet, gateway: '' } },
  { name: 'families mixed in a set', ipam: { ranges: [[{ subnet }, { subnet: 'fd00::/64' }]] } },
  { name: 'overlap within a set', ipam: { ranges: [[{ subnet }, { subnet: '10.1.0.128/25' }]] } },
  { name: 'overlap of two sets', ipam: { ranges: [[{ subnet }], [{ subnet: '10.1.0.128/25' }]] } },
  {
    name: 'subnet shared by two sets',
    ipam: { ranges: [[{ subnet, rangeEnd: '10.1.0.9' }], [{ subnet, rangeStart: '10.1.0.10' }]] },
    steps: life,
  },
  { name: 'route without destination', ipam: { subnet, routes: [{ gw: '10.1.0.1' }] } },
  { name: 'route to nowhere', ipam: { subnet, routes: [{ dst: 'there' }] } },
  { name: 'route through a name', ipam: { subnet, routes: [{ dst: '10.0.0.0/8', gw: 'door' }] } },
  {
    name: 'two IPv4 addresses in version 0.2.0',
    config: { cniVersion: '0.2.0' },
    ipam: { ranges: [[{ subnet }], [{ subnet: '10.2.0.0/24' }]] },
  },
  { name: 'no ipam', config: { ipam: undefined } },
  { name: 'ipam of another type', config: { ipam: { type: 'static', subnet } } },
  { name: 'ipam without type', config: { ipam: { subnet } } },
  {
    name: 'keys in another case',
    config: {
      IPAM: { TYPE: 'host-local', SubNet: subnet, RANGESTART: '10.1.0.50', DataDir: '/var/lib/cni/elsewhere' },
      ipam: undefined,
    },
  },
  ...['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0'].map((cniVersion) => ({
    name: `cniVersion ${cniVersion}`,
    config: { cniVersion },
    ipam: {
      ranges: [[{ subnet }], [{ subnet: 'fd00:1::/64' }]],
      routes: [{ dst: '0.0.0.0/0', gw: '10.1.0.1' }, { dst: '::/0' }],
    },
    steps: life,
  })),
]

/** Two leases, after the store says which address was the last. */
function afterLast(text: string): Step[] {
  return [onHost(`mkdir -p ${store}; printf '${text}' >${store}/last_reserved_ip.0`), lease('c1'), lease('c2')]
}

const five = { address: '10.1.0.5/24', gateway: '10.1.0.1' }

const fixed: readonly Row[] = [
  { name: 'one address', ipam: { addresses: [five] }, steps: [...life, release()] },
  {
    name: 'both families, routes and DNS',
    ipam: {
      addresses: [five, { address: 'FD00:1::5/64', gateway: 'fd00:1:0::1' }],
      routes: [{ dst: '0.0.0.0/0' }, { dst: '10.8.1.1/16', gw: '10.1.0.9' }, { dst: '::/0', gw: 'fd00:1::1' }],
      dns: { nameservers: ['10.1.0.1'], domain: 'lan', search: ['lan', 'home'], options: ['ndots:2'] },
    },
    steps: life,
  },
  { name: 'address without gateway', ipam: { addresses: [{ address: '10.1.0.5/24' }] }, steps: life },
  { name: 'the same address twice', ipam: { addresses: [five, five] }, steps: life },
  { name: 'no addresses', ipam: {}, steps: life },
  { name: 'IP in CNI_ARGS', ipam: {}, steps: [lease('c1', { args: 'IP=10.1.0.77/24' })] },
  { name: 'IP without prefix length in CNI_ARGS', ipam: {}, steps: [lease('c1', { args: 'IP=10.1.0.77' })] },
  {
    name: 'IP beside addresses',
    ipam: { addresses: [five] },
    steps: [lease('c1', { args: 'IP=10.1.0.77/24,fd00:1::77/64' })],
  },
  {
    name: 'IP and GATEWAY',
    ipam: { addresses: [{ address: '10.3.0.5/24' }] },
    steps: [lease('c1', { args: 'IP=10.1.0.77/24,10.2.0.77/24;GATEWAY=10.2.0.1,10.3.0.1' })],
  },
  {
    name: 'two GATEWAYs of one subnet',
    ipam: {},
    steps: [lease('c1', { args: 'IP=10.1.0.77/24;GATEWAY=10.1.0.1,10.1.0.2' })],
  },
  { name: 'GATEWAY that is none', ipam: {}, steps: [lease('c1', { args: 'IP=10.1.0.77/24;GATEWAY=door' })] },
  { name: 'unknown argument', ipam: { addresses: [five] }, steps: [lease('c1', { args: 'COLOUR=blue' })] },
  { name: 'ips in args', ipam: { addresses: [five] }, config: { args: { cni: { ips: ['10.2.0.7/24'] } } } },
  {
    name: 'ips in runtimeConfig',
    ipam: { addresses: [five] },
    config: { runtimeConfig: { ips: ['10.2.0.8/24', 'fd00:2::8/64'] } },
  },
  {
    name: 'ips by all channels',
    ipam: { addresses: [five] },
    config: { args: { cni: { ips: ['10.2.0.7/24'] } }, runtimeConfig: { ips: ['10.2.0.8/24'] } },
    steps: [lease('c1', { args: 'IP=10.2.0.9/24' })],
  },
  { name: 'ips without prefix length in args', ipam: {}, config: { args: { cni: { ips: ['10.2.0.7'] } } } },
  { name: 'ips without prefix length in runtimeConfig', ipam: {}, config: { runtimeConfig: { ips: ['10.2.0.7'] } } },
  { name: 'address without prefix length', ipam: { addresses: [{ address: '10.1.0.5' }] } },
  { name: 'address that is none', ipam: { addresses: [{ address: 'here/24' }] } },
  { name: 'address missing', ipam: { addresses: [{ gateway: '10.1.0.1' }] } },
  { name: 'gateway that is none', ipam: { addresses: [{ address: '10.1.0.5/24', gateway: 'door' }] } },
  { name: 'addresses as text', ipam: { addresses: '10.1.0.5/24' } },
  {
    name: 'two IPv4 addresses in version 0.2.0',
    ipam: { addresses: [five, { address: '10.1.0.6/24' }] },
    config: { cniVersion: '0.2.0' },
  },
  {
    name: 'checked after its gateway changed',
    ipam: { addresses: [five] },
    steps: [
      lease(),
      verify('c1', { config: { ipam: { type: 'static', addresses: [{ ...five, gateway: '10.1.0.2' }] } } }),
    ],
  },
  {
    name: 'checked after its address changed',
    ipam: { addresses: [five] },
    steps: [
      lease(),
      verify('c1', { config: { ipam: { type: 'static', addresses: [{ ...five, address: '10.1.0.6/24' }] } } }),
    ],
  },
  {
    name: 'checked without a result',
    ipam: { addresses: [five] },
    steps: [lease(), verify('c1', { prevResult: 'none' })],
  },
  { name: 'released with addresses that are wrong', ipam: { addresses: [{ address: 'here' }] }, steps: [release()] },
  { name: 'released without ipam', config: { ipam: undefined }, steps: [release()] },
  { name: 'no ipam', config: { ipam: undefined } },
  ...['0.1.0', '0.2.0', '0.3.1', '0.4.0', '1.0.0'].map((cniVersion) => ({
    name: `cniVersion ${cniVersion}`,
    config: { cniVersion },
    ipam: { addresses: [five, { address: 'fd00:1::5/64' }], routes: [{ dst: '0.0.0.0/0' }], dns: { domain: 'lan' } },
    steps: life,
  })),
]

const scenariosOf = (plugin: string, rows: readonly Row[]): Scenario[] =>
  rows.map(({ name, ipam, config, steps = [lease()] }) => ({
    name: `${plugin}: ${name}`,
    plugin,
    config: { ipam: { type: plugin, ...ipam }, ...config },
    steps,
  }))

export const ipamScenarios: readonly Scenario[] = [
  ...scenariosOf('host-local', hostLocal),
  ...scenariosOf('static', fixed),
]
