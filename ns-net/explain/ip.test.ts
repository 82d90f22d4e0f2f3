import { describe, expect, test } from 'vitest'
import { cidr } from '../../netlink-lib/ip.ts'
import { addAddress, deleteAddress } from '../../netlink-lib/route/address.ts'
import { addAltName, bridgeMessage, ifbMessage, settingsMessage, vethMessage } from '../../netlink-lib/route/link.ts'
import { deleteNeighbour, setNeighbour } from '../../netlink-lib/route/neighbour.ts'
import { addRoute, deleteRoute } from '../../netlink-lib/route/route.ts'
import { createShaping } from '../../netlink-lib/route/shaping.ts'
import { createBucket, createIngress, createRedirect, deleteQdisc } from '../../netlink-lib/route/traffic-control.ts'
import { addVlans, deleteVlans } from '../../netlink-lib/route/vlan.ts'
import { linkMessage, messageTypes, routeScopes } from '../../netlink-lib/route/wire.ts'
import { flags, type Request } from '../../netlink-lib/socket.ts'
import { ipCommand } from './ip.ts'
import type { Names } from './ip-link.ts'
import { host, labPlace, type Place } from './place.ts'

/* That these commands do what the messages do is for integration-tests/explain.test.ts to judge, as far as the kernel can. */

const web = labPlace('web')
const process: Place = { name: 'pid:77', netns: '/proc/77/ns/net' }
const names: Names = {
  link: (index) => ['', 'lo', 'br0', 'eth0', 'ifb0'][index]!,
  behind: (fd) => (fd === 9 ? web : host),
}
const told = (request: Request, place = host) => ipCommand(place, request, names)
const link = { index: 3, name: 'eth0' }
const newLink = (body: Buffer, sent = 0): Request => ({
  type: messageTypes.newLink,
  flags: sent,
  body,
  operation: '',
  subject: '',
})
const created = (body: Buffer, place = host) => told(newLink(body, flags.create | flags.exclusive), place)
const set = (settings: object, place = host) =>
  told(newLink(linkMessage.encode({ index: 3, ...settingsMessage(settings) })), place)
const deleted = (message: object) =>
  told({ type: messageTypes.deleteLink, body: linkMessage.encode(message), operation: '', subject: '' })

describe('links', () => {
  test('made', () => {
    expect(created(bridgeMessage({ name: 'br1', mtu: 1400, group: 7, vlanFiltering: true }))).toBe(
      'ip link add br1 mtu 1400 group 7 type bridge vlan_filtering 1',
    )
    expect(created(ifbMessage({ name: 'ifb1', up: true }))).toBe('ip link add ifb1 up type ifb')
    const peer = { name: 'eth0', netnsFd: 9, mac: '02:00:00:00:00:01' }
    expect(created(vethMessage({ name: 'v1', master: 2, up: true, peer }))).toBe(
      'ip link add v1 up master br0 type veth peer name eth0 address 02:00:00:00:00:01 netns web',
    )
    expect(created(vethMessage({ name: 'v1', up: false, peer: { name: 'v2' } }))).toBe(
      'ip link add v1 type veth peer name v2',
    )
  })

  test('the host has no name: a pair with one end there is made from there', () => {
    const pair = vethMessage({ name: 'eth0', mtu: 1400, peer: { name: 'out', netnsFd: 1 } })
    expect(created(pair, web)).toBe('ip link add out type veth peer name eth0 mtu 1400 netns web')
    expect(created(pair, process)).toBe('ip link add out type veth peer name eth0 mtu 1400 netns 77')
  })

  test('changed', () => {
    expect(set({ up: true })).toBe('ip link set eth0 up')
    expect(set({ up: false, promiscuous: true, allMulticast: false, mtu: 1300, txQueueLength: 500 }, web)).toBe(
      'ip -n web link set eth0 down mtu 1300 txqueuelen 500 promisc on allmulticast off',
    )
    expect(set({ alias: "it's mine", master: 0, group: 0 })).toBe(
      "ip link set eth0 nomaster alias 'it'\\''s mine' group default",
    )
    expect(set({ master: 2, port: { hairpin: true, isolated: false } }, process)).toBe(
      'nsenter --net=/proc/77/ns/net ip link set eth0 master br0 type bridge_slave hairpin on isolated off',
    )
    expect(told(newLink(linkMessage.encode({ index: 3, name: 'wan' })))).toBe('ip link set eth0 name wan')
  })

  test('changed for one family, which ip(8) or sysctl(8) does', () => {
    expect(set({ linkLocal: false }, web)).toBe('ip -n web link set eth0 addrgenmode none')
    expect(set({ linkLocal: true })).toBe('ip link set eth0 addrgenmode eui64')
    expect(set({ arpNotify: true }, web)).toBe('ip netns exec web sysctl -qw net.ipv4.conf.eth0.arp_notify=1')
    expect(set({ up: true, arpNotify: false })).toBe(
      'sysctl -qw net.ipv4.conf.eth0.arp_notify=0 && ip link set eth0 up',
    )
  })

  test('given other names, which are taken away again', () => {
    const given = addAltName(link, 'the-one')
    expect(told(given, web)).toBe('ip -n web link property add dev eth0 altname the-one')
    expect(told({ ...given, type: messageTypes.deleteLinkProperty })).toBe(
      'ip link property del dev eth0 altname the-one',
    )
  })

  test('deleted, one or a group', () => {
    expect(deleted({ index: 3 })).toBe('ip link del eth0')
    expect(deleted({ name: 'v1' })).toBe('ip link del v1')
    expect(deleted({ group: 77 })).toBe('ip link del group 77')
  })

  test('VLANs of a port', () => {
    const vlans = [
      { first: 5, last: 5, pvid: true, untagged: true },
      { first: 7, last: 9 },
    ]
    expect(told(addVlans(link, vlans))).toBe(
      'bridge vlan add dev eth0 vid 5 pvid untagged; bridge vlan add dev eth0 vid 7-9',
    )
    expect(told(deleteVlans(link, vlans), web)).toBe(
      'bridge -n web vlan del dev eth0 vid 5; bridge -n web vlan del dev eth0 vid 7-9',
    )
  })
})

