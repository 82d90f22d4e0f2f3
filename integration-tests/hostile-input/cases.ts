/*
 * Broken calls, drawn from a seed: the same ones for the same seed, and each mutation from a seed of its own, so that
 * one can be left out without changing the others.
 */

/** The folder of executables inside the host. */
export const plugins = '/run/cni'

export interface Dice {
  below(n: number): number
  pick<T>(from: readonly T[]): T
  chance(probability: number): boolean
}

/** mulberry32: the same choices for the same seed. */
export function dice(seed: number): Dice {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
  const below = (n: number) => Math.floor(next() * n)
  return { below, pick: (from) => from[below(from.length)]!, chance: (probability) => next() < probability }
}

export const hostileStrings: readonly string[] = [
  ...['', ' ', 'x', '.', '..', '...', '-', '--', '--help', '-rf', '/', '//', '\\', '%', '%s%n', '*', '?', '~', '$HOME'],
  ...['../../../tmp/pwned', '/tmp/pwned', './x', 'a/b', 'a/../b', 'lab/../../../../tmp/pwned', '/etc/passwd'],
  ...['$(touch /tmp/pwned)', '`touch /tmp/pwned`', '; touch /tmp/pwned', '| touch /tmp/pwned', "' touch /tmp/pwned '"],
  ...['"', "'", '"}', '{', '}', '[]', 'null', 'true', 'NaN', 'Infinity', '-0', '0x10', '1e9', '007', '١٢٣'],
  ...['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'valueOf', '__defineGetter__'],
  ...[
    'a b',
    'a\tb',
    'a\nb',
    'a\r\nb',
    'a\u0000b',
    '\u0000',
    '\u001b[2J',
    'é',
    '日本',
    '💥',
    'ǅ',
    'İ',
    '\u202e',
    '\ufeff',
  ],
  ...[
    '\ud800',
    'a\u200db',
    'c1',
    'C1',
    'eth0',
    'lo',
    'lab',
    'all',
    'default',
    'veth0506ae22523',
    'a:b',
    'a@b',
    'eth0.1',
  ],
  ...[14, 15, 16, 64, 128, 255, 256, 4096, 100_000].map((length) => 'x'.repeat(length)),
  ...['é'.repeat(7), 'é'.repeat(8), '💥'.repeat(4), '../'.repeat(2000), ' '.repeat(5000)],
]

const addresses: readonly string[] = [
  ...['0.0.0.0', '0.0.0.1', '10.1.0.0', '10.1.0.1', '10.1.0.2', '10.1.0.254', '10.1.0.255', '10.1.1.0', '127.0.0.1'],
  ...['169.254.1.1', '224.0.0.1', '239.255.255.255', '240.0.0.1', '255.255.255.255', '256.1.1.1', '1.2.3', '1.2.3.4.5'],
  ...['01.2.3.4', '1.2.3.04', '0x7f.1', '2130706433', '1.2.3.4 ', ' 1.2.3.4', '1.2.3.-4', '١.٢.٣.٤', '1..2.3'],
  ...['::', '::1', ':::', '1::2::3', 'fd00:1::1', 'fd00:1::ffff', 'FD00:1::A', 'fe80::1', 'fe80::1%eth0', 'ff02::1'],
  ...['::ffff:10.1.0.1', '::10.1.0.1', '2001:db8::12345', '1:2:3:4:5:6:7:8:9', '1:2:3:4:5:6:7', '[::1]', 'g::1'],
  ...['ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', '64:ff9b::1', '::1:', 'localhost'],
]
const lengths = [
  '',
  '/',
  '/-1',
  '/0',
  '/1',
  '/8',
  '/24',
  '/29',
  '/30',
  '/31',
  '/32',
  '/33',
  '/64',
  '/96',
  '/126',
  '/127',
]
const moreLengths = ['/128', '/129', '/999', '/1e1', '/+24', '/024', '/24/24', '/255.255.255.0', '/ 24', '/24 ', '/٢']

const numbers: readonly number[] = [
  ...[0, -0, 1, -1, 0.5, 1.5, 42, 67, 68, 1500, 4094, 4095, 65534, 65535, 65536, 2 ** 31 - 1, 2 ** 31, -(2 ** 31)],
  ...[2 ** 32 - 1, 2 ** 32, 2 ** 53, 2 ** 53 + 2, 1e21, 1e308, -1e308, 5e-324],
]

function nested(depth: number, kind: 'list' | 'object'): unknown {
  let value: unknown = 1
  for (let i = 0; i < depth; i++) value = kind === 'list' ? [value] : { a: value }
  return value
}

const anAddress = (d: Dice) => d.pick(addresses) + d.pick(d.chance(0.7) ? lengths : moreLengths)

function anything(d: Dice): unknown {
  const makers: readonly (() => unknown)[] = [
    () => d.pick([null, true, false]),
    () => d.pick(numbers),
    () => d.pick(hostileStrings),
    () => anAddress(d),
    () => d.pick([[], {}, [[]], [null], [{}], { '': '' }, [0], [''], [true]]),
    () => JSON.parse('{"__proto__":{"type":"static","bridge":"evil"},"constructor":{"prototype":1},"toString":null}'),
    () => nested(d.pick([2, 20, 500]), d.pick(['list', 'object'])),
    () => Array.from({ length: d.pick([2, 100, 5000]) }, () => d.pick(numbers)),
    () => Array.from({ length: d.pick([2, 30]) }, () => anAddress(d)),
    () => Object.fromEntries(Array.from({ length: d.pick([2, 2000]) }, (_, i) => [`k${i}`, i])),
    () => [anything(d), anything(d)],
  ]
  return d.pick(makers)()
}

const prevResult = {
  cniVersion: '1.1.0',
  interfaces: [
    { name: 'br1', mac: '02:00:00:00:00:01' },
    { name: 'eth0', mac: '02:00:00:00:00:02', mtu: 1500, sandbox: '/run/netns/c1' },
  ],
  ips: [
    { address: '10.1.0.2/24', gateway: '10.1.0.1', interface: 1 },
    { address: 'fd00:1::2/64', gateway: 'fd00:1::1', interface: 1 },
  ],
  routes: [{ dst: '0.0.0.0/0', gw: '10.1.0.1', mtu: 1400, priority: 5, table: 254, scope: 0 }, { dst: '::/0' }],
  dns: { nameservers: ['10.1.0.1'], domain: 'lab', search: ['lab'], options: ['ndots:1'] },
}
const range = { subnet: '10.1.0.0/24', rangeStart: '10.1.0.10', rangeEnd: '10.1.0.20', gateway: '10.1.0.1' }
const hostLocal = {
  type: 'host-local',
  ranges: [[range], [{ subnet: 'fd00:1::/64' }]],
  routes: [{ dst: '0.0.0.0/0' }, { dst: '192.0.2.0/24', gw: '10.1.0.1', priority: 7 }],
  dataDir: '/run/data/leases',
  exclude: ['10.1.0.11'],
}
const staticIpam = {
  type: 'static',
  addresses: [{ address: '10.1.0.5/24', gateway: '10.1.0.1' }, { address: 'fd00:1::5/64' }],
  routes: [{ dst: '0.0.0.0/0', gw: '10.1.0.1' }],
  dns: { nameservers: ['10.1.0.1'], domain: 'lab', search: ['lab'], options: ['ndots:1'] },
}
export const head = { cniVersion: '1.1.0', name: 'lab' }
const extras = {
  runtimeConfig: { ips: ['10.1.0.15'], mac: '02:00:00:00:00:07' },
  args: { cni: { ips: ['10.1.0.15/24'] } },
}
export const bridgeConfig = {
  ...head,
  type: 'bridge',
  bridge: 'br1',
  isGateway: true,
  isDefaultGateway: true,
  forceAddress: false,
  ipMasq: true,
  mtu: 1400,
  hairpinMode: true,
  promiscMode: false,
  ipam: hostLocal,
  dns: staticIpam.dns,
}
export const vethConfig = { ...head, type: 'veth', ipMasq: true, mtu: 1400, ipam: hostLocal, dns: staticIpam.dns }
const natConfig = {
  ...head,
  type: 'nat',
  backend: 'nftables',
  nonMasqueradeCIDRs: ['192.168.0.0/16', 'fd00:2::/64'],
  prevResult,
}

export type Document = Record<string, unknown>

/** Executable and configurations; an executable called more often has more to break. */
export const subjects: readonly (readonly [plugin: string, ...configs: Document[]])[] = [
  [
    'bridge',
    bridgeConfig,
    { ...bridgeConfig, ...extras, ipam: staticIpam },
    { ...head, type: 'bridge', bridge: 'br1' },
  ],
  ['bridge', bridgeConfig, { ...bridgeConfig, ...extras }, { ...bridgeConfig, ipMasqBackend: 'iptables' }],
  ['veth', vethConfig, { ...vethConfig, ...extras }, { ...vethConfig, ipam: staticIpam }],
  ['ptp', { ...vethConfig, type: 'ptp' }],
  ['nat', natConfig, natConfig, { ...natConfig, backend: 'iptables' }],
  ['loopback', { ...head, type: 'loopback' }, { ...head, type: 'loopback', prevResult }],
  ['host-local', { ...head, type: 'x', ipam: hostLocal }, { ...head, type: 'x', ipam: hostLocal, ...extras }],
  ['static', { ...head, type: 'x', ipam: staticIpam }, { ...head, type: 'x', ipam: staticIpam, ...extras }],
]

export const verbs = ['ADD', 'ADD', 'ADD', 'ADD', 'DEL', 'DEL', 'CHECK', 'GC', 'STATUS', 'VERSION']

export interface Environment {
  [name: string]: string | undefined
}

/** A call in the making. The document is an object as long as it can be; `bytes` is what is sent once it is set. */
export interface Draft {
  plugin: string
  verb: string
  document: unknown
  bytes: Buffer | undefined
  env: Environment
  /** Variables whose value is no text. */
  raw: Record<string, Buffer> | undefined
}

/** Every place in a document: the container, the key, and how deep it is. */
export function places(value: unknown): { holder: Record<string, unknown>; key: string }[] {
  if (typeof value !== 'object' || value === null) return []
  const holder = value as Record<string, unknown>
  return Object.keys(holder).flatMap((key) => [{ holder, key }, ...places(holder[key])])
}

export const define = (holder: object, key: string, value: unknown) =>
  Object.defineProperty(holder, key, { value, enumerable: true, configurable: true, writable: true })

/** Where an address is expected, other addresses break more than other types do. */
const isAddress = (value: unknown) =>
  typeof value === 'string' && /^[0-9a-f.:]+(\/\d+)?$/.test(value) && value.length > 4

function breakDocument(draft: Draft, d: Dice): void {
  const all = places(draft.document)
  if (all.length === 0) return
  const { holder, key } = d.pick(all)
  const kinds: Readonly<Record<string, () => void>> = {
    replace: () => define(holder, key, isAddress(holder[key]) && d.chance(0.6) ? anAddress(d) : anything(d)),
    remove: () => void delete holder[key],
    rename: () => {
      const names = [key.toUpperCase(), `${key} `, `${key}\u0000`, d.pick(hostileStrings).slice(0, 300)]
      const value = holder[key]
      delete holder[key]
      define(holder, d.pick(names), value)
    },
    wrap: () => define(holder, key, d.chance(0.5) ? [holder[key]] : { [key]: holder[key] }),
    unwrap: () => {
      const inner = holder[key]
      if (typeof inner === 'object' && inner !== null) define(holder, key, Object.values(inner)[0])
    },
    sibling: () => define(holder, d.pick(hostileStrings).slice(0, 300), anything(d)),
    twice: () => Array.isArray(holder) && holder.push(structuredClone(holder[Number(key)])),
    version: () =>
      define(
        draft.document as object,
        'cniVersion',
        d.pick(['', '0.1.0', '0.2.0', '0.3.1', '0.4.0', '1.0.0', '2.0.0', 1, null]),
      ),
    previous: () => define(draft.document as object, 'prevResult', d.chance(0.5) ? anything(d) : brokenResult(d)),
    valid: () =>
      define(
        draft.document as object,
        d.pick(['cni.dev/valid-attachments', 'cni.dev/attachments']),
        d.chance(0.5) ? anything(d) : [{ containerID: anything(d), ifname: anything(d) }],
      ),
  }
  d.pick([kinds.replace!, kinds.replace!, kinds.replace!, ...Object.values(kinds)])()
}

function brokenResult(d: Dice): unknown {
  const result = structuredClone(prevResult) as Document
  for (let i = d.below(3); i >= 0; i--) {
    const all = places(result)
    const { holder, key } = d.pick(all)
    define(holder, key, isAddress(holder[key]) ? anAddress(d) : anything(d))
  }
  return result
}

/** Documents that are not JSON, or JSON as only a machine would write it. */
function breakBytes(draft: Draft, d: Dice): void {
  // Bytes changed at random could spell a folder that is nobody's to write to.
  for (const { holder, key } of places(draft.document)) if (/^datadir$/i.test(key)) delete holder[key]
  const json = JSON.stringify(draft.document)
  const bytes = Buffer.from(json)
  const at = d.below(bytes.length + 1)
  const splice = (inserted: Buffer | string, removed = 0) =>
    Buffer.concat([bytes.subarray(0, at), Buffer.from(inserted), bytes.subarray(at + removed)])
  const makers: readonly (() => Buffer)[] = [
    () => bytes.subarray(0, at),
    () => Buffer.alloc(0),
    () => splice(Buffer.from([d.below(256)]), d.below(3)),
    () => splice(Buffer.from(Array.from({ length: 1 + d.below(40) }, () => d.below(256)))),
    () => Buffer.from(Array.from({ length: d.pick([1, 100, 100_000]) }, () => d.below(256))),
    () => Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), bytes]),
    () => Buffer.from(`\ufeff${json}`, 'utf16le'),
    () => Buffer.concat([bytes, bytes]),
    () => Buffer.concat([bytes, Buffer.from([0])]),
    () => Buffer.concat([bytes, Buffer.from(d.pick([',', '}', ']', ' x', '\n\n', '// comment', '/**/', '\u2028']))]),
    () =>
      Buffer.from(
        json.replace(
          '{',
          `{${d.pick(['"name":"other",', '"ipam":{"type":"static"},', '"__proto__":{"name":"x"},', '"name":"lab","name":"lab2",'])}`,
        ),
      ),
    () =>
      Buffer.from(
        json.replace(/}$/, `,${d.pick(['"name":"other"', '"cniVersion":"0.1.0"', '"ipam":null', '"NAME":"x"'])}}`),
      ),
    () =>
      Buffer.from(
        json.replace(
          /:(\d+|true|false)/,
          `:${d.pick(['1e999', '-1e999', 'NaN', 'Infinity', '-', '01', '.5', '1.', '0x10', '1_0', '9'.repeat(400)])}`,
        ),
      ),
    () => Buffer.from(json.replaceAll('"', d.pick(["'", '“', '']))),
    () => Buffer.from(d.pick(['[', '{"a":', '[[{"x":']).repeat(d.pick([10, 1000, 200_000]))),
    () => Buffer.from(`${'['.repeat(50_000)}${']'.repeat(50_000)}`),
    () => Buffer.from(json.replace('{', `{"deep":${'['.repeat(20_000)}${']'.repeat(20_000)},`)),
    () => Buffer.from(d.pick(['null', 'true', '1', '"x"', '[]', '{}', '\n', ' ', '""', '[{}]', 'undefined'])),
    () =>
      Buffer.from(
        json.replace(
          /"(\w+)":/,
          (_, key) => `"${[...key].map((c) => `\\u00${c.charCodeAt(0).toString(16)}`).join('')}":`,
        ),
      ),
    () =>
      Buffer.from(
        json.replace(
          /:"([^"]*)"/,
          d.pick([':"\\ud800"', ':"\\u0000"', ':"\\x41"', ':"\\', ':"\t"', ':"$1\\u0000"', ':"\u007f"']),
        ),
      ),
    () => Buffer.concat([Buffer.from(' '.repeat(d.pick([1, 70_000, 2_000_000]))), bytes]),
    () => Buffer.from(json.replace('{', `{"big":"${'x'.repeat(d.pick([70_000, 3_000_000]))}",`)),
    () =>
      Buffer.from(
        json.replace(/"/g, () => (d.chance(0.02) ? '\u00ff' : '"')),
        'latin1',
      ),
  ]
  draft.bytes = d.pick(makers)()
}

