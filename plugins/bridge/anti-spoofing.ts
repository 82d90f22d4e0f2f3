import { isKernelError } from '../../netlink-lib/errors.ts'
import {
  appendRule,
  createChain,
  createTable,
  deleteChain,
  deleteTable,
  type TableRef,
} from '../../netlink-lib/nftables/commands.ts'
import {
  cmpOps,
  type Expression,
  metaKeys,
  payloadBases,
  registers,
  verdicts,
} from '../../netlink-lib/nftables/expressions.ts'
import type { NetfilterSocket } from '../../netlink-lib/nftables/netfilter-socket.ts'
import { CniError, codes } from '../contract/errors.ts'

/*
 * macspoofchk: what a container sends must carry its own MAC as source. One chain at the ingress of its host link,
 * before the bridge sees the frame:
 *
 *   table netdev ns-net { chain vethab12… { type filter hook ingress device vethab12… priority 0; ether saddr != MAC drop } }
 *
 * A frame passes one comparison, whoever else is attached; rejected: the reference's chains in the bridge family, which
 * every frame of every container runs through.
 */
const table: TableRef = { family: 'netdev', name: 'ns-net' }

const otherSource = (mac: string): Expression[] => [
  // Only for nft(8), which without this match prints raw bytes instead of `ether saddr`.
  { meta: { key: metaKeys.iiftype, dreg: registers.r1 } },
  { cmp: { sreg: registers.r1, op: cmpOps.eq, data: { value: Buffer.from([1, 0]) } } }, // ARPHRD_ETHER
  { payload: { dreg: registers.r1, base: payloadBases.link, offset: 6, length: 6 } }, // struct ethhdr, h_source
  { cmp: { sreg: registers.r1, op: cmpOps.neq, data: { value: Buffer.from(mac.replaceAll(':', ''), 'hex') } } },
  { immediate: { dreg: registers.verdict, data: { verdict: { code: verdicts.drop } } } },
]

/** Drops what comes in by the link with another source address than `mac`. */
export function refuseOtherSources(netfilter: NetfilterSocket, link: string, mac: string): void {
  const chain = [
    createChain(table, link, { type: 'filter', number: 0, priority: 0, device: link }), // NF_NETDEV_INGRESS
    appendRule(table, link, otherSource(mac), `only ${mac}`),
  ]
  for (let attempt = 0; ; attempt++) {
    const create = netfilter.findTable(table) ? [] : [createTable(table, 'made by ns-net')]
    try {
      netfilter.transaction([...create, ...chain])
      return
    } catch (error) {
      // Another ADD made the table, or another DEL removed it, between the look and the transaction.
      if (attempt === 8 || !isKernelError(error, 'EEXIST', 'ENOENT') || netfilter.findChain(table, link)) throw error
    }
  }
}

/** Takes the chain of the link away, and the table with the last one. Absent is done. */
export function allowAnySource(netfilter: NetfilterSocket, link: string): void {
  try {
    if (netfilter.findChain(table, link)) netfilter.transaction([deleteChain(table, link)])
    if (netfilter.findTable(table)?.use === 0) netfilter.transaction([deleteTable(table)])
  } catch (error) {
    if (!isKernelError(error, 'ENOENT', 'EBUSY')) throw error // another DEL was faster, or an ADD came in between
  }
}

/** Chains whose link is gone, whoever they belonged to. */
export function collectChains(netfilter: NetfilterSocket, linkExists: (name: string) => boolean): void {
  for (const { name } of netfilter.listChains(table)) if (name && !linkExists(name)) allowAnySource(netfilter, name)
}

export function checkSources(netfilter: NetfilterSocket, link: string): void {
  if (netfilter.listRules(table, link).length === 0)
    throw new CniError(codes.checkFailed, `CHECK: the rule against MAC spoofing on "${link}" is gone`)
}
