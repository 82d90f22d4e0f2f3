import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import type { Host } from './host.ts'

/* All that the tools tell of the kernel in every namespace of a host, without what changes by itself. */

/** Numbers given at creation, timers and counters, and what follows from a carrier. */
const volatile = new Set([
  'ifindex',
  'link_index',
  'link_netnsid',
  'iif_index',
  'handle',
  'index',
  'packets',
  'bytes',
  'expires',
  'operstate',
  'valid_life_time',
  'preferred_life_time',
  'tentative',
  'cache',
  'bridge_id',
  'root_id',
  'designated_bridge',
  'designated_root',
  'broadcast_mac',
  'port_id',
  'port_no',
  'designated_port',
  'used',
  'updated',
  'confirmed',
  'refcnt',
])
const carrierFlags = new Set(['NO-CARRIER', 'LOWER_UP', 'RUNNING', 'linkdown', 'dead', 'M-DOWN'])

/** A link without a queue has none of any kind after it was up for the first time; a bridge's port learns for a while. */
const isMomentary = (key: string, inside: unknown, around: object): boolean =>
  inside === 'noop' ||
  inside === 'noqueue' ||
  ('hairpin' in around && ['id', 'no', 'state', 'topology_change_ack', 'config_pending'].includes(key))

function steady(value: unknown): unknown {
  if (Array.isArray(value)) return value.filter((each) => !carrierFlags.has(each)).map(steady)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key, inside]) => !volatile.has(key) && !key.endsWith('_timer') && !isMomentary(key, inside, value))
      .map(([key, inside]) => [
        key,
        key === 'elem' && Array.isArray(inside) ? sorted(steady(inside) as unknown[]) : steady(inside),
      ]),
  )
}

const sorted = (rows: readonly unknown[]): string[] => rows.map((row) => JSON.stringify(row)).sort()
const isLinkLocal = (row: Record<string, unknown>) => /^(fe80:|ff00:)/.test(String(row.local ?? row.dst ?? ''))

type Row = Record<string, unknown>

const questions = {
  links: 'ip -j -d link',
  addresses: 'ip -j -d addr',
  routes4: 'ip -j -d -4 route show table all',
  routes6: 'ip -j -d -6 route show table all',
  neighbours: 'ip -j -d neigh show nud permanent',
  nftables: 'nft -j list ruleset',
  qdiscs: 'tc qdisc show',
  filters: 'for link in $(ls /sys/class/net); do tc filter show dev $link parent ffff: | grep mirred; done',
  sysctls: 'cd /proc/sys/net && grep -r . ipv4/ip_forward ipv4/conf ipv6/conf | grep -v "mtu:\\|secret:"',
}
const questionsToHost = {
  iptables: 'iptables-save',
  ip6tables: 'ip6tables-save',
  mounts: 'cut -d" " -f2 /proc/self/mounts',
}
type Question = keyof typeof questions | keyof typeof questionsToHost

/** What the tools answer inside a namespace, asked in one go. */
function answersIn(host: Host, name: string): (question: Question) => string {
  const asked: Partial<Record<Question, string>> = { ...questions, ...(name === '' && questionsToHost) }
  const script = Object.values(asked).map((question) => `(${question}) 2>/dev/null || true; echo =====`)
  const inside = name === '' ? [] : ['ip', 'netns', 'exec', name]
  const parts = host.run([...inside, 'sh', '-c', script.join('\n')]).stdout.split('=====\n')
  const answers = new Map(Object.keys(asked).map((question, i) => [question, parts[i]!]))
  return (question) => answers.get(question) ?? ''
}

const linesOf = (text: string): string[] =>
  text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#') && !/noqueue|^\/run\/netns$/.test(line))
    .map((line) => line.replace(/ \[\d+:\d+\]$|refcnt \d+/g, '').replace(/^qdisc (\S+) \S+:? /, 'qdisc $1 '))

/** Rules in their order in each chain; tables, chains and sets have none. */
function ruleset(text: string): Record<string, unknown[]> {
  const found: Record<string, unknown[]> = {}
  for (const object of JSON.parse(text).nftables) {
    const [[kind, content]] = Object.entries(object) as [[string, Row]]
    if (kind === 'metainfo') continue
    const key = [content.family, content.table, content.chain ?? content.name].join(' ')
    found[key] = [...(found[key] ?? []), steady(object)]
  }
  return found
}

function placeState(host: Host, name: string) {
  const answer = answersIn(host, name)
  const rows = (question: Question): Row[] =>
    JSON.parse(answer(question) || '[]').filter((row: Row) => Object.keys(row).length > 0)
  const addressesOf = ({ addr_info }: Row) => (addr_info as Row[]).filter((row) => !isLinkLocal(row)).map(steady)
  return {
    links: Object.fromEntries(rows('links').map((row) => [row.ifname, steady(row)])),
    addresses: Object.fromEntries(rows('addresses').map((row) => [row.ifname, sorted(addressesOf(row))])),
    routes: [...rows('routes4'), ...rows('routes6')].filter((row) => !isLinkLocal(row)).map(steady),
    neighbours: sorted(rows('neighbours').map(steady)),
    nftables: ruleset(answer('nftables')),
    iptables: [...linesOf(answer('iptables')), ...linesOf(answer('ip6tables'))],
    traffic: [...linesOf(answer('qdiscs')), ...linesOf(answer('filters'))].sort(),
    sysctls: linesOf(answer('sysctls')).sort(),
    mounts: linesOf(answer('mounts')).sort(),
  }
}

/** The state of the kernel in every namespace. */
export function kernelState(host: Host) {
  const names = Object.keys(readTree(host, '/run/netns')).map((path) => path.slice('/run/netns/'.length))
  return Object.fromEntries(['', ...names].map((name) => [name || 'the host', placeState(host, name)]))
}

/** Texts and targets of symbolic links by path; a directory ends in `/`. */
export function readTree(host: Host, path: string): Record<string, string> {
  const status = lstatSync(host.file(path), { throwIfNoEntry: false })
  if (!status) return {}
  if (status.isSymbolicLink()) return { [path]: `-> ${readlinkSync(host.file(path))}` }
  if (!status.isDirectory())
    return { [path]: status.isFile() && status.size > 0 ? readFileSync(host.file(path), 'utf8') : '' }
  const inside = readdirSync(host.file(path))
    .sort()
    .map((name) => readTree(host, `${path}/${name}`))
  return Object.assign(path.split('/').length > 3 ? { [`${path}/`]: '' } : {}, ...inside)
}
