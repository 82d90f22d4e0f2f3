import { parseBridge, parseBridgePort, parseInfo, parseVethInfo } from 'netlink/dist/rt/ifla.js'
import {
  parseAddressMessage,
  parseLinkMessage,
  parseNeighborMessage,
  parseRouteMessage,
} from 'netlink/dist/rt/structs.js'
import { parseMessages } from 'netlink/dist/structs.js'
import { expect, test } from 'vitest'
import { bridgeMessage, settingsMessage, vethMessage } from '../netlink-lib/route/link.ts'
import {
  addressFlags,
  addressMessage,
  linkMessage,
  neighbourMessage,
  neighbourStates,
  routeMessage,
  routeProtocols,
  routeScopes,
  routeTables,
  routeTypes,
} from '../netlink-lib/route/wire.ts'
import { frame } from '../netlink-lib/socket.ts'

/*
 * The npm package `netlink` reads what our tables write. Its tables come from other people's reading of the same kernel
 * headers. Only its pure JavaScript is loaded, no socket.
 *
 * It cannot judge: whether nested attributes carry NLA_F_NESTED (it reads them either way), and attributes of ours that
 * it doesn't name, which it drops. Each expected value below is therefore complete, so that a dropped one shows. Some
 * attributes it returns as bytes; those are compared as bytes. It knows nothing of nf_tables.
 */

const u32 = (value: number) => Buffer.from(Uint32Array.of(value).buffer)
const bytes = (...values: number[]) => Buffer.from(values)
const isOn = bytes(1)

test('a frame is read as one message with the same header', () => {
  const framed = Buffer.concat([frame(16, 0x605, 7, bytes(1, 2, 3)), frame(17, 5, 8, bytes(4))])
  expect(parseMessages(framed)).toEqual([
    { type: 16, flags: 0x605, seq: 7, port: 0, data: bytes(1, 2, 3) },
    { type: 17, flags: 5, seq: 8, port: 0, data: bytes(4) },
  ])
})

test('a veth pair whose peer is born in another namespace', () => {
  const message = vethMessage({
    name: 'veth0',
    mtu: 1400,
    mac: '02:00:00:00:00:01',
    master: 7,
    up: true,
    peer: { name: 'eth0', netnsFd: 23, mtu: 1400, mac: '02:00:00:00:00:02' },
  })

  const link = parseLinkMessage(message)
  const { linkinfo, ...attrs } = link.attrs
  expect(link.data).toMatchObject({ family: 0, index: 0, flags: { up: true }, change: { up: true } })
  expect(attrs).toEqual({ ifname: 'veth0', mtu: 1400, address: bytes(2, 0, 0, 0, 0, 1), master: 7 })

  const info = parseInfo(linkinfo!)
  expect(info).toEqual({ kind: 'veth', data: info.data })
  const peer = parseLinkMessage(parseVethInfo(info.data!).peer!)
  expect(peer.data).toMatchObject({ index: 0, flags: {}, change: {} })
  expect(peer.attrs).toEqual({ ifname: 'eth0', mtu: 1400, address: bytes(2, 0, 0, 0, 0, 2), netNsFd: 23 })
})

test('a bridge with VLAN filtering', () => {
  const { attrs } = parseLinkMessage(bridgeMessage({ name: 'br0', vlanFiltering: true, promiscuous: true }))
  const info = parseInfo(attrs.linkinfo!)
  expect(attrs).toEqual({ ifname: 'br0', linkinfo: attrs.linkinfo })
  expect(info).toEqual({ kind: 'bridge', data: info.data })
  expect(parseBridge(info.data!)).toEqual({ vlanFiltering: isOn })
})

test('settings of a link that is a port of a bridge', () => {
  const settings = settingsMessage({
    up: true,
    promiscuous: false,
    alias: 'ns-net web',
    group: 9,
    port: { hairpin: true, isolated: true },
  })
  const { data, attrs } = parseLinkMessage(linkMessage.encode({ index: 12, ...settings }))
  expect(data).toMatchObject({ index: 12, flags: { up: true }, change: { up: true, promisc: true } })
  expect(attrs).toEqual({ ifalias: 'ns-net web', group: 9, linkinfo: attrs.linkinfo })
  const info = parseInfo(attrs.linkinfo!)
  expect(info).toEqual({ slaveKind: 'bridge', slaveData: info.slaveData })
  expect(parseBridgePort(info.slaveData!)).toEqual({ mode: 1, isolated: isOn })
})

test.each([
  ['IPv4', 2, '10.88.0.5', '10.88.255.255', bytes(10, 88, 0, 5), bytes(10, 88, 255, 255)],
  ['IPv6', 10, 'fd00::5', undefined, Buffer.from('fd000000000000000000000000000005', 'hex'), undefined],
])('an %s address', (_, family, text, broadcast, address, broadcastBytes) => {
  const message = addressMessage.encode({
    family,
    prefix: 16,
    index: 3,
    local: text,
    address: text,
    broadcast,
    flags: addressFlags.noDad,
  })
  const { data, attrs } = parseAddressMessage(message)
  expect(data).toMatchObject({ family, prefixlen: 16, scope: 0, index: 3 })
  expect(attrs).toEqual({
    local: address,
    address,
    ...(broadcastBytes && { broadcast: broadcastBytes }),
    flags: { nodad: true },
  })
})

test('a route with everything that we say of routes', () => {
  const message = routeMessage.encode({
    family: 2,
    dstPrefix: 24,
    shortTable: routeTables.main,
    protocol: routeProtocols.boot,
    scope: routeScopes.link,
    type: routeTypes.unicast,
    dst: '198.51.100.0',
    outLink: 3,
    gateway: '10.88.0.1',
    priority: 50,
    preferredSource: '10.88.0.5',
    metrics: { mtu: 1400, advmss: 1360 },
    table: 1234,
  })
  const { data, attrs } = parseRouteMessage(message)
  expect(data).toMatchObject({
    family: 2,
    dstLen: 24,
    srcLen: 0,
    tos: 0,
    table: 254,
    protocol: 'BOOT',
    scope: 'LINK',
    type: 'UNICAST',
  })
  expect(attrs).toEqual({
    dst: bytes(198, 51, 100, 0),
    oif: 3,
    gateway: bytes(10, 88, 0, 1),
    priority: 50,
    prefsrc: bytes(10, 88, 0, 5),
    metrics: { mtu: u32(1400), advmss: u32(1360) },
    table: 1234,
  })
})

test('the default route of IPv6', () => {
  const message = routeMessage.encode({ family: 10, type: routeTypes.unicast, gateway: 'fe80::1', outLink: 2 })
  const { data, attrs } = parseRouteMessage(message)
  expect(data).toMatchObject({ family: 10, dstLen: 0, scope: 'UNIVERSE' })
  expect(attrs).toEqual({ gateway: Buffer.from('fe800000000000000000000000000001', 'hex'), oif: 2 })
})

test('a permanent neighbour', () => {
  const message = neighbourMessage.encode({
    family: 2,
    index: 4,
    state: neighbourStates.permanent,
    dst: '10.88.0.1',
    mac: '02:00:00:00:00:01',
  })
  const { data, attrs } = parseNeighborMessage(message)
  expect(data).toMatchObject({ family: 2, ifindex: 4, state: { permanent: true } })
  expect(attrs).toEqual({ dst: bytes(10, 88, 0, 1), lladdr: bytes(2, 0, 0, 0, 0, 1) })
})