const variables = [
  'CNI_COMMAND',
  'CNI_CONTAINERID',
  'CNI_NETNS',
  'CNI_IFNAME',
  'CNI_ARGS',
  'CNI_PATH',
  'CNI_NETNS_OVERRIDE',
] as const
const netnsPaths = [
  ...['/run/netns', '/run/netns/', '/run/netns/nobody', '/run/netns/../netns/c1', '/run/netns/c1/', '/run/netns/c1/x'],
  ...[
    '/run/leftover',
    '/dev/null',
    '/dev/zero',
    '/proc/self/ns/mnt',
    '/proc/self/ns/net',
    '/proc/self/fd/0',
    '/proc/self/fd/99',
  ],
  ...[
    '/proc/999999999/ns/net',
    '/proc/self',
    'c1',
    'run/netns/c1',
    '/run/loop',
    `/run/netns/${'x'.repeat(300)}`,
    '/tmp/pwned',
  ],
]
const argsTexts = [
  ...[
    'IP',
    'IP=',
    '=',
    ';',
    ';;;',
    'IP=10.1.0.12;IP=10.1.0.13',
    'IP=a=b',
    'IgnoreUnknown=2',
    'IgnoreUnknown=1;X=y',
    'X=y',
  ],
  ...[
    'IP=10.1.0.12',
    'IP=10.1.0.12,10.1.0.13',
    'IP=fd00:1::9/64,10.1.0.12/24',
    'IP=,',
    'MAC=x',
    'MAC=ff:ff:ff:ff:ff:ff',
    'MAC=',
  ],
  ...[
    'GATEWAY=10.1.0.1',
    'GATEWAY=x',
    'ip=10.1.0.12',
    '__proto__=1',
    'IgnoreUnknown=1;__proto__=1;constructor=2',
    'IP=\n',
  ],
  ...['IgnoreUnknown=1;K8S_POD_NAME=$(touch /tmp/pwned)', `IP=${'1,'.repeat(5000)}`, 'IP =10.1.0.12', 'IP=10.1.0.12 '],
]
const paths = [
  '',
  ':',
  '::',
  '.',
  '..',
  '/nonexistent',
  '/',
  '/dev/null',
  `${plugins}:`,
  '/run/hostile',
  'x'.repeat(50_000),
  '/x:'.repeat(3000),
]

