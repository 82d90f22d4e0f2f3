import { canonicalIp } from '../netlink-lib/ip.ts'
import { CliError } from './errors.ts'

/** A published port, as the capability `portMappings` has it (CNI conventions). */
export interface PortMapping {
  readonly hostPort: number
  readonly containerPort: number
  readonly protocol: 'tcp' | 'udp' | 'sctp'
  readonly hostIP?: string
}

/**
 * `[HOSTIP:]HOSTPORT:PORT[/PROTOCOL]` or `PORT` for the same on both sides, ranges as `8000-8010:80-90`, an IPv6 host
 * address in brackets.
 */
export function parsePortMappings(text: string): PortMapping[] {
  const match = /^(?:(\[[^\]]+\]|[\w-]*\.[\w.-]+):)?(?:(\d+(?:-\d+)?):)?(\d+(?:-\d+)?)(?:\/(\w+))?$/.exec(text)
  const fail = (why: string): never => {
    throw new CliError('usage', `port "${text}": ${why}`, 'expected [HOSTIP:]HOSTPORT:PORT[/tcp|udp|sctp], as 8080:80')
  }
  if (!match) return fail('not understood')
  const [, address, outside, inside = '', protocol = 'tcp'] = match
  if (protocol !== 'tcp' && protocol !== 'udp' && protocol !== 'sctp') return fail(`unknown protocol "${protocol}"`)
  const hostIP = address && (canonicalIp(address.replace(/[[\]]/g, '')) ?? fail(`"${address}" is no IP address`))
  const [hostPorts, ports] = [rangeOf(outside ?? inside, fail), rangeOf(inside, fail)]
  if (hostPorts.length !== ports.length) fail(`${hostPorts.length} host ports cannot lead to ${ports.length} ports`)
  return hostPorts.map((hostPort, i) => ({ hostPort, containerPort: ports[i]!, protocol, ...(hostIP && { hostIP }) }))
}

function rangeOf(text: string, fail: (why: string) => never): number[] {
  const [first = 0, last = first] = text.split('-').map(Number)
  if (first < 1 || last > 65535 || last < first) fail(`"${text}" is no port or range of ports`)
  return Array.from({ length: last - first + 1 }, (_, i) => first + i)
}

/** As {@link parsePortMappings} reads it. */
export function formatPortMapping({ hostPort, containerPort, protocol, hostIP }: PortMapping): string {
  const address = hostIP ? `${hostIP.includes(':') ? `[${hostIP}]` : hostIP}:` : ''
  return `${address}${hostPort}:${containerPort}${protocol === 'tcp' ? '' : `/${protocol}`}`
}

/** As a table shows it. */
export const showPortMapping = ({ hostPort, containerPort, protocol, hostIP }: PortMapping): string =>
  `${hostIP ? `${hostIP.includes(':') ? `[${hostIP}]` : hostIP}:` : ''}${hostPort}->${containerPort}/${protocol}`
