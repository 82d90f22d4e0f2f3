import { Value } from '../../config/reader.ts'
import { familyOf } from '../../netlink-lib/ip.ts'
import { checkHostIf } from '../host-if.ts'
import { defaultNetwork } from '../networks.ts'
import { type PortMapping, parsePortMappings } from '../port-mappings.ts'
import type { NetEntry, NodeEntry, RouteEntry } from './document.ts'
import { type Mistakes, suggestion } from './mistakes.ts'
import { linkName, orFail, rangeOf, readList, readShape, textOf, texts, withoutUndefined } from './values.ts'

export function readNode(
  name: string,
  value: Value,
  networks: ReadonlySet<string>,
  taken: ReadonlySet<string>,
  mistakes: Mistakes,
): NodeEntry {
  if (name === 'host' || name === 'self') value.fail(`"${name}" has a meaning of its own and cannot name a node`)
  const section = value.object()
  const asked: UnnamedNet[] = section.get('nets')
    ? readList(section, 'nets', mistakes, (each) => readNet(each, networks, mistakes))
    : [{ network: defaultNetwork, ips: [], internal: false, ports: [] }]
  const entry: NodeEntry = {
    name,
    nets: nameInterfaces(asked, taken),
    ports: readList(section, 'ports', mistakes, portsOf).flat(),
    dns: readList(section, 'dns', mistakes, (each) => each.ip()),
    labels: mistakes.attempt(() => readTexts(section.get('labels'))) ?? {},
    sysctls: mistakes.attempt(() => readSysctls(section.get('sysctls'))) ?? new Map(),
    routes: readList(section, 'routes', mistakes, (each) => readRoute(each, mistakes)),
    exec: mistakes.attempt(() => texts(section.get('exec')).map((each) => each.string())) ?? [],
  }
  mistakes.refuseUnknown(value, section)
  return entry
}

const portsOf = (value: Value): PortMapping[] => orFail(value, () => parsePortMappings(textOf(value)))

type UnnamedNet = Omit<NetEntry, 'ifName'> & { readonly ifName?: string }

/** `lan`, or an object with the same under `name` and more. */
function readNet(value: Value, networks: ReadonlySet<string>, mistakes: Mistakes): UnnamedNet {
  if (typeof value.json === 'string')
    return { network: knownNetwork(value, networks), ips: [], internal: false, ports: [] }
  const section = value.object()
  const entry: UnnamedNet = {
    network: knownNetwork(section.require('name', 'the name of a network'), networks),
    ifName: linkName(section.get('if')),
    hostIf: hostIf(section.get('host-if')),
    ips: texts(section.get('ip')).map((each) => each.ip()),
    mac: section.get('mac')?.mac(),
    mtu: section.get('mtu')?.integer(68, 65535),
    internal: section.get('internal')?.boolean() ?? false,
    ports: section.list('ports', portsOf).flat(),
    shape: readShape(section.get('shape'), mistakes),
  }
  mistakes.refuseUnknown(value, section)
  return withoutUndefined(entry)
}

function hostIf(value: Value | undefined): string | undefined {
  const name = value?.string()
  if (value && name !== undefined) orFail(value, () => checkHostIf(name))
  return name
}

function knownNetwork(value: Value, networks: ReadonlySet<string>): string {
  const name = value.string()
  if (!networks.has(name)) value.fail(`no network "${name}" in this file${suggestion(name, [...networks])}`)
  return name
}

/** Who names no interface gets the first ethN that nothing else on the node is called. */
function nameInterfaces(nets: readonly UnnamedNet[], taken: ReadonlySet<string>): NetEntry[] {
  const names = new Set([...taken, ...nets.flatMap(({ ifName }) => ifName ?? [])])
  return nets.map((net) => {
    if (net.ifName !== undefined) return { ...net, ifName: net.ifName }
    let n = 0
    while (names.has(`eth${n}`)) n++
    names.add(`eth${n}`)
    return { ...net, ifName: `eth${n}` }
  })
}

function readTexts(value: Value | undefined): Record<string, string> {
  if (!value) return {}
  value.object()
  return Object.fromEntries(
    Object.entries(value.json as Record<string, unknown>).map(([key, json]) => {
      const entry = new Value(json, `${value.path}.${key}`)
      if (!/^[\w./-]+$/.test(key)) entry.fail('expected letters, digits, "_", ".", "/" and "-" in the key')
      return [key, textOf(entry)]
    }),
  )
}

/** As sysctl(8) has it: the first separator says what the other one means, so that names of links may hold dots. */
function readSysctls(value: Value | undefined): Map<string, string> {
  const found = new Map<string, string>()
  for (const [key, text] of Object.entries(readTexts(value))) {
    const name = /^[^./]*\//.test(key) ? key : key.replaceAll(/[./]/g, (separator) => (separator === '.' ? '/' : '.'))
    if (!/^net\/[^/]+\/./.test(name) || name.split('/').includes('..'))
      new Value(text, `${value!.path}.${key}`).fail(
        'expected a setting of the network namespace, such as net.ipv4.ip_forward',
      )
    found.set(name, text)
  }
  return found
}

function readRoute(value: Value, mistakes: Mistakes): RouteEntry {
  const section = value.object()
  const via = section.get('via')?.ip()
  const target = section.require('dst', 'a range of addresses, or "default"')
  const everywhere = via?.includes(':') ? '::/0' : '0.0.0.0/0'
  const entry = {
    dst: target.json === 'default' ? everywhere : rangeOf(target),
    ...(via && { via }),
    ...withoutUndefined({ dev: linkName(section.get('dev')) }),
  }
  mistakes.refuseUnknown(value, section)
  if (!via && !entry.dev) section.fail('via', 'missing; expected the address of a router, or dev')
  if (via && familyOf(via) !== familyOf(entry.dst)) section.fail('via', `${via} is not of the family of ${entry.dst}`)
  return entry
}