function breakEnvironment(draft: Draft, d: Dice): void {
  const name = d.pick(variables)
  const own: Partial<Record<string, readonly string[]>> = {
    CNI_NETNS: netnsPaths,
    CNI_ARGS: argsTexts,
    CNI_PATH: paths,
    CNI_COMMAND: ['add', 'ADD ', ' ADD', 'ADD\n', 'ADDDEL', 'VERSION', '', 'toString', '__proto__', 'UPDATE'],
    CNI_NETNS_OVERRIDE: ['1', 'true', 'TRUE', '0', 'yes', '2', ''],
  }
  const kinds: readonly (() => void)[] = [
    () => void delete draft.env[name],
    () => {
      draft.env[name] = ''
    },
    () => {
      // No variable can hold a zero byte, and Node makes lone surrogates into something else: see `raw`.
      draft.env[name] = d.pick(hostileStrings).replaceAll('\0', '') || 'x'
    },
    () => {
      draft.env[name] = d.pick(own[name] ?? hostileStrings.filter((each) => !each.includes('\0')))
    },
    () => {
      const bytes = [
        [0xff],
        [0xc0, 0xaf],
        [0xed, 0xa0, 0x80],
        [0x80, 0x41],
        [0x1b, 0x5b, 0x32, 0x4a],
        [0x41, 0xff, 0x41],
        [0xf5, 0x80],
      ]
      draft.raw = { ...draft.raw, [name]: Buffer.from(d.pick(bytes)) }
    },
    () => {
      draft.env[d.pick(['NODE_OPTIONS', 'BUN_CONFIG_VERBOSE_FETCH', 'DEBUG', 'NS_NET', 'LC_ALL', 'TZ'])] = d.pick([
        '--help',
        '--version',
        '--print 1',
        '1',
        '-e 1',
        '../x',
      ])
    },
    () => void delete draft.env.PATH,
    () => {
      draft.env.PATH = d.pick(['', '/nonexistent', '.', '/run/leftover', 'x'.repeat(5000)])
    },
  ]
  d.pick([...kinds.slice(0, 5), ...kinds.slice(1, 5), ...kinds])()
  // The host's own loopback must not be the target: lowering it would be what was asked for.
  if (draft.plugin === 'loopback') delete draft.env.CNI_NETNS_OVERRIDE
}

