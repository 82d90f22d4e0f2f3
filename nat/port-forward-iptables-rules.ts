import { type Cidr, type Family, formatCidr, networkOf } from '../netlink-lib/ip.ts'
import { type Forward, forwardsOf, type PortForwarding, type Protocol } from './forwards.ts'
import { fnv1a } from './mark.ts'
import type { FamilyInstallation, Installation } from './port-claims.ts'

/*
 * The rules of port forwarding for iptables, as text:
 *
 *   PREROUTING, OUTPUT -m addrtype --dst-type LOCAL -j NS-NET-PORTS
 *   POSTROUTING -m mark --mark 0x2000/0x2000 -j MASQUERADE               first, before the rules of the networks
 *   NS-NET-PORTS -p tcp -m comment --comment "lab 7c1f… eth0" -m multiport --dports 8080,8443 -j NS-NET-P-e1…
 *   NS-NET-P-e1… -s 10.7.0.0/24 -p tcp -m tcp --dport 8080 -j MARK --set-xmark 0x2000/0x2000
 *   NS-NET-P-e1… -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.7.0.2:80
 */

export const portsChain = 'NS-NET-PORTS'

/** Rules that all attachments share, or all that use one bit of the mark. Without `-A`. */
export interface SharedRules {
  readonly name: string
  /** Chain that is created for them. */
  readonly chain?: string
  readonly rules: readonly string[]
}

const sharedComment = '-m comment --comment ns-net:ports'

const portsJumps: SharedRules = {
  name: portsChain,
  chain: portsChain,
  rules: ['PREROUTING', 'OUTPUT'].map(
    (hook) => `${hook} -m addrtype --dst-type LOCAL ${sharedComment} -j ${portsChain}`,
  ),
}

const markOf = (bit: number): string => {
  const value = `0x${(2 ** bit).toString(16)}`
  return `${value}/${value}`
}

const masqueradeName = /^masquerade-(\d+)$/

/** The shared rules of that name. */
export function sharedRules(name: string): SharedRules {
  const bit = masqueradeName.exec(name)?.[1]
  if (bit === undefined) return portsJumps
  return { name, rules: [`POSTROUTING -m mark --mark ${markOf(Number(bit))} ${sharedComment} -j MASQUERADE`] }
}

/** Of an attachment: 25 characters; iptables allows 28. */
const chainOf = (mark: string): string => `NS-NET-P-${fnv1a(mark)}`

/** What ADD makes. */
export function installationFor(mark: string, wish: PortForwarding): Installation {
  const forwards = forwardsOf(wish)
  const ownMasquerade = wish.masquerade !== 'none' && wish.setMarkChain === undefined
  const shared = [portsChain, ...(ownMasquerade ? [`masquerade-${wish.markBit}`] : [])]
  const chain = chainOf(mark)
  const families = wish.targets.flatMap((target): FamilyInstallation[] => {
    const { family } = target
    const own = forwards.filter((forward) => forward.family === family)
    if (own.length === 0) return []
    // A packet takes the first rule that matches: a bound port comes before the same one of all addresses.
    const ordered = [...own.filter(({ address }) => address), ...own.filter(({ address }) => !address)]
    const rules = ordered.flatMap((forward) => forwardRules(chain, forward, target, wish))
    return [{ family, chain, entries: entriesOf(mark, chain, own, wish.conditions[family]), rules, shared }]
  })
  return { forwards, families }
}

const portsAtOnce = 15 // what the multiport match takes

function entriesOf(mark: string, chain: string, forwards: readonly Forward[], conditions: readonly string[]): string[] {
  const ports = new Map<Protocol, Set<number>>()
  for (const { protocol, port } of forwards) ports.set(protocol, (ports.get(protocol) ?? new Set()).add(port))
  const asked = conditions.map((token) => `${quoted(token)} `).join('')
  return [...ports].flatMap(([protocol, all]) => {
    const list = [...all]
    return Array.from({ length: Math.ceil(list.length / portsAtOnce) }, (_, i) => {
      const some = list.slice(i * portsAtOnce, (i + 1) * portsAtOnce).join(',')
      const comment = `-m comment --comment "${mark}"`
      return `${portsChain} -p ${protocol} ${comment} -m multiport --dports ${some} ${asked}-j ${chain}`
    })
  })
}

/** As iptables-restore reads it. The configuration admits neither backslashes nor control characters. */
const quoted = (token: string): string =>
  /^[\w.:/,!@%=+-]+$/.test(token) ? token : `"${token.replaceAll('"', '\\"')}"`

function forwardRules(chain: string, forward: Forward, target: Cidr, wish: PortForwarding): string[] {
  const { family, protocol, port, address, targetPort } = forward
  const bound = address ? `-d ${address}/${family === 4 ? 32 : 128} ` : ''
  const match = `${bound}-p ${protocol} -m ${protocol} --dport ${port}`
  const action = wish.setMarkChain ? `-j ${wish.setMarkChain}` : `-j MARK --set-xmark ${markOf(wish.markBit)}`
  const to = family === 4 ? target.address : `[${target.address}]`
  return [
    ...sourcesOf(target, wish.masquerade).map((source) => `${chain} ${source}${match} ${action}`),
    `${chain} ${match} -j DNAT --to-destination ${to}:${targetPort}`,
  ]
}

function sourcesOf(target: Cidr, masquerade: PortForwarding['masquerade']): string[] {
  const family: Family = target.family
  const subnet = target.prefix === 0 ? '' : `-s ${formatCidr(networkOf(target))} `
  const local = family === 4 ? [subnet, '-s 127.0.0.0/8 '] : [subnet]
  return { none: [], local, all: [''] }[masquerade]
}
