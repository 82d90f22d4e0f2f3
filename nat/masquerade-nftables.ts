import type { Attachment, AttachmentId } from '../config/attachment.ts'
import { isKernelError } from '../netlink-lib/errors.ts'
import { type Cidr, formatIp, ipBytes } from '../netlink-lib/ip.ts'
import {
  type Command,
  createElements,
  createTable,
  deleteChain,
  deleteElements,
  deleteTable,
} from '../netlink-lib/nftables/commands.ts'
import { verdicts } from '../netlink-lib/nftables/expressions.ts'
import { NetfilterSocket, TransactionRefused } from '../netlink-lib/nftables/netfilter-socket.ts'
import { AddressTaken } from './errors.ts'
import { networkMark, ownerMark, ownerMarks } from './mark.ts'
import type { Masquerade } from './masquerade.ts'
import {
  base,
  type Chain,
  createBase,
  createWithRules,
  deleteBase,
  isPolicyChain,
  mapOf,
  policyChain,
  table,
  tableComment,
} from './masquerade-rules.ts'
import { checkSources, findSource, isUnused, listSources, type Source, sourcesOf } from './masquerade-state.ts'
import { policyOf } from './policy.ts'

/*
 * Masquerading on nf_tables by netlink. There is no lock: every change is one transaction that the kernel carries out
 * wholly or not at all, and what it creates is exclusive. Each verb looks first and then sends exactly what is missing:
 * a lookup takes 0.05 ms, but a refused transaction 8 to 24 ms, because the kernel waits for RCU before it forgets one
 * (6.18, __nf_tables_abort). Refusal means that another process was faster; then the verb looks again.
 */

export function nftablesMasquerade(opened?: NetfilterSocket): Masquerade {
  let socket = opened
  const open = () => {
    socket ??= new NetfilterSocket()
    return socket
  }
  return {
    add: (attachment, addresses, exempt = []) => add(open(), attachment, addresses, exempt),
    del: (attachment, addresses = []) => del(open(), attachment, addresses),
    check: (attachment, addresses, exempt = []) => checkSources(open(), attachment, addresses, exempt),
    collect: (network, valid) => collect(open(), network, valid),
    [Symbol.dispose]() {
      socket?.[Symbol.dispose]()
      socket = undefined
    },
  }
}

/** Undefined when the kernel does not know the netlink subsystem of nf_tables. */
export function nftablesMasqueradeIfSupported(): Masquerade | undefined {
  const socket = new NetfilterSocket()
  try {
    socket.generation()
    return nftablesMasquerade(socket)
  } catch (error) {
    socket[Symbol.dispose]()
    if (isKernelError(error, 'EINVAL', 'EOPNOTSUPP', 'EPROTONOSUPPORT')) return undefined
    throw error
  }
}

function add(socket: NetfilterSocket, attachment: Attachment, addresses: readonly Cidr[], exempt: readonly Cidr[]) {
  const mark = ownerMark(attachment)
  const distinct = new Map(addresses.map((address) => [address.address, address]))
  const wanted = [...distinct.values()].map((address) => ({
    address,
    chain: policyChain(policyOf(attachment.network, address, exempt)),
  }))
  const chains = wanted.map(({ chain }) => chain)
  let replaces = false
  commit(socket, () => {
    const elements: Command[] = []
    for (const { address, chain } of wanted) {
      const present = findSource(socket, address.address)
      if (present && present.mark !== mark) throw new AddressTaken(address.address, mark, present.mark)
      if (present?.chain === chain.name) continue
      if (present) {
        replaces = true
        elements.push(deleteSource(present))
      }
      elements.push(createSource(address, chain, mark))
    }
    return elements.length > 0 ? [...createMissing(socket, chains), ...elements] : []
  })
  if (replaces) deleteUnused(socket)
}

function del(socket: NetfilterSocket, attachment: Attachment, addresses: readonly string[]) {
  const mark = ownerMark(attachment)
  const chains = new Set<string>()
  commit(socket, () => {
    const ours = sourcesOf(socket, mark, addresses)
    for (const { chain } of ours) if (chain !== undefined) chains.add(chain)
    return ours.map(deleteSource)
  })
  // Nothing found: perhaps a DEL before this one was killed between its two transactions.
  const mayHaveLeftovers = chains.size === 0
  if (mayHaveLeftovers || [...chains].some((name) => isUnused(socket, socket.findChain(table, name))))
    deleteUnused(socket)
}

/** Elements per transaction: the socket's send buffer bounds one. */
const portion = 500

function collect(socket: NetfilterSocket, network: string, valid: readonly AttachmentId[]) {
  const keep = ownerMarks(network, valid)
  const stale = () =>
    listSources(socket).filter((source) => source.mark.startsWith(networkMark(network)) && !keep.has(source.mark))
  while (stale().length > 0) commit(socket, () => stale().slice(0, portion).map(deleteSource))
  deleteUnused(socket)
}

const attempts = 32

/** Repeats `plan` and its transaction until the kernel accepts it: whoever is refused lost to one that was accepted. */
function commit(socket: NetfilterSocket, plan: () => readonly Command[]): void {
  for (let attempt = 1; ; attempt++) {
    try {
      socket.transaction(plan())
      return
    } catch (error) {
      const lostRace = error instanceof TransactionRefused && isKernelError(error, 'EEXIST', 'ENOENT', 'EBUSY')
      if (!lostRace || attempt === attempts) throw error
    }
  }
}

const createSource = ({ address, family }: Cidr, chain: Chain, mark: string): Command => {
  const key = { value: ipBytes(address) }
  const data = { verdict: { code: verdicts.goto, chain: chain.name } }
  const element = { key, data, userdata: { comment: mark } }
  return createElements(table, mapOf(family), [element], `${address} for "${mark}"`)
}

const deleteSource = ({ family, key, mark }: Source): Command =>
  deleteElements(table, mapOf(family), [{ key: { value: key } }], `${formatIp(key)} of "${mark}"`)

/** The policy chains that are not there yet, and what they need in turn. */
function createMissing(socket: NetfilterSocket, chains: readonly Chain[]): Command[] {
  const byName = new Map(chains.map((chain) => [chain.name, chain]))
  const missing = [...byName.values()].filter((chain) => !socket.findChain(table, chain.name))
  if (missing.length === 0) return []
  const commands = missing.flatMap(createWithRules)
  if (!socket.findChain(table, base.name)) commands.unshift(...createBase())
  if (!socket.findTable(table)) commands.unshift(createTable(table, tableComment))
  return commands
}

/** Deletes the policy chains that no element leads to and, after the last one, all that {@link add} ever made. */
function deleteUnused(socket: NetfilterSocket): void {
  const chains = socket.listChains(table)
  const policies = chains.filter((chain) => isPolicyChain(chain.name))
  const unused = policies.filter((chain) => isUnused(socket, chain))
  for (const chain of unused) deleteIfPossible(socket, [deleteChain(table, chain.name!)])
  if (unused.length < policies.length || chains.length === 0) return
  // An ADD that comes in between makes the kernel refuse this as a whole. Other chains (port mappings) keep the table.
  const shared = chains.length > policies.length + 1
  deleteIfPossible(socket, shared ? deleteBase() : [...deleteBase(), deleteTable(table)])
}

function deleteIfPossible(socket: NetfilterSocket, commands: readonly Command[]): void {
  try {
    socket.transaction(commands)
  } catch (error) {
    // EBUSY: something new needs it. ENOENT: another process deleted it.
    if (!(error instanceof TransactionRefused && isKernelError(error, 'EBUSY', 'ENOENT'))) throw error
  }
}
