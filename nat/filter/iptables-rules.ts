import { formatCidr } from '../../netlink-lib/ip.ts'
import { withoutQuotes } from '../iptables.ts'
import type { Policy } from './policy.ts'

/*
 * The rules of the filter table, as data:
 *
 *   FORWARD -j NS-NET-FORWARD                                   behind Docker's DOCKER-USER, else first
 *   NS-NET-FORWARD -j CNI-ADMIN                                 what an administrator says comes before all others
 *   NS-NET-FORWARD -i br0 ! -o br0 -j NS-NET-ISOLATED           same-bridge and isolated
 *   NS-NET-FORWARD -i br0 -o br0 -j DROP                        isolated
 *   NS-NET-FORWARD -i br0 ! -o br0 -j DROP                      internal; -s SUBNET ! -d SUBNET without a bridge
 *   NS-NET-FORWARD ! -i br0 -o br0 -j DROP                      internal; ! -s SUBNET -d SUBNET without a bridge
 *   NS-NET-FORWARD -s 10.7.0.0/24 -i br0 -j ACCEPT
 *   NS-NET-FORWARD -d 10.7.0.0/24 -o br0 -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT
 *   NS-NET-ISOLATED -o br0 -j DROP
 *
 * DNAT is a connection whose destination was translated: a published port. Rules per network, not per container. Each
 * carries the mark of its policy, by which it is found again; those of the first two lines carry a mark of their own and
 * go with the last policy. The second one is there when one of the policies has an administrator's chain. Lines are
 * written as iptables-save prints them, but without its quotes, so that they can be compared.
 */

/** Makes room for an administrator's own rules; undefined: nobody asked for it. */
export type AdminChain = string | undefined

export const forwardChain = 'NS-NET-FORWARD'
export const isolationChain = 'NS-NET-ISOLATED'

const comment = (mark: string) => `-m comment --comment ${mark}`
const ours = comment('ns-net')
const forwardJump = `-A FORWARD ${ours} -j ${forwardChain}`
const adminJumps = (chain: AdminChain) => (chain === undefined ? [] : [`-A ${forwardChain} ${ours} -j ${chain}`])

/** Rules that drop; they stand before those that accept. */
const dropRules = (policy: Policy): string[] => [...isolationRules(policy), ...borderRules(policy)]

function isolationRules({ link, ingress, mark }: Policy): string[] {
  if (ingress === 'open' || !link) return []
  const within = ingress === 'isolated' ? [`-A ${forwardChain} -i ${link} -o ${link} ${comment(mark)} -j DROP`] : []
  return [`-A ${forwardChain} -i ${link} ! -o ${link} ${comment(mark)} -j ${isolationChain}`, ...within]
}

function borderRules({ link, subnets, internal, mark }: Policy): string[] {
  if (!internal) return []
  const ranges = subnets.filter(({ prefix }) => prefix > 0).map(formatCidr)
  const crossing = link
    ? [`-i ${link} ! -o ${link}`, `! -i ${link} -o ${link}`]
    : ranges.flatMap((range) => [`-s ${range} ! -d ${range}`, `! -s ${range} -d ${range}`])
  return crossing.map((match) => `-A ${forwardChain} ${match} ${comment(mark)} -j DROP`)
}

function acceptRules({ link, subnets, mark }: Policy): string[] {
  const [from, to] = link ? [`-i ${link} `, `-o ${link} `] : ['', '']
  return subnets.flatMap((subnet) => {
    const match = (option: string) => (subnet.prefix === 0 ? '' : `${option} ${formatCidr(subnet)} `)
    return [
      `-A ${forwardChain} ${match('-s')}${from}${comment(mark)} -j ACCEPT`,
      `-A ${forwardChain} ${match('-d')}${to}-m conntrack --ctstate RELATED,ESTABLISHED,DNAT ${comment(mark)} -j ACCEPT`,
    ]
  })
}

const isolatedLink = ({ link, ingress, mark }: Policy): string[] =>
  ingress === 'open' || !link ? [] : [`-A ${isolationChain} -o ${link} ${comment(mark)} -j DROP`]

/** Every rule of a policy. */
export const rulesOf = (policy: Policy): string[] => [
  ...dropRules(policy),
  ...acceptRules(policy),
  ...isolatedLink(policy),
]

const chainsIn = (saved: readonly string[]) =>
  saved.filter((line) => line.startsWith(':')).map((line) => line.slice(1).split(' ')[0]!)

const rulesIn = (saved: readonly string[], chain: string) => saved.filter((line) => line.startsWith(`-A ${chain} `))

const jumpsTo = (chain: string) => (line: string) => / -[jg] (\S+)$/.exec(line)?.[1] === chain

