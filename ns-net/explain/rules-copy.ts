import { spawnSync } from 'node:child_process'
import { hasProgram } from '../../nat/iptables.ts'
import { isKernelError } from '../../netlink-lib/errors.ts'
import {
  chainMessage,
  elementsMessage,
  messageTypes,
  ruleMessage,
  type SetMessage,
  setMessage,
  tableMessage,
} from '../../netlink-lib/nftables/messages.ts'
import { NetfilterSocket } from '../../netlink-lib/nftables/netfilter-socket.ts'
import { flags, NetlinkSocket, protocols, type Request } from '../../netlink-lib/socket.ts'
import type { Place, Places } from './place.ts'
import { Tables } from './tables.ts'

/* Our own tables of nf_tables, and all of iptables: what the verbs look at and change. */

const command = (type: number, body: Buffer, sent: number): Request => ({
  type,
  flags: sent,
  body,
  operation: 'copy',
  subject: 'nftables',
})

/** The transactions that make the tables again; elements come in portions. */
export function takeDownTables(place: Place, places: Places): Request[][] {
  using netlink = places.run(place, () => new NetlinkSocket(protocols.netfilter))
  try {
    return transactionsFor(netlink)
  } catch (error) {
    if (isKernelError(error, 'EINVAL', 'EOPNOTSUPP', 'EPROTONOSUPPORT')) return [] // a kernel without nf_tables
    throw error
  }
}

const portion = 200

function transactionsFor(netlink: NetlinkSocket): Request[][] {
  const tables = new Tables(netlink)
  const isOurs = ({ table }: { readonly table?: string }) => table?.startsWith('ns-net') ?? false
  const sets = tables.listSets().filter(isOurs)
  const chains = tables.listChains().filter(isOurs)
  const structure = [
    ...tables
      .listTables()
      .filter(({ name }) => isOurs({ table: name }) || name === 'firewalld') // that one is asked after, and may be empty
      .map(({ family, name, userdata }) =>
        command(messageTypes.newTable, tableMessage.encode({ family, name, flags: 0, userdata }), flags.create),
      ),
    ...byHandle([
      ...sets.map(({ handle, unknown: _, ...set }, i) => {
        const request = command(messageTypes.newSet, setMessage.encode({ ...set, id: i + 1 }), flags.create)
        return { family: set.family, table: set.table, handle, request }
      }),
      ...chains.map(({ family, table, name, handle, hook, type, policy, userdata }) => {
        const body = chainMessage.encode({ family, table, name, hook, type, policy, userdata })
        return { family, table, handle, request: command(messageTypes.newChain, body, flags.create) }
      }),
      ...chains
        .flatMap((chain) => tables.rules(chain, chain.name))
        .map(({ family, table, chain, handle, expressions, userdata }) => {
          const body = ruleMessage.encode({ family, table, chain, expressions, userdata })
          return {
            family,
            table,
            handle,
            request: command(messageTypes.newRule, body, flags.create | flags.append),
          }
        }),
    ]),
  ]
  return [structure, ...sets.flatMap((set) => elementsOf(set, tables))]
}

interface Numbered {
  readonly family?: number
  readonly table?: string
  readonly handle?: bigint
  readonly request: Request
}

/**
 * A rule is deleted by its handle, so in the copy it has to be the same. The kernel counts what a table gets, whatever
 * it is: so all is made in that order, and a chain that goes again takes each number that nobody has any more. Our rules
 * are only ever appended, so this is their order, too.
 */
function byHandle(all: readonly Numbered[]): Request[] {
  const next = new Map<string, bigint>()
  return all
    .toSorted((a, b) => Number((a.handle ?? 0n) - (b.handle ?? 0n)))
    .flatMap(({ family, table, handle = 0n, request }) => {
      const key = `${family} ${table}`
      const skipped = Number(handle - (next.get(key) ?? 1n))
      next.set(key, handle + 1n)
      const body = chainMessage.encode({ family, table, name: 'skipped' })
      const skip = [command(messageTypes.newChain, body, flags.create), command(messageTypes.deleteChain, body, 0)]
      return [...Array.from({ length: Math.max(0, Math.min(skipped, mostSkipped)) }, () => skip).flat(), request]
    })
}

/** Where rules have come and gone this often without the table, the handles in what is printed may be others. */
const mostSkipped = 1000

function elementsOf({ family, table, name }: SetMessage, tables: Tables): Request[][] {
  const all = tables.elements({ family, table }, name)
  return Array.from({ length: Math.ceil(all.length / portion) }, (_, i) => {
    const elements = all.slice(i * portion, (i + 1) * portion)
    const body = elementsMessage.encode({ family, table, set: name, elements })
    return [command(messageTypes.newElements, body, flags.create)]
  })
}

export function rebuildTables(place: Place, places: Places, transactions: readonly Request[][]): void {
  using netfilter = places.run(place, () => new NetfilterSocket())
  for (const commands of transactions) netfilter.transaction(commands)
}

const programs = ['iptables', 'ip6tables'] as const

/** What each program saves; nothing where it is not installed or has no tables. */
export function saveIptables(): Map<string, string> {
  const saved = new Map<string, string>()
  for (const program of programs) {
    if (!hasProgram(program)) continue
    const { stdout, status } = spawnSync(`${program}-save`, [], { encoding: 'utf8' })
    if (status === 0 && stdout.includes('*')) saved.set(program, stdout)
  }
  return saved
}

/** Returns what did not work. A rule about an ipset is left out: the set is not there. */
export function restoreIptables(saved: ReadonlyMap<string, string>): string[] {
  return [...saved].flatMap(([program, text]) => {
    const input = text
      .split('\n')
      .filter((line) => !/ -m set /.test(line))
      .join('\n')
    const { status, stderr } = spawnSync(`${program}-restore`, { input, encoding: 'utf8' })
    return status === 0 ? [] : [`${program}: ${stderr.trim().split('\n')[0]}`]
  })
}
