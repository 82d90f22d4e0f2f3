import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Section } from '../config/reader.ts'
import { cidr, formatCidr } from '../netlink-lib/ip.ts'
import { IpamError } from './errors.ts'
import {
  allocate,
  check,
  collect,
  find,
  type HostLocalConf,
  leases,
  parseHostLocal,
  parseStore,
  release,
  status,
} from './host-local.ts'

let dataDir: string
beforeEach(() => {
  dataDir = mkdtempSync(`${tmpdir()}/host-local-`)
})
afterEach(() => rmSync(dataDir, { recursive: true, force: true }))

interface Extra {
  readonly args?: Record<string, unknown>
  readonly runtimeConfig?: Record<string, unknown>
  readonly cniArgs?: Record<string, string>
  readonly cniVersion?: string
}
const parse = (ipam: Record<string, unknown>, extra: Extra = {}): HostLocalConf =>
  parseHostLocal({
    network: 'net',
    ipam: new Section({ dataDir, ...ipam }, 'ipam'),
    args: extra.args && new Section(extra.args, 'args.cni'),
    runtimeConfig: extra.runtimeConfig && new Section(extra.runtimeConfig, 'runtimeConfig'),
    cniArgs: new Map(Object.entries(extra.cniArgs ?? {})),
    cniVersion: extra.cniVersion ?? '1.0.0',
  })
const of = (containerId: string, ifName = 'eth0') => ({ network: 'net', containerId, ifName })
const add = (conf: HostLocalConf, containerId: string, ifName?: string) =>
  allocate(conf, of(containerId, ifName)).ips.map(({ address }) => formatCidr(address))
const files = () => readdirSync(`${dataDir}/net`).sort()
const text = (name: string) => readFileSync(`${dataDir}/net/${name}`, 'utf8')
const failure = (work: () => unknown): IpamError => {
  try {
    work()
  } catch (error) {
    expect(error).toBeInstanceOf(IpamError)
    return error as IpamError
  }
  throw new Error('did not fail')
}

const small = { subnet: '10.77.0.0/29' }

