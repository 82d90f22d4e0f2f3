import { hasProgram } from '../../nat/iptables.ts'
import type { Family } from '../../netlink-lib/ip.ts'
import { legacyTableNames } from './iptables.ts'
import type { Place } from './places.ts'

/** Counters of the older iptables: what it drops nobody traces, but it counts. */

export interface Counter {
  readonly program: string
  readonly table: string
  readonly chain: string
  /** The rule, or `policy DROP`. */
  readonly what: string
  readonly packets: number
}

export type LegacyDrop = Counter

/** The counters of all rules and policies that drop or reject. */
export function legacyCounters(place: Place, family: Family): Counter[] {
  const program = family === 4 ? 'iptables-legacy' : 'ip6tables-legacy'
  if (legacyTableNames(place, family).length === 0 || !hasProgram(`${program}-save`)) return []
  const { status, stdout } = place.run(`${program}-save`, ['-c'])
  return status === 0 ? parseCounters(stdout, program) : []
}

function parseCounters(text: string, program: string): Counter[] {
  let table = ''
  return text.split('\n').flatMap((line): Counter[] => {
    table = /^\*(\S+)/.exec(line)?.[1] ?? table
    const [, chain, policyPackets] = /^:(\S+) DROP \[(\d+):/.exec(line) ?? []
    if (chain !== undefined) return [{ program, table, chain, what: 'policy DROP', packets: Number(policyPackets) }]
    const [, packets, rule, of] = /^\[(\d+):\d+\] (-A (\S+) .*-j (?:DROP|REJECT)\b.*)$/.exec(line) ?? []
    return rule === undefined ? [] : [{ program, table, chain: of!, what: rule, packets: Number(packets) }]
  })
}

/** What has been counted in between. */
export function newDrops(before: readonly Counter[], after: readonly Counter[]): LegacyDrop[] {
  const same = (a: Counter, b: Counter) => a.table === b.table && a.chain === b.chain && a.what === b.what
  return after.flatMap((counter) => {
    const packets = counter.packets - (before.find((each) => same(each, counter))?.packets ?? 0)
    return packets > 0 ? [{ ...counter, packets }] : []
  })
}
