import { bitsOf, canonicalIp, type Family, familyOf, parseCidr } from '../netlink-lib/ip.ts'
import { addressIn, type Comparison, type Expression, linkNamed } from '../netlink-lib/nftables/statements.ts'

/*
 * Conditions in the language of nft(8), as far as it is understood here:
 *
 *   ip saddr 10.0.0.0/8       ip saddr != 10.0.0.0/8      also daddr; ip6 for IPv6
 *   iifname "eth0"            iifname != "wg*"            also oifname
 */

/** The words of the tokens, whether they come one by one or several in one string. */
const wordsOf = (tokens: readonly string[]): string[] => tokens.flatMap((token) => token.split(/\s+/)).filter(Boolean)

/** Which backend these tokens were written for: the matches of iptables begin with `-`, or with `!`. */
export function backendOfConditions(tokens: readonly string[]): 'iptables' | 'nftables' | undefined {
  const first = tokens[0]?.trim()[0]
  if (first === undefined) return undefined
  return first === '-' || first === '!' ? 'iptables' : 'nftables'
}

/** Throws a plain sentence about what is not understood. */
export function parseConditions(tokens: readonly string[], family: Family): Expression[] {
  const words = wordsOf(tokens)
  const matches: Expression[][] = []
  while (words.length > 0) matches.push(parseMatch(words, family))
  return matches.flat()
}

/** Takes one match off the front of the words. */
function parseMatch(words: string[], family: Family): Expression[] {
  const subject = words.shift()!
  if (subject === 'iifname' || subject === 'oifname') {
    const op = comparison(words)
    return linkNamed(subject, linkName(words.shift()), op)
  }
  const protocol = family === 4 ? 'ip' : 'ip6'
  const field = words[0]
  if (subject === protocol && (field === 'saddr' || field === 'daddr')) {
    words.shift()
    const op = comparison(words)
    return addressIn(field, range(words.shift(), family), op)
  }
  throw new Error(
    `"${field === undefined ? subject : `${subject} ${field}`}" is not understood; ` +
      `expected ${protocol} saddr, ${protocol} daddr, iifname or oifname`,
  )
}

function comparison(words: string[]): Comparison {
  if (words[0] !== '!=' && words[0] !== '==') return 'eq'
  return words.shift() === '!=' ? 'neq' : 'eq'
}

function range(text: string | undefined, family: Family) {
  const single = text === undefined ? undefined : canonicalIp(text)
  const parsed = single
    ? { address: single, prefix: bitsOf(familyOf(single)), family: familyOf(single) }
    : parseCidr(text ?? '')
  // A prefix of length 0 is no condition, and its opposite none that can be met.
  if (parsed?.family === family && parsed.prefix > 0) return parsed
  throw new Error(`expected an IPv${family} address or CIDR, got ${text === undefined ? 'nothing' : `"${text}"`}`)
}

function linkName(text: string | undefined): string {
  const name = text?.replace(/^"(.*)"$/, '$1') ?? ''
  if (/^[^\s"/]{1,15}$/.test(name) && name !== '*') return name
  throw new Error(`expected the name of a link, got ${text === undefined ? 'nothing' : text}`)
}
