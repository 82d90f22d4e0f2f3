import {
  add,
  check,
  del,
  endNamespace,
  inside,
  onHost,
  outside4,
  outside6,
  type Scenario,
  type Step,
  sends,
} from './scenario.ts'

const four = { type: 'host-local', subnet: '10.1.0.0/24' }
const six = { type: 'host-local', subnet: 'fd00:1::/64' }
const dual = { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/24' }], [{ subnet: 'fd00:1::/64' }]] }
const defaults = [{ dst: '0.0.0.0/0' }, { dst: '::/0' }]
const life: readonly Step[] = [add(), check(), del()]

const table: readonly Omit<Scenario, 'plugin'>[] = [
  { name: 'IPv4', config: { ipam: four }, steps: [...life, del()] },
  { name: 'IPv6', config: { ipam: six }, steps: life },
  { name: 'both families', config: { ipam: { ...dual, routes: defaults } }, steps: life },
  {
    name: 'two containers',
    config: { ipam: { ...dual, routes: defaults } },
    steps: [add(), add({ container: 'c2' }), check(), del(), check({ container: 'c2' }), del({ container: 'c2' })],
  },
  {
    name: 'two interfaces of one container',
    config: { ipam: four },
    steps: [add(), add({ ifName: 'net1', config: { name: 'other', ipam: { ...four, subnet: '10.2.0.0/24' } } }), del()],
  },
  {
    name: 'routes with and without gateway',
    config: { ipam: { ...four, routes: [{ dst: '172.16.0.0/12' }, { dst: '192.168.7.0/24', gw: '10.1.0.1' }] } },
    steps: life,
  },
  {
    name: 'routes of IPv6',
    config: { ipam: { ...six, routes: [{ dst: '::/0' }, { dst: '2001:db8:7::/48', gw: 'fd00:1::1' }] } },
    steps: life,
  },
  {
    name: 'route through another host of the subnet',
    config: { ipam: { ...four, routes: [{ dst: '172.16.0.0/12', gw: '10.1.0.9' }] } },
    steps: [add(), del()],
  },
  {
    name: 'route to a family without address',
    config: { ipam: { ...four, routes: defaults } },
    steps: [add(), del()],
  },
  { name: 'gateway given', config: { ipam: { ...four, gateway: '10.1.0.254' } }, steps: life },
  { name: 'gateway outside the subnet', config: { ipam: { ...four, gateway: '169.254.1.1' } }, steps: life },
  { name: 'mtu', config: { mtu: 1400, ipam: four }, steps: life },
  { name: 'mtu negative', config: { mtu: -5, ipam: four }, steps: [add()] },
  { name: 'mtu as text', config: { mtu: '1400', ipam: four }, steps: [add()] },
  {
    name: 'ipMasq',
    config: { ipMasq: true, ipam: { ...dual, routes: defaults } },
    uplink: true,
    needs: ['iptables', 'socat'],
    steps: [
      add(),
      add({ container: 'c2' }),
      sends('c1', outside4),
      sends('c1', outside6),
      sends('c1', '10.1.0.3', 'c2'),
      sends('c1', 'fd00:1::3', 'c2'),
      sends('host', '10.1.0.2', 'c1'),
      del(),
      sends('c2', outside4),
      del({ container: 'c2' }),
    ],
  },
  {
    name: 'no ipMasq',
    config: { ipam: { ...dual, routes: defaults } },
    uplink: true,
    needs: ['socat'],
    steps: [add(), sends('c1', outside4), sends('c1', outside6)],
  },
  {
    name: 'masquerading deleted after the namespace',
    config: { ipMasq: true, ipam: { ...four, routes: defaults.slice(0, 1) } },
    uplink: true,
    needs: ['iptables', 'socat'],
    steps: [
      add(),
      endNamespace('ip netns delete c1'),
      del(),
      add({ container: 'c2', config: { name: 'plain', ipMasq: false } }),
      sends('c2', outside4),
    ],
  },
  { name: 'no ipam', config: {}, steps: [add(), del()] },
  { name: 'empty ipam', config: { ipam: {} }, steps: [add(), del()] },
  { name: 'static without addresses', config: { ipam: { type: 'static' } }, steps: [add(), del()] },
  {
    name: 'address without gateway',
    config: { ipam: { type: 'static', addresses: [{ address: '10.1.0.5/24' }] } },
    steps: [add(), del()],
  },
  {
    name: 'static addresses of both families',
    config: {
      ipam: {
        type: 'static',
        addresses: [
          { address: '10.1.0.5/24', gateway: '10.1.0.1' },
          { address: 'fd00:1::5/64', gateway: 'fd00:1::1' },
        ],
        routes: defaults,
      },
    },
    steps: life,
  },
  {
    name: 'single addresses',
    config: {
      ipam: {
        type: 'static',
        addresses: [
          { address: '10.1.0.5/32', gateway: '169.254.1.1' },
          { address: 'fd00:1::5/128', gateway: 'fd00:1::1' },
        ],
        routes: defaults,
      },
    },
    steps: life,
  },
  {
    name: 'several range sets of one family',
    config: { ipam: { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/24' }], [{ subnet: '10.2.0.0/24' }]] } },
    steps: life,
  },
  {
    name: 'no address left',
    config: { ipam: { ...four, rangeStart: '10.1.0.2', rangeEnd: '10.1.0.2' } },
    steps: [add(), add({ container: 'c2' }), del({ container: 'c2' }), del()],
  },
  { name: 'dns in the configuration', config: { ipam: four, dns: { nameservers: ['10.0.0.1'] } }, steps: life },
  {
    name: 'dns in both',
    config: { ipam: { ...four, resolvConf: '/run/resolv.conf' }, dns: { nameservers: [] } },
    steps: [onHost('printf "nameserver 10.0.0.53\\n" >/run/resolv.conf'), add(), del()],
  },
  {
    name: 'dns in the IPAM',
    config: { ipam: { ...four, resolvConf: '/run/resolv.conf' } },
    steps: [onHost('printf "nameserver 10.0.0.53\\n" >/run/resolv.conf'), add(), del()],
  },
  { name: 'IP in CNI_ARGS', config: { ipam: four }, steps: [add({ args: 'IP=10.1.0.77' }), check(), del()] },
  { name: 'added twice', config: { ipam: four }, steps: [add(), add(), del()] },
  {
    name: 'interface that is there already',
    config: { ipam: four },
    steps: [inside('c1', 'ip link add eth0 type veth peer name eth1'), add()],
  },
  { name: 'deleted without having been added', config: { ipam: four }, steps: [del()] },
  { name: 'deleted without a result', config: { ipam: dual }, steps: [add(), del({ prevResult: 'none' })] },
  { name: 'deleted with an empty CNI_NETNS', config: { ipam: dual }, steps: [add(), del({ netns: '' })] },
  {
    name: 'deleted after the namespace',
    config: { ipam: dual },
    steps: [add(), endNamespace('ip netns delete c1'), del(), del()],
  },
  {
    name: 'deleted with a plain file as namespace',
    config: { ipam: dual },
    steps: [add(), endNamespace('umount /run/netns/c1'), del()],
  },
  {
    name: 'deleted after the interface',
    config: { ipam: dual },
    steps: [add(), inside('c1', 'ip link delete eth0'), del()],
  },
  {
    name: 'deleted with an MTU that is none',
    config: { ipam: four },
    steps: [add(), del({ config: { mtu: 70000 } })],
  },
  { name: 'deleted without ipam', config: { ipam: four }, steps: [add(), del({ config: { ipam: undefined } })] },
  {
    name: 'unknown CNI_ARGS',
    config: { ipam: { type: 'static', addresses: [{ address: '10.1.0.5/24', gateway: '10.1.0.1' }] } },
    steps: [add({ args: 'MAC=02:00:00:00:00:11' }), del()],
  },
  {
    name: 'container that has IPv6 switched off',
    config: { ipam: dual },
    steps: [
      inside('c1', 'for conf in all default; do echo 1 >/proc/sys/net/ipv6/conf/$conf/disable_ipv6; done'),
      add(),
      check(),
      del(),
    ],
  },
  {
    name: 'added by the reference',
    config: { ipMasq: true, ipam: { ...dual, routes: defaults } },
    uplink: true,
    needs: ['iptables', 'socat'],
    steps: [
      add({ by: 'reference' }),
      add({ container: 'c2' }),
      check(),
      del(),
      add({ container: 'c3', config: { name: 'plain', ipMasq: false } }),
      sends('c3', outside4),
    ],
  },
  {
    name: 'added and deleted by the reference in between',
    config: { ipam: dual },
    steps: [add(), check({ by: 'reference' }), del({ by: 'reference' }), add(), del()],
  },
  { name: 'checked without a result', config: { ipam: four }, steps: [add(), check({ prevResult: 'none' })] },
  ...tampered('address gone', inside('c1', 'ip address delete 10.1.0.2/24 dev eth0')),
  ...tampered('route gone', inside('c1', 'ip route delete default')),
  ...tampered('route to the gateway gone', inside('c1', 'ip route flush 10.1.0.1')),
  ...tampered('interface gone', inside('c1', 'ip link delete eth0')),
  ...tampered('MAC of the interface changed', inside('c1', 'ip link set eth0 address 02:00:00:00:00:99')),
  ...tampered('host route gone', onHost('ip route delete 10.1.0.2')),
  ...tampered('lease gone', onHost('rm /var/lib/cni/networks/net/10.1.0.2 /var/lib/cni/networks/net/fd00:1::2')),
  ...['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0'].map((cniVersion) => ({
    name: `cniVersion ${cniVersion}`,
    config: { cniVersion, ipam: { ...dual, routes: defaults } },
    steps: life,
  })),
]

/** An attachment with everything that CHECK looks at, and one thing changed. */
function tampered(name: string, change: Step): Omit<Scenario, 'plugin'>[] {
  const config = { ipam: { ...dual, routes: defaults } }
  return [{ name: `checked: ${name}`, config, steps: [add(), change, check(), del()] }]
}

export const ptpScenarios: readonly Scenario[] = table.map(({ name, ...rest }) => ({
  ...rest,
  name: `ptp: ${name}`,
  plugin: 'ptp',
}))
