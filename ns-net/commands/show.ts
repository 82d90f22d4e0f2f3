import fs from 'node:fs'
import { formatCidr } from '../../netlink-lib/ip.ts'
import { messageOf } from '../../plugins/contract/errors.ts'
import { Host } from '../../plugins/contract/host.ts'
import { toCliError } from '../errors.ts'
import { checkLabName, findLab, type Lab, netnsPath, processesIn } from '../labs.ts'
import { type Report, table } from '../output.ts'
import { checkNetwork } from '../runtime.ts'
import { missing } from './del.ts'

/** Everything about one lab, as the kernel has it now, and whether that is still what ADD made. */
export function show(name: string): Report {
  checkLabName(name)
  const lab = findLab(name)
  if (!lab) throw missing(name)
  using host = new Host()
  try {
    const live = inspect(host, name)
    const json = {
      name,
      netns: netnsPath(name),
      created: lab.created,
      networks: lab.attachments.map(({ config: _, ...rest }) => rest),
      ...live,
      resolvConf: readIfThere(`/etc/netns/${name}/resolv.conf`),
      processes: processesIn(name),
      drift: driftOf(host, lab),
    }
    return { json, text: describe(json) }
  } catch (error) {
    throw toCliError(error, `cannot show "${name}"`)
  }
}

function inspect(host: Host, name: string) {
  using container = host.openContainer(netnsPath(name))
  const links = container.route.listLinks()
  const nameOf = (index: number | undefined) => links.find((link) => link.index === index)?.name
  return {
    links: links.map((link) => ({
      name: link.name,
      kind: link.kind,
      state: link.up ? 'up' : 'down',
      mac: link.mac,
      mtu: link.mtu,
      addresses: container.route.listAddresses(link).map(formatCidr),
      neighbours: container.route.listNeighbours(link).filter(({ mac }) => mac && mac !== '00:00:00:00:00:00'),
    })),
    routes: ([4, 6] as const).flatMap((family) =>
      container.route.listRoutes(family).map(({ dst, gateway, link, source }) => ({
        dst: dst.prefix === 0 ? 'default' : formatCidr(dst),
        gateway,
        link: nameOf(link),
        source,
      })),
    ),
  }
}

/** What CHECK of the network finds missing or different. */
function driftOf(host: Host, { name, attachments }: Lab): string[] {
  const found: string[] = []
  for (const { config, ifName } of attachments) {
    try {
      checkNetwork(config, { containerId: name, netns: netnsPath(name), ifName }, host)
    } catch (error) {
      found.push(messageOf(error))
    }
  }
  return found
}

const readIfThere = (file: string) => (fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : undefined)

interface Shown extends ReturnType<typeof inspect> {
  readonly name: string
  readonly netns: string
  readonly created: string
  readonly networks: readonly { network: string; ifName: string; bridge?: string; hostIf?: string }[]
  readonly resolvConf?: string
  readonly processes: readonly number[]
  readonly drift: readonly string[]
}

function describe(lab: Shown): string {
  const nameservers = [...(lab.resolvConf ?? '').matchAll(/^nameserver\s+(\S+)/gm)].map(([, server]) => server)
  const facts: [string, string][] = [
    ['lab', lab.name],
    ['netns', lab.netns],
    ['created', lab.created],
    ...lab.networks.map(({ network, ifName, bridge, hostIf }): [string, string] => [
      'network',
      `${network} on ${ifName}${bridge ? ` by bridge ${bridge}` : ''}${hostIf ? `, on the host ${hostIf}` : ''}`,
    ]),
    ['dns', nameservers.join(' ') || 'none'],
    ['processes', lab.processes.join(' ') || 'none'],
    ['state', lab.drift.length === 0 ? 'ok' : `drift: ${lab.drift.join('; ')}`],
  ]
  return [
    facts.map(([key, value]) => `${key.padEnd(10)}${value}\n`).join(''),
    table(
      ['LINK', 'STATE', 'MTU', 'MAC', 'ADDRESS'],
      lab.links.map(({ name, state, mtu, mac, addresses }) => [
        name,
        state,
        String(mtu),
        mac ?? '',
        addresses.join(','),
      ]),
    ),
    table(
      ['ROUTE', 'VIA', 'LINK'],
      lab.routes.map(({ dst, gateway, link }) => [dst, gateway ?? '', link ?? '']),
    ),
  ].join('\n')
}
