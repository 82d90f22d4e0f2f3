import { isDeepStrictEqual } from 'node:util'
import { type AttachmentSpec, planAttachment, publishesPorts } from '../attachments.ts'
import type { ConfList } from '../conflist.ts'
import { CliError } from '../errors.ts'
import type { LabAttachment } from '../labs.ts'
import { formatPortMapping, type PortMapping } from '../port-mappings.ts'
import { fileLabel, type NetEntry, type NodeEntry, type RouteEntry } from './document.ts'
import type { LiveLab, LiveRoute } from './live.ts'
import { isSame } from './networks.ts'
import type { Step } from './steps.ts'

/** What networks will be, and which of them are made anew, for what reason. */
export interface NetworkPlan {
  readonly lists: ReadonlyMap<string, ConfList>
  readonly renewed: ReadonlyMap<string, string>
}

/** Who made a route: us, for a lab file. One of the numbers that the kernel leaves to programs (rtnetlink.h). */
export const routeProtocol = 114

/** What to do to a node and inside it; cables are planned by themselves. */
export function planNode(node: NodeEntry, live: LiveLab | undefined, networks: NetworkPlan): Step[] {
  if (!live) return createNode(node)
  if (!live.isThere)
    return [
      { kind: 'delete lab', lab: node.name, why: 'its namespace is gone' },
      ...createNode(withRecordedAddresses(node, live.record.attachments)),
    ]
  const attachments = planAttachments(node, live, networks)
  const gone = new Set(attachments.flatMap((step) => (step.kind === 'detach' ? step.ifName : [])))
  return [...attachments, ...planRecord(node, live), ...planSettings(node, live, gone), ...planCommands(node, live)]
}

function createNode(node: NodeEntry): Step[] {
  const { name: lab } = node
  return [
    { kind: 'create lab', node },
    ...[...node.sysctls].map(([name, value]) => ({ kind: 'set sysctl', lab, name, value }) as const),
    ...node.routes.map((route) => ({ kind: 'add route', lab, route }) as const),
    ...shapesOf(node),
    ...node.exec.map((command) => ({ kind: 'start', lab, command }) as const),
  ]
}

const shapesOf = ({ name, nets }: NodeEntry): Step[] =>
  nets.flatMap(({ ifName, shape }) => (shape ? [{ kind: 'shape', end: { place: name, ifName }, shape } as const] : []))

/** A lab that vanished comes back with the addresses that it had. */
function withRecordedAddresses(node: NodeEntry, attachments: readonly LabAttachment[]): NodeEntry {
  const nets = node.nets.map((net) => {
    const before = attachments.find(({ network, ifName }) => network === net.network && ifName === net.ifName)
    const known = before?.config.plugins.some(({ ipam }) => (ipam as { type?: string })?.type === 'host-local')
    if (!before || !known || net.ips.length > 0) return net
    return { ...net, ips: before.addresses.map((address) => address.split('/')[0]!) }
  })
  return { ...node, nets }
}

/** What `add` and `attach` are asked for. The node's own ports go to the first network that can publish them. */
export function specsOf(node: NodeEntry, lists: ReadonlyMap<string, ConfList>): AttachmentSpec[] {
  let ownPorts = node.ports
  const specs = node.nets.map((net) => {
    const network = lists.get(net.network)!
    const publishes = network.plugins.some(publishesPorts)
    const ports = publishes ? [...net.ports, ...ownPorts] : net.ports
    if (publishes) ownPorts = []
    return specOf(net, network, ports)
  })
  if (ownPorts.length === 0) return specs
  throw new CliError(
    'usage',
    `"${node.name}" is attached to no network that can publish ${formatPortMapping(ownPorts[0]!)}`,
    'a network with driver bridge or ptp can',
  )
}