describe('configuration', () => {
  test('set order: runtimeConfig.ipRanges, the single range, ranges', () => {
    const conf = parse(
      { subnet: '10.2.0.0/24', ranges: [[{ subnet: '10.3.0.0/24' }], [{ subnet: 'fd00::/64' }]] },
      { runtimeConfig: { ipRanges: [[{ subnet: '10.1.0.0/24' }]] } },
    )
    expect(conf.rangeSets.map((set) => formatCidr(set[0]!.subnet))).toEqual([
      '10.1.0.0/24',
      '10.2.0.0/24',
      '10.3.0.0/24',
      'fd00::/64',
    ])
  })

  test('keys match in any case and null is absent', () => {
    const conf = parse({ SubNet: '10.2.0.0/24', ranges: null, ROUTES: null, ResolvConf: '', rangestart: '10.2.0.9' })
    expect(conf).toMatchObject({ requested: [], routes: [], excluded: [], dataDir })
    expect(conf.rangeSets[0]![0]!.first).toBe(0x0a020009n)
    expect(parse({ ...small, dataDir: null }).dataDir).toBe('/var/lib/cni/networks')
  })

  test('requested addresses of all channels are added up; prefix lengths are ignored', () => {
    const conf = parse(small, {
      cniArgs: { IP: '10.77.0.3' },
      args: { ips: ['10.77.0.4/24', 'FD00::0:5'] },
      runtimeConfig: { ips: ['10.77.0.3/29', '10.77.0.6'] },
    })
    expect(conf.requested).toEqual(['10.77.0.3', '10.77.0.4', 'fd00::5', '10.77.0.6'])
  })

  test('routes', () => {
    const routes = [
      { dst: '0.0.0.0/0', gw: '' },
      { dst: 'fd01::/64', gw: 'fd00::1', table: 0, scope: 253, advmss: 1 },
    ]
    expect(parse({ ...small, routes }).routes).toEqual([
      { dst: cidr('0.0.0.0/0') },
      { dst: cidr('fd01::/64'), gw: 'fd00::1', table: 0, scope: 253, advmss: 1 },
    ])
  })

  const two = [[{ subnet: '10.1.0.0/24' }], [{ subnet: '10.2.0.0/24' }]]
  test.each<[Record<string, unknown>, Extra, string]>([
    [{}, {}, 'ipam.ranges: no IP ranges specified'],
    [{ rangeStart: '10.1.0.5' }, {}, 'ipam.ranges: no IP ranges specified'],
    [{ subnet: '10.1' }, {}, 'ipam.subnet: expected a CIDR'],
    [{ ranges: [[]] }, {}, 'ipam.ranges[0]: empty range set'],
    [
      { ranges: [[{ subnet: '10.1.0.0/24', gateway: 1 }]] },
      {},
      'ipam.ranges[0][0].gateway: expected an IP address, got 1',
    ],
    [{ subnet: '10.1.0.0/16', ranges: [[{ subnet: '10.1.3.0/24' }]] }, {}, 'ipam.ranges: range set 0 overlaps with 1'],
    [small, { runtimeConfig: { ipRanges: [[small]] } }, 'range set 0 overlaps with 1'],
    [{ ranges: two }, { cniVersion: '0.2.0' }, 'CNI version 0.2.0 does not support more than 1 address per family'],
    [small, { cniArgs: { IP: 'x' } }, 'CNI_ARGS IP: expected an IP address or a CIDR, got "x"'],
    [small, { args: { ips: ['10.1.0.1/99'] } }, 'args.cni.ips[0]: expected a CIDR'],
    [small, { runtimeConfig: { ips: '10.1.0.1' } }, 'runtimeConfig.ips: expected a list'],
    [{ ...small, dataDir: 'relative' }, {}, 'ipam.dataDir: expected an absolute path'],
    [{ ...small, exclude: ['10'] }, {}, 'ipam.exclude[0]: expected an IP address'],
    [{ ...small, routes: [{ dst: '10.0.0.0/8', table: -1 }] }, {}, 'ipam.routes[0].table: expected an integer from 0'],
  ])('%j with %j is refused', (ipam, extra, message) => {
    expect(() => parse(ipam, extra)).toThrow(message)
  })

  test('one address per family is enough for the oldest versions', () => {
    expect(
      parse({ ranges: [[{ subnet: '10.1.0.0/24' }], [{ subnet: 'fd00::/64' }]] }, { cniVersion: '0.1.0' }).rangeSets,
    ).toHaveLength(2)
    expect(parse({ ranges: two }, { cniVersion: '0.3.0' }).rangeSets).toHaveLength(2)
  })

  test('DEL needs none of it but dataDir', () => {
    const ipam = new Section({ dataDir, subnet: 'broken' }, 'ipam')
    expect(parseStore({ network: 'net', ipam })).toEqual({ network: 'net', dataDir })
  })
})

