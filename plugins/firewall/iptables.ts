import { readFileSync } from 'node:fs'
import { changeTable, IptablesFailed, listTable } from '../../nat/iptables.ts'
import { isKernelError } from '../../netlink-lib/errors.ts'
import type { Family } from '../../netlink-lib/ip.ts'
import type { TableRef } from '../../netlink-lib/nftables/commands.ts'
import type { RuleMessage } from '../../netlink-lib/nftables/messages.ts'
import { CniError, codes } from '../contract/errors.ts'
import type { Host } from '../contract/host.ts'
import { completion, forwardChain, isolationChain, missingRules, removal, rulesOf } from './iptables-rules.ts'
import type { Policy } from './policy.ts'

/*
 * The filter table as iptables keeps it. A network's first ADD runs two programs per family. With the nft variant the
 * others run none: they look by netlink whether the rules are there.
 */

const tableOf = (family: Family): TableRef => ({ family: family === 4 ? 'ip' : 'ip6', name: 'filter' })

/** Puts the rules of the policy where they are missing. */
export function install(host: Host, policy: Policy, adminChain: string): void {
  if (isComplete(host, policy, adminChain)) return
  change(policy.family, (saved) => completion(saved, policy, adminChain))
}

/** Removes what carries the mark, as it is and not as we would write it today. */
export const uninstall = (family: Family, mark: string): void => change(family, (saved) => removal(saved, mark))

/** Throws, naming the first rule that is missing. */
export function check(policy: Policy, adminChain: string): void {
  const [missing] = missingRules(listTable('filter', policy.family), policy, adminChain)
  if (missing === undefined) return
  throw new CniError(
    codes.checkFailed,
    `CHECK: filter rule "${missing}" is missing`,
    'somebody removed it since ADD; ns-net reload puts it back',
  )
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
      if (!(error instanceof IptablesFailed)) throw error
      if (attempt === 2) throw new CniError(codes.kernel, error.message, `asked for:\n${lines.join('\n')}`)
    }
  }
}

/** Where a rule leads to, in what the kernel keeps of iptables' nft variant. */
const targetOf = ({ expressions = [] }: RuleMessage): string | undefined => {
  const last = expressions.at(-1)
  return last && 'immediate' in last ? last.immediate.data?.verdict?.chain : undefined
}

/** True when the rule has this comment: as a match of xtables, or with newer programs as user data. */
const isMarked = ({ expressions = [], userdata }: RuleMessage, mark: string): boolean =>
  userdata?.comment === mark || expressions.some((each) => 'other' in each && each.other.data.includes(`${mark}\0`))

/**
 * True when the nft variant has all rules. False says nothing: this may be a machine with the other variant, whose rules
 * only its programs can list.
 */
function isComplete(host: Host, policy: Policy, adminChain: string): boolean {
  return knows(() => {
    const rules = (chain: string) => host.netfilter.listRules(tableOf(policy.family), chain)
    if (!rules('FORWARD').some((rule) => targetOf(rule) === forwardChain)) return false
    const own = [...rules(forwardChain), ...rules(isolationChain)]
    const hasAdmin = own.some((rule) => targetOf(rule) === adminChain)
    return hasAdmin && own.filter((rule) => isMarked(rule, policy.mark)).length === rulesOf(policy).length
  })
}

/** True when forwarded packets may meet a rule or a policy of iptables that drops them, as Docker sets one. */
export function isForwardInUse(host: Host, family: Family): boolean {
  const used = knows(() => {
    const chain = host.netfilter.findChain(tableOf(family), 'FORWARD')
    return chain !== undefined && (chain.policy === 0 || (chain.use ?? 0) > 0) // NF_DROP
  })
  return used || hasLegacyFilter(family)
}

/** The other variant's table exists in a namespace from its first use on. */
function hasLegacyFilter(family: Family): boolean {
  try {
    const names = readFileSync(`/proc/net/${family === 4 ? 'ip' : 'ip6'}_tables_names`, 'utf8')
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
