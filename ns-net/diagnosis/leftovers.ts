import fs from 'node:fs'
import type { Attachment } from '../../config/attachment.ts'
import { ownerMark } from '../../nat/mark.ts'
import { mapOf } from '../../nat/masquerade-rules.ts'
import { listSources } from '../../nat/masquerade-state.ts'
import { listAttachments } from '../../nat/port-claims.ts'
import { table } from '../../nat/table.ts'
import { formatIp } from '../../netlink-lib/ip.ts'
import { Netns } from '../../netlink-lib/netns.ts'
import { NetfilterSocket } from '../../netlink-lib/nftables/netfilter-socket.ts'
import type { Link } from '../../netlink-lib/route/link.ts'
import { hostLinkName } from '../../plugins/contract/host.ts'
import { targetOf } from '../attachments.ts'
import { listLabs } from '../labs.ts'
import { type CachedAttachment, listCache } from '../result-cache.ts'
import { type Check, isRoot, ok, unknown } from './checkup.ts'
import type { World } from './places.ts'

/**
 * What carries our mark and belongs to nobody: neither to a lab nor to an attachment in libcni's cache whose namespace
 * still exists. A process that was killed leaves it, or a machine that lost its files.
 */

const check = 'leftovers'

export function checkLeftovers(world: World): Check[] {
  if (!isRoot()) return [unknown(check, 'only root may look')]
  const cached = listCache()
  const dead = cached.filter((each) => !isAlive(each) && !isLab(each))
  const living = owners(cached)
  const found = [
    ...dead.map(deadAttachment),
    ...links(world, living),
    ...translations(living),
    ...users('nat', living),
    ...users('firewall', living),
    ...ports(living),
    ...leases(living),
  ]
  return found.length > 0 ? found : [ok(check, 'none')]
}

function isAlive({ target }: CachedAttachment): boolean {
  using netns = target.netns === '' ? undefined : Netns.find(target.netns)
  return netns !== undefined
}

const isLab = ({ target }: CachedAttachment): boolean => listLabs().some(({ name }) => name === target.containerId)

interface Living {
  readonly attachments: readonly Attachment[]
  readonly marks: ReadonlySet<string>
  readonly containers: ReadonlySet<string>
}

/** Those whose namespace is gone as well: what is left of them goes with the remedy that is told for the whole. */
function owners(cached: readonly CachedAttachment[]): Living {
  const ofLabs = listLabs().flatMap(({ name, attachments }) =>
    attachments.map((attachment) => ({ network: attachment.network, ...targetOf(name, attachment) })),
  )
  const ofCache = cached.map(({ list, target }) => ({ network: list.name, ...target }))
  const attachments = [...ofLabs, ...ofCache].map(({ network, containerId, ifName }) => ({
    network,
    containerId,
    ifName,
  }))
  return {
    attachments,
    marks: new Set(attachments.map(ownerMark)),
    containers: new Set(attachments.map(({ network, containerId }) => `${network} ${containerId}`)),
  }
}

