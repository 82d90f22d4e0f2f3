import fs from 'node:fs'
import { Netns } from '../netlink-lib/netns.ts'
import { CliError } from './errors.ts'
import { findLab, listNetnsNames, netnsPath } from './labs.ts'
import { parseTarget } from './targets.ts'

/** Network namespaces to look at. The host is the one where ns-net runs: that is where the bridges of its labs are. */
export interface Place {
  /** What the user calls it; a target as the verbs take it. */
  readonly name: string
  readonly kind: 'host' | 'lab' | 'namespace' | 'process'
  readonly netns: string
}

const host: Place = { name: 'host', kind: 'host', netns: '/proc/thread-self/ns/net' }

/** A namespace by its name in /run/netns, whatever characters that has. */
export const placeNamed = (name: string): Place => ({
  // A namespace that somebody named "host" must not be taken for the host.
  name: name === host.name ? `path:${netnsPath(name)}` : name,
  kind: findLab(name) ? 'lab' : 'namespace',
  netns: netnsPath(name),
})

/** The host and every named namespace, each once: a second name of the same one is left out. */
export function listPlaces(): Place[] {
  const seen = new Set<string>()
  return [hostAround(), ...listNetnsNames().map(placeNamed)].filter(({ netns }) => {
    const identity = identityOf(netns)
    if (identity === undefined || seen.has(identity)) return false
    seen.add(identity)
    return true
  })
}

/** Who calls ns-net from within a lab (`ip netns exec`) means the host around it, if that may be entered. */
function hostAround(): Place {
  const own = identityOf(host.netns)
  const isInLab = listNetnsNames().some((name) => findLab(name) && identityOf(netnsPath(name)) === own)
  const around = '/proc/1/ns/net'
  return isInLab && identityOf(around) !== undefined ? { ...host, netns: around } : host
}

/** A target as the user wrote it: `host`, NAME, `pid:N`, … */
export function placeAt(target: string): Place {
  if (target === host.name) return hostAround()
  const { kind, netns } = parseTarget(target)
  if (kind === 'name') return placeNamed(target)
  return { name: target, kind: kind === 'process' ? 'process' : 'namespace', netns }
}

/** Equal for two paths to one namespace; undefined when nothing is there, or this user may not look. */
export function identityOf(netns: string): string | undefined {
  try {
    const { dev, ino } = fs.statSync(netns)
    return `${dev}:${ino}`
  } catch {
    return undefined
  }
}

export function openPlace({ name, netns }: Place): Netns {
  const opened = Netns.find(netns)
  if (opened) return opened
  throw new CliError('notFound', `"${name}" is no network namespace, or is gone`, 'ns-net ls shows all')
}
