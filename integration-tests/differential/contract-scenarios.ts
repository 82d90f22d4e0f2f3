import { add, check, del, endNamespace, inside, onHost, type Scenario, type Step, verb } from './scenario.ts'

const life: readonly Step[] = [add({ ifName: 'lo' }), check({ ifName: 'lo' }), del({ ifName: 'lo' })]

type Row = Omit<Scenario, 'plugin' | 'config'> & { readonly config?: object }

const loopback: readonly Row[] = [
  { name: 'one life', steps: [...life, del({ ifName: 'lo' })] },
  { name: 'another CNI_IFNAME', steps: [add(), check(), del()] },
  { name: 'lo that is up', steps: [inside('c1', 'ip link set lo up'), ...life] },
  { name: 'added twice', steps: [add(), add(), del()] },
  {
    name: 'further loopback addresses',
    steps: [inside('c1', 'ip address add 127.0.0.9/8 dev lo; ip address add 127.1.1.1/32 dev lo'), ...life],
  },
  { name: 'address that is no loopback address', steps: [inside('c1', 'ip address add 10.9.9.9/32 dev lo'), ...life] },
  {
    name: 'IPv6 address that is no loopback address',
    steps: [inside('c1', 'ip address add fd00::9/128 dev lo nodad'), ...life],
  },
  { name: 'checked while down', steps: [add(), inside('c1', 'ip link set lo down'), check()] },
  { name: 'checked without a result', steps: [add(), check({ prevResult: 'none' })] },
  {
    name: 'result of another plugin',
    steps: [
      add({
        prevResult: {
          cniVersion: '1.0.0',
          interfaces: [{ name: 'eth0', sandbox: '/run/netns/c1' }],
          ips: [{ interface: 0, address: '10.1.0.2/24', gateway: '10.1.0.1' }],
          routes: [{ dst: '0.0.0.0/0' }],
          dns: { nameservers: ['10.1.0.1'] },
        },
      }),
    ],
  },
  { name: 'deleted with an empty CNI_NETNS', steps: [add(), del({ netns: '' })] },
  { name: 'deleted after the namespace', steps: [add(), endNamespace('ip netns delete c1'), del()] },
  { name: 'deleted with a plain file as namespace', steps: [add(), endNamespace('umount /run/netns/c1'), del()] },
  ...['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0'].map((cniVersion) => ({
    name: `cniVersion ${cniVersion}`,
    config: { cniVersion },
    steps: life,
  })),
]

const bridgeResult = {
  interfaces: [{ name: 'eth0', sandbox: '/run/netns/c1' }],
  ips: [{ version: '4', interface: 0, address: '10.1.0.2/24' }],
}

