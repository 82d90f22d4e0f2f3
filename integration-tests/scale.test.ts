import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { bridge } from '../plugins/bridge/bridge.ts'
import { dispatch } from '../plugins/contract/dispatch.ts'
import { Host as PluginHost } from '../plugins/contract/host.ts'
import type { Environment } from '../plugins/contract/request.ts'
import { portmap } from '../plugins/portmap/portmap.ts'
import { createHost, executables, type Host, requireTool } from './host.ts'
import { inside } from './inside.ts'

/*
 * One network with a thousand attachments of two port mappings each: what the next one costs, and whether all of it goes
 * again. strace(1) counts what is asked of the kernel and nft(8) the rules: no clock decides.
 */

const [few, many] = [10, 1000]

const head = { cniVersion: '1.1.0', name: 'lab' }
const bridgeConfig = {
  ...head,
  type: 'bridge',
  bridge: 'br1',
  isDefaultGateway: true,
  ipMasq: true,
  ipam: { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/16' }], [{ subnet: 'fd00:1::/64' }]] },
}
const portmapConfig = { ...head, type: 'portmap' }

const mappings = (n: number) => [
  { hostPort: 20_000 + n, containerPort: 80, protocol: 'tcp' },
  { hostPort: 20_000 + n, containerPort: 53, protocol: 'udp' },
]

/** All in one namespace: to make and to end a thousand of them would take most of the time. */
const environment = (command: 'ADD' | 'DEL', n: number): Environment => ({
  command,
  containerId: `c${n}`,
  netns: '/run/netns/all',
  ifName: `eth${n}`,
  args: new Map(),
  path: [],
  netnsOverride: false,
})

function add(n: number, host: PluginHost): void {
  const prevResult = dispatch(bridge, environment('ADD', n), JSON.stringify(bridgeConfig), host)
  const chained = { ...portmapConfig, runtimeConfig: { portMappings: mappings(n) }, prevResult }
  dispatch(portmap, environment('ADD', n), JSON.stringify(chained), host)
}

function del(n: number, host: PluginHost): void {
  dispatch(portmap, environment('DEL', n), JSON.stringify(portmapConfig), host)
  dispatch(bridge, environment('DEL', n), JSON.stringify(bridgeConfig), host)
}

/** Carries out a verb for attachments `from` to `to`, in this process: an executable for each would take minutes. */
function forEach(host: Host, from: number, to: number, verb: typeof add | typeof del): void {
  inside(host, () => {
    for (let n = from; n <= to; n++) {
      using plugins = new PluginHost()
      verb(n, plugins)
    }
  })
}

/** What one verb of the executables asked of the kernel. */
interface Cost {
  readonly systemCalls: number
  readonly messages: number
  readonly bytes: number
}

/** Runs an executable under strace. It is one process, with threads but without children. */
function traced(host: Host, command: string, type: string, config: object): { cost: Cost; result: object } {
  const trace = ['strace', '-f', '-o', '/run/trace', '-e', 'trace=network,file,desc,process', '-e', 'signal=none']
  const env = {
    CNI_COMMAND: command,
    CNI_CONTAINERID: 'probe',
    CNI_NETNS: '/run/netns/probe',
    CNI_IFNAME: 'eth0',
    CNI_PATH: executables,
  }
  const { stdout } = host.run([...trace, `${executables}/${type}`], { env, input: JSON.stringify(config) })
  const lines = readFileSync(host.file('/run/trace'), 'utf8').split('\n')
  const calls = lines.filter((line) => /^\d+ +\w+\(/.test(line)) // the others end a call, or tell of a thread's end
  const forks = calls.filter((line) => /^\d+ +(execve|v?fork|clone3?)\(/.test(line) && !line.includes('CLONE_THREAD'))
  expect(forks).toEqual([expect.stringContaining(`execve("${executables}/${type}"`)])
  const exchanged = lines
    .flatMap((line) => line.match(/^\d+ +(?:<\.\.\. )?(?:send|recv)\w+[( ].* = (\d+)$/)?.[1] ?? [])
    .map(Number)
  const bytes = exchanged.reduce((sum, size) => sum + size, 0)
  return {
    cost: { systemCalls: calls.length, messages: exchanged.length, bytes },
    result: stdout === '' ? {} : JSON.parse(stdout),
  }
}

const sum = (a: Cost, b: Cost): Cost => ({
  systemCalls: a.systemCalls + b.systemCalls,
  messages: a.messages + b.messages,
  bytes: a.bytes + b.bytes,
})

/** The next attachment of the network, by the executables: made, looked at, deleted. */
function probe(host: Host, look: () => void = () => {}): { ADD: Cost; DEL: Cost } {
  const runtimeConfig = { portMappings: mappings(0) }
  const first = traced(host, 'ADD', 'bridge', bridgeConfig)
  const chained = { ...portmapConfig, prevResult: first.result }
  const second = traced(host, 'ADD', 'portmap', { ...chained, runtimeConfig })
  look()
  const ADD = sum(first.cost, second.cost)
  const firstGone = traced(host, 'DEL', 'portmap', chained)
  const secondGone = traced(host, 'DEL', 'bridge', { ...bridgeConfig, prevResult: second.result })
  return { ADD, DEL: sum(firstGone.cost, secondGone.cost) }
}

/** The cheapest of three: bridge asks until its port is up, and how often that is depends on the machine. */
function leastCosts(host: Host): { ADD: Cost; DEL: Cost } {
  const probes = [1, 2, 3].map(() => probe(host))
  const least = (verb: 'ADD' | 'DEL', key: keyof Cost) => Math.min(...probes.map((costs) => costs[verb][key]))
  const costs = (verb: 'ADD' | 'DEL') => ({
    systemCalls: least(verb, 'systemCalls'),
    messages: least(verb, 'messages'),
    bytes: least(verb, 'bytes'),
  })
  return { ADD: costs('ADD'), DEL: costs('DEL') }
}

const ruleCount = (host: Host): number =>
  host.json(['nft', '--json', 'list', 'ruleset']).nftables.filter((object: object) => 'rule' in object).length

/** Text of all rules; what iptables-save says of time and counters is left out. */
const rulesets = (host: Host): string =>
  host.sh(`nft list ruleset
           iptables-save | grep -v '^#' | sed 's/ \\[[0-9:]*\\]$//'
           ip6tables-save | grep -v '^#' | sed 's/ \\[[0-9:]*\\]$//'`).stdout

/** Lines of files that name an attachment. */
const mentions = (host: Host): string =>
  host.run(['grep', '-rEs', '\\b(c|eth)[0-9]+\\b', '/var/lib/cni', '/run/ns-net', '/run/cni'], {
    expectFailure: 'maybe',
  }).stdout

/** The addresses of all attachments but the probe. */
const addressesInside = (host: Host): string[] =>
  host
    .json(['ip', '-json', '-netns', 'all', 'address', 'show', 'scope', 'global'])
    .flatMap(({ addr_info = [] }: { addr_info?: { local?: string }[] }) =>
      addr_info.flatMap(({ local }) => local ?? []),
    )

/** Links without IPv6 addresses of their own: a thousand of them greeting each other takes most of a minute. */
const quiet = `for setting in dad_transmits=0 router_solicitations=0 addr_gen_mode=1; do
  echo \${setting#*=} >/proc/sys/net/ipv6/conf/default/\${setting%=*}
done`

test(`attachment ${many} costs what attachment ${few} does, and nothing of any is left`, {
  timeout: 300_000,
}, (context) => {
  for (const tool of ['nft', 'strace', 'iptables-save']) requireTool(tool, context)
  using host = createHost()
  host.sh(`${quiet}
           nft add table inet foreign
           nft add chain inet foreign post '{ type nat hook postrouting priority 99; }'
           nft add rule inet foreign post ip saddr 192.168.0.0/16 masquerade
           iptables -t nat -A POSTROUTING -s 192.168.0.0/16 -j RETURN`)
  for (const name of ['all', 'probe']) host.addContainer(name).sh(quiet)
  // The bridge and its addresses stay for good.
  forEach(host, 1, 1, add)
  forEach(host, 1, 1, del)
  const before = { rulesets: rulesets(host), state: host.snapshot({ ignoreLeaseMarks: true }) }

  forEach(host, 1, few - 1, add)
  const costsOfFew = leastCosts(host)
  let rulesOfFew = 0
  probe(host, () => {
    rulesOfFew = ruleCount(host)
  })
  expect(rulesOfFew).toBeGreaterThan(0)

  forEach(host, few, many - 1, add)
  expect(mentions(host)).toContain(`c${many - 1}`)
  const addresses = addressesInside(host)
  expect(addresses).toHaveLength(2 * (many - 1))
  expect(new Set(addresses).size).toBe(addresses.length)
  const costsOfMany = leastCosts(host)
  probe(host, () => {
    expect(ruleCount(host)).toBe(rulesOfFew)
    const [own] = host.json(['ip', '-json', '-netns', 'probe', '-4', 'address', 'show', 'dev', 'eth0'])
    expect(addresses).not.toContain(own.addr_info[0].local)
  })
  for (const verb of ['ADD', 'DEL'] as const)
    for (const [what, count] of Object.entries(costsOfMany[verb]))
      expect(count, `${what} of ${verb}: ${JSON.stringify({ costsOfFew, costsOfMany })}`).toBeLessThanOrEqual(
        1.2 * costsOfFew[verb][what as keyof Cost],
      )

  forEach(host, 1, many - 1, del)
  expect(rulesets(host)).toBe(before.rulesets)
  expect(mentions(host)).toBe('')
  expect(host.snapshot({ ignoreLeaseMarks: true })).toEqual(before.state)
  expect(host.json(['ip', '-json', '-netns', 'all', 'link'])).toHaveLength(1)
})
