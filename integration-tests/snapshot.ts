import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import type { Place } from './host.ts'

/** The state of a host, by what the tools print. Equal snapshots mean that nothing was left behind or taken away. */
export interface Snapshot {
  readonly links: unknown
  readonly addresses: unknown
  readonly routes: unknown
  readonly rules: unknown
  /** `missing` when nft is not installed, as for the two below. */
  readonly nftables: unknown
  readonly iptables: unknown
  readonly ip6tables: unknown
  /** Content by path; a directory ends in `/`. */
  readonly files: Readonly<Record<string, string>>
  readonly mounts: readonly string[]
  readonly sysctls: Readonly<Record<string, string>>
}

export interface SnapshotOptions {
  /**
   * Leave out what stays in /var/lib/cni on purpose after the last lease: the directories, and in host-local's store
   * `lock`, `last_reserved_ip.*` and what begins with a dot.
   */
  readonly ignoreLeaseMarks?: boolean
}

const directories = ['/run/netns', '/run/ns-net', '/var/lib/cni', '/etc/netns', '/etc/cni']
const sysctls = ['net/ipv4/ip_forward', 'net/ipv6/conf/all/forwarding', 'net/ipv4/conf/all/route_localnet']

/** Keys that change by themselves: numbers given at creation, timers, counters, and what follows from a carrier. */
const volatile = new Set([
  'ifindex',
  'link_index',
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
])
const carrierFlags = new Set(['NO-CARRIER', 'LOWER_UP', 'RUNNING', 'linkdown', 'dead'])

function steady(value: unknown): unknown {
  if (Array.isArray(value)) return value.filter((element) => !carrierFlags.has(element)).map(steady)
  if (typeof value !== 'object' || value === null) return value
  const kept = Object.entries(value).filter(([key]) => !volatile.has(key) && !key.endsWith('_timer'))
  // `elem`: the elements of an nftables set, in the order of a hash.
  const inside = ([key, content]: [string, unknown]) =>
    key === 'elem' && Array.isArray(content) ? sorted(steady(content) as unknown[]) : steady(content)
  return Object.fromEntries(kept.map((entry) => [entry[0], inside(entry)]))
}

type Row = Record<string, unknown>

/** Sorted by their text: the kernel lists in the order of creation, and a bridge may be made anew. */
function sorted(rows: readonly unknown[]): unknown[] {
  const text = new Map(rows.map((row) => [row, JSON.stringify(row)]))
  return [...rows].sort((a, b) => (text.get(a)! < text.get(b)! ? -1 : 1))
}

/** Link-local addresses and their routes come and go with the carrier, some time after it. */
const isLinkLocal = (row: Row) => /^(fe80:|ff00:)/.test(String(row.local ?? row.dst ?? ''))

function ip(place: Place, ...args: string[]): Row[] {
  // An empty list is printed as `[]`, `[{}]` or nothing, by version.
  return ((place.json(['ip', '-json', '-details', ...args]) as Row[] | undefined) ?? []).filter(
    (row) => Object.keys(row).length > 0,
  )
}

function rulesets(place: Place): Pick<Snapshot, 'nftables' | 'iptables' | 'ip6tables'> {
  const printed = (command: string[]) => {
    const { status, stdout } = place.run(
      ['sh', '-c', `command -v ${command[0]} >/dev/null || exit 111; ${command.join(' ')}`],
      {
        expectFailure: 'maybe',
      },
    )
    return status === 111 ? undefined : stdout
  }
  const nft = printed(['nft', '--json', 'list', 'ruleset'])
  const saved = (command: string) =>
    printed([command])
      ?.split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => line.replace(/ \[\d+:\d+\]$/, '')) ?? 'missing'
  return {
    nftables:
      nft === undefined
        ? 'missing'
        : (JSON.parse(nft).nftables as Row[]).filter((object) => !('metainfo' in object)).map(steady),
    iptables: saved('iptables-save'),
    ip6tables: saved('ip6tables-save'),
  }
}

function content(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return '(a namespace)' // nsfs: what `ip netns add` mounts over its file
  }
}

function readTree(directory: string, seenAs: (path: string) => string, into: Record<string, string>): void {
  for (const name of readdirSync(seenAs(directory)).sort()) {
    const path = join(directory, name)
    const status = lstatSync(seenAs(path))
    if (status.isDirectory()) {
      into[`${path}/`] = ''
      readTree(path, seenAs, into)
    } else into[path] = status.isSymbolicLink() ? `-> ${readlinkSync(seenAs(path))}` : content(seenAs(path))
  }
}

function isLeaseMark(path: string): boolean {
  if (/^\/var\/lib\/cni\/.*\/$/.test(path)) return true
  const inStore = path.match(/^\/var\/lib\/cni\/networks\/(.*)$/)?.[1]?.split('/') ?? []
  return inStore.some((name) => name.startsWith('.') || /^(lock$|last_reserved_ip\.)/.test(name))
}

/** Mount points as processes of the host see them; `ip netns add` keeps one on /run/netns for good. */
function mountPoints(place: Place): string[] {
  const table = place.run(['cat', '/proc/self/mounts']).stdout.trimEnd().split('\n')
  return table.map((line) => line.split(' ')[1]!).filter((path) => path !== '/run/netns')
}

/** `seenAs` turns a path of the host into one that this process can open. */
export function takeSnapshot(
  place: Place,
  seenAs: (path: string) => string,
  { ignoreLeaseMarks = false }: SnapshotOptions = {},
): Snapshot {
  const families = ['-4', '-6']
  const addresses = ip(place, 'address', 'show').map((link) => ({
    link: link.ifname,
    addresses: sorted((link.addr_info as Row[]).filter((row) => !isLinkLocal(row)).map(steady)),
  }))
  const routes = families
    .flatMap((family) => ip(place, family, 'route', 'show', 'table', 'all'))
    .filter((row) => !isLinkLocal(row))
  const files: Record<string, string> = {}
  for (const directory of directories) if (existsSync(seenAs(directory))) readTree(directory, seenAs, files)
  const settings = place
    .run(['cat', ...sysctls.map((name) => `/proc/sys/${name}`)])
    .stdout.trimEnd()
    .split('\n')
  return {
    links: sorted(ip(place, 'link', 'show').map(steady)),
    addresses: sorted(addresses),
    routes: sorted(routes.map(steady)),
    rules: families.flatMap((family) => ip(place, family, 'rule', 'show')).map(steady),
    ...rulesets(place),
    files: Object.fromEntries(Object.entries(files).filter(([path]) => !ignoreLeaseMarks || !isLeaseMark(path))),
    mounts: mountPoints(place),
    sysctls: Object.fromEntries(sysctls.map((name, i) => [name, settings[i]!])),
  }
}
