import type { Attachment, AttachmentId } from '../config/attachment.ts'
import { deleteUdpFlows } from '../netlink-lib/conntrack/flows.ts'
import { NetlinkSocket, protocols as netlinkProtocols } from '../netlink-lib/socket.ts'
import { RuleMissing } from './errors.ts'
import { type Forward, forwardsOf, type PortForwarding } from './forwards.ts'
import { changeNat, listNat, probeNat, tryChangeNat, withoutQuotes } from './iptables.ts'
import { networkMark, ownerMark, ownerMarks } from './mark.ts'
import {
  deleteInstallation,
  type FamilyInstallation,
  findInstallation,
  type Installation,
  listAttachments,
  refuseClaimed,
  usersOfShared,
  writeInstallation,
} from './port-claims.ts'
import type { PortForward } from './port-forward.ts'
import { installationFor, portsChain, sharedRules } from './port-forward-iptables-rules.ts'
import { exclusively } from './users.ts'

/*
 * Port forwarding with iptables: one chain for each attachment and family, and one transaction for each verb and family
 * as long as what is shared is there as we left it. What is not, is found by a list of the table.
 */

export function iptablesPortForward(warn: (message: string) => void, root = '/run/ns-net/nat'): PortForward {
  const flush = (forwards: readonly Forward[]) => {
    const udp = forwards.filter(({ protocol }) => protocol === 'udp')
    if (udp.length === 0) return
    try {
      using netlink = new NetlinkSocket(netlinkProtocols.netfilter)
      deleteUdpFlows(netlink, udp)
    } catch (error) {
      warn(`port forwarding: UDP flows from before may go on as they were: ${(error as Error).message}`)
    }
  }
  return {
    add(attachment, wish) {
      add(root, attachment, wish)
      flush(forwardsOf(wish))
    },
    del: (attachment) => flush(del(root, attachment.network, [ownerMark(attachment)])),
    check: (attachment, wish) => check(root, attachment, wish),
    collect: (network, valid) => flush(del(root, network, staleMarks(root, network, valid))),
    probe: () => probeNat(4),
    [Symbol.dispose]() {}, // it holds nothing open
  }
}

/** True when an ADD with this backend was not undone: one look at the disk. */
export const hasIptablesPorts = (attachment: Attachment, root = '/run/ns-net/nat'): boolean =>
  findInstallation(root, ownerMark(attachment)) !== undefined

function staleMarks(root: string, network: string, valid: readonly AttachmentId[]): string[] {
  const keep = ownerMarks(network, valid)
  return listAttachments(root).filter((mark) => mark.startsWith(networkMark(network)) && !keep.has(mark))
}

function add(root: string, attachment: Attachment, wish: PortForwarding): void {
  const mark = ownerMark(attachment)
  const installation = installationFor(mark, wish)
  const { families, forwards } = installation
  if (families.length === 0) return
  exclusively(root, attachment.network, () => {
    const isSame = JSON.stringify(findInstallation(root, mark)) === JSON.stringify(installation)
    if (isSame && families.every((family) => tryChangeNat(family.family, confirmations(family)))) return
    remove(root, mark) // an ADD that is repeated with other ports, or after a flush, begins anew
    refuseClaimed(root, forwards, mark)
    const isFirst = families.map(({ family, shared }) => shared.some((name) => !isUsed(root, name, family)))
    let installed = 0
    try {
      writeInstallation(root, mark, installation)
      for (; installed < families.length; installed++) install(families[installed]!, isFirst[installed]!)
    } catch (error) {
      removeAfterFailure(root, mark, installation, installed)
      throw error
    }
  })
}

/** Of the family that was refused nothing is there. What cannot be undone now is on file for DEL. */
function removeAfterFailure(root: string, mark: string, installation: Installation, installed: number): void {
  try {
    for (const family of installation.families.slice(0, installed)) uninstall(root, mark, family)
    deleteInstallation(root, mark, installation)
  } catch {} // the error that made us undo is the one to report
}

/** Lines that are refused unless every rule is there. */
const confirmations = ({ shared, entries, rules }: FamilyInstallation): string[] =>
  [...shared.flatMap((name) => sharedRules(name).rules), ...entries, ...rules].map((rule) => `-C ${rule}`)

function isUsed(root: string, name: string, family: 4 | 6): boolean {
  const users = usersOfShared(root, name, family)
  return users.exists && !users.isEmpty
}

