import type { Attachment, AttachmentId } from '../config/attachment.ts'
import { isKernelError } from '../netlink-lib/errors.ts'
import { type Cidr, formatIp, ipBytes } from '../netlink-lib/ip.ts'
import { type Command, createElements, deleteElements } from '../netlink-lib/nftables/commands.ts'
import { verdicts } from '../netlink-lib/nftables/expressions.ts'
import { NetfilterSocket } from '../netlink-lib/nftables/netfilter-socket.ts'
import { AddressTaken, BackendMissing, TranslatedTwice } from './errors.ts'
import { networkMark, ownerMark, ownerMarks } from './mark.ts'
import type { Masquerade } from './masquerade.ts'
import { mapOf, masquerading, policyChain } from './masquerade-rules.ts'
import { checkSources, findSource, listSources, type Source, sourcesOf } from './masquerade-state.ts'
import { policyOf, type Translation } from './policy.ts'
import { type Chain, commit, completion, deleteUnused, isUnused, table } from './table.ts'

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
    add: (attachment, addresses, translation = {}) => add(open(), attachment, addresses, translation),
    del: (attachment, addresses = [], search = true) => del(open(), attachment, addresses, search),
    check: (attachment, addresses, translation = {}) => checkSources(open(), attachment, addresses, translation),
    collect: (network, valid) => collect(open(), network, valid),
    requireUsable: () => requireNftables(open()),
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

/** A question that needs the subsystem and no right to change anything. */
function requireNftables(socket: NetfilterSocket): void {
  try {
    socket.generation()
  } catch (error) {
    if (!isKernelError(error, 'EINVAL', 'EOPNOTSUPP', 'EPROTONOSUPPORT')) throw error
    throw new BackendMissing('this kernel has no nf_tables (CONFIG_NF_TABLES)', 'choose the backend "iptables"')
  }
}

function add(
  socket: NetfilterSocket,
  attachment: Attachment,
  addresses: readonly Cidr[],
  translation: Translation,
): void {
  const mark = ownerMark(attachment)
  const distinct = new Map(addresses.map((address) => [address.address, address]))
  const wanted = [...distinct.values()].map((address) => ({
    address,
    chain: policyChain(policyOf(attachment.network, address, translation)),
  }))
  const chains = wanted.map(({ chain }) => chain)
  commit(socket, () => {
    const elements: Command[] = []
    for (const { address, chain } of wanted) {
      const present = findSource(socket, address.address)
      if (present && present.mark !== mark) throw new AddressTaken(address.address, mark, present.mark)
      if (present?.chain === chain.name) continue
      if (present) throw new TranslatedTwice(address.address, mark)
      elements.push(createSource(address, chain, mark))
    }
    return [...completion(socket, masquerading, chains), ...elements]
  })
}

function del(socket: NetfilterSocket, attachment: Attachment, addresses: readonly string[], search: boolean) {
  const mark = ownerMark(attachment)
  const chains = new Set<string>()
  commit(socket, () => {
    const ours = sourcesOf(socket, mark, addresses, search)
    for (const { chain } of ours) if (chain !== undefined) chains.add(chain)
    return ours.map(deleteSource)
  })
  // Nothing found: perhaps a DEL before this one was killed between its two transactions.
  const mayHaveLeftovers = search && chains.size === 0
  if (mayHaveLeftovers || [...chains].some((name) => isUnused(socket, socket.findChain(table, name))))
    deleteUnused(socket, masquerading)
}

/** Elements per transaction: the socket's send buffer bounds one. */
const portion = 500

function collect(socket: NetfilterSocket, network: string, valid: readonly AttachmentId[]) {
  const keep = ownerMarks(network, valid)
  const stale = () =>
    listSources(socket).filter((source) => source.mark.startsWith(networkMark(network)) && !keep.has(source.mark))
  while (stale().length > 0) commit(socket, () => stale().slice(0, portion).map(deleteSource))
  deleteUnused(socket, masquerading)
}

const createSource = ({ address, family }: Cidr, chain: Chain, mark: string): Command => {
  const key = { value: ipBytes(address) }
  const data = { verdict: { code: verdicts.goto, chain: chain.name } }
  const element = { key, data, userdata: { comment: mark } }
  return createElements(table, mapOf(family), [element], `${address} for "${mark}"`)
}

const deleteSource = ({ family, key, mark }: Source): Command =>
  deleteElements(table, mapOf(family), [{ key: { value: key } }], `${formatIp(key)} of "${mark}"`)
