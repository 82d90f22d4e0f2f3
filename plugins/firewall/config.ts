import { backends, type FilterConf } from '../../nat/filter/backend.ts'
import { forwardChain, isolationChain } from '../../nat/filter/iptables-rules.ts'
import type { IngressPolicy } from '../../nat/filter/policy.ts'
import type { Request } from '../contract/request.ts'

export interface FirewallConf extends FilterConf {
  readonly ingressPolicy: IngressPolicy
  readonly internal: boolean
}

const standard: FirewallConf = {
  backend: 'auto',
  adminChain: 'CNI-ADMIN',
  zone: 'trusted',
  ingressPolicy: 'open',
  internal: false,
}

/** Targets and chains that iptables has itself, and ours. */
const reserved = ['ACCEPT', 'DROP', 'RETURN', 'QUEUE', 'INPUT', 'OUTPUT', 'FORWARD', forwardChain, isolationChain]

export function parseFirewall({ config, command }: Request): FirewallConf {
  // What to undo is on file, whichever backend made it: nothing in the configuration may stop a teardown.
  const isIsolated = config.get('ingressPolicy')?.json === 'isolated'
  if (command === 'DEL' || command === 'GC') return isIsolated ? { ...standard, ingressPolicy: 'isolated' } : standard
  const named = (key: string) => {
    const value = config.get(key)
    return value && value.json !== '' ? value : undefined
  }
  const adminChain = named('iptablesAdminChainName')?.string() ?? standard.adminChain
  // It becomes a line of iptables-restore: a space or a line break in it would be more than a name.
  if (!/^\w[\w.:+-]{0,27}$/.test(adminChain) || reserved.includes(adminChain))
    config.fail('iptablesAdminChainName', `expected the name of a chain, up to 28 letters, got "${adminChain}"`)
  const zone = named('firewalldZone')?.string() ?? standard.zone
  if (!/^[\w][\w-]*$/.test(zone)) config.fail('firewalldZone', `expected the name of a zone, got "${zone}"`)
  return {
    backend: named('backend')?.oneOf(...backends) ?? standard.backend,
    adminChain,
    zone,
    ingressPolicy: named('ingressPolicy')?.oneOf('open', 'same-bridge', 'isolated') ?? standard.ingressPolicy,
    internal: config.get('internal')?.boolean() ?? standard.internal,
  }
}
