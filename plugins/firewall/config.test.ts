import { expect, test } from 'vitest'
import { parseEnvironment, parseRequest } from '../contract/request.ts'
import { parseFirewall } from './config.ts'
import { firewallVersions } from './versions.ts'

function parse(json: object, command = 'ADD') {
  const environment = parseEnvironment({
    CNI_COMMAND: command,
    CNI_CONTAINERID: 'c1',
    CNI_NETNS: '/run/netns/c1',
    CNI_IFNAME: 'eth0',
    CNI_PATH: '/opt/cni/bin',
  })
  const document = JSON.stringify({ cniVersion: '1.1.0', name: 'lab', ...json })
  return parseFirewall(parseRequest(environment, document, firewallVersions))
}

const standard = { backend: 'auto', adminChain: 'CNI-ADMIN', zone: 'trusted', ingressPolicy: 'open', internal: false }

test('defaults; empty words count as absent', () => {
  expect(parse({})).toEqual(standard)
  expect(parse({ backend: '', ingressPolicy: '', iptablesAdminChainName: '', firewalldZone: '' })).toEqual(standard)
})

test('every key', () => {
  const json = {
    backend: 'nftables',
    iptablesAdminChainName: 'MY-RULES',
    firewalldZone: 'work',
    ingressPolicy: 'same-bridge',
    internal: true,
  }
  expect(parse(json)).toEqual({
    backend: 'nftables',
    adminChain: 'MY-RULES',
    zone: 'work',
    ingressPolicy: 'same-bridge',
    internal: true,
  })
})

test.each([
  [{ backend: 'ufw' }, 'backend: expected "auto" or "iptables" or "nftables" or "firewalld", got "ufw"'],
  [{ ingressPolicy: 'closed' }, 'ingressPolicy: expected "open" or "same-bridge" or "isolated", got "closed"'],
  [{ internal: 'yes' }, 'internal: expected true or false, got "yes"'],
  [{ iptablesAdminChainName: 'A B' }, 'iptablesAdminChainName: expected the name of a chain'],
  [{ iptablesAdminChainName: 'A\n-F' }, 'iptablesAdminChainName: expected the name of a chain'],
  [{ iptablesAdminChainName: 'ACCEPT' }, 'iptablesAdminChainName: expected the name of a chain'],
  [{ iptablesAdminChainName: 'x'.repeat(29) }, 'iptablesAdminChainName: expected the name of a chain'],
  [{ firewalldZone: '--panic-on' }, 'firewalldZone: expected the name of a zone, got "--panic-on"'],
  [{ cniVersion: '0.3.1' }, 'incompatible CNI versions'],
])('%j is refused', (json, message) => {
  expect(() => parse(json)).toThrow(message)
})

test('DEL reads only whether ports were isolated', () => {
  expect(parse({ backend: 7, ingressPolicy: 'closed' }, 'DEL')).toEqual(standard)
  expect(parse({ ingressPolicy: 'isolated' }, 'DEL').ingressPolicy).toBe('isolated')
})
