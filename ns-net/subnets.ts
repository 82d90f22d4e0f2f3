import IPCIDR from 'ip-cidr'
import { formatCidr } from '../netlink-lib/ip.ts'
import type { Host } from '../plugins/contract/host.ts'
import { CliError } from './errors.ts'

/** Address ranges for networks that are not told one, and the refusal of ranges that something else uses. */

/** Which range, and who has it. */
export interface Taken {
  readonly range: string
  readonly by: string
}

export function overlaps(a: string, b: string): boolean {
  if (a.includes(':') !== b.includes(':')) return false
  const [one, other] = [new IPCIDR(a), new IPCIDR(b)]
  return one.contains(other.start<string>()) || other.contains(one.start<string>())
}

/** What the host's routes lead to; default routes lead everywhere and say nothing. */
export function routedRanges(host: Host): Taken[] {
  return ([4, 6] as const)
    .flatMap((family) => host.route.listRoutes(family))
    .filter(({ dst }) => dst.prefix > 0 && !dst.address.startsWith('fe80:'))
    .map(({ dst, link }) => {
      const name = link === undefined ? undefined : host.route.findLink(link)?.name
      return { range: formatCidr(dst), by: `a route of the host${name ? ` by ${name}` : ''}` }
    })
}

/** The first candidate that overlaps nothing. */
export function chooseSubnet(candidates: Iterable<string>, taken: readonly Taken[]): string {
  const tried: string[] = []
  for (const candidate of candidates) {
    if (!taken.some(({ range }) => overlaps(candidate, range))) return candidate
    tried.push(candidate)
  }
  throw new CliError(
    'conflict',
    `no free address range: ${tried[0]} to ${tried.at(-1)} all overlap routes of this host or other networks`,
    'give a range of your own: ns-net net create NAME --subnet CIDR',
  )
}

/** Throws, naming who has it, when a range that was asked for overlaps another one. */
export function refuseOverlap(subnet: string, taken: readonly Taken[]): void {
  const other = taken.find(({ range }) => overlaps(subnet, range))
  if (!other) return
  throw new CliError(
    'conflict',
    `${subnet} overlaps ${other.range}, ${other.by}`,
    'choose another range, or leave --subnet out to have a free one chosen',
  )
}
