import { familyOf } from '../../netlink-lib/ip.ts'
import { hostLinkName } from '../../plugins/contract/host.ts'
import { listLabs } from '../labs.ts'
import { type Check, isRoot, ok, unknown } from './checkup.ts'
import { Firewall, type Gate, ownerOf } from './firewall.ts'
import { defaultVariant, type IptablesTable, variants } from './iptables.ts'
import type { Moment } from './packet.ts'
import type { Place, World } from './places.ts'
import { driftOf, isInternal, isIsolated } from './records.ts'
import { acceptCommand } from './remedy.ts'
import { passes } from './rules.ts'
import { read } from './settings.ts'

/** What filters forwarded packets, and whether labs get through. */

export function checkFirewall(world: World): Check[] {
  if (!isRoot()) return ['forward-policy', 'iptables'].map((check) => unknown(check, 'only root may look at rules'))
  using firewall = new Firewall(world.host)
  return [...checkForward(world.host, firewall), ...checkVariants(world.host, firewall)]
}

/** A packet of each lab's network on its way out, and one to its neighbours where br_netfilter shows those. */
function checkForward(host: Place, firewall: Firewall): Check[] {
  const check = 'forward-policy'
  const gates = firewall.gates('forward', 4).filter(({ kind }) => kind === 'filter')
  const policies = gates.map((gate) => `${gate.title} ${gate.policy.toUpperCase()}`)
  const told = policies.length === 0 ? 'nothing filters forwarded packets' : policies.join(', ')
  const stopped = momentsOf(host).flatMap((moment) =>
    gates.filter((gate) => passes(gate.pass(moment)) === 'no').map((gate) => blocked(check, gate, moment, host)),
  )
  if (stopped.length > 0) return [...new Map(stopped.map((found) => [found.finding, found])).values()]
  return [ok(check, told)]
}

/** Documentation addresses stand for everybody outside (RFC 5737). */
const outside = '192.0.2.77'

function momentsOf(host: Place): Moment[] {
  const decision = host.decide({ destination: outside })
  const out = 'refused' in decision ? undefined : host.link(decision.link)
  const bridged = read('/proc/sys/net/bridge/bridge-nf-call-iptables') === '1'
  return listLabs().flatMap(({ name, attachments }) =>
    attachments.flatMap((attachment): Moment[] => {
      const { addresses, bridge, network, ifName } = attachment
      const inLink = host.link(bridge ?? hostLinkName({ network, containerId: name, ifName }))
      const source = addresses.map((address) => address.split('/')[0]!).find((address) => familyOf(address) === 4)
      if (!inLink || source === undefined) return []
      const packet = { family: 4, protocol: 'icmp', source, reply: false } as const
      return [
        ...(out && !isInternal(attachment)
          ? [{ packet: { ...packet, destination: outside }, inLink, outLink: out }]
          : []),
        ...(bridged && bridge && !isIsolated(attachment)
          ? [{ packet: { ...packet, destination: source }, inLink, outLink: inLink }]
          : []),
      ]
    }),
  )
}

function blocked(check: string, gate: Gate, moment: Moment, host: Place): Check {
  const owner = ownerOf(gate)
  const way = moment.inLink === moment.outLink ? 'between labs' : 'out'
  const hasDrift = listLabs().some((lab) => driftOf(lab).length > 0)
  const command = hasDrift ? 'ns-net reload' : acceptCommand(gate, 'forward', moment, host)
  return {
    check,
    state: 'fail',
    finding: `${gate.title}${owner ? ` (${owner})` : ''} drops what labs of ${moment.inLink?.name} send ${way}`,
    ...(command !== undefined && { fix: command }),
  }
}

const hasContent = ({ chains, policies }: IptablesTable): boolean =>
  [...chains.values()].some((rules) => rules.length > 0) || [...policies.values()].includes('drop')

/** Both variants at once: packets pass the rules of both, and each program shows one. */
function checkVariants(host: Place, firewall: Firewall): Check[] {
  const check = 'iptables'
  const chosen = defaultVariant(host, 4)
  if (chosen === undefined) return [ok(check, 'not installed; ns-net does without')]
  const tables = firewall.tables(4)
  const used = variants.filter((variant) => tables.some((table) => table.variant === variant && hasContent(table)))
  if (used.length < 2) return [ok(check, `variant ${chosen}`)]
  const other = tables.find(({ variant }) => variant !== chosen)!.program
  return [
    {
      check,
      state: 'warn',
      finding: `both variants have rules: packets pass those of ${other} too, which iptables does not show`,
      fix: moveRules(other),
    },
  ]
}

/** Takes the rules over, and empties the tables they were in. */
const moveRules = (from: string): string =>
  `${from}-save | iptables-restore --noflush && ${from}-save | sed '/^-A/d; /^:[^ ]* -/d; s/ DROP \\[/ ACCEPT [/' | ${from}-restore`

export function checkBridgeNetfilter(): Check[] {
  const check = 'br_netfilter'
  const names = ['bridge-nf-call-iptables', 'bridge-nf-call-ip6tables'] as const
  const values = names.map((name) => [name, read(`/proc/sys/net/bridge/${name}`)] as const)
  if (values.every(([, value]) => value === undefined))
    return [ok(check, 'not loaded: packets within a bridge pass no rules')]
  const on = values.filter(([, value]) => value === '1').map(([name]) => name)
  if (on.length === 0) return [ok(check, 'loaded and switched off')]
  return [ok(check, `${on.join(', ')} = 1: packets within a bridge pass forward rules`)]
}
