import type { Host } from '../../plugins/contract/host.ts'
import { planAttachment, publishesPorts, takesMac, targetOf } from '../attachments.ts'
import type { ConfList } from '../conflist.ts'
import type { Lab, LabAttachment } from '../labs.ts'
import { interfacePlugin, specOf } from '../networks.ts'
import { readCache } from '../result-cache.ts'
import type { EndEntry, LabDocument, LinkEntry, NetEntry, NetworkEntry, NodeEntry, RouteEntry } from './document.ts'
import { formatEnd } from './format.ts'
import { type Live, type LiveLab, type LiveLink, type LiveRoute, readLive } from './live.ts'
import { isSame, plainEntry, preview } from './networks.ts'
import { specOf as attachmentSpec, routeProtocol } from './node-plan.ts'

/** What to write down. */
export interface Selection {
  /** Of the document. */
  readonly name: string
  readonly labs: readonly Lab[]
  /** Besides those that the labs are attached to. */
  readonly networks: readonly string[]
  /** Nothing on the host tells of them. */
  readonly tests?: LabDocument['tests']
}

/**
 * The document of what is there: applied to an empty host it makes the same with the same addresses, and applied to this
 * one it changes nothing.
 */
export function describeLive({ name, labs, networks, tests = [] }: Selection, host: Host): LabDocument {
  const live = readLive(host, () => new Map(labs.map((lab) => [lab.name, { everyCable: true }])))
  const nodes = new Map(labs.map((lab) => [lab.name, describeNode(live.labs.get(lab.name)!, live)]))
  const used = labs.flatMap(({ attachments }) => attachments.map(({ network }) => network))
  const entries = [...new Set([...networks, ...used])].sort().flatMap((each) => {
    const list = live.networks.get(each)
    return list ? [[each, describeNetwork(list)] as const] : []
  })
  return { name, networks: new Map(entries), nodes, links: describeLinks(live, nodes), tests }
}

/** In the keys of a lab file, where they say all of it. */
export function describeNetwork(list: ConfList): NetworkEntry {
  const { name, driver, subnets, gateway, internal = false, isolated = false, mtu, bridge, parent } = specOf(list)
  const ipv6 = false // its range stands among the others
  const known = { name, driver, subnets, ipv6, gateway, internal, isolated, mtu, parent }
  const entry = JSON.parse(JSON.stringify(known)) as NetworkEntry
  const candidates = [entry, { ...entry, bridge }] as const
  const { disableCheck, ...conflist } = list
  return (
    candidates.find((each) => isSame(preview(each), list)) ?? {
      ...plainEntry(name),
      conflist: { ...conflist, ...(disableCheck && { disableCheck }) },
    }
  )
}

function describeNode({ record, links, routes, sysctls, commands, shapes }: LiveLab, { networks }: Live): NodeEntry {
  const { name, attachments, labels = {}, dns = [] } = record
  const first = attachments.find(({ config }) => config.plugins.some(publishesPorts))
  const nets = attachments.map((attachment, i) => {
    const net = describeNet(record, attachment, attachments.slice(0, i), links.get(attachment.ifName), networks)
    const shape = shapes.get(attachment.ifName)?.entry
    return { ...net, ports: attachment === first ? [] : (attachment.ports ?? []), ...(shape && { shape }) }
  })
  return {
    name,
    nets,
    ports: first?.ports ?? [],
    dns,
    labels,
    sysctls: new Map(
      Object.keys(record.sysctls ?? {}).flatMap((key) => {
        const value = sysctls.get(key)
        return value === undefined ? [] : [[key, value] as const]
      }),
    ),
    routes: routes.filter((route) => isAdded(route, record)).map(describeRoute),
    exec: commands.map(({ command }) => command),
  }
}

const addressesOf = ({ addresses }: LabAttachment): string[] => addresses.map((address) => address.split('/')[0]!)

