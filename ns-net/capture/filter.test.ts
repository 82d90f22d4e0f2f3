import { expect, test } from 'vitest'
import { parseFilter } from './filter.ts'
import type { Frame } from './frame.ts'

const ping: Frame = { source: '10.88.0.2', destination: '10.88.0.3', protocol: 'ICMP', info: '', family: 4 }
const web: Frame = { ...ping, protocol: 'TCP', sourcePort: 45678, destinationPort: 80 }
const arp: Frame = { source: '10.88.0.2', destination: '10.88.0.1', protocol: 'ARP', info: '' }
const six: Frame = { source: 'fe80::1', destination: 'ff02::1', protocol: 'ICMPv6', info: '', family: 6 }

test.each([
  ['icmp', [ping]],
  ['arp', [arp]],
  ['tcp', [web]],
  ['udp', []],
  ['ip', [ping, web]],
  ['ip6', [six]],
  ['icmp6', [six]],
  ['host 10.88.0.3', [ping, web]],
  ['host FE80:0::1', [six]],
  ['dst 10.88.0.1', [arp]],
  ['src host 10.88.0.2 and not arp', [ping, web]],
  ['port 80', [web]],
  ['src port 80', []],
  ['host 10.88.0.2 and tcp and dst port 80', [web]],
  ['not host 10.88.0.2 && ! port 80', [six]],
])('%s', (text, expected) => {
  expect([ping, web, arp, six].filter(parseFilter(text))).toEqual(expected)
})

test.each([
  ['', 'it ends where a word is expected'],
  ['tcp and', 'it ends where a word is expected'],
  ['tcp or udp', '"or" where only "and" can be'],
  ['tcp udp', '"udp" where only "and" can be'],
  ['host web', '"host" needs an IP address, got "web"'],
  ['port http', '"port" needs a number up to 65535, got "http"'],
  ['port 70000', 'got "70000"'],
  ['net 10.0.0.0/8', '"net" is not understood'],
  ['src constructor', '"constructor" is not understood'],
])('"%s" is refused', (text, message) => {
  expect(() => parseFilter(text)).toThrow(message)
})
