import { describe, expect, test } from 'vitest'
import { planAttachment } from '../attachments.ts'
import { parseConfList } from '../conflist.ts'
import type { Lab, LabAttachment } from '../labs.ts'
import { conflistOf } from '../networks.ts'
import { fileLabel } from './document.ts'
import type { Live, LiveLab, LiveLink } from './live.ts'
import { routeProtocol } from './node-plan.ts'
import { parseLabDocument } from './parse.ts'
import { planChanges, type Wish } from './plan.ts'
import { formatStep } from './steps.ts'

const lan = parseConfList(conflistOf({ name: 'lan', subnets: ['10.1.0.0/24'] }))
const dmz = parseConfList(conflistOf({ name: 'dmz', subnets: ['10.2.0.0/24'], internal: true }))
const networks = { lan: { subnet: '10.1.0.0/24' }, dmz: { subnet: '10.2.0.0/24', internal: true } }

const documentOf = (json: object) => {
  const { document, mistakes } = parseLabDocument({ lab: 'x', ...json })
  expect(mistakes).toEqual([])
  return document!
}

/** A lab as it is after `apply` made it. */
function liveLab(
  name: string,
  lists: readonly (typeof lan)[],
  more: Partial<LiveLab> = {},
  record: Partial<Lab> = {},
): LiveLab {
  const attachments: LabAttachment[] = []
  for (const [i, network] of lists.entries()) {
    const planned = planAttachment({ name, attachments }, { network })
    attachments.push({ ...planned, addresses: [`10.${i + 1}.0.2/24`] })
  }
  const link = (ifName: string): [string, LiveLink] => [
    ifName,
    { mac: '02:00:00:00:00:01', mtu: 1500, up: true, addresses: [] },
  ]
  return {
    record: { name, created: '', attachments, labels: { [fileLabel]: 'x' }, ...record },
    isThere: true,
    links: new Map(attachments.map(({ ifName }) => link(ifName))),
    routes: [],
    sysctls: new Map(),
    problems: new Map(),
    shapes: new Map(),
    hasResolvConf: true,
    commands: [],
    ...more,
  }
}

const liveOf = (labs: readonly LiveLab[], more: Partial<Live> = {}): Live => ({
  networks: new Map(labs.length > 0 ? [lan, dmz].map((list) => [list.name, list]) : []),
  records: new Map(labs.map(({ record }) => [record.name, record])),
  labs: new Map(labs.map((lab) => [lab.record.name, lab])),
  hostLinks: new Map(),
  foreign: new Set(),
  ...more,
})

const planned = (json: object, live: Live, wish: Partial<Wish> = {}) =>
  planChanges({ document: documentOf({ networks, ...json }), made: new Set(['lan', 'dmz']), ...wish }, live)
const steps = (...parameters: Parameters<typeof planned>) => planned(...parameters).steps.map(formatStep)

test('everything from nothing: networks, who asks for an address, the others, cables, settings, commands', () => {
  const json = {
    nodes: {
      a: { nets: ['lan'], sysctls: { 'net.ipv4.ip_forward': 1 }, exec: 'true' },
      b: { nets: [{ name: 'lan', ip: '10.1.0.2' }], routes: [{ dst: 'default', dev: 'eth9' }] },
    },
    links: [{ a: 'a:eth9', b: 'b:eth9', shape: { rate: '1mbit' } }],
  }
  expect(steps(json, liveOf([]))).toEqual([
    'create network lan  bridge 10.1.0.0/24',
    'create network dmz  bridge 10.2.0.0/24',
    'create lab b  lan eth0 10.1.0.2',
    'create lab a  lan eth0',
    'add cable a:eth9  b:eth9',
    'set sysctl a  net.ipv4.ip_forward=1',
    'add route b  default dev eth9',
    'shape a:eth9  rate 1mbit',
    'start a  true',
  ])
})

test('nothing for what is there', () => {
  expect(planned({ nodes: { a: { nets: ['lan', 'dmz'] } } }, liveOf([liveLab('a', [lan, dmz])]))).toEqual({
    steps: [],
    notes: [],
    untouched: [],
  })
})

