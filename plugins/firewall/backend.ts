import { hasProgram } from '../../nat/iptables.ts'
import { type Family, formatCidr } from '../../netlink-lib/ip.ts'
import { CniError, codes } from '../contract/errors.ts'
import type { Host } from '../contract/host.ts'
import type { Backend, FirewallConf } from './config.ts'
import { addSource, checkSource, deleteSource, requireFirewalld } from './firewalld.ts'
import * as iptables from './iptables.ts'
import * as nftables from './nftables.ts'
import { type Policy, policyOf } from './policy.ts'

/** One thing that is put somewhere, shared by the attachments that need it. */
export interface Part {
  /** Says all that {@link uninstallPart} needs to know. */
  readonly name: string
  readonly family: Family
  install(): void
  check(): void
}

type Chosen = Exclude<Backend, 'auto'>

/**
 * `auto`: firewalld when its table is there, as only firewalld can then let packets through; else iptables when it is
 * installed, so that a policy of DROP that Docker sets later finds our rules in place; else nftables by netlink.
 */
export function chooseBackend(backend: Backend, host: Host): Chosen {
  if (backend === 'firewalld') requireFirewalld()
  if (backend === 'iptables') requireIptables()
  if (backend !== 'auto') return backend
  const hasFirewalld = () => host.netfilter.findTable({ family: 'inet', name: 'firewalld' }) !== undefined
  if (hasProgram('firewall-cmd') && iptables.knows(hasFirewalld)) return 'firewalld'
  return hasIptables() ? 'iptables' : 'nftables'
}

const hasIptables = () => hasProgram('iptables') && hasProgram('ip6tables')

function requireIptables(): void {
  if (hasIptables()) return
  throw new CniError(
    codes.unavailable,
    'backend "iptables" was asked for, and iptables or ip6tables is not installed',
    'install iptables, or choose another backend',
  )
}

/** What the policies are made of with this backend. */
export function partsOf(conf: FirewallConf, policies: readonly Policy[], host: Host): Part[] {
  if (policies.length === 0) return []
  const backend = chooseBackend(conf.backend, host)
  const inTables = (each: readonly Policy[]) => each.map((policy) => inIptables(policy, conf.adminChain, host))
  if (backend === 'iptables') return inTables(policies)
  // One rule is for both families.
  const isolation = policies.slice(0, 1).filter(({ ingress, link }) => ingress !== 'open' && link)
  const isolated = isolation.map((policy) => inNftables(policyOf({ ...policy, family: 4, subnets: [] }), host))
  if (backend === 'firewalld') return [...isolated, ...policies.flatMap((policy) => inFirewalld(policy, conf.zone))]
  const swallowed = policies.filter(
    ({ subnets, family }) => subnets.length > 0 && iptables.isForwardInUse(host, family),
  )
  if (swallowed.length > 0 && !hasIptables()) {
    host.warn('firewall: iptables may drop what the containers send, and without its programs nothing can be done')
    return isolated
  }
  return [...isolated, ...inTables(swallowed.map((policy) => policyOf({ ...policy, ingress: 'open' })))]
}

const inIptables = (policy: Policy, adminChain: string, host: Host): Part => ({
  name: `iptables ${policy.mark}`,
  family: policy.family,
  install: () => iptables.install(host, policy, adminChain),
  check: () => iptables.check(policy, adminChain),
})

const inNftables = (policy: Policy, host: Host): Part => ({
  name: `nftables ${policy.mark}`,
  family: policy.family,
  install: () => nftables.install(host.netfilter, policy),
  check: () => nftables.check(host.netfilter, policy),
})

/** In the name `_` stands for the slash, as it becomes the name of a file. */
const inFirewalld = ({ subnets, family }: Policy, zone: string): Part[] =>
  subnets.map(formatCidr).map((subnet) => ({
    name: `firewalld ${zone} ${subnet.replace('/', '_')}`,
    family,
    install: () => addSource(zone, subnet),
    check: () => checkSource(zone, subnet),
  }))

/** Takes away what a part with this name has put somewhere. */
export function uninstallPart(name: string, family: Family, host: Host): void {
  const [backend, subject, subnet] = name.split(' ')
  if (backend === 'iptables') iptables.uninstall(family, subject!)
  else if (backend === 'nftables') nftables.uninstall(host.netfilter, subject!)
  else deleteSource(subject!, subnet!.replace('_', '/'))
}