interface Mutation {
  readonly apply: (draft: Draft, d: Dice) => void
  readonly seed: number
}

export interface Case {
  readonly seed: number
  readonly mutations: readonly Mutation[]
}

export function caseOf(seed: number): Case {
  const d = dice(seed * 7919)
  const kinds = [breakDocument, breakDocument, breakDocument, breakEnvironment, breakBytes]
  const mutations = Array.from({ length: 1 + d.below(3) }, () => ({ apply: d.pick(kinds), seed: d.below(2 ** 31) }))
  // Bytes come last: they are made of the document.
  return { seed, mutations: mutations.sort((a, b) => Number(a.apply === breakBytes) - Number(b.apply === breakBytes)) }
}

export interface Call {
  readonly plugin: string
  readonly env: Environment
  readonly raw?: Readonly<Record<string, string>>
  readonly stdin: string
}

/** An interface plugin as its own IPAM has a test of its own; folders outside of the host's memory are nobody's. */
function tame(document: unknown): void {
  for (const { holder, key } of places(document)) {
    const value = holder[key]
    if (typeof value !== 'string') continue
    if (/^datadir$/i.test(key) && value.startsWith('/') && !/^\/(run\/data|dev\/null|proc\/self)\b/.test(value))
      define(holder, key, `/run/data${value}`)
  }
}