export const specOf = (net: NetEntry, network: ConfList, ports: readonly PortMapping[]): AttachmentSpec => ({
  network,
  ifName: net.ifName,
  ...(net.hostIf && { hostIf: net.hostIf }),
  ...(net.ips.length > 0 && { ip: net.ips.join(',') }),
  ...(net.mac && { mac: net.mac }),
  ...(net.mtu && { mtu: net.mtu }),
  ...(net.internal && { internal: true }),
  ...(ports.length > 0 && { ports }),
})

/** The records as they would be if the node were made now. */
function wantedAttachments(node: NodeEntry, lists: ReadonlyMap<string, ConfList>): LabAttachment[] {
  const planned: LabAttachment[] = []
  for (const spec of specsOf(node, lists)) planned.push(planAttachment({ name: node.name, attachments: planned }, spec))
  return planned
}

function planAttachments(node: NodeEntry, live: LiveLab, networks: NetworkPlan): Step[] {
  const wanted = wantedAttachments(node, networks.lists)
  const order = node.nets.map(({ ifName }) => ifName)
  const steps: Step[] = []
  const kept = new Set<LabAttachment>()
  for (const [at, attachment] of wanted.entries()) {
    const net = node.nets[at]!
    const subject = { lab: node.name, net: { ...net, ports: attachment.ports ?? [] }, order }
    const present = live.record.attachments.find(
      ({ network, ifName }) => network === attachment.network && ifName === attachment.ifName,
    )
    const why = present && (networks.renewed.get(net.network) ?? attachmentDifference(net, attachment, present, live))
    if (present) kept.add(present)
    if (present && why === undefined) {
      steps.push(...planKept(subject, attachment, present, live))
      continue
    }
    if (present) steps.push(detachStep(node.name, present, why!))
    steps.push({ kind: 'attach', ...subject })
    if (net.shape) steps.push({ kind: 'shape', end: { place: node.name, ifName: net.ifName }, shape: net.shape })
  }
  const extra = live.record.attachments.filter((attachment) => !kept.has(attachment))
  return [...extra.map((attachment) => detachStep(node.name, attachment, 'it is not in the file')), ...steps]
}

const detachStep = (lab: string, { network, ifName }: LabAttachment, why: string): Step => ({
  kind: 'detach',
  lab,
  network,
  ifName,
  why,
})

/** What cannot be changed about an attachment, so that it has to be made anew; undefined when nothing is different. */
function attachmentDifference(
  net: NetEntry,
  wanted: LabAttachment,
  present: LabAttachment,
  { links }: LiveLab,
): string | undefined {
  const addresses = present.addresses.map((address) => address.split('/')[0])
  const missing = net.ips.find((ip) => !addresses.includes(ip))
  if (missing) return `address is ${addresses.join(' ') || 'none'}, wanted ${missing}`
  if (net.hostIf !== present.hostIf)
    return `its name on the host is ${present.hostIf ?? 'not given'}, wanted ${net.hostIf ?? 'none'}`
  const mac = links.get(net.ifName)?.mac
  if (net.mac && mac && net.mac !== mac) return `MAC is ${mac}, wanted ${net.mac}`
  if (!isSame(wanted.config.plugins, present.config.plugins)) return 'its configuration is another one'
  return undefined
}

/** What can be mended or changed in place. */
function planKept(
  subject: { readonly lab: string; readonly net: NetEntry; readonly order: readonly string[] },
  wanted: LabAttachment,
  present: LabAttachment,
  live: LiveLab,
): Step[] {
  const { lab, net } = subject
  const { ifName } = net
  const steps: Step[] = []
  const problem = live.problems.get(ifName)
  if (problem !== undefined) steps.push({ kind: 'repair', ...subject, problem })
  const mtu = net.mtu ?? mtuOf(wanted.config)
  const link = live.links.get(ifName)
  if (mtu && link && link.mtu !== mtu) steps.push({ kind: 'set link', end: { place: lab, ifName }, mtu })
  steps.push(...planPorts(lab, ifName, wanted.ports ?? [], present.ports ?? []))
  const shape = live.shapes.get(ifName)
  if (!isShaped(net.shape, shape)) steps.push({ kind: 'shape', end: { place: lab, ifName }, shape: net.shape })
  return steps
}

