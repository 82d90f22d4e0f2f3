import { passGates, passHook } from './filtering.ts'
import { type Found, inWords } from './findings.ts'
import type { Packet } from './packet.ts'
import type { End, Place } from './places.ts'
import { isIsolated as isIsolatedNetwork, labIn } from './records.ts'
import type { Crossing } from './segment.ts'
import type { Walk } from './walk.ts'

/** A frame on its way through a bridge. */

export interface Frame {
  readonly packet: Packet
  readonly sourceMac?: string
  readonly destinationMac?: string
}

/** BR_STATE_* (include/uapi/linux/if_bridge.h). */
const portStates = ['disabled', 'listening', 'learning', 'forwarding', 'blocking'] as const
const operUp = 6 // RFC 2863

/** False when it ends there. */
export function takeBridge(walk: Walk, crossing: Crossing, frame: Frame): boolean {
  const { bridge, entry, exit } = crossing
  const { place, link } = bridge
  if (!frame.packet.reply && !walk.seen.has(place)) walk.seen.set(place, frame.packet)
  const found = isIsolated(crossing) ? isolation(walk, crossing) : obstacle(crossing)
  if (found) {
    walk.findings.add(place, link, found)
    // Ports kept apart are no obstacle to what comes after, once they are not.
    if (!isIsolated(crossing)) return false
  } else {
    const way = [entry?.link.name, exit?.link.name].filter(Boolean).join(' to ')
    walk.findings.ok(place, link, 'bridge', `up, ${way} forwarding`)
  }
  passBridgeRules(walk, crossing, frame)
  return true
}

const isIsolated = ({ entry, exit }: Crossing): boolean =>
  entry?.link.port?.isolated === 1 && exit?.link.port?.isolated === 1

/** Ports that are kept apart, by whoever: not a mistake where the network was made so. */
function isolation(walk: Walk, crossing: Crossing): Found | undefined {
  const { bridge, entry, exit } = crossing
  const { name } = bridge.link
  const network = walk.parties
    .flatMap((place) => labIn(place)?.attachments ?? [])
    .find((attachment) => attachment.bridge === name && isIsolatedNetwork(attachment))?.network
  const other = obstacle(crossing)
  if (other) return other
  const finding = `ports ${entry!.link.name} and ${exit!.link.name} are isolated`
  const base = { check: 'bridge', finding, state: 'blocked' } as const
  if (network)
    return { ...base, verdict: `network "${network}" keeps its labs apart, as it was made`, advice: openNetwork }
  return {
    ...base,
    verdict: `bridge ${name} keeps its isolated ports apart`,
    fix: bridge.place.command(`ip link set ${entry!.link.name} type bridge_slave isolated off`),
  }
}

const openNetwork = 'attach both to a network that was made without --isolated'

function obstacle(crossing: Crossing): Found | undefined {
  const { bridge, entry, exit } = crossing
  const { place, link } = bridge
  const blocked: Blocked = (finding, verdict, commands) => ({
    check: 'bridge',
    finding,
    state: 'blocked',
    verdict,
    fix: commands.map((command) => place.command(command)).join(' && '),
  })
  const { name } = link
  if (!link.up) return blocked('down', `bridge ${name} of ${inWords(place)} is down`, [`ip link set ${name} up`])
  for (const port of [entry, exit]) {
    const found = port && portObstacle(bridge, port, blocked)
    if (found) return found
  }
  if (entry && vlansDiffer(place, bridge, entry, exit))
    return {
      check: 'bridge',
      finding: `${entry.link.name} and ${exit?.link.name ?? name} are in different VLANs`,
      state: 'blocked',
      verdict: `bridge ${name} keeps VLANs apart`,
      advice: place.command('bridge vlan show'),
    }
  return undefined
}

type Blocked = (finding: string, verdict: string, commands: readonly string[]) => Found

function portObstacle({ link: bridge }: End, { link: port }: End, blocked: Blocked): Found | undefined {
  const verdict = `port ${port.name} of bridge ${bridge.name}`
  if (!port.up) return blocked(`port ${port.name} is down`, `${verdict} is down`, [`ip link set ${port.name} up`])
  const state = portStates[port.port?.state ?? 3]
  // Without a carrier the other end is down, which is told where that is.
  if (state === 'forwarding' || port.operState !== operUp) return undefined
  const finding = `port ${port.name} is ${state}`
  const forward = `ip link set ${port.name} type bridge_slave state 3`
  if (state === 'disabled') return blocked(finding, `${verdict} forwards nothing`, [forward])
  const withoutTree = [`ip link set ${bridge.name} type bridge stp_state 0`, forward]
  if (state === 'blocking')
    return blocked(finding, `${verdict} forwards nothing: the spanning tree found a loop`, withoutTree)
  const found = blocked(finding, `${verdict} forwards nothing: the spanning tree waits`, withoutTree)
  return { ...found, advice: 'or wait: it takes twice the forward delay of the bridge, mostly 30 seconds' }
}

/** Frames without a tag belong to the VLAN that is the port's PVID. */
function vlansDiffer(place: Place, bridge: End, entry: End, exit: End | undefined): boolean {
  if (!bridge.link.vlanFiltering) return false
  const own = place.route.listPortVlans(entry.link).find(({ pvid }) => pvid)?.first
  const allowed = place.route.listPortVlans(exit?.link ?? bridge.link)
  return own === undefined || !allowed.some(({ first, last }) => own >= first && own <= last)
}

/** What hangs on a link itself, in tables of family netdev; 0 is what comes in by it, 1 what leaves. */
export function passLink(walk: Walk, { place, link }: End, hook: 0 | 1, packet: Packet): void {
  const gates = walk.firewall(place).linkGates(link.name, hook)
  const moment = hook === 0 ? { packet, inLink: link } : { packet, outLink: link }
  if (gates.length > 0) passGates(walk, gates, hook === 0 ? 'prerouting' : 'postrouting', place, moment)
}

/** Tables of family bridge, and those of ip where br_netfilter shows them the frames between two ports. */
function passBridgeRules(walk: Walk, { bridge, entry, exit }: Crossing, { packet, ...macs }: Frame): void {
  const { place, link } = bridge
  if (!entry) return
  const firewall = walk.firewall(place)
  passLink(walk, entry, 0, packet)
  const frame = { packet, inLink: entry.link, ...macs }
  passGates(walk, firewall.bridgeGates('prerouting'), 'prerouting', place, frame)
  if (!exit) {
    passGates(walk, firewall.bridgeGates('input'), 'input', place, frame)
    return
  }
  passGates(walk, firewall.bridgeGates('forward'), 'input', place, { ...frame, outLink: exit.link })
  const name = packet.family === 4 ? 'bridge-nf-call-iptables' : 'bridge-nf-call-ip6tables'
  if (place.sysctl('bridge', name) !== '1' || firewall.gates('forward', packet.family).length === 0) return
  walk.findings.ok(place, link, 'br_netfilter', `net.bridge.${name} = 1: bridged packets pass forward rules`)
  passHook(walk, 'forward', place, { packet, inLink: link, outLink: link })
}
