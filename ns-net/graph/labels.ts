import type { GraphLink } from './graph.ts'

/** Words that drawings have in common. */

/** Names come from anybody who may create a link or a file: what would steer a terminal or break a document is spelt out. */
export const printable = (text: string): string =>
  text.replace(/[\p{C}\u2028\u2029]/gu, (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`)

const states = { up: undefined, down: 'DOWN', 'no-carrier': 'NO CARRIER' } as const

/** Undefined when there is nothing to say: the link is up. */
export const stateWord = ({ state }: Pick<GraphLink, 'state'>): string | undefined => states[state]

/** Those that somebody gave it; every link has a link-local one by itself. */
export const givenAddresses = ({ addresses }: Pick<GraphLink, 'addresses'>): string[] =>
  addresses.filter((address) => !address.startsWith('fe80:'))

export const gatewayWords = ({ gateways }: Pick<GraphLink, 'gateways'>): string[] =>
  gateways.map((gateway) => (gateway === 'direct' ? 'default route' : `default via ${gateway}`))

/** A range of a thousand ports would hide everything else. */
const mostPorts = 8

/** What happens to its packets on the way out and in. */
export function translationWords({ nat, ports }: Pick<GraphLink, 'nat' | 'ports'>): string[] {
  const more = ports.length > mostPorts ? [`${ports.length - mostPorts} more ports`] : []
  const translators = nat.map((place) => (place === 'host' ? 'nat' : `nat by ${printable(place)}`))
  return [...translators, ...ports.slice(0, mostPorts), ...more]
}

/** All that is told of a link besides its name, state and addresses. */
export const remarks = (link: GraphLink): string[] => [...gatewayWords(link), ...translationWords(link)]

const common = ['veth', 'device', 'loopback']

/** What it is, where that is not plain, and its state, where it does not work. */
export const kindAndState = (link: GraphLink): string[] =>
  [common.includes(link.kind) ? undefined : printable(link.kind), stateWord(link)].filter((word) => word !== undefined)

/** A link in a few short lines, the first one its name. */
export const labelLines = (link: GraphLink): string[] => [
  [printable(link.name), ...kindAndState(link)].join(' '),
  ...givenAddresses(link),
  ...remarks(link),
]
