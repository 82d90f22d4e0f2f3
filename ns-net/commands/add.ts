import fs from 'node:fs'
import { canonicalIp } from '../../netlink-lib/ip.ts'
import { messageOf } from '../../plugins/contract/errors.ts'
import { Host } from '../../plugins/contract/host.ts'
import type { AttachmentSpec } from '../attachments.ts'
import { type ConfList, parseConfList } from '../conflist.ts'
import { CliError } from '../errors.ts'
import { checkLabName, exclusively, findLab, type Lab, type LabAttachment, netnsPath } from '../labs.ts'
import { createLab } from '../lifecycle.ts'
import { conflistOf, defaultNetwork, requireNetwork, subnetsFor } from '../networks.ts'
import type { Report } from '../output.ts'
import { parsePortMappings, showPortMapping } from '../port-mappings.ts'

export interface AddOptions {
  /** `NAME[:ip=A,if=N,host-if=N,mac=M,mtu=N]`, one for each network; `default` unless told. */
  readonly net?: readonly string[]
  /** A conflist file instead of a network. */
  readonly conf?: string
  /** A network of the lab's own with this range. */
  readonly subnet?: string
  /** With `subnet`: a routed link instead of a bridge. */
  readonly ptp?: boolean
  /** Of the first network: */
  readonly ip?: string
  readonly mac?: string
  readonly mtu?: number
  readonly if?: string
  readonly hostIf?: string
  readonly publish?: readonly string[]
  readonly internal?: boolean
  readonly dns?: readonly string[]
  readonly label?: readonly string[]
  readonly ifNotExists?: boolean
  /** commander's way to say `--no-net`: net is false. */
  readonly noNet?: boolean
}

/** Creates a lab and attaches it. Whole or not at all: what fails is taken back in reverse order. */
export function add(name: string, options: AddOptions): Report {
  checkLabName(name)
  checkOptions(options)
  const started = performance.now()
  const lab = exclusively(() => {
    const existing = options.ifNotExists ? findLab(name) : undefined
    if (existing) return existing
    using host = new Host()
    const attachments = attachmentsOf(name, options, host)
    return createLab(
      { name, attachments, labels: labelsOf(options.label ?? []), dns: options.dns?.map(requireIp) },
      host,
    )
  })
  const took = Math.round(performance.now() - started)
  return {
    json: describe(lab),
    text: `${summaryOf(lab)}  (${took} ms)\ntry: ns-net shell ${name} | ns-net ping ${name}\n`,
  }
}

function checkOptions({ net = [], conf, subnet, ptp, noNet, ...first }: AddOptions): void {
  const ways = [net.length > 0 && '--net', conf && '--conf', subnet && '--subnet', noNet && '--no-net'].filter(Boolean)
  if (ways.length > 1) throw new CliError('usage', `${ways.join(' and ')} exclude each other`)
  if (ptp && !subnet) throw new CliError('usage', '--ptp needs --subnet', 'as --ptp --subnet 10.0.0.0/24')
  const keys = ['ip', 'mac', 'mtu', 'if', 'hostIf', 'publish', 'internal'] as const
  const given = keys.find((key) => first[key] !== undefined)?.replace('hostIf', 'host-if')
  if (noNet && given) throw new CliError('usage', `--${given} needs a network, and --no-net says that there is none`)
}

function attachmentsOf(name: string, options: AddOptions, host: Host): AttachmentSpec[] {
  if (options.noNet) return []
  const { ip, mac, mtu, if: ifName, hostIf, internal, publish = [] } = options
  const ports = publish.flatMap(parsePortMappings)
  const first = { ip: ip && requireIp(ip), mac, mtu, ifName, hostIf, internal, ports }
  if (options.conf) return [{ network: readConfList(options.conf), ...first }]
  if (options.subnet) return [{ network: ownNetwork(name, options, host), ...first }]
  const [head = defaultNetwork, ...rest] = options.net ?? []
  return [{ ...first, ...withoutUndefined(parseNet(head, host)) }, ...rest.map((text) => parseNet(text, host))]
}

