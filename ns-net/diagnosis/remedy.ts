import { hasProgram } from '../../nat/iptables.ts'
import { type Cidr, contains, type Family, formatCidr, networkOf } from '../../netlink-lib/ip.ts'
import type { Link } from '../../netlink-lib/route/link.ts'
import type { Found } from './findings.ts'
import type { Gate, Hook } from './firewall.ts'
import type { Moment } from './packet.ts'
import type { Place, World } from './places.ts'
import { labIn, restoration } from './records.ts'
import { segmentOf } from './segment.ts'
import type { Walk } from './walk.ts'

/** Commands that remove what keeps a packet from its way: each can be pasted into a shell. */

/** nft(8) takes plain names as they are, and words of its own only in quotes. */
const forNft = (name: string): string => (/^[a-zA-Z](?=.*[\d-])[\w.-]*$/.test(name) ? name : `'"${name}"'`)

const interfaces: Readonly<Record<Hook, readonly ('inLink' | 'outLink')[]>> = {
  prerouting: ['inLink'],
  input: ['inLink'],
  forward: ['inLink', 'outLink'],
  output: ['outLink'],
  postrouting: ['outLink'],
}

/** Lets packets like this one through a gate, from the same link to the same link. */
export function acceptCommand(gate: Gate, hook: Hook, moment: Moment, place: Place): string | undefined {
  const { packet } = moment
  const links = interfaces[hook].flatMap((which) => (moment[which] ? [[which, moment[which].name] as const] : []))
  const service = hook === 'forward' ? undefined : packet.destinationPort
  if (gate.origin.of === 'nft') {
    const { table, name } = gate.origin.chain
    if (table.family === 'netdev' || table.family === 'bridge') return undefined
    const matches = [
      ...links.map(([which, link]) => `${which === 'inLink' ? 'iifname' : 'oifname'} ${forNft(link)}`),
      ...(packet.reply ? ['ct state established,related'] : []),
      ...(service === undefined || packet.reply ? [] : [`${packet.protocol} dport ${service}`]),
    ]
    return place.command(`nft insert rule ${table.family} ${table.name} ${name} ${matches.join(' ')} accept`)
  }
  const { table, chain } = gate.origin
  const words = [
    ...(table.name === 'filter' ? [] : ['-t', table.name]),
    '-I',
    userChainOf(gate) ?? chain,
    ...links.flatMap(([which, link]) => [which === 'inLink' ? '-i' : '-o', link]),
    ...(service === undefined || packet.reply ? [] : ['-p', packet.protocol, '--dport', String(service)]),
    ...(packet.reply ? ['-m', 'conntrack', '--ctstate', 'RELATED,ESTABLISHED'] : []),
    '-j',
    'ACCEPT',
  ]
  return place.command([table.program, ...words].join(' '))
}

/** Docker puts its own rules first, whenever it starts; what an administrator adds survives in DOCKER-USER only. */
function userChainOf({ origin }: Gate): string | undefined {
  if (origin.of !== 'iptables' || origin.chain !== 'FORWARD' || origin.table.name !== 'filter') return undefined
  const [first] = origin.table.chains.get('FORWARD') ?? []
  return first?.text.endsWith('-j DOCKER-USER') ? 'DOCKER-USER' : undefined
}

/** Brings a link up, with the routes that it lost when it went down. */
export function raiseCommand(world: World, place: Place, link: Link): string {
  const lab = labIn(place)
  const attachment = lab?.attachments.find(({ ifName }) => ifName === link.name)
  const recorded = lab && attachment ? restoration(place, lab, attachment) : []
  if (recorded.length > 0) return recorded.join(' && ')
  const raise = place.command(`ip link set ${link.name} up`)
  const families = [
    ...new Set(
      place
        .addressesOf(link)
        .filter(isGlobal)
        .map(({ family }) => family),
    ),
  ]
  const lost = families.flatMap((family) => {
    const hasDefault = place.route.listRoutes(family).some(({ dst }) => dst.prefix === 0)
    const gateway = hasDefault ? undefined : gatewayFor(world, place, family, link)?.address
    return gateway ? [place.command(`ip route add default via ${gateway}`)] : []
  })
  return [raise, ...lost].join(' && ')
}

const isGlobal = ({ scope }: { readonly scope: number }): boolean => scope === 0 // RT_SCOPE_UNIVERSE

/** Somebody next door who forwards, and has an address in a subnet of ours: first of all the host. */
export function gatewayFor(
  world: World,
  place: Place,
  family: Family,
  only?: Link,
): { readonly address: string; readonly link: Link } | undefined {
  const own = place.addresses.filter((address) => address.family === family && isGlobal(address))
  const candidates = own.flatMap((address) => {
    const link = place.link(address.index)
    if (!link || link.loopback || (only && only.index !== link.index)) return []
    return segmentOf(world, { place, link })
      .stations.filter(({ end }) => forwards(end.place, family))
      .flatMap(({ end }) =>
        end.place
          .addressesOf(end.link)
          .filter((other) => isInside(address, other.address))
          .map((other) => ({ address: other.address, link, isHost: end.place.isHost })),
      )
  })
  return candidates.find(({ isHost }) => isHost) ?? candidates[0]
}

const isInside = (range: Cidr, address: string): boolean => range.address !== address && contains(range, address)

export const forwards = (place: Place, family: Family): boolean =>
  place.sysctl(...(family === 4 ? ['ipv4', 'ip_forward'] : ['ipv6', 'conf', 'all', 'forwarding'])) === '1'

/** A route back to where a packet came from: the default one for a lab that has none, else one for the subnet. */
export function routeCommand(world: World, place: Place, towards: Cidr): string | undefined {
  const { family } = towards
  const gateway = gatewayFor(world, place, family)
  if (!gateway) return undefined
  const hasDefault = place.route.listRoutes(family).some(({ dst }) => dst.prefix === 0)
  const destination = hasDefault || place.isHost ? formatCidr(networkOf(towards)) : 'default'
  return place.command(`ip ${family === 6 ? '-6 ' : ''}route add ${destination} via ${gateway.address}`)
}

/** sysctl(8) takes slashes too, which leave the dots in a link's name alone. */
export function sysctlCommand(place: Place, name: readonly string[], value: string): string {
  const separator = name.some((part) => part.includes('.')) ? '/' : '.'
  return place.command(`sysctl -w ${['net', ...name].join(separator)}=${value}`)
}

/** Lets everything from the subnet leave by this link under the host's own address. */
export function masqueradeCommand(place: Place, subnet: Cidr, out: Link): string {
  const range = formatCidr(networkOf(subnet))
  const { family } = subnet
  const program = family === 4 ? 'iptables' : 'ip6tables'
  if (hasProgram(program))
    return place.command(`${program} -t nat -A POSTROUTING -s ${range} -o ${out.name} -j MASQUERADE`)
  const layer = family === 4 ? 'ip' : 'ip6'
  const rules = `add table inet nat; add chain inet nat postrouting { type nat hook postrouting priority srcnat; }; add rule inet nat postrouting ${layer} saddr ${range} oifname "${out.name}" masquerade`
  return place.command(`nft '${rules}'`)
}

/** Where a lab's network misses rules of its own, putting them back comes first. */
export function remedies(walk: Walk, command: string | undefined, place: Place): Pick<Found, 'fix' | 'alternative'> {
  if (place.isHost && walk.hasDrift) return { fix: 'ns-net reload', ...(command && { alternative: command }) }
  return command === undefined ? {} : { fix: command }
}