/**
 * The calls of a case: what is broken, before it perhaps the ADD it refers to, and behind it the DEL of the same. With
 * the number of calls that are hostile.
 */
export function callsOf({ seed, mutations }: Case): { calls: Call[]; hostile: number } {
  const d = dice(seed)
  const [plugin, ...configs] = d.pick(subjects)
  const config = d.pick(configs)
  const verb = d.pick(verbs)
  const env: Environment = {
    PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
    CNI_COMMAND: verb,
    CNI_CONTAINERID: 'c1',
    CNI_NETNS: '/run/netns/c1',
    CNI_IFNAME: plugin === 'loopback' ? 'lo' : 'eth0',
    CNI_PATH: plugins,
  }
  const call = ({ env, raw, bytes, document }: Draft, command?: string): Call => ({
    plugin,
    env: command === undefined ? env : { ...env, CNI_COMMAND: command },
    ...(raw && {
      raw: Object.fromEntries(
        Object.entries(raw)
          .filter(([name]) => command === undefined || name !== 'CNI_COMMAND')
          .map(([name, value]) => [name, value.toString('base64')]),
      ),
    }),
    stdin: (bytes ?? Buffer.from(JSON.stringify(document) ?? '')).toString('base64'),
  })
  const sane: Draft = {
    plugin,
    verb,
    document: structuredClone(config),
    bytes: undefined,
    env: { ...env },
    raw: undefined,
  }
  const draft: Draft = { ...sane, document: structuredClone(config), env: { ...env } }
  if (verb === 'CHECK' && plugin !== 'nat') define(draft.document as object, 'prevResult', structuredClone(prevResult))
  for (const { apply, seed } of mutations) apply(draft, dice(seed))
  tame(draft.document)
  const calls = [call(draft)]
  if (verb === 'ADD') return { calls: [...calls, call(draft, 'DEL')], hostile: 2 }
  const prepared = ['CHECK', 'DEL', 'GC'].includes(verb) && d.chance(0.4)
  if (!prepared) return { calls, hostile: 1 }
  return { calls: [call(sane, 'ADD'), ...calls, call(sane, 'DEL')], hostile: 1 }
}
