import type { Attachment } from '../config/attachment.ts'
import { type Cidr, formatCidr } from '../netlink-lib/ip.ts'
import { RuleMissing } from './errors.ts'
import { changeNat, listNat, requirePrograms, tryChangeNat, withoutQuotes } from './iptables.ts'
import { networkMark, ownerMark, ownerMarks } from './mark.ts'
import type { Masquerade } from './masquerade.ts'
import { type Policy, policyOf, type Translation } from './policy.ts'
import { type ChainUsers, join, release, type Shared, usersOf } from './users.ts'

/*
 * Source translation with iptables, for machines whose kernel lacks nf_tables or whose owner wants to see it there:
 *
 *   POSTROUTING -s 10.7.0.0/24 -m comment --comment ns-net:lab -j NS-NET-e1…
 *   NS-NET-e1… -d 10.7.0.0/24 -j ACCEPT; -d 224.0.0.0/4 -j ACCEPT; -j MASQUERADE
 *
 * with `-j SNAT --to-source 192.0.2.10` at the end of a policy with a source of its own. Rules per network, not per
 * container: a network's first ADD runs two programs for each family, the others one. It cannot notice that two attachments use one
 * address, which the nftables backend does.
 */

export function iptablesMasquerade(root = '/run/ns-net/nat'): Masquerade {
  return {
    add(attachment, addresses, translation = {}) {
      const mark = ownerMark(attachment)
      const wanted = policiesOf(attachment, addresses, translation).map((policy) => shared(root, policy, mark))
      join(root, attachment.network, mark, wanted, uninstall)
    },
    del: (attachment) => release(root, attachment.network, (users) => users.delete(ownerMark(attachment)), uninstall),
    check: (attachment, addresses, translation = {}) =>
      check(root, attachment, policiesOf(attachment, addresses, translation)),
    collect(network, valid) {
      const keep = ownerMarks(network, valid)
      release(root, network, (users) => users.keepOnly((mark) => keep.has(mark)), uninstall)
    },
    requireUsable: requirePrograms,
    [Symbol.dispose]() {}, // it holds nothing open
  }
}

/** One per subnet, though a container may have several addresses in it. */
function policiesOf({ network }: Attachment, addresses: readonly Cidr[], translation: Translation): Policy[] {
  const policies = addresses.map((address) => policyOf(network, address, translation))
  return [...new Map(policies.map((policy) => [policy.hash, policy])).values()]
}

/** 23 characters; iptables allows 28. */
const chainOf = ({ hash }: Policy): string => `NS-NET-${hash}`

/** A match as iptables-save prints it, which leaves out the one that is always true. */
const matching = (option: '-s' | '-d', range: Cidr): string =>
  range.prefix === 0 ? '' : `${option} ${formatCidr(range)} `

/** Written without quotes; the mark of a network needs none. */
const jumpOf = (policy: Policy): string =>
  `-A POSTROUTING ${matching('-s', policy.subnet)}-m comment --comment ns-net:${networkMark(policy.network).trim()} -j ${chainOf(policy)}`

const targetOf = ({ source }: Policy): string => (source === undefined ? 'MASQUERADE' : `SNAT --to-source ${source}`)

const rulesOf = (policy: Policy): string[] => [
  ...policy.untranslated.map(({ range }) => `-A ${chainOf(policy)} ${matching('-d', range)}-j ACCEPT`),
  `-A ${chainOf(policy)} -j ${targetOf(policy)}`,
]

const usersOfPolicy = (root: string, policy: Policy): ChainUsers =>
  usersOf(root, policy.network, chainOf(policy), policy.family)

/** The chain of a policy, with the rule that leads to it. */
function shared(root: string, policy: Policy, mark: string): Shared {
  const users = usersOfPolicy(root, policy)
  return {
    users,
    install() {
      const { family } = policy
      const wanted = [...rulesOf(policy), jumpOf(policy)]
      // A list is as long as the table; to confirm some rules costs the same in any table.
      if (
        !users.isOnly(mark) &&
        tryChangeNat(
          family,
          wanted.map((rule) => rule.replace(/^-A/, '-C')),
        )
      )
        return
      const present = listNat(family).map(withoutQuotes)
      const isEntered = present.includes(jumpOf(policy))
      const rules = present.filter((line) => line.startsWith(`-A ${chainOf(policy)} `))
      if (isEntered && rules.join('\n') === rulesOf(policy).join('\n')) return
      changeNat(family, [`:${chainOf(policy)} - [0:0]`, ...rulesOf(policy), ...(isEntered ? [] : [jumpOf(policy)])])
    },
  }
}

/** Deletes the chain and every rule that leads to it, as they are and not as we would write them today. */
function uninstall({ family, chain }: ChainUsers): void {
  const lines = listNat(family)
  if (!lines.some((line) => line.startsWith(`:${chain} `))) return
  const jumps = lines.filter((line) => line.startsWith('-A ') && / -[jg] (\S+)$/.exec(line)?.[1] === chain)
  changeNat(family, [...jumps.map((line) => line.replace('-A ', '-D ')), `-F ${chain}`, `-X ${chain}`])
}

function check(root: string, attachment: Attachment, policies: readonly Policy[]): void {
  const mark = ownerMark(attachment)
  for (const policy of policies) {
    const chain = chainOf(policy)
    const users = usersOfPolicy(root, policy)
    if (!users.has(mark)) throw new RuleMissing(`"${mark}" is not among the users of ${chain} in ${users.folder}`)
    const lines = listNat(policy.family).map(withoutQuotes)
    if (!lines.includes(jumpOf(policy))) throw new RuleMissing(`nat rule "${jumpOf(policy)}" is missing`)
    const actual = lines.filter((line) => line.startsWith(`-A ${chain} `))
    for (const [i, rule] of rulesOf(policy).entries())
      if (actual[i] !== rule)
        throw new RuleMissing(`rule ${i + 1} of chain ${chain} is "${actual[i] ?? 'missing'}", expected "${rule}"`)
  }
}
