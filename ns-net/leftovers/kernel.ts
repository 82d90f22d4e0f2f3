import fs from 'node:fs'
import type { Attachment } from '../../config/attachment.ts'
import { networkMark } from '../../nat/mark.ts'
import { listSources } from '../../nat/masquerade-state.ts'
import { listHeld } from '../../nat/port-forward-state.ts'
import type { TableRef } from '../../netlink-lib/nftables/commands.ts'
import type { Link } from '../../netlink-lib/route/link.ts'
import { type Host, isOurBridge } from '../../plugins/contract/host.ts'
import { collectNetwork } from '../runtime.ts'
import { clearGoneShapes, lossyLinks } from '../shaping.ts'
import type { Leftover } from './leftover.ts'
import { type Owners, ownerOf } from './owners.ts'

/** Links, bridges and rules with our mark that nobody owns any more. */

export function findKernelLeftovers(
  links: readonly Link[],
  owners: Owners,
  networks: ReadonlySet<string>,
  host: Host,
): Leftover[] {
  return [
    ...findLinks(links, owners, host),
    ...findBridges(links, owners, host),
    ...findRules(owners, networks, host),
    ...findChains(links, owners, host),
    ...findShapes(links, host),
  ]
}

function findLinks(links: readonly Link[], owners: Owners, host: Host): Leftover[] {
  return links.flatMap((link) => {
    const owner = ownerOf(link)
    if (!owner || (link.kind !== 'veth' && link.kind !== 'ifb') || owners.has(owner)) return []
    return [
      {
        kind: 'link',
        name: link.name,
        why: `${owner.containerId} on network ${owner.network} is gone`,
        remove: () => host.route.deleteLink(link.index),
      } as const,
    ]
  })
}

function findBridges(links: readonly Link[], { living }: Owners, host: Host): Leftover[] {
  const used = new Set(living.map(({ network }) => network))
  return links.flatMap((link) => {
    const network = /^ns-net:([^:]+)$/.exec(link.alias ?? '')?.[1] ?? ''
    if (!isOurBridge(link, network) || used.has(network)) return []
    if (links.some(({ master }) => master === link.index)) return []
    const why = network === '' ? 'it has no port' : `it has no port, and nobody is attached to network ${network}`
    return [{ kind: 'bridge', name: link.name, why, remove: () => host.route.deleteLink(link.index) } as const]
  })
}

/** Marks of rules and of users of rules are `NETWORK CONTAINER INTERFACE`, perhaps with the plugin's name behind them. */
function findRules(owners: Owners, networks: ReadonlySet<string>, host: Host): Leftover[] {
  const { netfilter } = host
  const marks = new Set([
    ...listSources(netfilter).map(({ mark }) => mark),
    ...listHeld(netfilter).map(({ mark }) => mark),
    ...usersBelow('/run/ns-net/nat'),
    ...filesBelow('/run/ns-net/nat/ports/attachments'),
    ...usersBelow('/run/ns-net/firewall').map((user) => user.slice(0, user.lastIndexOf(' '))),
  ])
  const dead = [...marks].filter((mark) => isMark(mark) && !owners.hasMark(mark))
  const byNetwork = new Map([...networks].map((network) => [networkMark(network).trim(), network]))
  const collectors = new Map<string, () => void>()
  return dead.flatMap((mark) => {
    const [word = '', container, ifName] = mark.split(' ')
    // A name that was too long for a mark is only known when somebody else tells it.
    const network = word.includes('~') ? byNetwork.get(word) : word
    if (network === undefined) return []
    const remove = collectors.get(network) ?? (() => collectNetwork(network, livingOn(network, owners), host))
    collectors.set(network, remove)
    return [{ kind: 'rules', name: mark, why: `${container} ${ifName} on network ${network} is gone`, remove } as const]
  })
}

const isMark = (text: string): boolean => /^\S+ \S+ \S+$/.test(text)

const livingOn = (network: string, { living }: Owners): Attachment[] =>
  living.filter((attachment) => attachment.network === network)

const filesBelow = (directory: string): string[] => (fs.existsSync(directory) ? fs.readdirSync(directory) : [])

/** `ROOT/network-NAME/PART.v4/USER`, see nat/users.ts. */
const usersBelow = (root: string): string[] =>
  filesBelow(root)
    .filter((name) => name.startsWith('network-'))
    .flatMap((network) => filesBelow(`${root}/${network}`).flatMap((part) => filesBelow(`${root}/${network}/${part}`)))

/** Rules against other MACs (plugin bridge). */
const spoofing: TableRef = { family: 'netdev', name: 'ns-net' }

/** Since Linux 6.16 a chain stays when its link goes. GC of any network removes those. */
function findChains(links: readonly Link[], owners: Owners, host: Host): Leftover[] {
  const names = new Set(links.map(({ name }) => name))
  return host.netfilter.listChains(spoofing).flatMap(({ name }) => {
    if (name === undefined || names.has(name)) return []
    const remove = () => collectNetwork('none', livingOn('none', owners), host)
    return [{ kind: 'chain', name: `netdev ns-net ${name}`, why: 'its link is gone', remove } as const]
  })
}

function findShapes(links: readonly Link[], host: Host): Leftover[] {
  const names = new Set(links.map(({ name }) => name))
  return lossyLinks(host)
    .filter((name) => !names.has(name))
    .map((name) => ({
      kind: 'chain',
      name: `netdev ns-net-shape ${name}`,
      why: 'its link is gone',
      remove: () => clearGoneShapes(host),
    }))
}
