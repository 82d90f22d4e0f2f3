import { expect, test } from 'vitest'
import type { Codec } from '../bytes.ts'
import { hex } from '../golden-bytes.ts'
import { bridgeMessage, settingsMessage, vethMessage } from './link.ts'
import { toPortVlans, vlanInfos } from './vlan.ts'
import {
  addressMessage,
  linkFamilies,
  linkMessage,
  neighbourMessage,
  portVlanMessage,
  routeMessage,
  vethData,
} from './wire.ts'

/** Both directions. What iproute2 6.1 sends is told by strace; it leaves NLA_F_NESTED (8000) away where we set it. */
function golden<T extends object>(codec: Codec<T>, bytes: Buffer, value: T): void {
  expect(codec.encode(value)).toEqual(bytes)
  expect(codec.decode(bytes)).toMatchObject(value)
  expect(codec.encode(codec.decode(bytes))).toEqual(bytes)
}

test('a link: ip link set dev X mtu 1400 master Y up', () => {
  golden(
    linkMessage,
    hex(`
      00 00 0000 07000000 01000000 01000000   # ifinfomsg: index 7, flags IFF_UP, change IFF_UP
      0800 0400 78050000                      # IFLA_MTU 1400
      0800 0a00 09000000                      # IFLA_MASTER 9
    `),
    { family: 0, pad: 0, deviceType: 0, index: 7, flags: 1, change: 1, mtu: 1400, master: 9 },
  )
})

test('port settings: ip link set X type bridge_slave hairpin on isolated on', () => {
  golden(
    linkMessage,
    hex(`
      00 00 0000 07000000 00000000 00000000
      2400 1280                               # IFLA_LINKINFO, nested
        0b00 0400 62726964676500 00           # IFLA_INFO_SLAVE_KIND "bridge"
        1400 0580                             # IFLA_INFO_SLAVE_DATA, nested
          0500 0400 01 000000                 # IFLA_BRPORT_MODE
          0500 2100 01 000000                 # IFLA_BRPORT_ISOLATED
    `),
    {
      family: 0,
      pad: 0,
      deviceType: 0,
      index: 7,
      flags: 0,
      change: 0,
      info: { portKind: 'bridge', portData: { hairpin: 1, isolated: 1 } },
    },
  )
})

test('settings by family: ip link set X addrgenmode none; arp_notify, which ip(8) cannot set', () => {
  const bytes = hex(`
    00 00 0000 07000000 00000000 00000000
    2000 1a00                               # IFLA_AF_SPEC
      1000 0280                             # AF_INET, nested
        0c00 0180                           # IFLA_INET_CONF, nested
          0800 1600 01000000                # IPV4_DEVCONF_ARP_NOTIFY
      0c00 0a80                             # AF_INET6, nested
        0500 0800 01 000000                 # IFLA_INET6_ADDR_GEN_MODE: IN6_ADDR_GEN_MODE_NONE
  `)
  const settings = settingsMessage({ arpNotify: true, linkLocal: false })
  expect(linkMessage.encode({ index: 7, ...settings })).toEqual(bytes)
  const families = { ipv4: { settings: { arpNotify: 1 } }, ipv6: { addressGeneration: 1 } }
  expect(linkFamilies.decode(linkMessage.decode(bytes).families!)).toEqual(families)
  expect(linkFamilies.encode(families)).toEqual(settings.families)
  expect(settingsMessage({ up: true }).families).toBeUndefined()
})

test('a veth pair with the peer in another namespace: ip link add vx mtu 1400 type veth peer name vy mtu 1400 netns FD', () => {
  const bytes = vethMessage({ name: 'vx', mtu: 1400, peer: { name: 'vy', mtu: 1400, netnsFd: 5 } })
  expect(bytes).toEqual(
    hex(`
      00 00 0000 00000000 00000000 00000000
      0800 0400 78050000                      # IFLA_MTU 1400
      4000 1280                               # IFLA_LINKINFO, nested
        0900 0100 7665746800 000000           # IFLA_INFO_KIND "veth"
        3000 0200                             # IFLA_INFO_DATA
          2c00 0100                           # VETH_INFO_PEER: a whole message
            00 00 0000 00000000 00000000 00000000
            0700 0300 767900 00               # IFLA_IFNAME "vy"
            0800 0400 78050000                # IFLA_MTU 1400
            0800 1c00 05000000                # IFLA_NET_NS_FD 5
      0700 0300 767800 00                     # IFLA_IFNAME "vx"
    `),
  )
  const { info } = linkMessage.decode(bytes)
  expect(vethData.decode(info!.data!)).toMatchObject({ peer: { name: 'vy', mtu: 1400, netnsFd: 5 } })
})

