import type { Attachment } from '../config/attachment.ts'
import { type Cidr, type Family, familyOf, ipBytes } from '../netlink-lib/ip.ts'
import type { ChainMessage, Element } from '../netlink-lib/nftables/messages.ts'
import type { NetfilterSocket } from '../netlink-lib/nftables/netfilter-socket.ts'
import { saysTheSame } from '../netlink-lib/nftables/statements.ts'
import { TranslationMissing } from './errors.ts'
import { ownerMark } from './mark.ts'
import { base, type Chain, mapOf, policyChain, table } from './masquerade-rules.ts'
import { policyOf } from './policy.ts'

/* What the kernel holds of our masquerading: nothing here changes it. */

/** An element of one of the two maps. */
export interface Source {
  readonly family: Family
  readonly key: Buffer
  readonly mark: string
  /** The policy chain it leads to. */
  readonly chain: string | undefined
}

const sourceOf = (family: Family, element: Element): Source => ({
  family,
  key: element.key?.value ?? Buffer.alloc(0),
  mark: element.userdata?.comment ?? 'an element without a comment',
  chain: element.data?.verdict?.chain,
})

export function findSource(socket: NetfilterSocket, address: string): Source | undefined {
  const family = familyOf(address)
  const element = socket.findElement(table, mapOf(family), ipBytes(address))
  return element && sourceOf(family, element)
}

/** Reads both maps wholly. */
export function listSources(socket: NetfilterSocket): Source[] {
  const families = [4, 6] as const
  return families.flatMap((family) =>
    socket.listElements(table, mapOf(family)).map((element) => sourceOf(family, element)),
  )
}

/** By address when all given addresses are ours; else the maps are searched, for the caller may not know them all. */
export function sourcesOf(socket: NetfilterSocket, mark: string, addresses: readonly string[]): Source[] {
  const distinct = new Set(addresses)
  const found = [...distinct].map((address) => findSource(socket, address))
  const ours = found.filter((source) => source?.mark === mark) as Source[]
  if (ours.length > 0 && ours.length === distinct.size) return ours
  return listSources(socket).filter((source) => source.mark === mark)
}

/** True when only its own rules keep the chain in use: no element leads to it. An absent chain counts as unused. */
export function isUnused(socket: NetfilterSocket, chain: ChainMessage | undefined): boolean {
  return !chain?.name || (chain.use ?? 0) <= socket.listRules(table, chain.name).length
}

/** Throws, naming the first object that is missing or different. */
export function checkSources(
  socket: NetfilterSocket,
  attachment: Attachment,
  addresses: readonly Cidr[],
  exempt: readonly Cidr[],
): void {
  const mark = ownerMark(attachment)
  checkChain(socket, base)
  for (const address of addresses) {
    const chain = policyChain(policyOf(attachment.network, address, exempt))
    const place = `map ${mapOf(address.family)} of table ${table.family} ${table.name}`
    const source = findSource(socket, address.address)
    if (!source) throw new TranslationMissing(`${address.address} for "${mark}" is missing from ${place}`)
    if (source.mark !== mark)
      throw new TranslationMissing(`${address.address} in ${place} belongs to "${source.mark}", expected "${mark}"`)
    if (source.chain !== chain.name)
      throw new TranslationMissing(`${address.address} in ${place} leads to ${source.chain}, expected ${chain.name}`)
    checkChain(socket, chain)
  }
}

function checkChain(socket: NetfilterSocket, wanted: Chain): void {
  const place = `chain ${wanted.name} of table ${table.family} ${table.name}`
  const actual = socket.findChain(table, wanted.name)
  if (!actual) throw new TranslationMissing(`${place} is missing`)
  const { hook } = wanted
  if (hook && !saysTheSame({ type: hook.type, hook: { number: hook.number, priority: hook.priority } }, actual))
    throw new TranslationMissing(`${place} is not a ${hook.type} chain of priority ${hook.priority} in its hook`)
  const rules = socket.listRules(table, wanted.name)
  for (const [i, rule] of wanted.rules.entries())
    if (!saysTheSame(rule.expressions, rules[i]?.expressions))
      throw new TranslationMissing(`rule ${i + 1}${rule.comment ? ` (${rule.comment})` : ''} of ${place} is missing`)
  if (rules.length > wanted.rules.length)
    throw new TranslationMissing(`${place} has ${rules.length} rules, expected ${wanted.rules.length}`)
}