const warn = (finding: string, fix: string): Check => ({ check, state: 'warn', finding, fix })

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`

/** The executables stand beside this one. */
const plugins = (): string => process.execPath.slice(0, process.execPath.lastIndexOf('/'))

/** DEL needs nothing but the three names. */
function deletion(type: string, { network, containerId, ifName }: Attachment, conf: object = {}): string {
  const document = JSON.stringify({ ...conf, cniVersion: '1.0.0', name: network, type })
  const environment = `CNI_COMMAND=DEL CNI_CONTAINERID=${quoted(containerId)} CNI_IFNAME=${ifName} CNI_PATH=${plugins()}`
  return `echo ${quoted(document)} | ${environment} ${plugins()}/${type}`
}

/** The namespace is gone and nobody has called DEL. */
function deadAttachment({ list, target: { containerId, ifName } }: CachedAttachment): Check {
  const attachment = { network: list.name, containerId, ifName }
  const steps = list.plugins
    .toReversed()
    .filter(({ type }) => fs.existsSync(`${plugins()}/${type}`))
    .map(({ type, ...conf }) => deletion(type, attachment, conf))
  const file = `/var/lib/cni/results/${list.name}-${containerId}-${ifName}`
  return warn(
    `attachment of ${containerId} to network ${list.name}: its namespace is gone`,
    [...steps, `rm -f ${quoted(file)}`].join(' && '),
  )
}

/** Host ends of veths, and bridges that we made for a network of which nothing else is left. */
function links({ host }: World, { attachments }: Living): Check[] {
  const names = new Set(attachments.map(hostLinkName))
  const networks = new Set(attachments.map(({ network }) => network))
  const marks = ({ alias = '' }: Link) => /^ns-net:([^:]*)(?::([^:]*))?/.exec(alias)?.slice(1) ?? []
  const isStale = (link: Link) =>
    link.kind === 'veth' &&
    /^veth[0-9a-f]{11}$/.test(link.name) &&
    marks(link)[1] !== undefined &&
    !names.has(link.name)
  const veths = host.links.filter(isStale).map((link) => {
    const [network, container] = marks(link)
    return warn(`link ${link.name} of ${container} in network ${network}`, `ip link del ${link.name}`)
  })
  const bridges = host.links
    .filter(({ kind }) => kind === 'bridge')
    .filter((bridge) => marks(bridge)[0] !== undefined && !networks.has(marks(bridge)[0]!))
    .filter(({ index }) => host.links.filter(({ master }) => master === index).every(isStale))
    .map((bridge) => warn(`bridge ${bridge.name} of network ${marks(bridge)[0]}`, `ip link del ${bridge.name}`))
  return [...veths, ...bridges]
}

/** Addresses in the maps of table inet ns-net. */
function translations({ marks }: Living): Check[] {
  using netfilter = new NetfilterSocket()
  return listSources(netfilter)
    .filter(({ mark }) => !marks.has(mark))
    .map(({ family, key, mark }) => {
      const element = `${table.family} ${table.name} ${mapOf(family)} '{ ${formatIp(key)} }'`
      return warn(`translation of ${formatIp(key)} for ${mark}`, `nft delete element ${element}`)
    })
}

/**
 * Files that say who uses rules: `/run/ns-net/nat/network-lab/NS-NET-….v4/lab c1 eth0`. Below `firewall` the name ends
 * in the plugin that asked for them: `lab c1 eth0 nat`.
 */
function users(feature: 'nat' | 'firewall', { marks }: Living): Check[] {
  const root = `/run/ns-net/${feature}`
  const marksOf = (folder: string) => namesIn(folder).flatMap((chain) => namesIn(`${folder}/${chain}`))
  const ownerOf = (user: string) => (feature === 'nat' ? user : user.slice(0, user.lastIndexOf(' ')))
  const stale = namesIn(root)
    .filter((name) => name.startsWith('network-'))
    .flatMap((name) => marksOf(`${root}/${name}`))
    .filter((user) => !marks.has(ownerOf(user)))
  return [...new Set(stale)].map((user) => {
    const plugin = feature === 'nat' ? feature : user.slice(user.lastIndexOf(' ') + 1)
    return warn(`rules of ${feature} for ${ownerOf(user)}`, deletion(plugin, attachmentOf(user)))
  })
}

const ports = ({ marks }: Living): Check[] =>
  listAttachments('/run/ns-net/nat')
    .filter((mark) => !marks.has(mark))
    .map((mark) => warn(`published ports of ${mark}`, deletion('portmap', attachmentOf(mark))))

function attachmentOf(mark: string): Attachment {
  const [network = '', containerId = '', ifName = ''] = mark.split(' ')
  return { network, containerId, ifName }
}

/** Leases of our own host-local, which keeps an index beside them. */
function leases({ containers }: Living): Check[] {
  const root = '/var/lib/cni/networks'
  return namesIn(`${root}/.ns-net`).flatMap((network) =>
    namesIn(`${root}/${network}`)
      .filter((name) => /^[0-9a-f:][0-9a-f:.]*$/.test(name))
      .flatMap((address) => {
        const file = `${root}/${network}/${address}`
        const [holder = ''] = fs.readFileSync(file, 'utf8').trim().split('\r\n')
        if (containers.has(`${network} ${holder}`)) return []
        return [warn(`lease of ${address} for ${holder} in network ${network}`, `rm ${quoted(file)}`)]
      }),
  )
}

function namesIn(folder: string): string[] {
  try {
    return fs.readdirSync(folder)
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as { code?: string }).code ?? '')) return []
    throw error
  }
}
