import { formatCidr } from '../../netlink-lib/ip.ts'
import { Netns } from '../../netlink-lib/netns.ts'
import type { Link } from '../../netlink-lib/route/link.ts'
import type { Route } from '../../netlink-lib/route/route.ts'
import { findSysctl } from '../../netlink-lib/sysctl.ts'
import { messageOf } from '../../plugins/contract/errors.ts'
import { type Container, type Host, hostLinkName } from '../../plugins/contract/host.ts'
import { targetOf } from '../attachments.ts'
import { type Cable, readCable } from '../cables.ts'
import type { ConfList } from '../conflist.ts'
import { hasEtc } from '../etc.ts'
import { type Lab, listLabs, listNetnsNames, netnsPath } from '../labs.ts'
import { listNetworks } from '../networks.ts'
import { checkNetwork } from '../runtime.ts'
import { lossyLinks } from '../shaping.ts'
import { type BackgroundCommand, listCommands } from './background.ts'
import { type LiveShape, readShape, shapedLinks } from './shapes.ts'

/** What is there: of the kernel where it can tell, else of the records. Plain data, so that a plan can be tested. */
export interface Live {
  readonly networks: ReadonlyMap<string, ConfList>
  /** Every lab by name; only those asked for were looked into. */
  readonly records: ReadonlyMap<string, Lab>
  readonly labs: ReadonlyMap<string, LiveLab>
  /** Of the host: only ends of cables. */
  readonly hostLinks: ReadonlyMap<string, LiveLink>
  /** Named namespaces that are no labs. */
  readonly foreign: ReadonlySet<string>
}

export interface LiveLab {
  readonly record: Lab
  /** False when its namespace is gone. */
  readonly isThere: boolean
  readonly links: ReadonlyMap<string, LiveLink>
  readonly routes: readonly LiveRoute[]
  readonly sysctls: ReadonlyMap<string, string | undefined>
  /** What CHECK says, by interface. */
  readonly problems: ReadonlyMap<string, string>
  /** By interface: of those asked for, and of others that are slow or late. */
  readonly shapes: ReadonlyMap<string, LiveShape>
  readonly hasResolvConf: boolean
  readonly commands: readonly BackgroundCommand[]
}

export interface LiveLink {
  readonly mac?: string
  readonly mtu: number
  readonly up: boolean
  /** CIDRs, without link-local ones. */
  readonly addresses: readonly string[]
  readonly cable?: Cable
}

export interface LiveRoute {
  readonly dst: string
  readonly via?: string
  readonly dev?: string
  /** RTPROT_*. */
  readonly protocol: number
}

/** What to look at: labs, and of each these settings and shapes. */
export type Question = ReadonlyMap<string, LabQuestion>

export interface LabQuestion {
  readonly sysctls?: Iterable<string>
  readonly shaped?: Iterable<string>
  /** Also cables that only lose packets, which shows nowhere else: that costs a wait for each. */
  readonly everyCable?: boolean
}

export function readLive(host: Host, question: (labs: readonly Lab[]) => Question): Live {
  const all = listLabs()
  const records = new Map(all.map((lab) => [lab.name, lab]))
  const labs = new Map<string, LiveLab>()
  const shapedOutside = shapedHostLinks(host)
  for (const [name, asked] of question(all)) {
    const record = records.get(name)
    if (record) labs.set(name, readLab(record, asked, shapedOutside, host))
  }
  const lists = all.flatMap(({ attachments }) => attachments.map(({ config }) => config))
  return {
    // A network of `add --subnet` and `--conf` is nowhere but in its attachments.
    networks: new Map([...lists, ...listNetworks()].map((list) => [list.name, list])),
    records,
    labs,
    hostLinks: new Map([...readLinks(host)].filter(([, { cable }]) => cable)),
    foreign: new Set(listNetnsNames().filter((name) => !records.has(name))),
  }
}