/** So that what is not given does not hide what is. */
export const withoutUndefined = <T extends object>(value: T): T =>
  Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined)) as T

/** A network that lives and dies with the lab, and has its name. */
function ownNetwork(name: string, { subnet, ptp }: AddOptions, host: Host): ConfList {
  const spec = { name, driver: ptp ? 'ptp' : 'bridge', subnets: [subnet!] } as const
  return parseConfList(conflistOf({ ...spec, subnets: subnetsFor(spec, host) }))
}

/** `NAME` or `NAME:ip=10.1.0.9,if=eth5,host-if=web,mac=…,mtu=1400`. */
export function parseNet(text: string, host: Host): AttachmentSpec {
  const [, name = '', settings = ''] = /^([^:]*)(?::(.*))?$/.exec(text) ?? []
  const given = new Map<string, string>()
  for (const pair of settings.split(',').filter(Boolean)) {
    const [, key = '', value = ''] = /^([\w-]+)=(.+)$/.exec(pair) ?? []
    if (!['ip', 'if', 'host-if', 'mac', 'mtu'].includes(key))
      throw new CliError(
        'usage',
        `--net ${text}: "${pair}" is not understood`,
        'expected NAME[:ip=A,if=NAME,host-if=NAME,mac=M,mtu=N]',
      )
    given.set(key, value)
  }
  const [ip, mtu] = [given.get('ip'), given.get('mtu')]
  return {
    network: requireNetwork(name, host),
    ip: ip && requireIp(ip),
    ifName: given.get('if'),
    hostIf: given.get('host-if'),
    mac: given.get('mac'),
    mtu: mtu === undefined ? undefined : Number(mtu),
  }
}

export function requireIp(text: string): string {
  const address = canonicalIp(text.split('/')[0]!)
  if (address) return address
  throw new CliError('usage', `"${text}" is no IP address`)
}

export function labelsOf(pairs: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const [, key, value] = /^([\w./-]+)=(.*)$/.exec(pair) ?? []
      if (key === undefined) throw new CliError('usage', `label "${pair}" is not understood`, 'expected KEY=VALUE')
      return [key, value!]
    }),
  )
}

function readConfList(file: string): ConfList {
  let text: string
  try {
    text = fs.readFileSync(file, 'utf8')
  } catch (error) {
    throw new CliError('notFound', `cannot read ${file}: ${messageOf(error)}`)
  }
  try {
    return parseConfList(JSON.parse(text))
  } catch (error) {
    throw new CliError('usage', `${file}: ${messageOf(error)}`, 'conf-examples/ has complete configurations')
  }
}

const isTranslated = ({ config }: LabAttachment): boolean =>
  config.plugins.some((plugin) => plugin.ipMasq === true || plugin.type === 'nat')

/** The JSON of a lab, for every verb that makes or changes one. */
export function describe({ name, attachments, labels }: Lab) {
  const networks = attachments.map((attachment) => {
    const { config: _, args: __, ...rest } = attachment
    return { ...rest, nat: isTranslated(attachment) }
  })
  return { name, netns: netnsPath(name), networks, ...(labels && { labels }) }
}

/** The same in a line. */
export function summaryOf({ name, attachments }: Lab): string {
  if (attachments.length === 0) return `${name}  no network`
  return attachments
    .map((attachment, i) => {
      const { ifName, network, addresses, gateway, bridge, hostIf, ports = [] } = attachment
      const parts = [
        i === 0 ? name : `${' '.repeat(name.length)}`,
        attachments.length > 1 && `${ifName} ${network}`,
        [addresses.join(' '), gateway && `via ${gateway}`].filter(Boolean).join(' ') || 'no address',
        bridge && `bridge ${bridge}`,
        hostIf && `host end ${hostIf}`,
        isTranslated(attachment) && 'nat on',
        ports.map(showPortMapping).join(' '),
      ]
      return parts.filter(Boolean).join('  ')
    })
    .join('\n')
}
