import type { Attachment, AttachmentId } from '../config/attachment.ts'
import { type Cidr, formatCidr } from '../netlink-lib/ip.ts'
import { TranslationMissing } from './errors.ts'
import { changeNat, hasNatRule, listNat, requirePrograms } from './iptables.ts'
import { networkMark, ownerMark, ownerMarks } from './mark.ts'
import type { Masquerade } from './masquerade.ts'
import { type Policy, policyOf } from './policy.ts'
import { type ChainUsers, exclusively, hasLeftovers, listUsers, usersOf } from './users.ts'

/*
 * Masquerading with iptables, for machines whose kernel lacks nf_tables or whose owner wants to see it there:
 *
 *   POSTROUTING -s 10.7.0.0/24 -m comment --comment ns-net:lab -j NS-NET-e1…
 *   NS-NET-e1… -d 10.7.0.0/24 -j ACCEPT; -d 224.0.0.0/4 -j ACCEPT; -j MASQUERADE
 *
 * Rules per network, not per container: a network's first ADD runs two programs, the others one. It cannot notice that
 * two attachments use one address, which the nftables backend does.
 */

export function iptablesMasquerade(root = '/run/ns-net/nat'): Masquerade {
  return {
    add: (attachment, addresses, exempt = []) => add(root, attachment, policiesOf(attachment, addresses, exempt)),
    del: (attachment) => release(root, attachment.network, (users) => users.delete(ownerMark(attachment))),
    check: (attachment, addresses, exempt = []) => check(root, attachment, policiesOf(attachment, addresses, exempt)),
    collect: (network, valid) => collect(root, network, valid),
    requireUsable: requirePrograms,
    [Symbol.dispose]() {}, // it holds nothing open
  }
}

/** One per subnet, though a container may have several addresses in it. */
function policiesOf({ network }: Attachment, addresses: readonly Cidr[], exempt: readonly Cidr[]): Policy[] {
  const policies = addresses.map((address) => policyOf(network, address, exempt))
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

const rulesOf = (policy: Policy): string[] => [
  ...policy.untranslated.map(({ range }) => `-A ${chainOf(policy)} ${matching('-d', range)}-j ACCEPT`),
  `-A ${chainOf(policy)} -j MASQUERADE`,
]

const usersOfPolicy = (root: string, policy: Policy): ChainUsers =>
  usersOf(root, policy.network, chainOf(policy), policy.family)

function add(root: string, attachment: Attachment, policies: readonly Policy[]): void {
  const mark = ownerMark(attachment)
  exclusively(root, attachment.network, () => {
    const joined: ChainUsers[] = []
    try {
      for (const policy of policies) {
        const users = usersOfPolicy(root, policy)
        // Looked at even when there are users: someone may have emptied the table since.
        const installed = hasNatRule(policy.family, jumpOf(policy))
        if (!users.has(mark)) {
          users.add(mark) // before the rules, so that DEL finds them when we are killed in between
          joined.push(users)
        }
        if (!installed) changeNat(policy.family, [`:${chainOf(policy)} - [0:0]`, ...rulesOf(policy), jumpOf(policy)])
      }
    } catch (error) {
      for (const users of joined) leaveAfterFailure(users, mark)
      throw error
    }
  })
}

/** What cannot be undone now is on file for DEL; the error that made us undo is the one to report. */
function leaveAfterFailure(users: ChainUsers, mark: string): void {
  try {
    leave(users, (each) => each.delete(mark))
  } catch {}
}

function release(root: string, network: string, change: (users: ChainUsers) => void): void {
  if (!hasLeftovers(root, network)) return
  exclusively(root, network, () => {
    for (const users of listUsers(root, network)) leave(users, change)
  })
}

/** Lets `change` remove users and deletes the chain when none is left. */
function leave(users: ChainUsers, change: (users: ChainUsers) => void): void {
  change(users)
  if (!users.isEmpty) return
  uninstall(users)
  users.forget() // after the rules: the empty folder reminds the next DEL when we are killed in between
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
    if (!users.has(mark))
      throw new TranslationMissing(`"${mark}" is not among the users of ${chain} in ${users.folder}`)
    const lines = listNat(policy.family).map((line) => line.replaceAll('"', ''))
    if (!lines.includes(jumpOf(policy))) throw new TranslationMissing(`nat rule "${jumpOf(policy)}" is missing`)
    const actual = lines.filter((line) => line.startsWith(`-A ${chain} `))
    for (const [i, rule] of rulesOf(policy).entries())
      if (actual[i] !== rule)
        throw new TranslationMissing(
          `rule ${i + 1} of chain ${chain} is "${actual[i] ?? 'missing'}", expected "${rule}"`,
        )
  }
}

function collect(root: string, network: string, valid: readonly AttachmentId[]): void {
  const keep = ownerMarks(network, valid)
  release(root, network, (users) => {
    for (const mark of users.list()) if (!keep.has(mark)) users.delete(mark)
  })
}
