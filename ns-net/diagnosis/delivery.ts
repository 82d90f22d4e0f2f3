import { ss } from '../commands/ss.ts'
import { type Found, inWords } from './findings.ts'
import type { Packet } from './packet.ts'
import type { Place } from './places.ts'
import { sysctlCommand } from './remedy.ts'
import type { Walk } from './walk.ts'

/** The packet has come to the place that has its destination: is anybody there to take it? */

export function tellListener(walk: Walk, place: Place, packet: Packet): void {
  if (packet.reply) return
  const { protocol } = packet
  if (protocol === 'icmp') tellEcho(walk, place, packet)
  else walk.findings.add(place, undefined, listener(place, protocol, packet))
}

function tellEcho(walk: Walk, place: Place, { family }: Packet): void {
  const name = family === 4 ? ['ipv4', 'icmp_echo_ignore_all'] : ['ipv6', 'icmp', 'echo_ignore_all']
  if (place.sysctl(...name) !== '1') return
  walk.findings.add(place, undefined, {
    check: 'echo',
    finding: `net.${name.join('.')} = 1`,
    state: 'blocked',
    verdict: `${inWords(place)} does not answer echo requests`,
    fix: sysctlCommand(place, name, '0'),
  })
}

interface Listening {
  readonly address: string
  readonly port: number
}

function listener(place: Place, protocol: 'tcp' | 'udp', { destination, destinationPort: port = 0 }: Packet): Found {
  const what = `${protocol} port ${port}`
  const all = listeningIn(place, protocol)
  const here = all.filter((each) => each.port === port)
  const taking = here.find(({ address }) => takes(address, destination))
  const check = 'listening'
  if (taking) return { check, finding: `${what} on ${taking.address}`, state: 'ok' }
  const addresses = here.map(({ address }) => address).join(', ')
  if (here.length > 0)
    return {
      check,
      finding: `${what} only on ${addresses}, not on ${destination}`,
      state: 'blocked',
      verdict: `the server in ${inWords(place)} listens on ${addresses} only`,
      advice: `start it on ${destination.includes(':') ? '::' : '0.0.0.0'} or ${destination}`,
    }
  const others = [...new Set(all.map((each) => each.port))].sort((a, b) => a - b)
  return {
    check,
    finding: `nothing on ${what}${others.length > 0 ? `; there is ${others.slice(0, 8).join(', ')}` : ''}`,
    state: 'blocked',
    verdict: `nothing listens on ${what} in ${inWords(place)}`,
    advice: `start a server there, or ask for another port: ns-net ss ${place.isHost ? 'self' : place.label}`,
  }
}

/** IPv6's unspecified address takes both families, unless the server asked for one; /proc does not tell. */
function takes(listening: string, destination: string): boolean {
  if (listening === destination || listening === '::') return true
  return listening === '0.0.0.0' && !destination.includes(':')
}

function listeningIn(place: Place, protocol: 'tcp' | 'udp'): Listening[] {
  const state = protocol === 'tcp' ? 'LISTEN' : 'UNCONN'
  const [found] = ss(place.isHost ? 'self' : `path:${place.netns.path}`).json as readonly {
    readonly sockets: readonly { readonly protocol: string; readonly state: string; readonly local: string }[]
  }[]
  return (found?.sockets ?? [])
    .filter((socket) => socket.protocol === protocol && socket.state === state)
    .map(({ local }) => {
      const at = local.lastIndexOf(':')
      return { address: local.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(local.slice(at + 1)) }
    })
}
