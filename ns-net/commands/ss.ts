import fs from 'node:fs'
import { formatIp } from '../../netlink-lib/ip.ts'
import { Netns } from '../../netlink-lib/netns.ts'
import { listNetnsNames, netnsPath } from '../labs.ts'
import { type Report, table } from '../output.ts'
import { listProcesses } from '../processes.ts'
import { inodeOf, parseTarget } from '../targets.ts'

const protocols = ['tcp', 'tcp6', 'udp', 'udp6'] as const

export interface Socket {
  readonly protocol: 'tcp' | 'udp'
  readonly state: string
  readonly local: string
  readonly remote: string
}

/** States of include/net/tcp_states.h; an unconnected UDP socket has the number of CLOSE. */
const states: Readonly<Record<string, string>> = {
  '01': 'ESTAB',
  '06': 'TIME-WAIT',
  '07': 'UNCONN',
  '08': 'CLOSE-WAIT',
  '0A': 'LISTEN',
}

/** Sockets of a target's network namespace, or of every named one: one table instead of one `ss` per namespace. */
export function ss(target: string | undefined): Report {
  const places = target === undefined ? listNetnsNames() : [target]
  const found = places.map((place) => ({
    place,
    sockets: socketsOf(target === undefined ? netnsPath(place) : parseTarget(place).netns),
  }))
  return {
    json: found.map(({ place, sockets }) => ({ place, visible: sockets !== undefined, sockets: sockets ?? [] })),
    text: table(
      ['PLACE', 'PROTO', 'STATE', 'LOCAL', 'REMOTE'],
      found.flatMap(({ place, sockets }) =>
        sockets === undefined
          ? [[place, '?', '?', '?', '?']]
          : sockets.map(({ protocol, state, local, remote }) => [place, protocol, state, local, remote]),
      ),
    ),
  }
}

/**
 * Read through a process that lives there, which needs no privilege; where none does, by entering, which needs root.
 * Undefined when neither is possible.
 */
function socketsOf(netns: string): Socket[] | undefined {
  const inode = inodeOf(netns)
  const resident = listProcesses().find(({ namespaces }) => namespaces.net === inode)
  if (resident) return protocols.flatMap((protocol) => readSockets(protocol, `/proc/${resident.pid}/net/${protocol}`))
  if (process.geteuid?.() !== 0) return undefined
  using namespace = Netns.open(netns)
  return namespace.run<Socket[]>(() =>
    protocols.flatMap((protocol) => readSockets(protocol, `/proc/thread-self/net/${protocol}`)),
  )
}

/** /proc/net/tcp and its like (proc(5)): addresses are hex words in the byte order of the machine. */
function readSockets(name: (typeof protocols)[number], file: string): Socket[] {
  if (!fs.existsSync(file)) return []
  const lines = fs.readFileSync(file, 'utf8').trimEnd().split('\n').slice(1)
  return lines.map((line) => {
    const [, local, remote, state] = line.trim().split(/\s+/)
    return {
      protocol: name.startsWith('tcp') ? 'tcp' : 'udp',
      state: states[state!] ?? state!,
      local: endpoint(local!),
      remote: endpoint(remote!),
    }
  })
}

function endpoint(text: string): string {
  const [address, port] = text.split(':') as [string, string]
  const words = Buffer.from(address, 'hex')
  for (let at = 0; at < words.length; at += 4) words.subarray(at, at + 4).reverse()
  const host = formatIp(words)
  const number = Number.parseInt(port, 16)
  return `${host.includes(':') ? `[${host}]` : host}:${number === 0 ? '*' : number}`
}
