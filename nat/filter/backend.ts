import { type Family, formatCidr } from '../../netlink-lib/ip.ts'
import type { NetfilterSocket } from '../../netlink-lib/nftables/netfilter-socket.ts'
import { BackendMissing, NatError } from '../errors.ts'
import { hasProgram } from '../iptables.ts'
import { addSource, checkSource, deleteSource, requireFirewalld } from './firewalld.ts'
import * as iptables from './iptables.ts'
import type { AdminChain } from './iptables-rules.ts'
import * as nftables from './nftables.ts'
import { type Policy, policyOf } from './policy.ts'

/** What the rules are made with; the plugins' host has it. */
export interface Means {
  readonly netfilter: NetfilterSocket
  warn(message: string): void
}

/** One thing that is put somewhere, shared by the attachments that need it. */
export interface Part {
  /** Says all that {@link uninstallPart} needs to know. */
  readonly name: string
  readonly family: Family
  install(): void
  check(): void
}

export const backends = ['auto', 'iptables', 'nftables', 'firewalld'] as const
export type Backend = (typeof backends)[number]

/**
 * `auto`: firewalld when its table is there, as only firewalld can then let packets through; else iptables when it is
 * installed, so that a policy of DROP that Docker sets later finds our rules in place; else nftables by netlink.
 */
export function chooseBackend(backend: Backend, { netfilter }: Means): Exclude<Backend, 'auto'> {
  if (backend === 'firewalld') requireFirewalld()
  if (backend === 'iptables') requireIptables()
  if (backend !== 'auto') return backend
  const hasFirewalld = () => netfilter.findTable({ family: 'inet', name: 'firewalld' }) !== undefined
  if (hasProgram('firewall-cmd') && iptables.knows(hasFirewalld)) return 'firewalld'
  return iptables.isInstalled() ? 'iptables' : 'nftables'
}

function requireIptables(): void {
  if (iptables.isInstalled()) return
  throw new BackendMissing(
    'backend "iptables" was asked for, and iptables or ip6tables is not installed',
    'install iptables, or choose another backend',
  )
}

export interface FilterConf {
  readonly backend: Backend
  readonly adminChain: string
  /** Of firewalld. */
  readonly zone: string
}

/** What lets the policies' packets through and keeps others away, with this backend. */
export function partsOf({ backend, adminChain, zone }: FilterConf, policies: readonly Policy[], means: Means): Part[] {
  if (policies.length === 0) return []
  const chosen = chooseBackend(backend, means)
  if (chosen === 'iptables') return policies.map((policy) => inIptables(policy, adminChain, means))
  const dropping = policiesThatDrop(policies).map((policy) => inNftables(policy, means))
  if (chosen === 'firewalld') return [...dropping, ...policies.flatMap((policy) => inFirewalld(policy, zone))]
  return [...dropping, ...partsWhereDropped(policies, means, adminChain)]
}

/** A rule about links is for both families, one about subnets is not. */
function policiesThatDrop(policies: readonly Policy[]): Policy[] {
  const dropping = policies.filter(({ ingress, internal, link }) => internal || (ingress !== 'open' && link))
  const [first] = dropping
  return first?.link ? [policyOf({ ...first, family: 4, subnets: [] })] : dropping
}

/** What lets the policies' packets through where iptables drops them: nothing where it does not. */
export function partsWhereDropped(policies: readonly Policy[], means: Means, adminChain?: AdminChain): Part[] {
  const dropped = policies.filter(
    ({ subnets, family }) => subnets.length > 0 && iptables.isForwardDropped(means.netfilter, family),
  )
  if (dropped.length > 0 && !iptables.isInstalled()) {
    means.warn('iptables may drop what the containers send, and without its programs nothing can be done')
    return []
  }
  return dropped.map((policy) =>
    inIptables(policyOf({ ...policy, ingress: 'open', internal: false }), adminChain, means),
  )
}

function inIptables(policy: Policy, adminChain: AdminChain, { netfilter }: Means): Part {
  refuseStrangeLink(policy)
  return {
    name: `iptables ${policy.mark}`,
    family: policy.family,
    install: () => iptables.install(netfilter, policy, adminChain),
    check: () => iptables.check(policy, adminChain),
  }
}

function inNftables(policy: Policy, { netfilter }: Means): Part {
  refuseStrangeLink(policy)
  return {
    name: `nftables ${policy.mark}`,
    family: policy.family,
    install: () => nftables.install(netfilter, policy),
    check: () => nftables.check(netfilter, policy),
  }
}

function refuseStrangeLink({ link }: Policy): void {
  if (link === undefined || /^\w[\w.@:-]*$/.test(link)) return
  throw new NatError(
    'invalid',
    `no firewall rule can be about a link named ${JSON.stringify(link)}`,
    'iptables takes some signs for its own; use letters, digits and . _ : @ - in the name of the bridge',
  )
}

/** In the name `_` stands for the slash, as it becomes the name of a file. */
const inFirewalld = ({ subnets, family }: Policy, zone: string): Part[] =>
  subnets.map(formatCidr).map((subnet) => ({
    name: `firewalld ${zone} ${subnet.replace('/', '_')}`,
    family,
    install: () => addSource(zone, subnet),
    check: () => checkSource(zone, subnet),
  }))

/** Takes away what a part with this name has put somewhere. */
export function uninstallPart(name: string, family: Family, { netfilter }: Means): void {
  const [backend, subject, subnet] = name.split(' ')
  if (backend === 'iptables') iptables.uninstall(family, subject!)
  else if (backend === 'nftables') nftables.uninstall(netfilter, subject!)
  else deleteSource(subject!, subnet!.replace('_', '/'))
}