/** What every plugin does before it comes to its own business. */
const contract: readonly Row[] = [
  // Commands
  { name: 'VERSION', steps: [verb('VERSION')] },
  { name: 'VERSION without anything on stdin', steps: [verb('VERSION', { stdin: '' })] },
  { name: 'VERSION of an unknown version', steps: [verb('VERSION', { stdin: '{"cniVersion":"9.9.9"}' })] },
  { name: 'VERSION with nothing else in the environment', steps: [verb('VERSION', { env: nothing('CNI_COMMAND') })] },
  { name: 'no CNI_COMMAND', steps: [add({ env: { CNI_COMMAND: undefined } })] },
  { name: 'empty CNI_COMMAND', steps: [verb('')] },
  { name: 'unknown CNI_COMMAND', steps: [verb('PAUSE')] },
  { name: 'CNI_COMMAND in small letters', steps: [verb('add')] },
  { name: 'STATUS', steps: [verb('STATUS')] },
  { name: 'GC', steps: [verb('GC')] },

  // Environment
  ...['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME', 'CNI_PATH'].flatMap((variable) => [
    { name: `ADD without ${variable}`, steps: [add({ env: { [variable]: undefined } })] },
    { name: `ADD with empty ${variable}`, steps: [add({ env: { [variable]: '' } })] },
    { name: `DEL without ${variable}`, steps: [add(), del({ env: { [variable]: undefined } })] },
    { name: `CHECK without ${variable}`, steps: [add(), check({ env: { [variable]: undefined } })] },
  ]),
  { name: 'ADD without anything', steps: [verb('ADD', { env: nothing('CNI_COMMAND') })] },
  { name: 'DEL without anything', steps: [verb('DEL', { env: nothing('CNI_COMMAND') })] },
  ...['a b', 'a/b', '../c', '.hidden', '-c', 'ü', 'a\tb'].map((value) => ({
    name: `CNI_CONTAINERID ${JSON.stringify(value)}`,
    steps: [add({ env: { CNI_CONTAINERID: value } })],
  })),
  { name: 'CNI_CONTAINERID of 200 characters', steps: [add({ env: { CNI_CONTAINERID: 'c'.repeat(200) } })] },
  ...['a-very-long-name', '.', '..', 'a/b', 'a:b', 'a b', 'a\u00a0b', 'éééééééé'].map((value) => ({
    name: `CNI_IFNAME ${JSON.stringify(value)}`,
    steps: [add({ env: { CNI_IFNAME: value } })],
  })),
  { name: 'missing and invalid variables', steps: [add({ env: { CNI_CONTAINERID: 'a/b', CNI_PATH: undefined } })] },
  {
    name: 'CNI_NETNS that is not there',
    steps: [add({ netns: '/run/netns/none' }), check({ netns: '/run/netns/none' })],
  },
  { name: 'CNI_NETNS that is a plain file', steps: [onHost('echo >/run/file'), add({ netns: '/run/file' })] },
  { name: 'CNI_NETNS that is a directory', steps: [add({ netns: '/run' })] },
  { name: 'CNI_NETNS that is another kind of namespace', steps: [add({ netns: '/proc/self/ns/mnt' })] },
  { name: 'CNI_NETNS of the host', steps: [add({ netns: '/proc/self/ns/net' })] },
  {
    name: 'CNI_NETNS of the host, overridden',
    steps: [add({ netns: '/proc/self/ns/net', env: { CNI_NETNS_OVERRIDE: 'TRUE' } })],
  },
  {
    name: 'CNI_NETNS by process',
    steps: [
      inside('c1', 'sleep 5 & echo $! >/run/pid'),
      onHost('ln -s /proc/$(cat /run/pid)/ns/net /run/link'),
      add({ netns: '/run/link' }),
    ],
  },
  { name: 'malformed CNI_ARGS', steps: [add({ args: 'COLOUR' })] },
  { name: 'unknown CNI_ARGS', steps: [add({ args: 'COLOUR=blue' })] },

  // stdin
  { name: 'nothing on stdin', steps: [add({ stdin: '' })] },
  { name: 'blanks on stdin', steps: [add({ stdin: ' \n' })] },
  { name: 'broken JSON', steps: [add({ stdin: '{"cniVersion": "1.0.0", "name": "net",' })] },
  { name: 'JSON and more', steps: [add({ stdin: '{"cniVersion":"1.0.0","name":"net","type":"loopback"} more' })] },
  { name: 'a list on stdin', steps: [add({ stdin: '[]' })] },
  { name: 'null on stdin', steps: [add({ stdin: 'null' })] },
  { name: 'text on stdin', steps: [add({ stdin: '"net"' })] },
  { name: 'byte order mark', steps: [add({ stdin: '\ufeff{"cniVersion":"1.0.0","name":"net","type":"loopback"}' })] },
  { name: 'the same key twice', steps: [add({ stdin: '{"cniVersion":"9.0.0","name":"net","cniVersion":"1.0.0"}' })] },
  { name: 'unknown keys', config: { colour: 'blue', 'cni.dev/shape': 1 }, steps: life },

  // name and cniVersion
  { name: 'no name', config: { name: undefined }, steps: [add()] },
  { name: 'empty name', config: { name: '' }, steps: [add()] },
  { name: 'name with a slash', config: { name: '../net' }, steps: [add()] },
  { name: 'name with a blank', config: { name: 'my net' }, steps: [add()] },
  { name: 'name as number', config: { name: 7 }, steps: [add()] },
  { name: 'no type', config: { type: undefined }, steps: [add()] },
  { name: 'type of another plugin', config: { type: 'bridge' }, steps: [add({ plugin: 'loopback' })] },
  { name: 'no cniVersion', config: { cniVersion: undefined }, steps: [add(), del()] },
  { name: 'empty cniVersion', config: { cniVersion: '' }, steps: [add(), del()] },
  { name: 'unknown cniVersion', config: { cniVersion: '9.9.9' }, steps: [add(), del()] },
  { name: 'short cniVersion', config: { cniVersion: '1.0' }, steps: [add()] },
  { name: 'cniVersion as number', config: { cniVersion: 1 }, steps: [add()] },
  { name: 'cniVersion 1.1.0', config: { cniVersion: '1.1.0' }, steps: life },
  { name: 'CHECK with cniVersion 0.3.1', config: { cniVersion: '0.3.1' }, steps: [add(), check()] },
  { name: 'CHECK without cniVersion', config: { cniVersion: undefined }, steps: [add(), check()] },

  // prevResult
  {
    name: 'prevResult as text',
    steps: [add({ prevResult: 'soon' as unknown as object }), del({ prevResult: 'soon' as unknown as object })],
  },
  { name: 'prevResult as a list', steps: [add({ prevResult: [] })] },
  {
    name: 'prevResult without version',
    steps: [add({ prevResult: { ...bridgeResult, ips: [{ address: '10.1.0.2/24' }] } })],
  },
  { name: 'prevResult of another version', steps: [add({ prevResult: { ...bridgeResult, cniVersion: '0.4.0' } })] },
  {
    name: 'prevResult of another shape',
    steps: [add({ prevResult: { cniVersion: '0.2.0', ip4: { ip: '10.1.0.2/24' } } })],
  },
  { name: 'prevResult of an unknown version', steps: [add({ prevResult: { ...bridgeResult, cniVersion: '9.9.9' } })] },
  {
    name: 'prevResult with a broken address',
    steps: [
      add({ prevResult: { cniVersion: '1.0.0', ips: [{ address: 'here' }] } }),
      del({ prevResult: { cniVersion: '1.0.0', ips: [{ address: 'here' }] } }),
    ],
  },
  {
    name: 'prevResult of version 0.4.0',
    config: { cniVersion: '0.4.0' },
    steps: [add({ prevResult: { ...bridgeResult, cniVersion: '0.4.0', dns: {} } })],
  },
  {
    name: 'prevResult of version 0.2.0',
    config: { cniVersion: '0.2.0' },
    steps: [
      add({ prevResult: { cniVersion: '0.2.0', ip4: { ip: '10.1.0.2/24', routes: [{ dst: '0.0.0.0/0' }] }, dns: {} } }),
    ],
  },
]

/** Takes all variables of CNI away but one. */
function nothing(but: string): Record<string, undefined> {
  const variables = ['CNI_COMMAND', 'CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME', 'CNI_ARGS', 'CNI_PATH']
  return Object.fromEntries(variables.filter((name) => name !== but).map((name) => [name, undefined]))
}

const scenariosOf = (title: string, plugin: string, rows: readonly Row[]): Scenario[] =>
  rows.map(({ name, config = {}, ...rest }) => ({ ...rest, name: `${title}: ${name}`, plugin, config }))

export const loopbackScenarios: readonly Scenario[] = scenariosOf('loopback', 'loopback', loopback)

/** With loopback, the plugin that has nothing else to look at. */
export const contractScenarios: readonly Scenario[] = scenariosOf('contract', 'loopback', contract)
