import { type Cidr, contains, familyOf, parseCidr } from '../../netlink-lib/ip.ts'
import { formatPortMapping, type PortMapping } from '../port-mappings.ts'
import { overlaps } from '../subnets.ts'
import type { LabDocument, NetEntry, NetworkEntry, NodeEntry } from './document.ts'
import type { Mistakes } from './mistakes.ts'

/** What is wrong although every entry by itself is right: two that want the same, or one that cannot have it there. */
export function checkConsistency(document: LabDocument, mistakes: Mistakes): void {
  checkSubnets(document, mistakes)
  checkInterfaces(document, mistakes)
  checkAddresses(document, mistakes)
  checkPorts(document, mistakes)
}

function checkSubnets({ networks }: LabDocument, mistakes: Mistakes): void {
  const seen: { name: string; subnet: string }[] = []
  for (const { name, subnets } of networks.values())
    for (const subnet of subnets) {
      const other = seen.find((each) => overlaps(each.subnet, subnet))
      if (other) mistakes.add(`networks.${name}.subnet`, `${subnet} overlaps ${other.subnet} of "${other.name}"`)
      seen.push({ name, subnet })
    }
}

/** Runs `work` for every network entry of every node. */
function forEachNet(document: LabDocument, work: (net: NetEntry, path: string, node: NodeEntry) => void): void {
  for (const node of document.nodes.values())
    for (const [i, net] of node.nets.entries()) work(net, `nodes.${node.name}.nets[${i}]`, node)
}

function checkInterfaces(document: LabDocument, mistakes: Mistakes): void {
  const users = new Map<string, string>()
  const claim = (place: string, ifName: string, path: string) => {
    const other = users.get(`${place}:${ifName}`)
    if (other) mistakes.add(path, `${place}:${ifName} is taken by ${other}`)
    else users.set(`${place}:${ifName}`, path)
  }
  for (const [i, { a, b }] of document.links.entries()) {
    claim(a.place, a.ifName, `links[${i}].a`)
    claim(b.place, b.ifName, `links[${i}].b`)
  }
  const attached = new Map<string, string>()
  forEachNet(document, ({ network, ifName }, path, { name }) => {
    claim(name, ifName, path)
    const other = attached.get(`${name} ${network}`)
    if (other) mistakes.add(path, `"${name}" is attached to "${network}" twice, also by ${other}`)
    attached.set(`${name} ${network}`, path)
  })
}

/** What is known of a network that the file does not describe: nothing. */
const isDescribed = (entry: NetworkEntry | undefined): entry is NetworkEntry =>
  entry !== undefined && !entry.external && !entry.conflist

function checkAddresses(document: LabDocument, mistakes: Mistakes): void {
  const holders = new Map<string, string>()
  forEachNet(document, ({ network, ips }, path) => {
    const entry = document.networks.get(network)
    if (new Set(ips.map(familyOf)).size < ips.length)
      mistakes.add(`${path}.ip`, 'expected one address of each family at most')
    for (const ip of ips) {
      const other = holders.get(`${network} ${ip}`)
      if (other) mistakes.add(`${path}.ip`, `${ip} is taken by ${other}`)
      holders.set(`${network} ${ip}`, path)
      if (isDescribed(entry)) checkAddress(entry, ip, path, mistakes)
    }
  })
}

function checkAddress({ name, driver, subnets, gateway }: NetworkEntry, ip: string, path: string, mistakes: Mistakes) {
  if (driver === 'l2') mistakes.add(`${path}.ip`, `network "${name}" has driver l2 and gives no addresses`)
  const own = subnets.map((subnet) => parseCidr(subnet) as Cidr).find(({ family }) => family === familyOf(ip))
  if (own && !contains(own, ip)) mistakes.add(`${path}.ip`, `${ip} is not in ${own.address}/${own.prefix} of "${name}"`)
  if (ip === gateway) mistakes.add(`${path}.ip`, `${ip} is the gateway of "${name}"`)
}

const cannotPublish = (entry: NetworkEntry | undefined): boolean =>
  isDescribed(entry) && (entry.driver === 'l2' || entry.driver === 'macvlan')

function checkPorts(document: LabDocument, mistakes: Mistakes): void {
  const holders = new Map<string, string>()
  const claim = (ports: readonly PortMapping[], path: string) => {
    for (const { hostIP = '', hostPort, protocol } of ports) {
      const key = `${hostIP} ${hostPort}/${protocol}`
      const other = holders.get(key)
      if (other) mistakes.add(path, `port ${hostPort}/${protocol} of the host is taken by ${other}`)
      else holders.set(key, path)
    }
  }
  for (const { name, nets, ports } of document.nodes.values()) {
    if (ports.length > 0 && nets.every(({ network }) => cannotPublish(document.networks.get(network))))
      mistakes.add(
        `nodes.${name}.ports`,
        `"${name}" is attached to no network that can publish ${formatPortMapping(ports[0]!)}`,
      )
    claim(ports, `nodes.${name}.ports`)
  }
  forEachNet(document, ({ network, ports }, path) => {
    if (ports.length > 0 && cannotPublish(document.networks.get(network)))
      mistakes.add(`${path}.ports`, `network "${network}" publishes no ports`)
    claim(ports, `${path}.ports`)
  })
}
