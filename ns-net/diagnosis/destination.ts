import { canonicalIp, contains, familyOf, parseCidr } from '../../netlink-lib/ip.ts'
import { CliError } from '../errors.ts'
import type { Protocol } from './packet.ts'
import type { Place, World } from './places.ts'
import { labIn } from './records.ts'

/** Where a packet is to go: `web`, `web:80`, `10.88.0.3`, `10.88.0.3:53/udp`, `[2001:db8::1]:443`, `host:22`. */
export interface Destination {
  readonly address: string
  readonly protocol: Protocol
  readonly port?: number
  /** Whose address it is, when it was called by its name. */
  readonly place?: Place
}

interface Parts {
  readonly host: string
  readonly port?: number
  readonly protocol: Protocol
}

function split(text: string): Parts {
  const [, rest = '', suffix] = /^(.*?)(?:\/(tcp|udp))?$/.exec(text) ?? []
  const found = /^\[([^\]]+)\](?::(\d+))?$/.exec(rest) ?? (canonicalIp(rest) ? [rest, rest] : withPort(rest))
  const [, host = '', digits] = found
  const port = digits === undefined ? undefined : Number(digits)
  if (port !== undefined && (port < 1 || port > 65535)) bad(text, 'a port is a number from 1 to 65535')
  if (suffix && port === undefined) bad(text, `/${suffix} needs a port: ${rest}:53/${suffix}`)
  return {
    host,
    ...(port !== undefined && { port }),
    protocol: port === undefined ? 'icmp' : suffix === 'udp' ? 'udp' : 'tcp',
  }
}

/** `pid:1` has a colon of its own. */
const withPort = (text: string): readonly (string | undefined)[] =>
  /^(pid:\d+|path:[^:]+|[^:]+)(?::(\d+))?$/.exec(text) ??
  bad(text, 'expected NAME, NAME:PORT, ADDRESS, ADDRESS:PORT or [IPV6]:PORT')

function bad(text: string, hint: string): never {
  throw new CliError('usage', `bad destination "${text}"`, hint)
}

export function parseDestination(text: string, world: World, from: Place): Destination {
  const { host, ...rest } = split(text)
  const address = canonicalIp(host)
  if (address) return { address, ...rest }
  if (/^\d+(\.\d+){1,3}$/.test(host)) bad(text, 'an IPv4 address has four numbers from 0 to 255')
  const place = world.open(host)
  const chosen = addressTowards(place, from)
  if (!chosen) throw new CliError('negative', `"${host}" has no address`, `ns-net why ${host} ${from.label} tells why`)
  return { address: chosen, ...rest, place }
}

/** The address of a place that is nearest to another: in a subnet of both, of the same family. */
export function addressTowards(place: Place, from: Place): string | undefined {
  const recorded = (labIn(place)?.attachments ?? []).flatMap(({ addresses }) => addresses)
  const present = place.addresses.filter(({ scope, index }) => scope === 0 && !place.link(index)?.loopback)
  const all = [...recorded.map((text) => parseCidr(text)?.address ?? ''), ...present.map(({ address }) => address)]
  const own = from.addresses.filter(({ scope }) => scope === 0)
  const isNear = (address: string) => own.some((range) => contains(range, address))
  const isUsable = (address: string) => own.length === 0 || own.some(({ family }) => family === familyOf(address))
  return all.find(isNear) ?? all.find(isUsable) ?? all[0]
}
