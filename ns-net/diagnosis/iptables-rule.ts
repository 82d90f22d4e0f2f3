import { type Cidr, canonicalIp, cidr, contains, familyOf, parseCidr } from '../../netlink-lib/ip.ts'
import type { RouteKind } from '../../netlink-lib/route/decision.ts'
import type { Link } from '../../netlink-lib/route/link.ts'
import type { Moment, Packet } from './packet.ts'
import type { Action, Match } from './rules.ts'

/** A rule as iptables-save prints it: which packets, and what then. An option that is not known here is a `maybe`. */

/** Words, with what stands in quotes as one. */
export const tokensOf = (text: string): string[] =>
  [...text.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? '')

/** What the routes of the place say of an address. */
export type KindOf = (address: string) => RouteKind

type Question = (values: readonly string[], moment: Moment, kindOf: KindOf) => Match

const yesIf = (holds: boolean): Match => (holds ? 'yes' : 'no')
const opposite = (match: Match): Match => (match === 'yes' ? 'no' : match === 'no' ? 'yes' : 'maybe')

const isIn = (which: 'source' | 'destination'): Question => {
  return ([text = ''], { packet }) => {
    const range: Cidr | undefined = parseCidr(text) ?? addressAsRange(text)
    return range ? yesIf(contains(range, packet[which])) : 'maybe'
  }
}

const addressAsRange = (text: string): Cidr | undefined => {
  const address = canonicalIp(text)
  return address === undefined ? undefined : cidr(`${address}/${familyOf(address) === 4 ? 32 : 128}`)
}

/** A name that ends in `+` stands for all that begin so. */
const isNamed = (which: 'inLink' | 'outLink'): Question => {
  return ([name = ''], moment) => {
    const link: Link | undefined = moment[which]
    const actual = link?.name ?? ''
    return yesIf(name.endsWith('+') ? actual.startsWith(name.slice(0, -1)) : actual === name)
  }
}

/** `80`, `80:90`, `80,443`. */
const isPort = (which: 'sourcePort' | 'destinationPort'): Question => {
  return ([list = ''], { packet }) => {
    const port = packet[which]
    if (port === undefined) return packet.protocol === 'icmp' ? 'no' : 'maybe'
    return yesIf(
      list.split(',').some((range) => {
        const [first = '', last = first] = range.split(':')
        return port >= Number(first || 0) && port <= Number(last || 65535)
      }),
    )
  }
}

const isProtocol: Question = ([name = ''], { packet }) => {
  const names: Record<Packet['protocol'], readonly string[]> = {
    icmp: packet.family === 4 ? ['icmp', '1'] : ['ipv6-icmp', 'icmpv6', '58'],
    tcp: ['tcp', '6'],
    udp: ['udp', '17'],
  }
  return yesIf(name === 'all' || names[packet.protocol].includes(name))
}

const isState: Question = ([list = ''], { packet }) => {
  const states = list.split(',')
  const { reply, translated } = packet
  return yesIf(
    states.includes(reply ? 'ESTABLISHED' : 'NEW') ||
      (states.includes('DNAT') && translated?.destination === true) ||
      (states.includes('SNAT') && translated?.source === true),
  )
}

const echoNames = { 8: 'echo-request', 0: 'echo-reply', 128: 'echo-request', 129: 'echo-reply' } as const

const isIcmpType: Question = ([wanted = ''], { packet }) => {
  if (packet.protocol !== 'icmp') return 'no'
  const type = packet.family === 4 ? (packet.reply ? 0 : 8) : packet.reply ? 129 : 128
  return yesIf([String(type), echoNames[type], 'any', '255'].includes(wanted))
}

/** TCP: which of these flags are set; the first packet has SYN, the answer to it SYN and ACK. */
const hasFlags: Question = ([mask = '', set = ''], { packet }) => {
  if (packet.protocol !== 'tcp') return 'no'
  const all = ['FIN', 'SYN', 'RST', 'PSH', 'ACK', 'URG']
  const listed = (text: string) => (text === 'ALL' ? all : text === 'NONE' ? [] : text.split(','))
  const actual = packet.reply ? ['SYN', 'ACK'] : ['SYN']
  const wanted = listed(set)
  return yesIf(listed(mask).every((flag) => actual.includes(flag) === wanted.includes(flag)))
}

const isOfKind = (which: 'source' | 'destination'): Question => {
  return ([list = ''], { packet }, kindOf) => yesIf(list.toLowerCase().split(',').includes(kindOf(packet[which])))
}

const always: Question = () => 'yes'