test('a bridge that filters VLANs: ip link add br type bridge vlan_filtering 1', () => {
  const { info, name } = linkMessage.decode(bridgeMessage({ name: 'br', vlanFiltering: true }))
  expect(name).toBe('br')
  expect(info).toEqual({ kind: 'bridge', data: hex('0500 0700 01 000000') }) // IFLA_BR_VLAN_FILTERING
})

test('VLANs of a port: bridge vlan add dev X vid 100 pvid untagged; … vid 200-210', () => {
  const header = { family: 7, pad: 0, deviceType: 0, index: 3, flags: 0, change: 0 }
  golden(
    portVlanMessage,
    hex(`
      07 00 0000 03000000 00000000 00000000   # AF_BRIDGE
      0c00 1a80                               # IFLA_AF_SPEC, nested
        0800 0200 0600 6400                   # IFLA_BRIDGE_VLAN_INFO: PVID | UNTAGGED, 100
    `),
    {
      ...header,
      vlans: vlanInfos({ first: 100, last: 100, pvid: true, untagged: true }) as { flags: number; id: number }[],
    },
  )
  golden(
    portVlanMessage,
    hex(`
      07 00 0000 03000000 00000000 00000000
      1400 1a80
        0800 0200 0800 c800                   # RANGE_BEGIN, 200
        0800 0200 1000 d200                   # RANGE_END, 210
    `),
    { ...header, vlans: vlanInfos({ first: 200, last: 210 }) as { flags: number; id: number }[] },
  )
  expect(
    toPortVlans([
      { flags: 6, id: 1 },
      { flags: 8, id: 200 },
      { flags: 16, id: 210 },
      { flags: 0, id: 300 },
    ]),
  ).toEqual([
    { first: 1, last: 1, pvid: true, untagged: true },
    { first: 200, last: 210, pvid: false, untagged: false },
    { first: 300, last: 300, pvid: false, untagged: false },
  ])
})

test('addresses: ip addr add 10.1.0.2/24; ip addr add fd00::2/64 nodad', () => {
  golden(
    addressMessage,
    hex(`
      02 18 00 00 07000000                    # AF_INET, /24, index 7
      0800 0200 0a010002                      # IFA_LOCAL 10.1.0.2
      0800 0100 0a010002                      # IFA_ADDRESS
      0800 0400 0a0100ff                      # IFA_BROADCAST 10.1.0.255
    `),
    {
      family: 2,
      prefix: 24,
      shortFlags: 0,
      scope: 0,
      index: 7,
      local: '10.1.0.2',
      address: '10.1.0.2',
      broadcast: '10.1.0.255',
    },
  )
  golden(
    addressMessage,
    hex(`
      0a 40 00 00 07000000                    # AF_INET6, /64
      1400 0200 fd000000000000000000000000000002
      0800 0800 02000000                      # IFA_FLAGS IFA_F_NODAD
    `),
    { family: 10, prefix: 64, shortFlags: 0, scope: 0, index: 7, local: 'fd00::2', flags: 2 },
  )
})

test('a route: ip route add 10.2.0.0/16 via 10.1.0.1 dev X src 10.1.0.2 metric 77 mtu 1400 advmss 1200 table 1000', () => {
  golden(
    routeMessage,
    hex(`
      02 10 00 00 00 03 00 01 00000000        # AF_INET, /16, RTPROT_BOOT, universe, unicast
      0800 0100 0a020000                      # RTA_DST
      0800 0500 0a010001                      # RTA_GATEWAY
      0800 0400 07000000                      # RTA_OIF
      0800 0700 0a010002                      # RTA_PREFSRC
      0800 0600 4d000000                      # RTA_PRIORITY
      1400 0880                               # RTA_METRICS, nested
        0800 0200 78050000                    # RTAX_MTU
        0800 0800 b0040000                    # RTAX_ADVMSS
      0800 0f00 e8030000                      # RTA_TABLE
    `),
    {
      family: 2,
      dstPrefix: 16,
      srcPrefix: 0,
      tos: 0,
      shortTable: 0,
      protocol: 3,
      scope: 0,
      type: 1,
      flags: 0,
      dst: '10.2.0.0',
      gateway: '10.1.0.1',
      outLink: 7,
      preferredSource: '10.1.0.2',
      priority: 77,
      metrics: { mtu: 1400, advmss: 1200 },
      table: 1000,
    },
  )
})

test('a neighbour: ip neigh replace 10.1.0.9 lladdr 02:00:00:00:00:09 dev X', () => {
  golden(
    neighbourMessage,
    hex(`
      02 00 0000 07000000 8000 00 00          # AF_INET, index 7, NUD_PERMANENT
      0800 0100 0a010009                      # NDA_DST
      0a00 0200 020000000009 0000             # NDA_LLADDR
    `),
    {
      family: 2,
      pad1: 0,
      pad2: 0,
      index: 7,
      state: 0x80,
      flags: 0,
      type: 0,
      dst: '10.1.0.9',
      mac: '02:00:00:00:00:09',
    },
  )
})
