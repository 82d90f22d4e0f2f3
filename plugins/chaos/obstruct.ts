import { isKernelError } from '../../netlink-lib/errors.ts'
import { cidr, familyOf } from '../../netlink-lib/ip.ts'
import {
  appendRule,
  createChain,
  createTable,
  deleteChain,
  deleteRule,
  deleteTable,
  type TableRef,
} from '../../netlink-lib/nftables/commands.ts'
import { cmpOps, metaKeys, registers } from '../../netlink-lib/nftables/expressions.ts'
import type { NetfilterSocket } from '../../netlink-lib/nftables/netfilter-socket.ts'
import { addressIn, byChance, type Expression, saysTheSame, verdict } from '../../netlink-lib/nftables/statements.ts'
import type { Host } from '../contract/host.ts'

/*
 * Links of pods made worse: on the host's end of each, in one chain,
 *
 *   table netdev ns-net-chaos {
 *     chain vethab12… { type filter hook ingress device vethab12… priority -10; numgen random mod 1000 < 50 drop; ip daddr 10.7.0.9 drop }
 *   }
 *
 * which meets what the pod sends before any bridge or route does. A rate is a token bucket on the same end.
 */
const table: TableRef = { family: 'netdev', name: 'ns-net-chaos' }

export interface Obstruction {
  /** Percent of the packets that the pod sends. */
  readonly loss: number
  /** Bits per second of what the pod receives; 0 is no limit. */
  readonly rate: number
  /** Addresses that the pod can no longer send to. */
  readonly unreachable: readonly string[]
}

export function obstruct(host: Host, link: string, { loss, rate, unreachable }: Obstruction): void {
  if (rate > 0) {
    const bytes = Math.max(1, Math.floor(rate / 8))
    const burst = Math.max(3000, Math.floor(bytes / 100))
    host.route.createBucket(host.route.getLink(link), { rate: bytes, burst, limit: burst + Math.floor(bytes / 20) })
  }
  const rules: Expression[][] = []
  if (loss > 0) rules.push([...byChance(loss * 10), verdict('drop')])
  rules.push(...unreachable.map(refusal))
  if (rules.length > 0) append(host.netfilter, link, rules)
}

/** `ip daddr 10.7.0.9 drop`. */
const refusal = (address: string): Expression[] => [...isTo(address), verdict('drop')]

/**
 * `ip daddr 10.7.0.9`. At the ingress of a link no packet has a family yet, so the frame's EtherType is asked for in the
 * place of it.
 */
function isTo(address: string): Expression[] {
  const family = familyOf(address)
  const [, , ...match] = addressIn('daddr', cidr(`${address}/${family === 4 ? 32 : 128}`))
  const etherType = Buffer.from(family === 4 ? [0x08, 0x00] : [0x86, 0xdd])
  return [
    { meta: { key: metaKeys.protocol, dreg: registers.r1 } },
    { cmp: { sreg: registers.r1, op: cmpOps.eq, data: { value: etherType } } },
    ...match,
  ]
}

function append(netfilter: NetfilterSocket, link: string, rules: readonly Expression[][]): void {
  for (let attempt = 0; ; attempt++) {
    const commands = rules.map((rule) => appendRule(table, link, rule))
    if (!netfilter.findChain(table, link))
      commands.unshift(createChain(table, link, { type: 'filter', number: 0, priority: -10, device: link }))
    if (!netfilter.findTable(table)) commands.unshift(createTable(table, 'made by ns-net'))
    try {
      netfilter.transaction(commands)
      return
    } catch (error) {
      if (attempt === 8 || !isKernelError(error, 'EEXIST', 'ENOENT')) throw error // another call was faster
    }
  }
}

/** Takes away all that {@link obstruct} made on a link. Absent is done. */
export function clear(host: Host, link: string): void {
  const { netfilter, route } = host
  const there = route.findLink(link)
  if (there && route.findBucket(there)) route.deleteBucket(there)
  tolerant(() => netfilter.findChain(table, link) && netfilter.transaction([deleteChain(table, link)]))
  deleteTableIfEmpty(netfilter)
}

/** Lets all pods send to these addresses again. */
export function readmit(host: Host, addresses: readonly string[]): void {
  const { netfilter } = host
  if (addresses.length === 0 || !netfilter.findTable(table)) return
  const refusals = addresses.map(refusal)
  for (const { name: link } of netfilter.listChains(table)) {
    const rules = link === undefined ? [] : netfilter.listRules(table, link)
    const refused = rules.filter(({ expressions }) => refusals.some((each) => saysTheSame(each, expressions)))
    if (link === undefined || refused.length === 0) continue
    const commands = refused.map(({ handle }) => deleteRule(table, link, handle!))
    if (refused.length === rules.length) commands.push(deleteChain(table, link))
    tolerant(() => netfilter.transaction(commands))
  }
  deleteTableIfEmpty(netfilter)
}

/** Chains whose link is gone. Some kernels delete them with the link, so that only the table is left. */
export function collect(host: Host): void {
  for (const { name } of host.netfilter.listChains(table)) if (name && !host.route.findLink(name)) clear(host, name)
  deleteTableIfEmpty(host.netfilter)
}

function deleteTableIfEmpty(netfilter: NetfilterSocket): void {
  tolerant(() => netfilter.findTable(table)?.use === 0 && netfilter.transaction([deleteTable(table)]))
}

/** Another call may have been faster, or have put something in. */
function tolerant(work: () => unknown): void {
  try {
    work()
  } catch (error) {
    if (!isKernelError(error, 'ENOENT', 'EBUSY')) throw error
  }
}

export const hasChain = (host: Host, link: string): boolean => host.netfilter.findChain(table, link) !== undefined
