import { formatPortMapping } from '../port-mappings.ts'
import type { EndEntry, LabDocument, LinkEntry, NetEntry, NetworkEntry, NodeEntry, TestEntry } from './document.ts'

/** A document as a person would have written it: what is the default is left out. */
export function formatLabDocument({ name, networks, nodes, links, tests }: LabDocument): Record<string, unknown> {
  const byName = <T>(map: ReadonlyMap<string, T>, format: (entry: T) => object) =>
    Object.fromEntries([...map].map(([key, entry]) => [key, format(entry)]))
  return {
    lab: name,
    ...(networks.size > 0 && { networks: byName(networks, formatNetwork) }),
    nodes: byName(nodes, formatNode),
    ...(links.length > 0 && { links: links.map(formatLink) }),
    ...(tests.length > 0 && { tests: tests.map(formatTest) }),
  }
}

/** The element of a list that has only one. */
const single = <T>(list: readonly T[]): T | readonly T[] => (list.length === 1 ? list[0]! : list)

function formatNetwork({ name: _, external, conflist, driver, subnets, ipv6, ...rest }: NetworkEntry): object {
  if (external) return { external }
  if (conflist) return { conflist }
  const { internal, isolated, ...texts } = rest
  return {
    ...(driver !== 'bridge' && { driver }),
    ...(subnets.length > 0 && { subnet: single(subnets) }),
    ...(ipv6 && { ipv6: 'auto' }),
    ...(internal && { internal }),
    ...(isolated && { isolated }),
    ...texts,
  }
}

function formatNode({ nets, ports, dns, labels, sysctls, routes, exec }: NodeEntry): object {
  return {
    nets: nets.map(formatNet),
    ...(ports.length > 0 && { ports: ports.map(formatPortMapping) }),
    ...(dns.length > 0 && { dns }),
    ...(Object.keys(labels).length > 0 && { labels }),
    ...(sysctls.size > 0 && { sysctls: Object.fromEntries([...sysctls].map(([key, value]) => [dotted(key), value])) }),
    ...(routes.length > 0 && { routes }),
    ...(exec.length > 0 && { exec }),
  }
}

/** As sysctl(8) writes it: dots, unless a part has one itself. */
export const dotted = (name: string): string => (name.includes('.') ? name : name.replaceAll('/', '.'))

function formatNet({ network, ifName, hostIf, ips, mac, mtu, internal, ports, shape }: NetEntry): object {
  return {
    name: network,
    if: ifName,
    ...(hostIf && { 'host-if': hostIf }),
    ...(ips.length > 0 && { ip: single(ips) }),
    ...(mac && { mac }),
    ...(mtu && { mtu }),
    ...(internal && { internal }),
    ...(ports.length > 0 && { ports: ports.map(formatPortMapping) }),
    ...(shape && { shape }),
  }
}

export const formatEnd = ({ place, ifName }: Pick<EndEntry, 'place' | 'ifName'>): string => `${place}:${ifName}`

function formatLink({ a, b, mtu, up, shape }: LinkEntry): object {
  return {
    a: formatEnd(a),
    b: formatEnd(b),
    ...([a, b].some(({ addresses }) => addresses.length > 0) && {
      addr: [a, b].map(({ addresses }) => (addresses.length === 0 ? null : single(addresses))),
    }),
    ...((a.mac ?? b.mac) && { mac: [a.mac ?? null, b.mac ?? null] }),
    ...(mtu && { mtu }),
    ...(!up && { up }),
    ...(shape && { shape }),
  }
}

const formatTest = ({ from, to, expect }: TestEntry): object => ({ from, to, ...(expect === 'fail' && { expect }) })
