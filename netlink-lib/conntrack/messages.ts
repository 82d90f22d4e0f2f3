import { attributes, type Decoded, message, raw, struct, u8, u16be, u32, u32be } from '../bytes.ts'

/* The messages of connection tracking (include/uapi/linux/netfilter/nfnetlink_conntrack.h). */

const subsystem = 1 << 8 // NFNL_SUBSYS_CTNETLINK in the upper byte of the message type

/** enum cntl_msg_types with the subsystem. */
export const messageTypes = {
  getFlow: subsystem | 1, // IPCTNL_MSG_CT_GET
  deleteFlow: subsystem | 2, // IPCTNL_MSG_CT_DELETE
  getStatistics: subsystem | 5, // IPCTNL_MSG_CT_GET_STATS
} as const

/** AF_INET, AF_INET6. */
export const addressFamilies = { 4: 2, 6: 10 } as const

/** struct nfgenmsg. */
const header = struct({ family: u8, version: u8, resource: u16be })

/** CTA_TUPLE_*: one direction of a flow. */
export const tupleAttributes = attributes({
  ip: [
    1, // CTA_TUPLE_IP
    attributes({
      source4: [1, raw], // CTA_IP_V4_SRC
      destination4: [2, raw], // CTA_IP_V4_DST
      source6: [3, raw], // CTA_IP_V6_SRC
      destination6: [4, raw], // CTA_IP_V6_DST
    }),
  ],
  protocol: [
    2, // CTA_TUPLE_PROTO
    attributes({
      number: [1, u8], // CTA_PROTO_NUM
      sourcePort: [2, u16be], // CTA_PROTO_SRC_PORT
      destinationPort: [3, u16be], // CTA_PROTO_DST_PORT
    }),
  ],
  zone: [3, u16be], // CTA_TUPLE_ZONE
})
export type Tuple = Decoded<typeof tupleAttributes>

/** Bits of CTA_FILTER_ORIG_FLAGS (include/net/netfilter/nf_conntrack.h has them as CTA_FILTER_F_*). */
export const filterFlags = { protocolNumber: 1 << 3, destinationPort: 1 << 5 } as const

/** IPS_SRC_NAT, IPS_DST_NAT. */
export const flowStatus = { sourceTranslated: 1 << 4, destinationTranslated: 1 << 5 } as const

export const flowMessage = message(
  header,
  attributes({
    original: [1, tupleAttributes], // CTA_TUPLE_ORIG
    reply: [2, tupleAttributes], // CTA_TUPLE_REPLY
    status: [3, u32be], // CTA_STATUS
    id: [12, u32be], // CTA_ID
    zone: [18, u16be], // CTA_ZONE
    filter: [25, attributes({ original: [1, u32] })], // CTA_FILTER, CTA_FILTER_ORIG_FLAGS in host order
  }),
)
export type FlowMessage = Decoded<typeof flowMessage>

/** CTA_STATS_GLOBAL_*: of the whole namespace. */
export const statisticsMessage = message(header, attributes({ entries: [1, u32be] }))
