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
  /** `host`, and the containers that there are; none where only the files were looked at. */
  readonly namespaces: Readonly<Record<string, RawNamespace>>
  /** Links of the host whose MAC somebody set, so that it doesn't follow a bridge's ports. */
  readonly pinned: ReadonlySet<string>
  readonly files: Readonly<Record<string, { readonly mode: string; readonly text: string }>>
}

// biome-ignore lint/suspicious/noExplicitAny: what ip(8) prints is as varied as its objects
export type Row = Record<string, any>

/** One ip(8) for most questions: a process per question would be most of this suite's run time. */
const observe = `
  printf 'link show\\naddress show\\nroute show table all\\nrule show\\n' | ip -json -details -batch -
  ip -json -details -6 rule show
  grep -rs . /proc/sys/net/ipv4/conf /proc/sys/net/ipv6/conf /proc/sys/net/ipv4/ip_forward || true`

type Execute = typeof import('./run.ts').execute

const settingSet = 3 // NET_ADDR_SET, include/uapi/linux/netdevice.h

/** The files, and the kernel's state of `host` and of containers as far as they are asked for. */
export async function readState(host: Host, places: readonly string[], execute: Execute): Promise<RawState> {
  const files = Object.fromEntries(filesIn(host, '/var/lib/cni'))
  if (places.length === 0) return { namespaces: {}, pinned: new Set(), files }
  for (let attempt = 1; ; attempt++) {
    const state = { ...(await readKernel(host, places, execute)), files }
    if (attempt === 8 || Object.values(state.namespaces).every(isSettled)) return state
  }
}

/**
 * The kernel works off new IPv6 addresses in its own time: it confirms them, and then gives each the route that makes it
 * one of the host's. On a bridge without carrier it may never do.
 */
const isSettled = ({ addresses, routes }: RawNamespace) =>
  addresses.every(({ ifname, flags, addr_info = [] }) =>
    (addr_info as Row[])
      .filter(({ family, scope }) => family === 'inet6' && scope === 'global' && flags.includes('UP'))
      .every(({ local, tentative }) =>
        tentative ? false : routes.some(({ type, dst, dev }) => type === 'local' && dst === local && dev === ifname),
      ),
  )

async function readKernel(host: Host, places: readonly string[], execute: Execute): Promise<Omit<RawState, 'files'>> {
  // A container may be gone, or be a plain file by now.
  const enter = (name: string) =>
    name === 'host' ? observe : `nsenter --net=/run/netns/${name} sh -c "$observe" 2>/dev/null || true`
  const script = [
    'echo "== pinned"',
    'grep -s . /sys/class/net/*/addr_assign_type || true',
    ...places.map((name) => `echo "== ${name}"; ${enter(name)}`),
  ]
  const { stdout } = await execute(host, ['sh', '-c', script.join('\n')], { env: { observe } })
  const parts = new Map(
    stdout.split(/^== /m).map((part) => {
      const [name, ...lines] = part.trimEnd().split('\n')
      return [name, lines] as const
    }),
  )
  const present = places.filter((name) => parts.get(name)!.length > 0)
  return {
    namespaces: Object.fromEntries(present.map((name) => [name, parse(parts.get(name)!)])),
    pinned: new Set(
      parts
        .get('pinned')!
        .filter((line) => line.endsWith(`:${settingSet}`))
        .map((line) => line.replace(/^\/sys\/class\/net\/(.*)\/addr_assign_type:.*$/, '$1')),
    ),
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
