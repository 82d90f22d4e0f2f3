import { Value } from '../../config/reader.ts'
import type { LinkSettings } from '../../netlink-lib/route/link.ts'
import type { SysctlName } from '../../netlink-lib/sysctl.ts'
import type { Request } from '../contract/request.ts'
import { repeatedKeys } from './repeated-keys.ts'

export interface Sysctl {
  /** As the configuration has it: what the allow-list is about. */
  readonly key: string
  /** Below net, with the interface's name filled in. */
  readonly name: SysctlName
  readonly value: string
}

/** Settings of the container's interface. What is not asked for is absent and stays as it is. */
export type LinkTuning = Pick<LinkSettings, 'mac' | 'mtu' | 'promiscuous' | 'allMulticast' | 'txQueueLength'>

export interface TuningConf {
  /** Where the old settings are kept until DEL. */
  readonly dataDir: string
  readonly sysctls: readonly Sysctl[]
  readonly link: LinkTuning
}

export function parseTuning(request: Request): TuningConf {
  const { config, command } = request
  const dataDir = config.get('dataDir')?.string() || '/run/cni/tuning'
  if (!dataDir.startsWith('/')) config.fail('dataDir', `expected an absolute path, got "${dataDir}"`)
  // What to undo is on file: a teardown needs to know where, and nothing else may stop it.
  if (command === 'DEL' || command === 'GC') return { dataDir, sysctls: [], link: {} }

  const cni = config.get('args')?.object().get('cni')?.object()
  const wanted = (key: string) => cni?.get(key) ?? config.get(key)
  return {
    dataDir,
    sysctls: sysctlsOf(request, [config.get('sysctl'), cni?.get('sysctl')]),
    link: defined({
      mac: macOf(request),
      mtu: wanted('mtu')?.integer(0, 65535) || undefined,
      promiscuous: wanted('promisc')?.boolean() || undefined,
      allMulticast: wanted('allmulti')?.boolean(),
      txQueueLength: wanted('txQLen')?.integer(0, 0xffffffff),
    }),
  }
}

/** Without the keys whose value is undefined, so that the keys say what is asked for. */
function defined(link: LinkTuning): LinkTuning {
  return Object.fromEntries(Object.entries(link).filter(([, value]) => value !== undefined))
}

/** The configuration, CNI_ARGS, the mac capability, args.cni: the later wins, an empty one says nothing. */
function macOf({ config, args }: Request): string | undefined {
  const argument = args.get('MAC')
  const channels = [
    config.get('args')?.object().get('cni')?.object().get('mac'),
    config.get('runtimeConfig')?.object().get('mac'),
    argument ? new Value(argument, 'CNI_ARGS.MAC') : undefined,
    config.get('mac'),
  ]
  return channels.find((value) => value && value.json !== '')?.mac()
}

/** The configuration's sysctls and those of args.cni, which win. */
function sysctlsOf({ ifName, document }: Request, sources: readonly (Value | undefined)[]): Sysctl[] {
  const all = new Map<string, Sysctl>()
  for (const source of sources) {
    if (!source) continue
    source.object()
    const here = new Map<string, Sysctl>()
    for (const [key, json] of Object.entries(source.json as Record<string, unknown>)) {
      const value = new Value(json, `${source.path}.${key}`)
      const sysctl = { key, name: nameOf(value, key, ifName), value: value.string() }
      const path = sysctl.name.join('/')
      const other = here.get(path)
      if (other) value.fail(`the same sysctl as "${other.key}"; keep one`)
      here.set(path, sysctl)
    }
    for (const [path, sysctl] of here) all.set(path, sysctl)
    const [repeated] = repeatedKeys(document, 'sysctl')
    if (repeated !== undefined) source.fail(`"${repeated}" stands in it more than once; keep one`)
  }
  return [...all.values()]
}

/**
 * Dots or slashes separate the parts, whichever comes first; the other one then is a dot in a name, as with sysctl(8):
 * `net.ipv4.conf.eth0/100.arp_filter` is about eth0.100. The first `IFNAME` stands for the interface's name, which may
 * have dots itself and is therefore filled in last.
 */
function nameOf(value: Value, key: string, ifName: string): SysctlName {
  const swapped = { '.': '/', '/': '.' } as const
  const path = /^[^/]*\./.test(key) ? key.replaceAll(/[./]/g, (sign) => swapped[sign as '.' | '/']) : key
  const [root, ...name] = path.replace(/^\//, '').split('/')
  if (root !== 'net' || name.length === 0 || name.some((part) => ['', '.', '..'].includes(part)))
    value.fail('expected a sysctl below net, such as net.core.somaxconn')
  const at = name.findIndex((part) => part.includes('IFNAME'))
  return name.map((part, i) => (i === at ? part.replace('IFNAME', () => ifName) : part))
}