/** One transaction that first confirms what is shared; when that fails, another one that makes what is missing. */
function install({ family, chain, entries, rules, shared }: FamilyInstallation, isFirst: boolean): void {
  const groups = shared.map(sharedRules)
  const own = [`:${chain} - [0:0]`, ...[...rules, ...entries].map((rule) => `-A ${rule}`)]
  const confirm = groups.flatMap((group) => group.rules.map((rule) => `-C ${rule}`))
  if (!isFirst && tryChangeNat(family, [...confirm, ...own])) return
  const present = listNat(family).map(withoutQuotes)
  const missing = groups.flatMap((group) => [
    ...(group.chain && !present.some((line) => line.startsWith(`:${group.chain} `)) ? [`:${group.chain} - [0:0]`] : []),
    // Before the rules of the networks, which accept what stays in a subnet.
    ...group.rules
      .filter((rule) => !present.includes(`-A ${rule}`))
      .map((rule) => (rule.startsWith('POSTROUTING ') ? `-I ${rule.replace(' ', ' 1 ')}` : `-A ${rule}`)),
  ])
  changeNat(family, [...missing, ...own])
}

/** Returns what led to the containers. */
function del(root: string, network: string, marks: readonly string[]): Forward[] {
  const forwards: Forward[] = []
  const known = marks.filter((mark) => findInstallation(root, mark))
  if (known.length === 0) return forwards
  exclusively(root, network, () => {
    for (const mark of known) forwards.push(...(remove(root, mark)?.forwards ?? []))
  })
  return forwards
}

function remove(root: string, mark: string): Installation | undefined {
  const installation = findInstallation(root, mark)
  if (!installation) return undefined
  for (const family of installation.families) uninstall(root, mark, family)
  deleteInstallation(root, mark, installation)
  return installation
}

function uninstall(root: string, mark: string, { family, chain, entries, shared }: FamilyInstallation): void {
  const unused = shared.filter((name) => usersOfShared(root, name, family).isOnly(mark)).map(sharedRules)
  const chains = [chain, ...unused.flatMap((group) => group.chain ?? [])]
  // The entries go with the chain they are in: iptables-nft forgets a deletion when it flushes the chain as well.
  const single = [...(chains.includes(portsChain) ? [] : entries), ...unused.flatMap(({ rules }) => rules)]
  const lines = [
    ...single.map((rule) => `-D ${rule}`),
    ...chains.map((name) => `-F ${name}`),
    ...chains.map((name) => `-X ${name}`),
  ]
  if (tryChangeNat(family, lines)) return
  deletePresent(family, chains, new Set(unused.flatMap(({ rules }) => rules.map((rule) => `-A ${rule}`))))
}

/** Not all is as we left it: deletes what is there, as it is there. */
function deletePresent(family: 4 | 6, chains: readonly string[], rules: ReadonlySet<string>): void {
  const present = listNat(family)
  const gone = chains.filter((name) => present.some((line) => line.startsWith(`:${name} `)))
  const single = present.filter((line) => {
    if (!line.startsWith('-A ') || gone.includes(line.split(' ')[1]!)) return false
    const target = / -[jg] (\S+)( |$)/.exec(line)?.[1] ?? ''
    return gone.includes(target) || rules.has(withoutQuotes(line))
  })
  const lines = [
    ...single.map((line) => line.replace('-A ', '-D ')),
    ...gone.map((name) => `-F ${name}`),
    ...gone.map((name) => `-X ${name}`),
  ]
  if (lines.length > 0) changeNat(family, lines)
}

function check(root: string, attachment: Attachment, wish: PortForwarding): void {
  const mark = ownerMark(attachment)
  const fail = (what: string): never => {
    throw new RuleMissing(what, 'port forwarding')
  }
  for (const installed of installationFor(mark, wish).families) {
    const { family, shared } = installed
    for (const name of shared) {
      const users = usersOfShared(root, name, family)
      if (!users.has(mark)) fail(`"${mark}" is not among the users of ${name} in ${users.folder}`)
    }
    const confirm = confirmations(installed)
    if (tryChangeNat(family, confirm)) continue
    const missing = confirm.find((line) => !tryChangeNat(family, [line])) ?? confirm[0]!
    fail(`nat rule "${missing.replace('-C', '-A')}" of IPv${family} is missing`)
  }
}
