import { isKernelError } from '../../netlink-lib/errors.ts'
import { readFile } from '../../netlink-lib/files.ts'
import type { Family } from '../../netlink-lib/ip.ts'
import type { TableRef } from '../../netlink-lib/nftables/commands.ts'
import { verdicts } from '../../netlink-lib/nftables/expressions.ts'
import type { RuleMessage } from '../../netlink-lib/nftables/messages.ts'
import type { NetfilterSocket } from '../../netlink-lib/nftables/netfilter-socket.ts'
import { RuleMissing } from '../errors.ts'
import { changeTable, hasProgram, IptablesFailed, listTable } from '../iptables.ts'
import {
  type AdminChain,
  completion,
  dropsForwarded,
  forwardChain,
  isolationChain,
  leadsToDrop,
  missingRules,
  removal,
  rulesOf,
} from './iptables-rules.ts'
import type { Policy } from './policy.ts'

/*
 * The filter table as iptables keeps it. A network's first ADD runs two programs per family. With the nft variant the
 * others run none: they look by netlink whether the rules are there.
 */

const tableOf = (family: Family): TableRef => ({ family: family === 4 ? 'ip' : 'ip6', name: 'filter' })

export const isInstalled = (): boolean => hasProgram('iptables') && hasProgram('ip6tables')

/** Puts the rules of the policy where they are missing. */
export function install(netfilter: NetfilterSocket, policy: Policy, adminChain: AdminChain): void {
  if (isComplete(netfilter, policy, adminChain)) return
  change(policy.family, (saved) => completion(saved, policy, adminChain))
}

/** Removes what carries the mark, as it is and not as we would write it today. */
export const uninstall = (family: Family, mark: string): void => change(family, (saved) => removal(saved, mark))

/** Throws, naming the first rule that is missing. */
export function check(policy: Policy, adminChain: AdminChain): void {
  const [missing] = missingRules(listTable('filter', policy.family), policy, adminChain)
  if (missing !== undefined) throw new RuleMissing(`filter rule "${missing}" is missing`, 'forwarding')
}

/** Reads the table and changes it by the lines planned; again when somebody else changed it in between. */
function change(family: Family, plan: (saved: readonly string[]) => string[]): void {
  for (let attempt = 1; ; attempt++) {
    const lines = plan(listTable('filter', family))
    if (lines.length === 0) return
    try {
      changeTable('filter', family, lines)
      return
    } catch (error) {
      if (!(error instanceof IptablesFailed) || attempt === 2) throw error
    }
  }
}

/** Where a rule leads to, in what the kernel keeps of iptables' nft variant: a chain, DROP or REJECT. */
function targetOf({ expressions = [] }: RuleMessage): string {
  const last = expressions.at(-1)
  if (!last) return ''
  if ('immediate' in last) {
    const { code, chain } = last.immediate.data?.verdict ?? {}
    return chain ?? (code === verdicts.drop ? 'DROP' : '')
  }
  // Programs before 1.8.10 keep it as a target of xtables, with its name in the data.
  const isReject = 'other' in last && (last.other.name === 'reject' || last.other.data.toString().includes('REJECT\0'))
  return isReject ? 'REJECT' : ''
}

/** True when the rule has this comment: as a match of xtables, or with newer programs as user data. */
const isMarked = ({ expressions = [], userdata }: RuleMessage, mark: string): boolean =>
  userdata?.comment === mark ||
  expressions.some((each) => 'other' in each && each.other.data.toString().includes(`${mark}\0`))

/**
 * True when the nft variant has all rules. False says nothing: this may be a machine with the other variant, whose rules
 * only its programs can list.
 */
function isComplete(netfilter: NetfilterSocket, policy: Policy, adminChain: AdminChain): boolean {
  return knows(() => {
    const rules = (chain: string) => netfilter.listRules(tableOf(policy.family), chain)
    if (!rules('FORWARD').some((rule) => targetOf(rule) === forwardChain)) return false
    const own = [...rules(forwardChain), ...rules(isolationChain)]
    const hasAdmin = adminChain === undefined || own.some((rule) => targetOf(rule) === adminChain)
    return hasAdmin && own.filter((rule) => isMarked(rule, policy.mark)).length === rulesOf(policy).length
  })
}

/**
 * True when iptables drops forwarded packets by its policy, as Docker sets it, or by a rule, whether or not they would
 * be ours. It runs a program only where the table of the other variant exists; without one the answer is yes.
 */
export function isForwardDropped(netfilter: NetfilterSocket, family: Family): boolean {
  if (knows(() => nftVariantDrops(netfilter, tableOf(family)))) return true
  return hasLegacyFilter(family) && (!isInstalled() || dropsForwarded(listTable('filter', family)))
}

function nftVariantDrops(netfilter: NetfilterSocket, table: TableRef): boolean {
  const chain = netfilter.findChain(table, 'FORWARD')
  if (!chain) return false
  return chain.policy === verdicts.drop || leadsToDrop((name) => netfilter.listRules(table, name).map(targetOf))
}

/** The other variant's table exists in a namespace from its first use on. */
function hasLegacyFilter(family: Family): boolean {
  try {
    const names = readFile(`/proc/net/${family === 4 ? 'ip' : 'ip6'}_tables_names`)
    return names.split('\n').includes('filter')
  } catch {
    return false // this kernel has no such tables
  }
}

/** What is asked of nf_tables; false where the kernel has none. */
export function knows(ask: () => boolean): boolean {
  try {
    return ask()
  } catch (error) {
    if (isKernelError(error, 'EINVAL', 'EOPNOTSUPP', 'EPROTONOSUPPORT')) return false
    throw error
  }
}
