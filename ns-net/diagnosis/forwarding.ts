import { contains } from '../../netlink-lib/ip.ts'
import type { Link } from '../../netlink-lib/route/link.ts'
import { inWords } from './findings.ts'
import type { Packet } from './packet.ts'
import type { Place } from './places.ts'
import { forwards, sysctlCommand } from './remedy.ts'
import type { Walk } from './walk.ts'

/** What a router asks of a packet before it looks at any rule: may it be forwarded, may it come from there. */

export function tellForwarding(walk: Walk, place: Place, inLink: Link, { family, destination, reply }: Packet): void {
  const name = family === 4 ? ['ipv4', 'ip_forward'] : ['ipv6', 'conf', 'all', 'forwarding']
  const ofLink = family === 4 ? ['ipv4', 'conf', inLink.name, 'forwarding'] : name
  const value = place.sysctl(...ofLink)
  if (value === '1') {
    walk.findings.ok(
      place,
      inLink,
      'forwarding',
      forwards(place, family) ? `net.${name.join('.')} = 1` : `net.${ofLink.join('.')} = 1`,
    )
    return
  }
  const switchedOff = forwards(place, family) ? ofLink : name
  walk.findings.add(place, inLink, {
    check: 'forwarding',
    finding: `net.${switchedOff.join('.')} = 0`,
    state: 'blocked',
    verdict: `${inWords(place)} forwards nothing: the ${reply ? 'answer' : 'packet'} to ${destination} ends there`,
    fix: sysctlCommand(place, switchedOff, '1'),
  })
}

/**
 * Reverse path filter (net.ipv4.conf.LINK.rp_filter): 1 drops what comes in by another link than the one that answers
 * would leave by, 2 what has no way back at all. The greater one of `all` and the link counts; IPv6 has none.
 */
export function passesReversePath(
  walk: Walk,
  place: Place,
  inLink: Link,
  { family, source, destination }: Packet,
): boolean {
  if (family === 6 || inLink.loopback) return true
  const value = (of: string) => Number(place.sysctl('ipv4', 'conf', of, 'rp_filter') ?? 0)
  const mode = Math.max(value('all'), value(inLink.name))
  if (mode === 0) return true
  const back = place.decide({ destination: source, source: isOwn(place, destination) ? destination : undefined })
  const out = 'refused' in back ? undefined : place.link(back.link)
  if (out && (mode === 2 || out.index === inLink.index)) {
    walk.findings.ok(place, inLink, 'rp_filter', `${mode}, and answers to ${source} leave by ${out.name}`)
    return true
  }
  const finding = out
    ? `1, and answers to ${source} would leave by ${out.name}, not by ${inLink.name}`
    : `${mode}, and there is no route back to ${source}`
  walk.findings.add(place, inLink, {
    check: 'rp_filter',
    finding,
    state: 'blocked',
    verdict: `dropped on ${inWords(place)} by the reverse path filter of ${inLink.name}`,
    fix: out
      ? sysctlCommand(place, ['ipv4', 'conf', inLink.name, 'rp_filter'], '2')
      : place.command(`ip route add ${source} dev ${inLink.name}`),
  })
  return false
}

const isOwn = (place: Place, address: string): boolean => place.addresses.some((each) => each.address === address)

/** Addresses that no router of the internet has a way back to (RFC 1918, RFC 6598, RFC 4193). */
const privateRanges = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7'].map((text) => {
  const [address = '', prefix] = text.split('/')
  return { address, prefix: Number(prefix), family: address.includes(':') ? (6 as const) : (4 as const) }
})

export const isPrivate = (address: string): boolean => privateRanges.some((range) => contains(range, address))