function readLab(record: Lab, asked: LabQuestion, shapedOutside: ReadonlySet<string>, host: Host): LiveLab {
  const recorded = { record, hasResolvConf: hasEtc(record.name), commands: listCommands(record.name) }
  using container = host.findContainer(netnsPath(record.name))
  if (!container) return { ...recorded, ...nothing }
  const names = new Set([...(asked.sysctls ?? []), ...Object.keys(record.sysctls ?? {})])
  return {
    ...recorded,
    isThere: true,
    links: readLinks(container),
    routes: readRoutes(container),
    sysctls: readSysctls(container, [...names]),
    problems: findProblems(record, host),
    shapes: readShapes(record, container, asked, shapedOutside),
  }
}

/** Of a namespace that is gone. */
const nothing = {
  isThere: false,
  links: new Map(),
  routes: [],
  sysctls: new Map(),
  problems: new Map(),
  shapes: new Map(),
}

/** Links of the host that are slow or late by us, or lose packets. */
function shapedHostLinks(host: Host): Set<string> {
  using own = Netns.own()
  const indexes = shapedLinks(own)
  const slow = indexes.size === 0 ? [] : host.route.listLinks().filter(({ index }) => indexes.has(index))
  return new Set([...slow.map(({ name }) => name), ...lossyLinks(host)])
}

/** Looks closely only where something may be: each look costs some sockets. */
function readShapes(
  { name, attachments }: Lab,
  { route, netns }: Container,
  { shaped = [], everyCable = false }: LabQuestion,
  shapedOutside: ReadonlySet<string>,
): Map<string, LiveShape> {
  const indexes = shapedLinks(netns)
  const outside = attachments
    .filter(({ network, ifName }) => shapedOutside.has(hostLinkName({ network, containerId: name, ifName })))
    .map(({ ifName }) => ifName)
  const candidates = new Set([...shaped, ...outside])
  if (indexes.size === 0 && candidates.size === 0 && !everyCable) return new Map()
  const mayBe = (link: Link) =>
    indexes.has(link.index) || candidates.has(link.name) || (everyCable && readCable(link) !== undefined)
  const veths = route.listLinks().filter(({ kind }) => kind === 'veth')
  const names = veths.filter(mayBe).map((link) => link.name)
  return new Map(
    names.flatMap((ifName) => {
      const shape = readShape(name, ifName)
      return shape ? [[ifName, shape] as const] : []
    }),
  )
}

function readLinks({ route }: Pick<Container, 'route'>): Map<string, LiveLink> {
  const addresses = route.listAddresses().filter(({ scope }) => scope === 0)
  return new Map(
    route.listLinks().map((link) => {
      const { name, mac, mtu, up } = link
      const own = addresses.filter(({ index }) => index === link.index).map(formatCidr)
      return [name, { mac, mtu, up, addresses: own, cable: readCable(link) }]
    }),
  )
}

function readRoutes({ route }: Container): LiveRoute[] {
  const names = new Map(route.listLinks().map(({ index, name }) => [index, name]))
  const readOne = ({ dst, gateway, link, protocol }: Route): LiveRoute => ({
    dst: formatCidr(dst),
    ...(gateway && { via: gateway }),
    ...(link !== undefined && { dev: names.get(link) }),
    protocol,
  })
  return ([4, 6] as const).flatMap((family) => route.listRoutes(family).map(readOne))
}

function readSysctls({ netns }: Container, names: readonly string[]): Map<string, string | undefined> {
  if (names.length === 0) return new Map()
  return netns.run(() => new Map(names.map((name) => [name, findSysctl(name.split('/').slice(1))])))
}

/** Attachments whose CHECK fails, also those that were never completed. */
function findProblems({ name, attachments }: Lab, host: Host): Map<string, string> {
  const problems = new Map<string, string>()
  for (const attachment of attachments) {
    try {
      checkNetwork(attachment.config, targetOf(name, attachment), host)
    } catch (error) {
      problems.set(attachment.ifName, messageOf(error))
    }
  }
  return problems
}
