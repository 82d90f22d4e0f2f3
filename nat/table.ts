import { isKernelError } from '../netlink-lib/errors.ts'
import {
  appendRule,
  type Command,
  createChain,
  createTable,
  deleteChain,
  deleteTable,
  flushChain,
  type Hook,
  type TableRef,
} from '../netlink-lib/nftables/commands.ts'
import type { ChainMessage } from '../netlink-lib/nftables/messages.ts'
import { type NetfilterSocket, TransactionRefused } from '../netlink-lib/nftables/netfilter-socket.ts'
import { type Expression, saysTheSame } from '../netlink-lib/nftables/statements.ts'
import { RuleMissing } from './errors.ts'

/*
 * The one nf_tables table that all our translations share. Each feature has a fixed set of base chains and maps in it,
 * and policy chains that elements of the maps lead to. What nobody uses goes: a policy chain with its last element, a
 * feature with its last policy chain, the table with the last feature.
 */

export const table: TableRef = { family: 'inet', name: 'ns-net' }
const tableComment = 'made by ns-net'

export interface Rule {
  readonly expressions: readonly Expression[]
  readonly comment?: string
}

export interface Chain {
  readonly name: string
  readonly hook?: Hook
  readonly rules: readonly Rule[]
}

/** A chain that is always the same. */
export interface BaseChain extends Chain {
  /** How many rules there are in it and lead to it: the kernel counts them, and they need not be read. */
  readonly uses: number
}

/** What one feature keeps in the table. */
export interface Feature {
  /** For the error texts: `masquerade`. */
  readonly name: string
  /** All there, or none. */
  readonly chains: readonly BaseChain[]
  /** Creates the base chains and the maps. */
  create(): Command[]
  /** Refused by the kernel with EBUSY when an element or a policy chain has appeared meanwhile. */
  delete(): Command[]
  isPolicyChain(name: string | undefined): boolean
}

const rulesOf = ({ name, rules }: Chain): Command[] =>
  rules.map(({ expressions, comment }) => appendRule(table, name, expressions, comment))

export const createWithRules = (chain: Chain): Command[] => [
  createChain(table, chain.name, chain.hook),
  ...rulesOf(chain),
]

/**
 * What the policy chains lack, and what they need in turn: chains that are gone, and rules that somebody deleted, added
 * or, of a policy chain, changed.
 */
export function completion(socket: NetfilterSocket, feature: Feature, policies: readonly Chain[]): Command[] {
  if (policies.length === 0) return []
  const byName = new Map(policies.map((chain) => [chain.name, chain]))
  const present = feature.chains.map(({ name }) => socket.findChain(table, name))
  const ofPolicies = [...byName.values()].flatMap((chain) => completionOf(socket, chain))
  if (present[0]) return [...feature.chains.flatMap((chain, i) => baseCompletion(chain, present[i])), ...ofPolicies]
  const missingTable = socket.findTable(table) ? [] : [createTable(table, tableComment)]
  return [...missingTable, ...feature.create(), ...ofPolicies]
}

function baseCompletion(chain: BaseChain, present: ChainMessage | undefined): Command[] {
  if (!present) return createWithRules(chain)
  return present.use === chain.uses ? [] : rewritten(chain)
}

function completionOf(socket: NetfilterSocket, chain: Chain): Command[] {
  if (!socket.findChain(table, chain.name)) return createWithRules(chain)
  const present = socket.listRules(table, chain.name).map(({ expressions }) => expressions)
  const wanted = chain.rules.map(({ expressions }) => expressions)
  return saysTheSame(wanted, present) ? [] : rewritten(chain)
}

const rewritten = (chain: Chain): Command[] => [flushChain(table, chain.name), ...rulesOf(chain)]

const attempts = 32

/** Repeats `plan` and its transaction until the kernel accepts it: whoever is refused lost to one that was accepted. */
export function commit(socket: NetfilterSocket, plan: () => readonly Command[]): void {
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

/** True when only its own rules keep the chain in use: no element leads to it. An absent chain counts as unused. */
export function isUnused(socket: NetfilterSocket, chain: ChainMessage | undefined): boolean {
  return !chain?.name || (chain.use ?? 0) <= socket.listRules(table, chain.name).length
}

/** Deletes the policy chains that no element leads to and, after the last one, all that the feature ever made. */
export function deleteUnused(socket: NetfilterSocket, feature: Feature): void {
  const chains = socket.listChains(table)
  const policies = chains.filter((chain) => feature.isPolicyChain(chain.name))
  const unused = policies.filter((chain) => isUnused(socket, chain)).map((chain) => deleteChain(table, chain.name!))
  const isBase = (name: string | undefined) => feature.chains.some((base) => base.name === name)
  const hasBase = chains.some(({ name }) => isBase(name))
  if (hasBase && unused.length === policies.length) {
    const isShared = chains.some(({ name }) => !isBase(name) && !feature.isPolicyChain(name))
    const all = [...unused, ...feature.delete(), ...(isShared ? [] : [deleteTable(table)])]
    // Two features that leave at the same time both see the other one.
    if (deleteIfPossible(socket, all)) {
      if (isShared) deleteEmptyTable(socket)
      return
    }
  }
  for (const one of unused) deleteIfPossible(socket, [one])
  if (chains.length === 0) deleteEmptyTable(socket)
}

/** Left by a process that was killed, or by two that each left the table to the other. */
function deleteEmptyTable(socket: NetfilterSocket): void {
  const found = socket.findTable(table)
  if (found?.userdata?.comment === tableComment && socket.listChains(table).length === 0)
    deleteIfPossible(socket, [deleteTable(table)])
}

/** False when something new needs what was to be deleted, or another process has deleted it. */
function deleteIfPossible(socket: NetfilterSocket, commands: readonly Command[]): boolean {
  try {
    socket.transaction(commands)
    return true
  } catch (error) {
    if (error instanceof TransactionRefused && isKernelError(error, 'EBUSY', 'ENOENT')) return false
    throw error
  }
}

/** Throws unless the chain is there with these rules and no others. */
export function checkChain(socket: NetfilterSocket, feature: Feature, wanted: Chain): void {
  const place = `chain ${wanted.name} of table ${table.family} ${table.name}`
  const fail = (what: string): never => {
    throw new RuleMissing(what, feature.name)
  }
  const actual = socket.findChain(table, wanted.name) ?? fail(`${place} is missing`)
  const { hook } = wanted
  if (hook && !saysTheSame({ type: hook.type, hook: { number: hook.number, priority: hook.priority } }, actual))
    fail(`${place} is not a ${hook.type} chain of priority ${hook.priority} in its hook`)
  const rules = socket.listRules(table, wanted.name)
  for (const [i, rule] of wanted.rules.entries())
    if (!saysTheSame(rule.expressions, rules[i]?.expressions))
      fail(`rule ${i + 1}${rule.comment ? ` (${rule.comment})` : ''} of ${place} is missing`)
  if (rules.length > wanted.rules.length) fail(`${place} has ${rules.length} rules, expected ${wanted.rules.length}`)
}
