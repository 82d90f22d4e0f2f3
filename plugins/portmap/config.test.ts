import { expect, test } from 'vitest'
import type { Command } from '../contract/request.ts'
import { parseRequest } from '../contract/request.ts'
import { parsePortmap } from './config.ts'

function parse(config: object, command: Command = 'ADD') {
  const environment = {
    command,
    containerId: 'c1',
    netns: '/run/netns/c1',
    ifName: 'eth0',
    args: new Map<string, string>(),
    path: [],
    netnsOverride: false,
  }
  const document = JSON.stringify({ cniVersion: '1.1.0', name: 'lab', type: 'portmap', ...config })
  return parsePortmap(parseRequest(environment, document))
}

const mapped = (...portMappings: object[]) => ({ runtimeConfig: { portMappings } })

test('defaults', () => {
  expect(parse({})).toEqual({
    backend: 'auto',
    mappings: [],
    masquerade: 'local',
    conditions: { 4: [], 6: [] },
    markBit: 13,
    setMarkChain: undefined,
  })
})

test('mappings as containerd and podman write them', () => {
  const containerd = { HostPort: 8080, ContainerPort: 80, Protocol: 'tcp', HostIP: '' }
  const podman = { hostPort: 53, containerPort: 5353, protocol: 'UDP', hostIP: '::FFFF:192.0.2.1' }
  expect(parse(mapped(containerd, podman, { hostPort: 1, containerPort: 65535 })).mappings).toEqual([
    { protocol: 'tcp', hostPort: 8080, containerPort: 80, hostIp: undefined },
    { protocol: 'udp', hostPort: 53, containerPort: 5353, hostIp: '192.0.2.1' },
    { protocol: 'tcp', hostPort: 1, containerPort: 65535, hostIp: undefined },
  ])
})

test.each([
  [
    mapped({ containerPort: 80 }),
    'runtimeConfig.portMappings[0].hostPort: missing; expected an integer from 1 to 65535',
  ],
  [mapped({ hostPort: 0, containerPort: 80 }), 'hostPort: expected an integer from 1 to 65535, got 0'],
  [mapped({ hostPort: 80, containerPort: 65536 }), 'containerPort: expected an integer from 1 to 65535, got 65536'],
  [mapped({ hostPort: '80', containerPort: 80 }), 'hostPort: expected an integer from 1 to 65535, got "80"'],
  [
    mapped({ hostPort: 80, containerPort: 80, protocol: 'icmp' }),
    'runtimeConfig.portMappings[0].protocol: expected "tcp", "udp" or "sctp", got "icmp"',
  ],
  [mapped({ hostPort: 80, containerPort: 80, hostIP: 'localhost' }), 'hostIP: expected an IP address, got "localhost"'],
  [
    mapped({ hostPort: 80, containerPort: 80 }, { hostPort: 80, containerPort: 81 }),
    'runtimeConfig.portMappings[1].hostPort: tcp port 80 leads to container port 80 by runtimeConfig.portMappings[0] already, got 81',
  ],
  [{ markMasqBit: 32 }, 'markMasqBit: expected an integer from 0 to 31, got 32'],
  [{ markMasqBit: 1, externalSetMarkChain: 'X' }, 'externalSetMarkChain: cannot be set together with markMasqBit'],
  [{ externalSetMarkChain: '-j' }, 'externalSetMarkChain: expected the name of a chain, got "-j"'],
  [{ backend: 'ipvs' }, 'backend: expected "auto" or "nftables" or "iptables", got "ipvs"'],
  [
    { backend: 'nftables', externalSetMarkChain: 'X' },
    'externalSetMarkChain: is for the backend iptables, but "backend" is "nftables"',
  ],
  [
    { backend: 'iptables', conditionsV6: ['ip6 saddr fd00::/8'] },
    'conditionsV6: is for the backend nftables, but "backend" is "iptables"',
  ],
  [
    { conditionsV4: ['-i', 'eth0'], conditionsV6: ['iifname eth0'] },
    'conditionsV6: is for the backend nftables, but "conditionsV4" is for iptables',
  ],
  [{ conditionsV4: ['tcp sport 53'] }, 'conditionsV4: "tcp sport" is not understood'],
  [{ conditionsV4: ['-i', 'eth0\n-A INPUT'] }, 'conditionsV4[1]: expected a token without control characters'],
  [{ snat: 'yes' }, 'snat: expected true or false, got "yes"'],
])('%j is refused', (config, message) => {
  expect(() => parse(config)).toThrow(message)
})

test('keys that only one backend can carry out choose it', () => {
  expect(parse({ externalSetMarkChain: 'KUBE-MARK-MASQ' })).toMatchObject({
    backend: 'iptables',
    setMarkChain: 'KUBE-MARK-MASQ',
  })
  expect(parse({ conditionsV4: ['!', '-d', '192.0.2.0/24'] }).backend).toBe('iptables')
  expect(parse({ conditionsV4: ['ip daddr != 192.0.2.0/24'] }).backend).toBe('nftables')
  expect(parse({ markMasqBit: 14 })).toMatchObject({ backend: 'auto', markBit: 14 })
  expect(parse({ conditionsV4: [], conditionsV6: [''] }).backend).toBe('auto')
})

test('whose packets are masqueraded', () => {
  expect(parse({ snat: true, masqAll: true }).masquerade).toBe('all')
  expect(parse({ snat: false, masqAll: true }).masquerade).toBe('none')
})

test('a mapping that cannot be read stops no teardown', () => {
  expect(parse(mapped({ hostPort: 99999, containerPort: 1 }), 'DEL').mappings).toEqual([])
})
