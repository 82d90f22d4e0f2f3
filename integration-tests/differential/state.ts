import { lstatSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Host } from '../host.ts'

/** What the tools print about one network namespace, as it is. */
export interface RawNamespace {
  readonly links: readonly Row[]
  readonly addresses: readonly Row[]
  readonly routes: readonly Row[]
  readonly rules: readonly Row[]
  /** By path below /proc/sys/net. */
  readonly sysctls: Readonly<Record<string, string>>
}

export interface RawState {
  /** `host`, and the containers that there are. */
  readonly namespaces: Readonly<Record<string, RawNamespace>>
  /** Links of the host whose MAC somebody set, so that it doesn't follow a bridge's ports. */
  readonly pinned: ReadonlySet<string>
  readonly files: Readonly<Record<string, { readonly mode: string; readonly text: string }>>
}

// biome-ignore lint/suspicious/noExplicitAny: what ip(8) prints is as varied as its objects
export type Row = Record<string, any>

/**
 * One ip(8) for most questions: a process per question would be most of this suite's run time. The wait is for IPv6
 * addresses that the kernel has yet to confirm; a bridge without a carrier never confirms any, so it has an end.
 */
const observe = `
  for wait in 1 2 3 4 5 6 7 8; do
    case $(ip -o -6 address show tentative scope global) in '') break ;; esac
    sleep 0.03
  done
  printf 'link show\\naddress show\\nroute show table all\\nrule show\\n' | ip -json -details -batch -
  ip -json -details -6 rule show
  grep -rs . /proc/sys/net/ipv4/conf /proc/sys/net/ipv6/conf /proc/sys/net/ipv4/ip_forward || true`

const settingSet = 3 // NET_ADDR_SET, include/uapi/linux/netdevice.h

export function readState(host: Host, containers: readonly string[]): RawState {
  const script = [
    `observe() { ${observe}\n}`,
    'echo "== host"',
    'observe',
    'echo "== pinned"',
    'grep -s . /sys/class/net/*/addr_assign_type || true',
    // A container may be gone, or be a plain file by now.
    ...containers.map((name) => `echo "== ${name}"; nsenter --net=/run/netns/${name} sh -c "$observe" 2>/dev/null || true`),
  ]
  const { stdout } = host.sh(script.join('\n'), { env: { observe } })
  const parts = new Map(
    stdout.split(/^== /m).map((part) => {
      const [name, ...lines] = part.trimEnd().split('\n')
      return [name, lines] as const
    }),
  )
  const present = ['host', ...containers].filter((name) => parts.get(name)!.length > 0)
  return {
    namespaces: Object.fromEntries(present.map((name) => [name, parse(parts.get(name)!)])),
    pinned: new Set(
      (parts.get('pinned') ?? [])
        .filter((line) => line.endsWith(`:${settingSet}`))
        .map((line) => line.replace(/^\/sys\/class\/net\/(.*)\/addr_assign_type:.*$/, '$1')),
    ),
    files: Object.fromEntries(filesIn(host, '/var/lib/cni')),
  }
}

function parse(lines: readonly string[]): RawNamespace {
  const tables = lines.filter((line) => line.startsWith('[')).map((line) => JSON.parse(line) as Row[])
  const [links = [], addresses = [], routes = [], ...rules] = tables.map((rows) =>
    // An empty list is printed as `[]` or `[{}]`, by version.
    rows.filter((row) => Object.keys(row).length > 0),
  )
  const settings = lines.flatMap((line) => {
    const match = line.match(/^\/proc\/sys\/net\/([^:]+):(.*)$/)
    return match ? [[match[1]!, match[2]!] as const] : []
  })
  return { links, addresses, routes, rules: rules.flat(), sysctls: Object.fromEntries(settings) }
}

/** Our index beside the leases is not part of the format that both share. */
function* filesIn(host: Host, directory: string): Generator<[string, { mode: string; text: string }]> {
  for (const name of readdirSync(host.file(directory)).sort()) {
    const path = join(directory, name)
    const status = lstatSync(host.file(path))
    const mode = (status.mode & 0o7777).toString(8)
    if (name === '.ns-net') continue
    if (!status.isDirectory()) yield [path, { mode, text: readFileSync(host.file(path), 'utf8') }]
    else {
      yield [`${path}/`, { mode, text: '' }]
      yield* filesIn(host, path)
    }
  }
}