/** `-I CHAIN n …` instead of `-A CHAIN …`. */
const insert = (rule: string, position: number) => rule.replace(/^-A (\S+)/, `-I $1 ${position}`)

/** What is not in the saved table, of the wanted lines. */
export function missingRules(saved: readonly string[], policy: Policy, adminChain: AdminChain): string[] {
  const present = new Set(saved.map(withoutQuotes))
  return [forwardJump, ...adminJumps(adminChain), ...rulesOf(policy)].filter((rule) => !present.has(rule))
}

/** The lines for iptables-restore that complete the saved table; none when nothing is missing. */
export function completion(saved: readonly string[], policy: Policy, adminChain: AdminChain): string[] {
  const missing = new Set(missingRules(saved, policy, adminChain))
  if (missing.size === 0) return []
  const present = chainsIn(saved)
  // Created by command: a line `:CHAIN` would empty one that appeared after the table was read.
  const chains = [...(adminChain === undefined ? [] : [adminChain]), forwardChain, isolationChain]
  const lines = chains.filter((chain) => !present.includes(chain)).map((chain) => `-N ${chain}`)

  const behindDocker = rulesIn(saved, 'FORWARD').findLastIndex(jumpsTo('DOCKER-USER')) + 2
  if (missing.has(forwardJump)) lines.push(insert(forwardJump, behindDocker))

  const admins = rulesIn(saved, forwardChain).filter((line) => withoutQuotes(line).includes(`${ours} `)).length
  const newAdmins = adminJumps(adminChain).filter((jump) => missing.has(jump))
  lines.push(...newAdmins.map((jump) => insert(jump, 1)))
  const first = admins + newAdmins.length + 1
  for (const rule of dropRules(policy)) if (missing.has(rule)) lines.push(insert(rule, first))
  return [...lines, ...[...acceptRules(policy), ...isolatedLink(policy)].filter((rule) => missing.has(rule))]
}

/** The lines for iptables-restore that remove what carries the mark and, after the last policy, all that is ours. */
export function removal(saved: readonly string[], mark: string): string[] {
  const isMarked = (line: string) => withoutQuotes(line).includes(` ${comment(mark)} `)
  const removed = saved.filter((line) => line.startsWith('-A ') && isMarked(line))
  const rest = saved.filter((line) => !removed.includes(line))
  const lines = removed.map((line) => line.replace('-A ', '-D '))
  const isInUse = [forwardChain, isolationChain].some((chain) =>
    rulesIn(rest, chain).some((line) => withoutQuotes(line).includes('--comment ns-net:')),
  )
  return isInUse ? lines : [...lines, ...removalOfAll(rest)]
}

/** Chains, jumps, and the administrator's chain when it is empty and nobody else leads to it. */
function removalOfAll(saved: readonly string[]): string[] {
  const chains = chainsIn(saved)
  if (!chains.includes(forwardChain)) return []
  const jumps = saved.filter((line) => line.startsWith('-A ') && jumpsTo(forwardChain)(line))
  const inside = rulesIn(saved, forwardChain)
  const admins = inside.map((line) => / -j (\S+)$/.exec(line)?.[1] ?? '').filter((chain) => chains.includes(chain))
  const others = saved.filter((line) => line.startsWith('-A ') && !inside.includes(line))
  const unused = admins.filter((chain) => rulesIn(saved, chain).length === 0 && !others.some(jumpsTo(chain)))
  const own = [forwardChain, isolationChain].filter((chain) => chains.includes(chain))
  return [
    ...jumps.map((line) => line.replace('-A ', '-D ')),
    ...own.map((chain) => `-F ${chain}`),
    ...[...own, ...new Set(unused)].map((chain) => `-X ${chain}`),
  ]
}

/**
 * True when a rule drops that FORWARD leads to. `targetsOf` says where the rules of a chain lead to. What is behind our
 * own chain does not count: nothing of ours has to be let past it.
 */
export function leadsToDrop(targetsOf: (chain: string) => readonly string[]): boolean {
  const seen = new Set([forwardChain])
  const search = (chain: string): boolean => {
    if (seen.has(chain)) return false
    seen.add(chain)
    return targetsOf(chain).some((target) => target === 'DROP' || target === 'REJECT' || search(target))
  }
  return search('FORWARD')
}

/** True when the saved table drops forwarded packets, by its policy or by a rule. */
export function dropsForwarded(saved: readonly string[]): boolean {
  const withoutComment = (line: string) => line.replaceAll(/"(\\.|[^"\\])*"/g, '')
  const target = (line: string) => / -[jg] (\S+)/.exec(withoutComment(line))?.[1] ?? ''
  return (
    saved.some((line) => line.startsWith(':FORWARD DROP')) || leadsToDrop((chain) => rulesIn(saved, chain).map(target))
  )
}
