import { attributes, cString, type Decoded, i32be, list, message, struct, u8, u16be, u32be, u64be } from '../bytes.ts'
import { dataAttributes, expression } from './expressions.ts'
import { commentUserdata, setUserdata } from './userdata.ts'

/*
 * The messages of nf_tables (include/uapi/linux/netfilter/nf_tables.h). Integers are in network order, unlike rtnetlink's.
 */

const subsystem = 10 << 8 // NFNL_SUBSYS_NFTABLES in the upper byte of the message type

/** enum nf_tables_msg_types with the subsystem, and the two that bracket a transaction. */
export const messageTypes = {
  batchBegin: 0x10, // NFNL_MSG_BATCH_BEGIN
  batchEnd: 0x11, // NFNL_MSG_BATCH_END
  newTable: subsystem | 0, // NFT_MSG_NEWTABLE
  getTable: subsystem | 1, // NFT_MSG_GETTABLE
  deleteTable: subsystem | 2, // NFT_MSG_DELTABLE
  newChain: subsystem | 3, // NFT_MSG_NEWCHAIN
  getChain: subsystem | 4, // NFT_MSG_GETCHAIN
  deleteChain: subsystem | 5, // NFT_MSG_DELCHAIN
  newRule: subsystem | 6, // NFT_MSG_NEWRULE
  getRule: subsystem | 7, // NFT_MSG_GETRULE
  deleteRule: subsystem | 8, // NFT_MSG_DELRULE
  newSet: subsystem | 9, // NFT_MSG_NEWSET
  getSet: subsystem | 10, // NFT_MSG_GETSET
  deleteSet: subsystem | 11, // NFT_MSG_DELSET
  newElements: subsystem | 12, // NFT_MSG_NEWSETELEM
  getElements: subsystem | 13, // NFT_MSG_GETSETELEM
  deleteElements: subsystem | 14, // NFT_MSG_DELSETELEM
  newGeneration: subsystem | 15, // NFT_MSG_NEWGEN
  getGeneration: subsystem | 16, // NFT_MSG_GETGEN
} as const

/** NFPROTO_*: the families a table can have. */
export const families = { inet: 1, ip: 2, arp: 3, netdev: 5, bridge: 7, ip6: 10 } as const

/** struct nfgenmsg. */
const header = struct({ family: u8, version: u8, resource: u16be })

export const batchMessage = message(
  header,
  attributes({ generation: [1, u32be] }), // NFNL_BATCH_GENID
)

export const generationMessage = message(
  header,
  attributes({
    generation: [1, u32be], // NFTA_GEN_ID
    pid: [2, u32be], // NFTA_GEN_PROC_PID: who made it
    process: [3, cString], // NFTA_GEN_PROC_NAME
  }),
)

export const tableMessage = message(
  header,
  attributes({
    name: [1, cString], // NFTA_TABLE_NAME
    flags: [2, u32be], // NFTA_TABLE_FLAGS
    use: [3, u32be], // NFTA_TABLE_USE
    handle: [4, u64be], // NFTA_TABLE_HANDLE
    userdata: [6, commentUserdata], // NFTA_TABLE_USERDATA
  }),
)
export type TableMessage = Decoded<typeof tableMessage>

export const chainMessage = message(
  header,
  attributes({
    table: [1, cString], // NFTA_CHAIN_TABLE
    handle: [2, u64be], // NFTA_CHAIN_HANDLE
    name: [3, cString], // NFTA_CHAIN_NAME
    hook: [
      4, // NFTA_CHAIN_HOOK
      attributes({
        number: [1, u32be], // NFTA_HOOK_HOOKNUM: enum nf_inet_hooks
        priority: [2, i32be], // NFTA_HOOK_PRIORITY
        device: [3, cString], // NFTA_HOOK_DEV: the link of a chain of family netdev
      }),
    ],
    policy: [5, u32be], // NFTA_CHAIN_POLICY
    use: [6, u32be], // NFTA_CHAIN_USE: its rules and everything that jumps to it
    type: [7, cString], // NFTA_CHAIN_TYPE
    flags: [10, u32be], // NFTA_CHAIN_FLAGS
    userdata: [12, commentUserdata], // NFTA_CHAIN_USERDATA
  }),
)
export type ChainMessage = Decoded<typeof chainMessage>

export const ruleMessage = message(
  header,
  attributes({
    table: [1, cString], // NFTA_RULE_TABLE
    chain: [2, cString], // NFTA_RULE_CHAIN
    handle: [3, u64be], // NFTA_RULE_HANDLE
    expressions: [4, list(1, expression)], // NFTA_RULE_EXPRESSIONS of NFTA_LIST_ELEM
    position: [6, u64be], // NFTA_RULE_POSITION
    userdata: [7, commentUserdata], // NFTA_RULE_USERDATA
  }),
)
export type RuleMessage = Decoded<typeof ruleMessage>

export const setMessage = message(
  header,
  attributes({
    table: [1, cString], // NFTA_SET_TABLE
    name: [2, cString], // NFTA_SET_NAME
    flags: [3, u32be], // NFTA_SET_FLAGS
    keyType: [4, u32be], // NFTA_SET_KEY_TYPE: nft's own numbers, see dataTypes
    keyLength: [5, u32be], // NFTA_SET_KEY_LEN
    dataType: [6, u32be], // NFTA_SET_DATA_TYPE
    dataLength: [7, u32be], // NFTA_SET_DATA_LEN
    policy: [8, u32be], // NFTA_SET_POLICY
    description: [9, attributes({ size: [1, u32be] })], // NFTA_SET_DESC, NFTA_SET_DESC_SIZE
    id: [10, u32be], // NFTA_SET_ID: unique in its transaction; the kernel insists on one
    userdata: [13, setUserdata], // NFTA_SET_USERDATA
    handle: [16, u64be], // NFTA_SET_HANDLE
  }),
)
export type SetMessage = Decoded<typeof setMessage>

/** NFT_SET_*. */
export const setFlags = { constant: 0x2, interval: 0x4, map: 0x8, concat: 0x80 } as const

/** nft(8)'s type numbers (its include/datatype.h), which the kernel only stores; verdict is NFT_DATA_VERDICT. */
export const dataTypes = {
  ipv4_addr: 7,
  ipv6_addr: 8,
  inet_proto: 12,
  inet_service: 13,
  mark: 19,
  verdict: 0xffffff00,
} as const
export type DataType = keyof typeof dataTypes

export const elementAttributes = attributes({
  key: [1, dataAttributes], // NFTA_SET_ELEM_KEY
  data: [2, dataAttributes], // NFTA_SET_ELEM_DATA
  flags: [3, u32be], // NFTA_SET_ELEM_FLAGS
  userdata: [6, commentUserdata], // NFTA_SET_ELEM_USERDATA
})
export type Element = Decoded<typeof elementAttributes>

export const elementsMessage = message(
  header,
  attributes({
    table: [1, cString], // NFTA_SET_ELEM_LIST_TABLE
    set: [2, cString], // NFTA_SET_ELEM_LIST_SET
    setId: [4, u32be], // NFTA_SET_ELEM_LIST_SET_ID
    elements: [3, list(1, elementAttributes)], // NFTA_SET_ELEM_LIST_ELEMENTS of NFTA_LIST_ELEM
  }),
)
export type ElementsMessage = Decoded<typeof elementsMessage>