test.each([
  [addAddress(link, cidr('10.1.0.2/16'), false), 'addr add 10.1.0.2/16 brd 10.1.255.255 dev eth0'],
  [addAddress(link, cidr('10.1.0.2/32'), false), 'addr add 10.1.0.2/32 dev eth0'],
  [addAddress(link, cidr('fd00::2/64'), false), 'addr add fd00::2/64 dev eth0 nodad'],
  [addAddress(link, cidr('fd00::2/64'), true), 'addr add fd00::2/64 dev eth0'],
  [deleteAddress(link, cidr('10.1.0.2/16')), 'addr del 10.1.0.2/16 dev eth0'],
  [
    setNeighbour(link, '10.1.0.3', '02:00:00:00:00:01'),
    'neigh replace 10.1.0.3 lladdr 02:00:00:00:00:01 dev eth0 nud permanent',
  ],
  [deleteNeighbour(link, 'fd00::3'), 'neigh del fd00::3 dev eth0'],
])('addresses and neighbours %#', (request, command) => {
  expect(told(request, web)).toBe(`ip -n web ${command}`)
})

const dst = (text: string) => cidr(text)
test.each([
  [addRoute({ dst: dst('0.0.0.0/0'), gateway: '10.1.0.1', link: 3 }), 'ip route prepend default via 10.1.0.1 dev eth0'],
  [addRoute({ dst: dst('::/0'), gateway: 'fd00::1', link: 3 }), 'ip -6 route prepend default via fd00::1 dev eth0'],
  [
    addRoute({ dst: dst('10.1.0.7/32'), link: 3, scope: routeScopes.host }),
    'ip route prepend 10.1.0.7 dev eth0 scope host',
  ],
  [
    addRoute({ dst: dst('10.1.0.7/32'), link: 3, source: '10.1.0.2' }),
    'ip route prepend 10.1.0.7 dev eth0 src 10.1.0.2',
  ],
  [
    addRoute({ dst: dst('10.9.0.0/16'), gateway: '10.1.0.1', priority: 50, table: 255, mtu: 1400, advmss: 1360 }),
    'ip route prepend 10.9.0.0/16 via 10.1.0.1 metric 50 table local mtu 1400 advmss 1360',
  ],
  [addRoute({ dst: dst('10.9.0.0/16'), link: 3, table: 1000 }), 'ip route prepend 10.9.0.0/16 dev eth0 table 1000'],
  [
    { ...addRoute({ dst: dst('10.9.0.0/16'), link: 3, scope: 0 }), flags: flags.create | flags.exclusive },
    'ip route add 10.9.0.0/16 dev eth0 scope global',
  ],
  [
    deleteRoute({ dst: dst('10.1.0.0/16'), link: 3, source: '10.1.0.2' }),
    'ip route del 10.1.0.0/16 dev eth0 src 10.1.0.2',
  ],
])('routes %#', (request, command) => {
  expect(told(request)).toBe(command)
})

const bucket = { rate: 1_000_000, burst: 10_000, limit: 35_000 }
test.each([
  [createBucket(link, bucket), 'qdisc add dev eth0 root handle 1: tbf rate 8000000bit burst 10000 limit 35000'],
  [
    createShaping(link, { bucket, lateness: { delay: 20_000, jitter: 5_000 } })[0]!,
    'qdisc add dev eth0 root handle 6e73: netem limit 1000 delay 20000us 5000us',
  ],
  [
    createShaping(link, { bucket, lateness: { delay: 20_000, jitter: 0 } })[1]!,
    'qdisc add dev eth0 parent 6e73:1 handle 6e74: tbf rate 8000000bit burst 10000 limit 35000',
  ],
  [createIngress(link), 'qdisc add dev eth0 ingress'],
  [
    createRedirect(link, { index: 4, name: 'ifb0' }),
    'filter add dev eth0 parent ffff: protocol all prio 1 u32 match u32 0 0 action mirred egress redirect dev ifb0',
  ],
  [deleteQdisc(link, 'root'), 'qdisc del dev eth0 root'],
  [deleteQdisc(link, 'ingress'), 'qdisc del dev eth0 ingress'],
])('traffic control %#', (request, command) => {
  expect(told(request)).toBe(`tc ${command}`)
  expect(told(request, web)).toBe(`tc -n web ${command}`)
})
