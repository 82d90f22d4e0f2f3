import { connectionState } from './nft-values.ts'
import type { Moment } from './packet.ts'
import { protocolNumber } from './packet.ts'
import type { Action, Match } from './rules.ts'

/**
 * Matches and targets of xtables inside rules of nf_tables, as iptables' nft variant writes them. Read only where
 * iptables-save is not installed, which prints them all.
 */

const protocolsWithPorts = { tcp: 6, udp: 17 } as const

/** struct xt_tcp, struct xt_udp: ports from and to, source then destination, and which are negated. */
function judgePorts(info: Buffer, invertAt: number, { packet }: Moment): Match {
  const answers = (
    [
      ['sourcePort', 0, 1],
      ['destinationPort', 4, 2],
    ] as const
  ).map(([which, at, flag]): Match => {
    const [first, last] = [info.readUInt16LE(at), info.readUInt16LE(at + 2)]
    if (first === 0 && last === 0xffff) return 'yes'
    const port = packet[which]
    if (port === undefined) return 'maybe'
    const inverted = ((info[invertAt] ?? 0) & flag) !== 0
    return (port >= first && port <= last) !== inverted ? 'yes' : 'no'
  })
  return answers.includes('no') ? 'no' : answers.includes('maybe') ? 'maybe' : 'yes'
}

/** struct xt_conntrack_mtinfo3. */
const connectionMatch = { flags: 146, inverted: 148, states: 150 } as const
const matchesState = 1 // XT_CONNTRACK_STATE

function judgeConnection(info: Buffer, { packet }: Moment): Match {
  if (info.length < connectionMatch.states + 2 || info.readUInt16LE(connectionMatch.flags) !== matchesState)
    return 'maybe'
  const state = packet.reply ? connectionState.established : connectionState.new
  const listed = (info.readUInt16LE(connectionMatch.states) & state) !== 0
  const inverted = (info.readUInt16LE(connectionMatch.inverted) & matchesState) !== 0
  return listed !== inverted ? 'yes' : 'no'
}

export function judgeMatch(name: string, info: Buffer, moment: Moment): Match {
  switch (name) {
    case 'comment':
      return 'yes'
    case 'tcp':
    case 'udp':
      if (protocolNumber(moment.packet) !== protocolsWithPorts[name]) return 'no'
      return judgePorts(info, name === 'tcp' ? 11 : 8, moment)
    case 'conntrack':
      return judgeConnection(info, moment)
    default:
      return 'maybe'
  }
}

export function targetAction(name: string): Action {
  switch (name) {
    case 'REJECT':
      return { kind: 'reject' }
    case 'MASQUERADE':
      return { kind: 'translate', translation: { kind: 'masquerade' } }
    case 'SNAT':
      return { kind: 'translate', translation: { kind: 'source' } }
    case 'DNAT':
    case 'REDIRECT':
      return { kind: 'translate', translation: { kind: 'destination' } }
    default:
      return { kind: 'continue' } // LOG, MARK, TCPMSS and others let the packet go on
  }
}