describe('ADD', () => {
  test('the store afterwards is the one of the reference', () => {
    expect(allocate(parse(small), of('c1'))).toEqual({
      ips: [{ address: cidr('10.77.0.2/29'), gateway: '10.77.0.1' }],
      routes: [],
    })
    expect(files()).toEqual(['10.77.0.2', 'last_reserved_ip.0', 'lock'])
    expect(text('10.77.0.2')).toBe('c1\r\neth0')
    expect(text('last_reserved_ip.0')).toBe('10.77.0.2')
    expect(statSync(`${dataDir}/net/10.77.0.2`).mode & 0o777).toBe(0o600)
    expect(statSync(`${dataDir}/net`).mode & 0o777).toBe(0o755)
  })

  test('a freed address is used again only after the walk has come round', () => {
    const conf = parse(small)
    for (const n of [2, 3, 4, 5, 6]) expect(add(conf, `c${n}`)).toEqual([`10.77.0.${n}/29`])
    const error = failure(() => add(conf, 'c7'))
    expect(error.kind).toBe('exhausted')
    expect(error.message).toBe(
      'failed to allocate for range 0: no IP addresses available in range set: 10.77.0.1-10.77.0.6',
    )
    release(conf, of('c3'))
    release(conf, of('c5'))
    expect([add(conf, 'c8'), add(conf, 'c9')]).toEqual([['10.77.0.3/29'], ['10.77.0.5/29']])
  })

  test('a shorter last_reserved_ip leaves nothing of the longer one', () => {
    const conf = parse({ subnet: '10.77.0.0/24', rangeStart: '10.77.0.99', rangeEnd: '10.77.0.100' })
    add(conf, 'c1')
    add(conf, 'c2')
    release(conf, of('c1'))
    add(conf, 'c3')
    expect(text('last_reserved_ip.0')).toBe('10.77.0.99')
  })

  test('one address of every set', () => {
    const conf = parse({ subnet: '10.77.0.0/29', ranges: [[{ subnet: 'FD00:0::/64' }]] })
    expect(add(conf, 'c1')).toEqual(['10.77.0.2/29', 'fd00::2/64'])
    expect(files()).toEqual(['10.77.0.2', 'fd00::2', 'last_reserved_ip.0', 'last_reserved_ip.1', 'lock'])
  })

  test('a second interface of the container gets its own address, the same one is refused', () => {
    const conf = parse(small)
    expect(add(conf, 'c1')).toEqual(['10.77.0.2/29'])
    expect(add(conf, 'c1', 'eth1')).toEqual(['10.77.0.3/29'])
    const error = failure(() => add(conf, 'c1'))
    expect(error.kind).toBe('duplicate')
    expect(error.message).toContain('10.77.0.2 has been allocated to c1')
    expect(error.message).toContain('duplicate allocation is not allowed')
    expect(failure(() => add(parse(small, { cniArgs: { IP: '10.77.0.6' } }), 'c1')).kind).toBe('duplicate')
  })

  test('when one set has none left, the others give nothing away', () => {
    const conf = parse({ ranges: [[{ subnet: '10.1.0.0/24' }], [{ subnet: '10.2.0.0/30' }]] })
    add(conf, 'c1')
    const before = files().map((name) => `${name} ${text(name)}`)
    expect(failure(() => add(conf, 'c2')).message).toContain('failed to allocate for range 1')
    expect(files().map((name) => `${name} ${text(name)}`)).toEqual(before)
  })

  test('excluded addresses are given only on request', () => {
    const ipam = { ...small, exclude: ['10.77.0.2/31', '10.77.0.6'] }
    expect([add(parse(ipam), 'c1'), add(parse(ipam), 'c2')]).toEqual([['10.77.0.4/29'], ['10.77.0.5/29']])
    expect(failure(() => add(parse(ipam), 'c3')).kind).toBe('exhausted')
    expect(add(parse(ipam, { cniArgs: { IP: '10.77.0.6' } }), 'c3')).toEqual(['10.77.0.6/29'])
  })

  test('a crowded range finds its only free address', () => {
    const conf = parse({ subnet: '10.77.0.0/24' })
    mkdirSync(`${dataDir}/net`)
    for (let i = 2; i < 255; i++) if (i !== 200) writeFileSync(`${dataDir}/net/10.77.0.${i}`, `x${i}\r\neth0`)
    expect(add(conf, 'c1')).toEqual(['10.77.0.200/24'])
    expect(failure(() => add(conf, 'c2')).kind).toBe('exhausted')
  })

  test('DNS comes from resolvConf, which is read before anything is taken and not by DEL', () => {
    const resolvConf = `${dataDir}/resolv.conf`
    const conf = parse({ ...small, resolvConf })
    expect(failure(() => add(conf, 'c1')).kind).toBe('io')
    expect(existsSync(`${dataDir}/net`)).toBe(false)
    writeFileSync(resolvConf, 'nameserver 192.0.2.1\n')
    expect(allocate(conf, of('c1')).dns).toEqual({ nameservers: ['192.0.2.1'] })
    rmSync(resolvConf)
    release(conf, of('c1'))
    expect(files()).toEqual(['last_reserved_ip.0', 'lock'])
  })
})

