import type { Attachment } from '../config/attachment.ts'
import { type Cidr, type Family, familyOf, ipBytes } from '../netlink-lib/ip.ts'
import type { Element } from '../netlink-lib/nftables/messages.ts'
import type { NetfilterSocket } from '../netlink-lib/nftables/netfilter-socket.ts'
import { RuleMissing } from './errors.ts'
import { ownerMark } from './mark.ts'
import { base, mapOf, masquerading, policyChain } from './masquerade-rules.ts'
import { policyOf, type Translation } from './policy.ts'
import { checkChain, table } from './table.ts'

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

/**
 * By address when all given addresses are ours; else the maps are searched, for the caller may not know them all, unless
 * it says that it expects none.
 */
export function sourcesOf(
  socket: NetfilterSocket,
  mark: string,
  addresses: readonly string[],
  search: boolean,
): Source[] {
  const distinct = new Set(addresses)
  const found = [...distinct].map((address) => findSource(socket, address))
  const ours = found.filter((source) => source?.mark === mark) as Source[]
  if (!search || (ours.length > 0 && ours.length === distinct.size)) return ours
  return listSources(socket).filter((source) => source.mark === mark)
}

/** Throws, naming the first object that is missing or different. */
export function checkSources(
  socket: NetfilterSocket,
  attachment: Attachment,
  addresses: readonly Cidr[],
  translation: Translation,
): void {
  const mark = ownerMark(attachment)
  checkChain(socket, masquerading, base)
  for (const address of addresses) {
    const chain = policyChain(policyOf(attachment.network, address, translation))
    const place = `map ${mapOf(address.family)} of table ${table.family} ${table.name}`
    const source = findSource(socket, address.address)
    if (!source) throw new RuleMissing(`${address.address} for "${mark}" is missing from ${place}`)
    if (source.mark !== mark)
      throw new RuleMissing(`${address.address} in ${place} belongs to "${source.mark}", expected "${mark}"`)
    if (source.chain !== chain.name)
      throw new RuleMissing(`${address.address} in ${place} leads to ${source.chain}, expected ${chain.name}`)
    checkChain(socket, masquerading, chain)
  }
}
