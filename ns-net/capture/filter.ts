import { canonicalIp } from '../../netlink-lib/ip.ts'
import { CliError } from '../errors.ts'
import type { Frame } from './frame.ts'

/** Says which packets to keep. */
export type Filter = (frame: Frame) => boolean

const protocols: Readonly<Record<string, Filter>> = {
  arp: ({ protocol }) => protocol === 'ARP',
  icmp: ({ protocol }) => protocol === 'ICMP',
  icmp6: ({ protocol }) => protocol === 'ICMPv6',
  tcp: ({ protocol }) => protocol === 'TCP',
  udp: ({ protocol }) => protocol === 'UDP',
  ip: ({ family }) => family === 4,
  ip6: ({ family }) => family === 6,
}

const known = `known are host A, port N, src or dst before these, ${Object.keys(protocols).join(', ')}, "not" before one, "and" between them`

const notUnderstood = (text: string, why: string): CliError =>
  new CliError('usage', `filter "${text}": ${why}`, `${known}; for more, write all with -w and filter in Wireshark`)

/**
 * A few words of tcpdump's language, with its meaning: `host 10.88.0.2 and not port 22`. What it does not know is
 * refused, because a filter that says something else than was meant is worse than none.
 */
export function parseFilter(text: string): Filter {
  const words = text.trim().split(/\s+/)
  const terms: Filter[] = []
  for (;;) {
    terms.push(parseTerm(words, text))
    const next = words.shift()
    if (next === undefined) return (frame) => terms.every((term) => term(frame))
    if (next !== 'and' && next !== '&&') throw notUnderstood(text, `"${next}" where only "and" can be`)
  }
}

/** Takes one term off the front. */
function parseTerm(words: string[], text: string): Filter {
  const word = words.shift()
  if (word === undefined || word === '') throw notUnderstood(text, 'it ends where a word is expected')
  if (word === 'not' || word === '!') {
    const term = parseTerm(words, text)
    return (frame) => !term(frame)
  }
  const protocol = Object.hasOwn(protocols, word) ? protocols[word] : undefined
  if (protocol) return protocol
  const side = word === 'src' || word === 'dst' ? word : undefined
  const what = side ? (words.shift() ?? '') : word
  const sides = <T>(source: T, destination: T): T[] =>
    side === 'src' ? [source] : side === 'dst' ? [destination] : [source, destination]
  if (what === 'host') {
    const address = addressIn(words.shift(), text)
    return ({ source, destination }) => sides(source, destination).includes(address)
  }
  if (what === 'port') {
    const port = portIn(words.shift(), text)
    return ({ sourcePort, destinationPort }) => sides(sourcePort, destinationPort).includes(port)
  }
  const address = side && canonicalIp(what)
  if (address) return ({ source, destination }) => sides(source, destination).includes(address)
  throw notUnderstood(text, `"${what}" is not understood`)
}

function addressIn(word: string | undefined, text: string): string {
  const address = word === undefined ? undefined : canonicalIp(word)
  if (address === undefined) throw notUnderstood(text, `"host" needs an IP address, got "${word ?? 'nothing'}"`)
  return address
}

function portIn(word: string | undefined, text: string): number {
  if (word === undefined || !/^\d{1,5}$/.test(word) || Number(word) > 65535)
    throw notUnderstood(text, `"port" needs a number up to 65535, got "${word ?? 'nothing'}"`)
  return Number(word)
}