describe('routes and settings that go with an interface come back with it', () => {
  const route = { dst: '10.9.0.0/24', via: '10.2.0.9' }
  const node = {
    nets: ['lan', { name: 'dmz', ip: '10.2.0.7' }],
    routes: [route],
    sysctls: { 'net.ipv4.conf.eth1.rp_filter': 2 },
  }
  const live = (dev: string) =>
    liveOf([
      liveLab('a', [lan, dmz], {
        routes: [{ ...route, dev, protocol: routeProtocol }],
        sysctls: new Map([['net/ipv4/conf/eth1/rp_filter', '2']]),
      }),
    ])
  const reattach = ['detach a  dmz eth1: address is 10.2.0.2, wanted 10.2.0.7', 'attach a  dmz eth1 10.2.0.7']
  test('by it', () => {
    expect(steps({ nodes: { a: node } }, live('eth1'))).toEqual([
      ...reattach,
      'set sysctl a  net.ipv4.conf.eth1.rp_filter=2',
      'add route a  10.9.0.0/24 via 10.2.0.9',
    ])
  })
  test('by another one', () => {
    const other = { ...node, sysctls: {} }
    expect(steps({ nodes: { a: other } }, live('eth0'))).toEqual(reattach)
  })
})

test('only routes of ours are taken away', () => {
  const routes = [
    { dst: '10.8.0.0/24', via: '10.1.0.9', dev: 'eth0', protocol: routeProtocol },
    { dst: '10.9.0.0/24', via: '10.1.0.9', dev: 'eth0', protocol: 3 },
  ]
  expect(steps({ nodes: { a: { nets: ['lan'] } } }, liveOf([liveLab('a', [lan], { routes })]))).toEqual([
    'delete route a  10.8.0.0/24 via 10.1.0.9 dev eth0',
  ])
})

test('a namespace that is gone is made anew with the addresses that it had', () => {
  const gone = liveLab('a', [lan, dmz], { isThere: false })
  expect(steps({ nodes: { a: { nets: ['lan', 'dmz'] } } }, liveOf([gone]))).toEqual([
    'delete lab a  its namespace is gone',
    'create lab a  lan eth0 10.1.0.2, dmz eth1 10.2.0.2',
  ])
})

test('ports are given up before they are taken', () => {
  const port = { hostPort: 80, containerPort: 80, protocol: 'tcp' } as const
  const a = liveLab('a', [lan])
  const holder = { ...a.record, attachments: [{ ...a.record.attachments[0]!, ports: [port] }] }
  const live = liveOf([{ ...a, record: holder }, liveLab('b', [lan])])
  const nodes = {
    n: { nets: ['lan'], ports: [82] },
    b: { nets: ['lan'], ports: [80] },
    a: { nets: ['lan'], ports: [81] },
  }
  expect(steps({ nodes }, live)).toEqual([
    'withdraw a:eth0  80:80',
    'create lab n  lan eth0',
    'publish b:eth0  80:80',
    'publish a:eth0  81:81',
  ])
})

test('whoever else uses a network keeps it from being made anew', () => {
  const live = liveOf([liveLab('a', [lan]), liveLab('guest', [lan], {}, { labels: {} })])
  const json = { networks: { ...networks, lan: { subnet: '10.7.0.0/24' } }, nodes: { a: { nets: ['lan'] } } }
  expect(() => steps(json, live)).toThrow(
    'network "lan" has to be made anew (subnet is 10.1.0.0/24, wanted 10.7.0.0/24), and lab "guest", which is not in the file, uses it',
  )
})

test('what belongs to nobody or to another file', () => {
  const nodes = { a: { nets: ['lan'], labels: { k: 'v' } } }
  const hand = liveOf([liveLab('a', [lan], {}, { labels: {} })])
  expect(planned({ nodes }, hand).untouched).toEqual(['lab "a"'])
  expect(steps({ nodes }, hand, { takeOver: true })).toEqual([
    'take over a  it was made without a lab file',
    'set labels a  k=v',
  ])
  const others = liveOf([liveLab('a', [lan], {}, { labels: { [fileLabel]: 'y' } })])
  expect(() => planned({ nodes }, others)).toThrow('lab "a" belongs to the lab file "y", and is different here')
  expect(planned({ nodes: { a: { nets: ['lan'] } } }, others).steps).toEqual([])
  expect(
    planned({ networks: { ...networks, dmz: {} } }, liveOf([liveLab('a', [lan])]), { made: new Set() }).untouched,
  ).toEqual(['network "dmz" (internal is true, wanted false)'])
})
