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
const life: readonly Step[] = [add(), check(), del()]

const table: readonly Omit<Scenario, 'plugin'>[] = [
  // Names and what is there already
  { name: 'nothing but addresses', config: { ipam: four }, steps: [...life, del()] },
  { name: 'named bridge', config: { bridge: 'br0', ipam: four }, steps: life },
  { name: 'empty name of the bridge', config: { bridge: '', ipam: four }, steps: life },
  { name: 'name of the bridge too long', config: { bridge: 'a-very-long-name', ipam: four }, steps: [add()] },
  { name: 'name of the bridge with a slash', config: { bridge: 'br/0', ipam: four }, steps: [add()] },
  {
    name: 'existing bridge that is up',
    config: { bridge: 'br0', isGateway: true, ipam: four },
    steps: [onHost('ip link add br0 address 02:00:00:00:00:0b up type bridge'), ...life],
  },
  {
    name: 'existing bridge that is down',
    config: { bridge: 'br0', ipam: four },
    steps: [onHost('ip link add br0 type bridge'), ...life],
  },
  {
    name: 'existing bridge with the gateway address',
    config: { bridge: 'br0', isGateway: true, ipam: four },
    steps: [onHost('ip link add br0 up type bridge; ip address add 10.1.0.1/24 dev br0'), ...life],
  },
  {
    name: 'existing bridge with another MTU',
    config: { bridge: 'br0', mtu: 1400, ipam: four },
    steps: [onHost('ip link add br0 mtu 1300 up type bridge'), ...life],
  },
  {
    name: 'existing bridge in promiscuous mode',
    config: { bridge: 'br0', ipam: four },
    steps: [onHost('ip link add br0 up type bridge; ip link set br0 promisc on'), ...life],
  },
  {
    name: 'link of that name that is no bridge',
    config: { bridge: 'br0', ipam: four },
    steps: [onHost('ip link add br0 type veth peer name br1'), add(), del()],
  },
  {
    name: 'interface that is there already',
    config: { ipam: four },
    steps: [inside('c1', 'ip link add eth0 type veth peer name eth1'), add()],
  },
  { name: 'added twice', config: { isGateway: true, ipam: four }, steps: [add(), add(), del()] },
  {
    name: 'two interfaces of one container',
    config: { isGateway: true, ipam: four },
    steps: [
      add(),
      add({ ifName: 'net1' }),
      check({ ifName: 'net1' }),
      del(),
      check({ ifName: 'net1' }),
      del({ ifName: 'net1' }),
    ],
  },
  {
    name: 'two containers',
    config: { isGateway: true, ipam: four },
    steps: [add(), add({ container: 'c2' }), check(), del(), check({ container: 'c2' }), del({ container: 'c2' })],
  },
  {
    name: 'two networks on one bridge',
    config: { bridge: 'br0', ipam: four },
    steps: [
      add(),
      add({ container: 'c2', config: { name: 'other', ipam: { ...four, subnet: '10.2.0.0/24' } } }),
      del(),
    ],
  },

  // Gateways and routes
  { name: 'isGateway', config: { isGateway: true, ipam: four }, steps: life },
  { name: 'isGateway IPv6', config: { isGateway: true, ipam: six }, steps: life },
  { name: 'isGateway both families', config: { isGateway: true, ipam: dual }, steps: life },
  {
    name: 'isGateway with a gateway given',
    config: { isGateway: true, ipam: { ...four, gateway: '10.1.0.254' } },
    steps: life,
  },
  {
    name: 'gateway outside the subnet',
    config: { isGateway: true, ipam: { ...four, gateway: '10.9.0.1' } },
    steps: life,
  },
  { name: 'isDefaultGateway', config: { isDefaultGateway: true, ipam: four }, steps: life },
  { name: 'isDefaultGateway IPv6', config: { isDefaultGateway: true, ipam: six }, steps: life },
  { name: 'isDefaultGateway both families', config: { isDefaultGateway: true, ipam: dual }, steps: life },
  {
    name: 'isDefaultGateway beside a default route without gateway',
    config: { isDefaultGateway: true, ipam: { ...four, routes: [{ dst: '0.0.0.0/0' }] } },
    steps: life,
  },
  {
    name: 'isDefaultGateway beside a default route with gateway',
    config: { isDefaultGateway: true, ipam: { ...four, routes: [{ dst: '0.0.0.0/0', gw: '10.1.0.9' }] } },
    steps: life,
  },
  {
    name: 'isDefaultGateway without a gateway in static addresses',
    config: { isDefaultGateway: true, ipam: { type: 'static', addresses: [{ address: '10.1.0.5/24' }] } },
    steps: life,
  },
  { name: 'default route without gateway', config: { ipam: { ...four, routes: [{ dst: '0.0.0.0/0' }] } }, steps: life },
  {
    name: 'routes of both families',
    config: {
      ipam: {
        ...dual,
        routes: [
          { dst: '172.16.0.0/12' },
          { dst: '192.168.7.0/24', gw: '10.1.0.9' },
          { dst: '198.51.100.7/32' },
          { dst: '2001:db8:7::/48' },
          { dst: 'fd07::/64', gw: 'fd00:1::9' },
        ],
      },
    },
    steps: life,
  },
  {
    name: 'route with host bits in its destination',
    config: { ipam: { ...four, routes: [{ dst: '172.16.3.4/12' }] } },
    steps: life,
  },
  {
    name: 'the same route twice',
    config: { ipam: { ...four, routes: [{ dst: '172.16.0.0/12' }, { dst: '172.16.0.0/12' }] } },
    steps: [add(), del()],
  },
  {
    name: 'route through an unreachable gateway',
    config: { ipam: { ...four, routes: [{ dst: '172.16.0.0/12', gw: '10.99.0.1' }] } },
    steps: [add(), del()],
  },
  {
    name: 'route without any gateway',
    config: { ipam: { type: 'static', addresses: [{ address: '10.1.0.5/24' }], routes: [{ dst: '172.16.0.0/12' }] } },
    steps: life,
  },
  {
    name: 'default gateway on two interfaces',
    config: { isDefaultGateway: true, ipam: dual },
    steps: [
      add(),
      add({
        ifName: 'net1',
        config: {
          name: 'other',
          bridge: 'br1',
          ipam: { type: 'host-local', ranges: [[{ subnet: '10.2.0.0/24' }], [{ subnet: 'fd00:2::/64' }]] },
        },
      }),
    ],
  },

  // Address conflicts
  {
    name: 'another address on the bridge',
    config: { bridge: 'br0', isGateway: true, ipam: four },
    steps: [
      add(),
      add({ container: 'c2', config: { name: 'other', ipam: { ...four, subnet: '10.2.0.0/24' } } }),
      del(),
    ],
  },
  {
    name: 'another address on the bridge, forced',
    config: { bridge: 'br0', isGateway: true, forceAddress: true, ipam: four },
    steps: [
      add(),
      add({ container: 'c2', config: { name: 'other', ipam: { ...four, subnet: '10.2.0.0/24' } } }),
      del(),
    ],
  },
  {
    name: 'forceAddress without conflict',
    config: { isGateway: true, forceAddress: true, ipam: dual },
    steps: life,
  },
  {
    name: 'same gateway with another prefix length',
    config: { bridge: 'br0', isGateway: true, ipam: four },
    steps: [onHost('ip link add br0 up type bridge; ip address add 10.1.0.1/16 dev br0'), add()],
  },
  {
    name: 'disjoint IPv6 subnets on one bridge',
    config: { bridge: 'br0', isGateway: true, ipam: six },
    steps: [add(), add({ container: 'c2', config: { name: 'other', ipam: { ...six, subnet: 'fd00:2::/64' } } })],
  },
  {
    name: 'overlapping IPv6 subnets on one bridge',
    config: { bridge: 'br0', isGateway: true, ipam: six },
    steps: [add(), add({ container: 'c2', config: { name: 'other', ipam: { ...six, subnet: 'fd00:1::/48' } } })],
  },
  {
    name: 'overlapping IPv6 subnets on one bridge, forced',
    config: { bridge: 'br0', isGateway: true, forceAddress: true, ipam: six },
    steps: [
      add(),
      add({
        container: 'c2',
        config: {
          name: 'other',
          ipam: { ...six, subnet: 'fd00:1::/48', rangeStart: 'fd00:1:0:1::1', gateway: 'fd00:1::fe' },
        },
      }),
    ],
  },

  // What the outside sees
  {
    name: 'ipMasq',
    config: { isGateway: true, isDefaultGateway: true, ipMasq: true, ipam: dual },
    uplink: true,
    needs: ['iptables', 'socat'],
    steps: [
      add(),
      add({ container: 'c2' }),
      sends('c1', outside4),
      sends('c1', outside6),
      sends('c1', '10.1.0.3', 'c2'),
      sends('c1', 'fd00:1::3', 'c2'),
      check(),
      del(),
      sends('c2', outside4),
      sends('c2', outside6),
      check({ container: 'c2' }),
      del({ container: 'c2' }),
    ],
  },
  {
    name: 'ipMasq of two networks',
    config: { isDefaultGateway: true, ipMasq: true, ipam: four },
    uplink: true,
    needs: ['iptables', 'socat'],
    steps: [
      add(),
      add({ container: 'c2', config: { name: 'other', bridge: 'br1', ipam: { ...four, subnet: '10.2.0.0/24' } } }),
      sends('c1', '10.2.0.2', 'c2'),
      sends('c2', outside4),
      del({ container: 'c2', config: { name: 'other', bridge: 'br1', ipam: { ...four, subnet: '10.2.0.0/24' } } }),
      sends('c1', outside4),
    ],
  },
  {
    name: 'ipMasq with a backend that the reference does not know',
    config: { isDefaultGateway: true, ipMasq: true, ipMasqBackend: 'nftables', ipam: dual },
    uplink: true,
    needs: ['iptables', 'nft', 'socat'],
    steps: [add(), sends('c1', outside4), sends('c1', outside6), del()],
  },
  {
    name: 'no ipMasq',
    config: { isDefaultGateway: true, ipam: dual },
    uplink: true,
    needs: ['socat'],
    steps: [add(), sends('c1', outside4), sends('c1', outside6)],
  },

  // Properties of the links
  {
    name: 'container that has IPv6 switched off',
    config: { isGateway: true, ipam: dual },
    steps: [
      inside('c1', 'for conf in all default; do echo 1 >/proc/sys/net/ipv6/conf/$conf/disable_ipv6; done'),
      add(),
      check(),
      del(),
    ],
  },
  {
    name: 'container that has IPv6 switched off, IPv4 only',
    config: { isGateway: true, ipam: four },
    steps: [
      inside('c1', 'for conf in all default; do echo 1 >/proc/sys/net/ipv6/conf/$conf/disable_ipv6; done'),
      add(),
    ],
  },
  {
    name: 'host that has accept_ra 2',
    config: { isGateway: true, ipam: dual },
    steps: [onHost('for conf in all default; do echo 2 >/proc/sys/net/ipv6/conf/$conf/accept_ra; done'), add()],
  },
  { name: 'mtu', config: { mtu: 1400, ipam: four }, steps: life },
  { name: 'mtu 0', config: { mtu: 0, ipam: four }, steps: life },
  { name: 'mtu too small for the kernel', config: { mtu: 10, ipam: four }, steps: [add(), del()] },
  { name: 'mtu negative', config: { mtu: -1, ipam: four }, steps: [add()] },
  { name: 'mtu too large for the kernel', config: { mtu: 70000, ipam: four }, steps: [add(), del()] },
  { name: 'mtu as text', config: { mtu: '1400', ipam: four }, steps: [add()] },
  { name: 'mtu with a fraction', config: { mtu: 1400.5, ipam: four }, steps: [add()] },
  { name: 'hairpinMode', config: { hairpinMode: true, ipam: four }, steps: life },
  { name: 'promiscMode', config: { promiscMode: true, ipam: four }, steps: life },
  { name: 'hairpinMode and promiscMode', config: { hairpinMode: true, promiscMode: true, ipam: four }, steps: [add()] },
  { name: 'vlan out of range', config: { vlan: 5000, ipam: four }, steps: [add()] },
  { name: 'vlan negative', config: { vlan: -1, ipam: four }, steps: [add()] },
  {
    name: 'macspoofchk',
    config: { macspoofchk: true, ipam: four },
    needs: ['nft', 'socat'],
    steps: [
      add(),
      add({ container: 'c2' }),
      sends('c1', '10.1.0.3', 'c2'),
      inside('c1', 'ip link set eth0 address 02:00:00:00:00:99'),
      sends('c1', '10.1.0.3', 'c2', { lost: true }),
      del(),
    ],
  },
  {
    name: 'route with attributes of version 1.1',
    config: {
      ipam: { ...four, routes: [{ dst: '172.16.0.0/12', mtu: 1300, advmss: 1200, priority: 7, table: 100, scope: 0 }] },
    },
    steps: [add(), del()],
  },

  // MAC
  { name: 'MAC in CNI_ARGS', config: {}, steps: [add({ args: 'MAC=02:00:00:00:00:11' }), check(), del()] },
  {
    name: 'MAC in CNI_ARGS beside unknown arguments',
    config: { ipam: four },
    steps: [add({ args: 'IgnoreUnknown=1;MAC=02:00:00:00:00:11;K8S_POD_NAME=web' }), check(), del()],
  },
  { name: 'MAC in args', config: { ipam: four, args: { cni: { mac: '02:00:00:00:00:22' } } }, steps: life },
  {
    name: 'MAC in runtimeConfig',
    config: { ipam: four, capabilities: { mac: true }, runtimeConfig: { mac: '02:00:00:00:00:33' } },
    steps: life,
  },
  {
    name: 'MAC by all channels',
    config: { args: { cni: { mac: '02:00:00:00:00:22' } }, runtimeConfig: { mac: '02:00:00:00:00:33' } },
    steps: [add({ args: 'MAC=02:00:00:00:00:11' })],
  },
  {
    name: 'MAC by args and CNI_ARGS',
    config: { args: { cni: { mac: '02:00:00:00:00:22' } } },
    steps: [add({ args: 'MAC=02:00:00:00:00:11' })],
  },
  { name: 'MAC that is none', config: { runtimeConfig: { mac: '02:00:00' } }, steps: [add()] },
  {
    name: 'MAC that is a group address',
    config: { runtimeConfig: { mac: '01:00:00:00:00:01' } },
    steps: [add(), del()],
  },

  // Without addresses
  { name: 'no ipam', config: {}, steps: life },
  { name: 'empty ipam', config: { ipam: {} }, steps: life },
  { name: 'ipam with an empty type', config: { ipam: { type: '' } }, steps: life },
  { name: 'no ipam, isGateway', config: { isGateway: true }, steps: life },
  { name: 'no ipam, ipMasq', config: { ipMasq: true }, steps: life },
  { name: 'static without addresses', config: { ipam: { type: 'static' } }, steps: [add(), del()] },
  { name: 'ipam that is not installed', config: { ipam: { type: 'nowhere' } }, steps: [add()] },
  { name: 'ipam type with a slash', config: { ipam: { type: '../cni/host-local' } }, steps: [add()] },
  {
    name: 'no address left',
    config: { isGateway: true, ipam: { ...four, rangeStart: '10.1.0.2', rangeEnd: '10.1.0.2' } },
    steps: [add(), add({ container: 'c2' }), del({ container: 'c2' }), del()],
  },

  // Address sources
  {
    name: 'static addresses of both families',
    config: {
      isGateway: true,
      ipam: {
        type: 'static',
        addresses: [
          { address: '10.1.0.5/24', gateway: '10.1.0.1' },
          { address: 'fd00:1::5/64', gateway: 'fd00:1::1' },
        ],
        routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
        dns: { nameservers: ['10.1.0.1'], domain: 'lan' },
      },
    },
    steps: life,
  },
  {
    name: 'several range sets of one family',
    config: {
      isGateway: true,
      ipam: { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/24' }], [{ subnet: '10.2.0.0/24' }]] },
    },
    steps: [add(), del()],
  },
  {
    name: 'several range sets of one family without gateway on the bridge',
    config: { ipam: { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/24' }], [{ subnet: '10.2.0.0/24' }]] } },
    steps: life,
  },
  {
    name: 'several range sets of IPv6',
    config: {
      isDefaultGateway: true,
      ipam: { type: 'host-local', ranges: [[{ subnet: 'fd00:1::/64' }], [{ subnet: 'fd00:2::/64' }]] },
    },
    steps: life,
  },
  {
    name: 'range set of two subnets',
    config: {
      isGateway: true,
      forceAddress: true,
      ipam: {
        type: 'host-local',
        ranges: [[{ subnet: '10.1.0.0/24', rangeEnd: '10.1.0.2' }, { subnet: '10.2.0.0/24' }]],
      },
    },
    steps: [add(), add({ container: 'c2' })],
  },
  {
    name: 'IP in CNI_ARGS',
    config: { ipam: four },
    steps: [add({ args: 'IgnoreUnknown=true;IP=10.1.0.77' }), check(), del()],
  },
  { name: 'IP in CNI_ARGS alone', config: { ipam: four }, steps: [add({ args: 'IP=10.1.0.77' }), del()] },
  { name: 'unknown argument in CNI_ARGS', config: { ipam: four }, steps: [add({ args: 'COLOUR=blue' }), del()] },
  { name: 'IP in args', config: { ipam: four, args: { cni: { ips: ['10.1.0.78'] } } }, steps: life },
  { name: 'IP in runtimeConfig', config: { ipam: four, runtimeConfig: { ips: ['10.1.0.79/24'] } }, steps: life },
  {
    name: 'ipRanges in runtimeConfig',
    config: { ipam: four, runtimeConfig: { ipRanges: [[{ subnet: '10.3.0.0/24' }]] } },
    steps: [add(), del()],
  },

  // DNS
  {
    name: 'dns in the configuration',
    config: {
      ipam: four,
      dns: { nameservers: ['10.1.0.1'], domain: 'lan', search: ['lan', 'home'], options: ['ndots:2'] },
    },
    steps: life,
  },
  {
    name: 'dns in the IPAM',
    config: { ipam: { ...four, resolvConf: '/run/resolv.conf' } },
    steps: [onHost('printf "nameserver 10.0.0.53\\nsearch lan home\\n" >/run/resolv.conf'), add(), del()],
  },
  {
    name: 'dns in both',
    config: { ipam: { ...four, resolvConf: '/run/resolv.conf' }, dns: { domain: 'conf' } },
    steps: [onHost('printf "nameserver 10.0.0.53\\nsearch lan home\\n" >/run/resolv.conf'), add(), del()],
  },
  {
    name: 'dns in both, in the configuration an empty list',
    config: { ipam: { ...four, resolvConf: '/run/resolv.conf' }, dns: { nameservers: [] } },
    steps: [onHost('printf "nameserver 10.0.0.53\\n" >/run/resolv.conf'), add(), del()],
  },
  {
    name: 'dns in both, in the configuration an empty object',
    config: { ipam: { ...four, resolvConf: '/run/resolv.conf' }, dns: {} },
    steps: [onHost('printf "nameserver 10.0.0.53\\n" >/run/resolv.conf'), add(), del()],
  },

  // Teardown
  {
    name: 'deleted without having been added',
    config: { ipMasq: true, ipam: four },
    needs: ['iptables'],
    steps: [del()],
  },
  {
    name: 'deleted without a result',
    config: { isGateway: true, ipam: dual },
    steps: [add(), del({ prevResult: 'none' })],
  },
  {
    name: 'deleted with an empty CNI_NETNS',
    config: { isGateway: true, ipam: dual },
    steps: [add(), del({ netns: '' }), add({ container: 'c2' })],
  },
  {
    name: 'deleted without CNI_NETNS',
    config: { isGateway: true, ipam: dual },
    steps: [add(), del({ env: { CNI_NETNS: undefined } })],
  },
  {
    name: 'deleted after the namespace',
    config: { isGateway: true, ipam: dual },
    steps: [add(), endNamespace('ip netns delete c1'), del(), del()],
  },
  {
    name: 'deleted with a plain file as namespace',
    config: { isGateway: true, ipam: dual },
    steps: [add(), endNamespace('umount /run/netns/c1'), del()],
  },
  {
    name: 'deleted after the interface',
    config: { isGateway: true, ipam: dual },
    steps: [add(), inside('c1', 'ip link delete eth0'), del()],
  },
  {
    name: 'deleted after the bridge',
    config: { isGateway: true, ipam: dual },
    steps: [add(), onHost('ip link delete cni0'), del()],
  },
  {
    name: 'deleted with another configuration',
    config: { isGateway: true, ipam: four },
    steps: [add(), del({ config: { bridge: 'br9', mtu: 1280, ipam: { type: 'host-local', subnet: '10.9.0.0/24' } } })],
  },
  {
    name: 'masquerading deleted with an empty CNI_NETNS',
    config: { isDefaultGateway: true, ipMasq: true, ipam: four },
    uplink: true,
    needs: ['iptables', 'socat'],
    steps: [
      add(),
      del({ netns: '' }),
      // Whoever gets the address next, in a network without masquerading, should not be translated.
      add({ container: 'c2', config: { name: 'plain', bridge: 'cni0', ipMasq: false } }),
      sends('c2', outside4),
    ],
  },
  {
    name: 'deleted with an MTU that is none',
    config: { ipam: four },
    steps: [add(), del({ config: { mtu: 70000 } })],
  },
  {
    name: 'deleted with a MAC that is none',
    config: { ipam: four },
    steps: [add(), del({ config: { runtimeConfig: { mac: 'soon' } } })],
  },
  {
    name: 'deleted with contradicting modes',
    config: { ipam: four },
    steps: [add(), del({ config: { hairpinMode: true, promiscMode: true } })],
  },
  { name: 'deleted with malformed CNI_ARGS', config: { ipam: four }, steps: [add(), del({ args: 'COLOUR' })] },
  { name: 'deleted with unknown CNI_ARGS', config: { ipam: four }, steps: [add(), del({ args: 'COLOUR=blue' })] },
  { name: 'deleted without ipam', config: { ipam: four }, steps: [add(), del({ config: { ipam: undefined } })] },
  {
    name: 'deleted with an ipam that is not installed',
    config: { ipam: four },
    steps: [add(), del({ config: { ipam: { type: 'nowhere' } } })],
  },
  {
    name: 'deleted with ranges that are wrong',
    config: { ipam: four },
    steps: [add(), del({ config: { ipam: { type: 'host-local', subnet: 'here' } } })],
  },
  {
    name: 'deleted with static addresses that are wrong',
    config: { ipam: { type: 'static', addresses: [{ address: '10.1.0.5/24' }] } },
    steps: [add(), del({ config: { ipam: { type: 'static', addresses: [{ address: 'here' }] } } })],
  },
  { name: 'deleted with ipam as text', config: { ipam: four }, steps: [add(), del({ config: { ipam: 'here' } })] },
  {
    name: 'deleted with a type of ipam that is a number',
    config: { ipam: four },
    steps: [add(), del({ config: { ipam: { type: 7 } } })],
  },
  {
    name: "deleted where the interface is somebody else's",
    config: { ipam: four },
    steps: [inside('c1', 'ip link add eth0 type veth peer name eth1'), del()],
  },

  // One set taking up what the other left
  {
    name: 'added by the reference',
    config: { isDefaultGateway: true, ipMasq: true, ipam: dual },
    uplink: true,
    needs: ['iptables', 'socat'],
    steps: [
      add({ by: 'reference' }),
      add({ container: 'c2' }),
      sends('c1', outside4),
      sends('c2', outside4),
      check(),
      del(),
      add({ container: 'c3', config: { name: 'plain', bridge: 'cni0', ipMasq: false } }),
      sends('c3', outside4),
    ],
  },
  {
    name: 'added and deleted by the reference in between',
    config: { isDefaultGateway: true, ipMasq: true, ipam: dual },
    uplink: true,
    needs: ['iptables', 'socat'],
    steps: [add(), check({ by: 'reference' }), del({ by: 'reference' }), add(), sends('c1', outside6), del()],
  },

  // CHECK
  { name: 'checked without a result', config: { ipam: four }, steps: [add(), check({ prevResult: 'none' })] },
  { name: 'checked without having been added', config: { ipam: four }, steps: [check({ prevResult: 'none' })] },
  {
    name: 'checked with the result of another container',
    config: { ipam: four },
    steps: [
      add(),
      add({ container: 'c2' }),
      check({
        container: 'c2',
        prevResult: {
          cniVersion: '1.0.0',
          interfaces: [{ name: 'cni0' }, { name: 'veth0' }, { name: 'eth0', sandbox: '/run/netns/c1' }],
          ips: [{ address: '10.1.0.2/24', interface: 2 }],
        },
      }),
    ],
  },
  ...tampered('address gone', inside('c1', 'ip address delete 10.1.0.2/24 dev eth0')),
  ...tampered('IPv6 address gone', inside('c1', 'ip address delete fd00:1::2/64 dev eth0')),
  ...tampered('route gone', inside('c1', 'ip route delete 172.16.0.0/12')),
  ...tampered('default route gone', inside('c1', 'ip route delete default')),
  ...tampered('interface gone', inside('c1', 'ip link delete eth0')),
  ...tampered('MAC of the interface changed', inside('c1', 'ip link set eth0 address 02:00:00:00:00:99')),
  ...tampered('bridge gone', onHost('ip link delete cni0')),
  ...tampered('MAC of the bridge changed', onHost('ip link set cni0 address 02:00:00:00:00:99')),
  ...tampered('promiscuous mode switched on', onHost('ip link set cni0 promisc on')),
  ...tampered('port taken off the bridge', onHost('ip link set $(ls /sys/class/net/cni0/brif) nomaster')),
  ...tampered('lease gone', onHost('rm /var/lib/cni/networks/net/10.1.0.2 /var/lib/cni/networks/net/fd00:1::2')),
  ...tampered('gateway gone from the bridge', onHost('ip address flush dev cni0')),
  ...tampered(
    'further address and route',
    inside('c1', 'ip address add 10.1.0.99/24 dev eth0; ip route add 10.50.0.0/16 dev eth0'),
  ),
  ...tampered('further interface', inside('c1', 'ip link add eth1 type veth peer name eth2')),

  // The configuration as text
  {
    name: 'keys in another case',
    config: { BRIDGE: 'br0', ISGATEWAY: true, Mtu: 1400, IPAM: { Type: 'host-local', SUBNET: '10.1.0.0/24' } },
    steps: [add(), del()],
  },
  {
    name: 'keys that are null',
    config: { bridge: null, mtu: null, isGateway: null, dns: null, ipam: four },
    steps: life,
  },
  { name: 'unknown keys', config: { colour: 'blue', isgatway: true, ipam: { ...four, shape: 1 } }, steps: life },
  { name: 'isGateway as text', config: { isGateway: 'true', ipam: four }, steps: [add()] },
  { name: 'ipam as text', config: { ipam: 'host-local' }, steps: [add()] },
  { name: 'ipam as a list', config: { ipam: [] }, steps: [add()] },
  { name: 'dns as a list', config: { ipam: four, dns: ['10.0.0.1'] }, steps: [add()] },
  {
    name: 'further attribute in prevResult of ADD',
    config: { ipam: four },
    steps: [add({ prevResult: { cniVersion: '1.0.0', ips: [{ address: '10.9.0.9/24' }] } }), del()],
  },
  ...['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0'].map((cniVersion) => ({
    name: `cniVersion ${cniVersion}`,
    config: {
      cniVersion,
      isDefaultGateway: true,
      ipam: { ...dual, routes: [{ dst: '172.16.0.0/12', gw: '10.1.0.1' }] },
      dns: { domain: 'lan' },
    },
    steps: life,
  })),
  ...['0.2.0', '0.4.0'].map((cniVersion) => ({
    name: `no ipam, cniVersion ${cniVersion}`,
    config: { cniVersion },
    steps: [add(), del()],
  })),
]

/** An attachment with everything that CHECK looks at, and one thing changed. */
function tampered(name: string, change: Step): Omit<Scenario, 'plugin'>[] {
  // With a gateway: CHECK of the reference never finds a route without.
  const routes = [{ dst: '172.16.0.0/12', gw: '10.1.0.1' }]
  const config = { isDefaultGateway: true, ipam: { ...dual, routes } }
  return [{ name: `checked: ${name}`, config, steps: [add(), change, check(), del()] }]
}

export const bridgeScenarios: readonly Scenario[] = table.map(({ name, ...rest }) => ({
  ...rest,
  name: `bridge: ${name}`,
  plugin: 'bridge',
}))