describe('requested addresses', () => {
  const dual = { ranges: [[{ subnet: '10.1.0.0/24' }, { subnet: '10.2.0.0/24' }], [{ subnet: 'fd00::/64' }]] }

  test('go to the set that has them, with the prefix length of its range', () => {
    const conf = parse(dual, { runtimeConfig: { ips: ['fd00::9/128', '10.2.0.9'] } })
    expect(allocate(conf, of('c1')).ips).toEqual([
      { address: cidr('10.2.0.9/24'), gateway: '10.2.0.1' },
      { address: cidr('fd00::9/64'), gateway: 'fd00::1' },
    ])
    expect(text('last_reserved_ip.0')).toBe('10.2.0.9')
    expect(add(parse(dual), 'c2')).toEqual(['10.2.0.10/24', 'fd00::a/64'])
  })

  test.each([
    [['10.1.0.1'], "failed to allocate for range 0: requested ip 10.1.0.1 is subnet's gateway"],
    [['10.9.0.1', 'fd00::5'], 'failed to allocate all requested IPs: 10.9.0.1'],
    [['10.1.0.5', '10.2.0.5'], 'failed to allocate all requested IPs: 10.2.0.5'],
  ])('%j fails and takes nothing', (ips, message) => {
    const error = failure(() => add(parse(dual, { args: { ips } }), 'c1'))
    expect(error).toMatchObject({ kind: 'unavailable', message })
    expect(files()).toEqual(['lock'])
  })

  test('a taken one names its holder', () => {
    const conf = parse(small, { cniArgs: { IP: '10.77.0.4' } })
    add(conf, 'c1')
    expect(failure(() => add(conf, 'c2')).message).toBe(
      'failed to allocate for range 0: requested IP address 10.77.0.4 is not available in range set ' +
        '10.77.0.1-10.77.0.6: held by container c1 (interface eth0)',
    )
  })
})

describe('DEL, CHECK, GC, STATUS', () => {
  test('DEL of what was never added is success and makes nothing', () => {
    release(parse(small), of('c1'))
    expect(readdirSync(dataDir)).toEqual([])
    add(parse(small), 'c1')
    release(parse(small), of('c2'))
    release(parse(small), of('c1', 'eth1'))
    expect(find(parse(small), of('c1'))).toEqual(['10.77.0.2'])
  })

  test('DEL twice', () => {
    const conf = parse(small)
    add(conf, 'c1')
    release(conf, of('c1'))
    release(conf, of('c1'))
    expect(files()).toEqual(['last_reserved_ip.0', 'lock'])
  })

  test('CHECK', () => {
    const conf = parse(small)
    expect(failure(() => check(conf, of('c1'))).kind).toBe('missing')
    add(conf, 'c1')
    check(conf, of('c1'))
    check(conf, of('c1'), ['10.77.0.2', '192.0.2.1']) // the second is none of ours
    expect(failure(() => check(conf, of('c1'), ['10.77.0.3'])).message).toContain('10.77.0.3 no longer reserved')
    expect(failure(() => check(conf, of('c1', 'eth1'))).message).toBe(
      'Failed to find address added by container c1 (interface eth1) in network net',
    )
    rmSync(`${dataDir}/net/10.77.0.2`)
    expect(failure(() => check(conf, of('c1'))).kind).toBe('missing')
  })

  test('GC releases what is not listed, whoever made it', () => {
    const conf = parse(small)
    collect(conf, [])
    for (const id of ['c1', 'c2', 'c3']) add(conf, id)
    writeFileSync(`${dataDir}/net/10.77.0.5`, 'foreign\r\neth0')
    writeFileSync(`${dataDir}/net/10.77.0.6`, 'old')
    collect(conf, [
      { containerId: 'c2', ifName: 'eth0' },
      { containerId: 'c3', ifName: 'eth1' },
      { containerId: 'old', ifName: 'eth0' },
    ])
    expect(
      leases(conf)
        .map(({ address }) => address)
        .sort(),
    ).toEqual(['10.77.0.3', '10.77.0.6'])
    expect(find(conf, of('c2'))).toEqual(['10.77.0.3'])
    expect(find(conf, of('c1'))).toEqual([])
    collect(conf, [])
    expect(files()).toEqual(['last_reserved_ip.0', 'lock'])
  })

  test('STATUS is about the next ADD', () => {
    const conf = parse({ subnet: '10.77.0.0/30' })
    status(conf)
    status(parse({ ...small, dataDir: `${dataDir}/not/yet/there` }))
    add(conf, 'c1')
    expect(failure(() => status(conf)).kind).toBe('exhausted')
    release(conf, of('c1'))
    status(conf)
    writeFileSync(`${dataDir}/file`, '')
    expect(failure(() => status(parse({ ...small, dataDir: `${dataDir}/file/x` }))).message).toContain(
      "can't be written",
    )
  })
})