/** Options that ask something, with the number of their values. */
const questions: Readonly<Record<string, readonly [values: number, question: Question]>> = {
  '-s': [1, isIn('source')],
  '-d': [1, isIn('destination')],
  '-i': [1, isNamed('inLink')],
  '-o': [1, isNamed('outLink')],
  '-p': [1, isProtocol],
  '--sport': [1, isPort('sourcePort')],
  '--dport': [1, isPort('destinationPort')],
  '--sports': [1, isPort('sourcePort')],
  '--dports': [1, isPort('destinationPort')],
  '--ctstate': [1, isState],
  '--state': [1, isState],
  '--icmp-type': [1, isIcmpType],
  '--icmpv6-type': [1, isIcmpType],
  '--tcp-flags': [2, hasFlags],
  '--src-type': [1, isOfKind('source')],
  '--dst-type': [1, isOfKind('destination')],
  '--comment': [1, always],
  // A limit that nobody has used up.
  '--limit': [1, always],
  '--limit-burst': [1, always],
  '-m': [1, always],
}

/** Targets that end the chain, and options that they take. */
const targets: Readonly<Record<string, (options: ReadonlyMap<string, string>) => Action>> = {
  ACCEPT: () => ({ kind: 'accept' }),
  DROP: () => ({ kind: 'drop' }),
  REJECT: () => ({ kind: 'reject' }),
  RETURN: () => ({ kind: 'return' }),
  MASQUERADE: () => ({ kind: 'translate', translation: { kind: 'masquerade' } }),
  SNAT: (options) => translateTo('source', options.get('--to-source')),
  DNAT: (options) => translateTo('destination', options.get('--to-destination')),
  REDIRECT: (options) => {
    const port = Number(options.get('--to-ports')?.split('-')[0])
    return { kind: 'translate', translation: { kind: 'redirect', ...(port > 0 && { port }) } }
  },
}

/** `192.0.2.1`, `192.0.2.1:80`, `192.0.2.1-192.0.2.9`, `2001:db8::1`, `[2001:db8::1]:80`. */
function translateTo(kind: 'source' | 'destination', text = ''): Action {
  const [first = ''] = text.split('-')
  const [, bracketed, six] = /^\[(.*)\](?::(\d+))?$/.exec(text) ?? []
  const [, plain, four] = /^([\d.]+)(?::(\d+))?$/.exec(first) ?? []
  const address = canonicalIp(bracketed ?? plain ?? first)
  const port = six ?? four
  return { kind: 'translate', translation: { kind, ...(address && { address }), ...(port && { port: Number(port) }) } }
}

/** Targets that let the packet go on to the next rule. */
const passingTargets = new Set([
  'LOG',
  'NFLOG',
  'MARK',
  'CONNMARK',
  'TCPMSS',
  'CT',
  'NOTRACK',
  'CLASSIFY',
  'DSCP',
  'TTL',
  'CHECKSUM',
  'SET',
  'AUDIT',
  'TRACE',
])

export function judgeRule(tokens: readonly string[], moment: Moment, kindOf: KindOf): { match: Match; action: Action } {
  let match: Match = 'yes'
  let negated = false
  for (let at = 2; at < tokens.length; at++) {
    const option = tokens[at]!
    if (option === '-j' && tokens[at + 1] === 'NFQUEUE') return { match: 'maybe', action: { kind: 'drop' } } // its reader decides
    if (option === '-j' || option === '-g') return { match, action: actionOf(tokens.slice(at)) }
    if (option === '!') {
      negated = true
      continue
    }
    const known = questions[option]
    const answer = known ? known[1](tokens.slice(at + 1, at + 1 + known[0]), moment, kindOf) : 'maybe'
    const said = negated ? opposite(answer) : answer
    if (said === 'no') return { match: 'no', action: { kind: 'continue' } }
    if (said === 'maybe') match = 'maybe'
    negated = false
    if (known) at += known[0]
    else while (at + 1 < tokens.length && !/^(-|!$)/.test(tokens[at + 1]!)) at++ // values of what is not known
  }
  return { match, action: { kind: 'continue' } } // a rule without a target counts
}

function actionOf([jump, target = '', ...rest]: readonly string[]): Action {
  const options = new Map(
    rest.flatMap((word, at) => (word.startsWith('--') ? [[word, rest[at + 1] ?? ''] as const] : [])),
  )
  const known = targets[target]
  if (known) return known(options)
  if (passingTargets.has(target)) return { kind: 'continue' }
  return { kind: jump === '-g' ? 'goto' : 'jump', chain: target }
}
