import { type Host, hostLinkName } from '../../plugins/contract/host.ts'
import { targetOf } from '../attachments.ts'
import type { LabAttachment } from '../labs.ts'
import { connect, disconnect, republish } from '../lifecycle.ts'
import { readCache } from '../result-cache.ts'
import { checkNetwork, reloadNetwork } from '../runtime.ts'
import { lossyLinks, unshape } from '../shaping.ts'
import type { NetEntry } from './document.ts'
import { specOf } from './node-plan.ts'
import { attachmentOf, labOf, type Site } from './site.ts'
import type { Step } from './steps.ts'

type Of<Kind extends Step['kind']> = Extract<Step, { kind: Kind }>

/** At its place in the file, as the first network that leads out is the only one. */
export function attachInOrder(
  { lab: name, net, order }: { readonly lab: string; readonly net: NetEntry; readonly order: readonly string[] },
  { host, lists }: Site,
): void {
  const lab = labOf(name)
  const position = (ifName: string) => order.indexOf(ifName)
  const attachments = lab.attachments.toSorted((a, b) => position(a.ifName) - position(b.ifName))
  const at = attachments.filter(({ ifName }) => position(ifName) < position(net.ifName)).length
  connect({ ...lab, attachments }, specOf(net, lists.get(net.network)!, net.ports), host, at)
}

/** Chains that lose packets would outlive the link, and wait for the next one of its name. */
export function detachOne(name: string, ifName: string, host: Host): void {
  const lab = labOf(name)
  const attachment = attachmentOf(lab, ifName)
  const { network } = attachment
  if (lossyLinks(host).includes(hostLinkName({ network, containerId: name, ifName }))) unshape(name, ifName)
  disconnect(lab, attachment, host)
}

export function publish({ lab: name, ifName, ports }: Omit<Of<'publish'>, 'kind'>, host: Host): void {
  const lab = labOf(name)
  republish(lab, attachmentOf(lab, ifName), ports, host)
}

/**
 * Puts back what is missing of an attachment: rules by themselves, anything else by making it anew with the addresses
 * that it has.
 */
export function repair({ lab: name, net, order }: Of<'repair'>, site: Site): void {
  const attachment = attachmentOf(labOf(name), net.ifName)
  raiseOuterEnd(name, attachment, site)
  if (isMendedByReload(name, attachment, site)) return
  detachOne(name, net.ifName, site.host)
  attachInOrder({ lab: name, net: withAddresses(net, attachment), order }, site)
}

function raiseOuterEnd(lab: string, { network, ifName }: LabAttachment, { host }: Site): void {
  const outer = host.route.findLink(hostLinkName({ network, containerId: lab, ifName }))
  if (outer && !outer.up) host.route.setLink(outer, { up: true })
}

function isMendedByReload(lab: string, attachment: LabAttachment, { host }: Site): boolean {
  const target = targetOf(lab, attachment)
  const cached = readCache(attachment.config, target)
  if (!cached) return false // it was never complete
  try {
    reloadNetwork(cached, host)
    checkNetwork(attachment.config, target, host)
    return true
  } catch {
    return false // then it is made anew, and that says what is wrong
  }
}

/** Only host-local remembers who had an address. */
function withAddresses(net: NetEntry, { config, addresses }: LabAttachment): NetEntry {
  const remembers = config.plugins.some(({ ipam }) => (ipam as { type?: string } | undefined)?.type === 'host-local')
  if (net.ips.length > 0 || !remembers) return net
  return { ...net, ips: addresses.map((address) => address.split('/')[0]!) }
}
