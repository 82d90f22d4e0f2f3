import { isKernelError } from '../../netlink-lib/errors.ts'
import { nameOf, type TableRef } from '../../netlink-lib/nftables/commands.ts'
import {
  type ChainMessage,
  chainMessage,
  type Element,
  families,
  messageTypes,
  type RuleMessage,
  ruleMessage,
  setFlags,
  setMessage,
  tableMessage,
} from '../../netlink-lib/nftables/messages.ts'
import { NetfilterSocket } from '../../netlink-lib/nftables/netfilter-socket.ts'
import { NetlinkSocket, protocols, type Reply } from '../../netlink-lib/socket.ts'
import type { Place } from './places.ts'

/** A set or map with its elements, sorted by key. */
export interface ElementSet {
  /** Each element is the beginning or the end of a range. */
  readonly isInterval: boolean
  readonly elements: readonly Element[]
}

/** A chain that packets come by on their own. */
export interface BaseChain {
  readonly table: TableRef
  readonly name: string
  readonly type: string
  /** enum nf_inet_hooks. */
  readonly hook: number
  readonly priority: number
  readonly policy: 'accept' | 'drop'
  /** Names of links; of family netdev only. */
  readonly devices: readonly string[]
}

/** All of nf_tables in one place, read at once. Sets are read when a rule asks. */
export class Ruleset implements Disposable {
  readonly baseChains: readonly BaseChain[]
  readonly #rules = new Map<string, RuleMessage[]>()
  readonly #sets = new Map<string, ElementSet>()
  readonly #netlink: NetlinkSocket
  readonly #netfilter: NetfilterSocket

  constructor(place: Place) {
    this.#netlink = place.inside(() => new NetlinkSocket(protocols.netfilter))
    this.#netfilter = new NetfilterSocket(this.#netlink)
    const dormant = new Set(
      this.#dump(messageTypes.getTable, tableMessage.encode({ family: 0 }))
        .map((reply) => tableMessage.decode(reply.body))
        .filter(({ flags = 0 }) => flags & 1) // NFT_TABLE_F_DORMANT
        .map(({ family, name }) => `${family} ${name}`),
    )
    this.baseChains = this.#dump(messageTypes.getChain, chainMessage.encode({ family: 0 }))
      .map((reply) => chainMessage.decode(reply.body))
      .filter(({ family, table }) => !dormant.has(`${family} ${table}`))
      .flatMap(toBaseChain)
      .sort((a, b) => a.priority - b.priority)
    for (const { body } of this.#dump(messageTypes.getRule, ruleMessage.encode({ family: 0 }))) {
      const rule = ruleMessage.decode(body)
      const key = keyOf({ family: familyName(rule.family), name: rule.table! }, rule.chain!)
      this.#rules.set(key, [...(this.#rules.get(key) ?? []), rule])
    }
  }

  [Symbol.dispose](): void {
    this.#netfilter[Symbol.dispose]()
  }

  rulesOf(table: TableRef, chain: string): readonly RuleMessage[] {
    return this.#rules.get(keyOf(table, chain)) ?? []
  }

  setOf(table: TableRef, name: string): ElementSet {
    const known = this.#sets.get(keyOf(table, name))
    if (known) return known
    const body = setMessage.encode({ family: families[table.family], table: table.name, name })
    const [described] = this.#netlink.request({
      type: messageTypes.getSet,
      body,
      operation: 'read set',
      subject: `${name} in table ${nameOf(table)}`,
    })
    const { flags = 0 } = described ? setMessage.decode(described.body) : {}
    const elements = this.#netfilter.listElements(table, name).sort(byKey)
    const set = { isInterval: (flags & setFlags.interval) !== 0, elements }
    this.#sets.set(keyOf(table, name), set)
    return set
  }

  #dump(type: number, body: Buffer): Reply[] {
    try {
      return this.#netlink.dump({ type, body, operation: 'list', subject: 'nftables' })
    } catch (error) {
      // A kernel without nf_tables, or one that is loaded at the first use and has not been used.
      if (isKernelError(error, 'EINVAL', 'EOPNOTSUPP', 'EPROTONOSUPPORT', 'ENOENT')) return []
      throw error
    }
  }
}

const keyOf = (table: TableRef, name: string): string => `${nameOf(table)}\0${name}`

const familyName = (number: number | undefined): keyof typeof families =>
  (Object.keys(families) as (keyof typeof families)[]).find((name) => families[name] === number) ?? 'inet'

function toBaseChain({ family, table, name, type, hook, policy, userdata: _ }: ChainMessage): BaseChain[] {
  if (!hook) return []
  return [
    {
      table: { family: familyName(family), name: table! },
      name: name!,
      type: type ?? 'filter',
      hook: hook.number ?? 0,
      priority: hook.priority ?? 0,
      policy: policy === 0 ? 'drop' : 'accept', // NF_DROP
      devices: hook.device ? [hook.device] : deviceList(hook.unknown),
    },
  ]
}

/** NFTA_HOOK_DEVS of NFTA_DEVICE_NAME: a chain of several links. */
function deviceList(unknown: readonly { readonly type: number; readonly data: Buffer }[] = []): string[] {
  const list = unknown.find(({ type }) => (type & 0x3fff) === 4)?.data
  if (!list) return []
  const names: string[] = []
  for (let at = 0; at + 4 <= list.length; at += (list.readUInt16LE(at) + 3) & ~3)
    names.push(list.toString('utf8', at + 4, at + list.readUInt16LE(at) - 1))
  return names
}

const intervalEnd = 1 // NFT_SET_ELEM_INTERVAL_END

/** Where two ranges meet, the end of the first has the key that the second begins with, and comes before it. */
function byKey(a: Element, b: Element): number {
  const order = Buffer.compare(a.key?.value ?? Buffer.alloc(0), b.key?.value ?? Buffer.alloc(0))
  return order || ((b.flags ?? 0) & intervalEnd) - ((a.flags ?? 0) & intervalEnd)
}

/** The element for a key: the same one, or the range that it lies in. */
export function elementFor({ isInterval, elements }: ElementSet, key: Buffer): Element | undefined {
  const catchAll = elements.find(({ flags = 0 }) => flags & 2) // NFT_SET_ELEM_CATCHALL
  if (!isInterval) return elements.find((element) => element.key?.value?.equals(key)) ?? catchAll
  const before = elements.findLast((element) => element.key?.value && Buffer.compare(element.key.value, key) <= 0)
  return before && !((before.flags ?? 0) & intervalEnd) ? before : catchAll
}