export const isShaped = (wanted: NetEntry['shape'], live: ReturnType<LiveLab['shapes']['get']>): boolean =>
  wanted === undefined ? live === undefined : live?.whole === true && isDeepStrictEqual(wanted, live.entry)

const mtuOf = ({ plugins }: ConfList): number | undefined =>
  plugins.map(({ mtu }) => (typeof mtu === 'number' && mtu > 0 ? mtu : undefined)).find((mtu) => mtu !== undefined)

/** Ports are given up in a step of their own, before others may want them. */
function planPorts(
  lab: string,
  ifName: string,
  wanted: readonly PortMapping[],
  present: readonly PortMapping[],
): Step[] {
  const isIn = (list: readonly PortMapping[]) => (port: PortMapping) =>
    list.some((each) => isDeepStrictEqual(each, port))
  const rest = present.filter(isIn(wanted))
  const unwanted = present.filter((port) => !isIn(wanted)(port))
  const isComplete = wanted.every(isIn(present))
  return [
    ...(unwanted.length > 0 ? [{ kind: 'withdraw', lab, ifName, ports: unwanted, rest } as const] : []),
    ...(isComplete ? [] : [{ kind: 'publish', lab, ifName, ports: wanted } as const]),
  ]
}

function planRecord({ name: lab, dns, labels }: NodeEntry, { record, hasResolvConf }: LiveLab): Step[] {
  const { [fileLabel]: _, ...wanted } = labels
  const { [fileLabel]: __, ...present } = record.labels ?? {}
  const isSameDns = isDeepStrictEqual(dns, record.dns ?? [])
  return [
    ...(hasResolvConf && isSameDns ? [] : [{ kind: 'set dns', lab, dns } as const]),
    ...(isSame(wanted, present) ? [] : [{ kind: 'set labels', lab, labels: wanted } as const]),
  ]
}

/** The kernel separates the numbers of one setting by tabs, whatever was written. */
const words = (text: string | undefined): string | undefined => text?.trim().split(/\s+/).join(' ')

function planSettings(node: NodeEntry, live: LiveLab, gone: ReadonlySet<string>): Step[] {
  const { name: lab, sysctls, routes } = node
  const isGone = (name: string) => name.split('/').some((part) => gone.has(part))
  const steps: Step[] = []
  for (const [name, value] of sysctls)
    if (isGone(name) || words(live.sysctls.get(name)) !== words(value))
      steps.push({ kind: 'set sysctl', lab, name, value })
  for (const [name, value] of Object.entries(live.record.sysctls ?? {}))
    if (!sysctls.has(name)) steps.push({ kind: 'set sysctl', lab, name, value, back: true })
  const staying = live.routes.filter(({ dev }) => dev === undefined || !gone.has(dev))
  for (const route of routes)
    if (!staying.some((there) => isRoute(route, there))) steps.push({ kind: 'add route', lab, route })
  for (const there of staying)
    if (there.protocol === routeProtocol && !routes.some((route) => isRoute(route, there)))
      steps.push({ kind: 'delete route', lab, route: there })
  return steps
}

export const isRoute = (wanted: RouteEntry, there: LiveRoute): boolean =>
  wanted.dst === there.dst &&
  (wanted.via === undefined ? there.via === undefined : wanted.via === there.via) &&
  (wanted.dev === undefined || wanted.dev === there.dev)

/** Commands are started when they come into the file; one that has ended is not started again. */
function planCommands({ name: lab, exec }: NodeEntry, { commands }: LiveLab): Step[] {
  const left = [...commands]
  const steps: Step[] = []
  for (const command of exec) {
    const i = left.findIndex((one) => one.command === command)
    if (i < 0) steps.push({ kind: 'start', lab, command })
    else left.splice(i, 1)
  }
  return [...left.map((command) => ({ kind: 'end', lab, command }) as const), ...steps]
}