/** The MTU and whether it leads out are only known by what they made of the network's configuration. */
function describeNet(
  lab: Lab,
  attachment: LabAttachment,
  before: readonly LabAttachment[],
  link: LiveLink | undefined,
  networks: ReadonlyMap<string, ConfList>,
): NetEntry {
  const { network, ifName, config } = attachment
  const plugin = interfacePlugin(config)
  const isChosen = (plugin.ipam as { type?: string } | undefined)?.type === 'host-local'
  const entry: NetEntry = {
    network,
    ifName,
    ...(attachment.hostIf && { hostIf: attachment.hostIf }),
    ips: isChosen ? addressesOf(attachment) : [],
    ...(takesMac(config) && link?.mac && { mac: link.mac }),
    internal: false,
    ports: [],
  }
  const mtu = typeof plugin.mtu === 'number' ? plugin.mtu : undefined
  const list = networks.get(network) ?? config
  const candidates = [entry, { ...entry, internal: true }].flatMap((each) => (mtu ? [each, { ...each, mtu }] : [each]))
  const makesTheSame = (each: NetEntry) => {
    const planned = planAttachment({ name: lab.name, attachments: [] }, attachmentSpec(each, list, []), before)
    return isSame(planned.config.plugins, config.plugins)
  }
  return candidates.find(makesTheSame) ?? entry
}

const describeRoute = ({ dst, via, dev }: LiveRoute): RouteEntry => ({ dst, ...(via && { via }), ...(dev && { dev }) })

/** Neither the kernel's own nor one that an attachment brought. */
function isAdded(route: LiveRoute, { name, attachments }: Lab): boolean {
  if (route.protocol === routeProtocol) return true
  const byHand = [3, 4].includes(route.protocol) // RTPROT_BOOT, RTPROT_STATIC
  if (!byHand || (!route.via && !route.dev)) return false
  const brought = attachments.filter(({ ifName }) => ifName === route.dev)
  return !brought.some((attachment) => bringsRoute(name, attachment, route))
}

/** The routes of its result; a routed link has two more, to its gateway and by it to its subnet. */
function bringsRoute(lab: string, attachment: LabAttachment, { dst, via }: LiveRoute): boolean {
  const result = readCache(attachment.config, targetOf(lab, attachment))?.result ?? {}
  const routes = (result.routes ?? []) as { dst?: string; gw?: string }[]
  if (routes.some((each) => each.dst === dst && (each.gw === undefined || each.gw === via))) return true
  const gateways = ((result.ips ?? []) as { gateway?: string }[]).map(({ gateway }) => gateway)
  return (
    interfacePlugin(attachment.config).type !== 'bridge' &&
    (gateways.includes(via) || gateways.includes(dst.split('/')[0]))
  )
}

type End = Pick<EndEntry, 'place' | 'ifName'>

/** Cables between these nodes, or one of them and the host. */
function describeLinks(live: Live, nodes: ReadonlyMap<string, NodeEntry>): LinkEntry[] {
  const all = [...live.labs.values()].flatMap(({ links }) => [...links.values()])
  const found = new Map<string, LinkEntry>()
  for (const { cable } of all) {
    if (!cable) continue
    const isInside = (end: End) => (end.place === 'host' || nodes.has(end.place)) && linkAt(live, end) !== undefined
    const key = `${formatEnd(cable.a)} ${formatEnd(cable.b)}`
    if (isInside(cable.a) && isInside(cable.b) && !found.has(key)) found.set(key, describeLink(live, cable.a, cable.b))
  }
  return [...found.values()]
}

const linkAt = (live: Live, { place, ifName }: End): LiveLink | undefined =>
  (place === 'host' ? live.hostLinks : live.labs.get(place)?.links)?.get(ifName)

/** Of a broken cable the end that is down comes first. */
function describeLink(live: Live, a: End, b: End): LinkEntry {
  const [one, other] = [linkAt(live, a)!, linkAt(live, b)!]
  if (one.up && !other.up) return describeLink(live, b, a)
  const describeEnd = (end: End, { addresses, mac }: LiveLink): EndEntry => ({ ...end, addresses, ...(mac && { mac }) })
  const node = a.place === 'host' ? b : a
  const shape = live.labs.get(node.place)?.shapes.get(node.ifName)?.entry
  return {
    a: describeEnd(a, one),
    b: describeEnd(b, other),
    ...(one.mtu !== 1500 && { mtu: one.mtu }),
    up: one.up && other.up,
    ...(shape && { shape }),
  }
}
