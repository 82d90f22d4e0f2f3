import { formatCidr } from '../netlink-lib/ip.ts'
import type { Host } from '../plugins/contract/host.ts'
import type { Result } from '../plugins/contract/result.ts'
import type { ConfList, PluginConf } from './conflist.ts'
import { CliError } from './errors.ts'
import { checkHostIf, nameHostEnd } from './host-if.ts'
import { type Lab, type LabAttachment, netnsPath } from './labs.ts'
import { givesDefaultRoute, interfacePlugin, isDefaultRoute } from './networks.ts'
import type { PortMapping } from './port-mappings.ts'
import { addNetwork, delNetwork, type Target } from './runtime.ts'

/** The attachment of a lab to a network: what is asked for becomes a conflist, CNI_ARGS and capabilities. */
export interface AttachmentSpec {
  readonly network: ConfList
  /** ethN unless told. */
  readonly ifName?: string
  readonly ip?: string
  readonly mac?: string
  readonly mtu?: number
  readonly ports?: readonly PortMapping[]
  /** One name more for its end on the host. */
  readonly hostIf?: string
  /** No way out by this attachment: neither default route nor translation. */
  readonly internal?: boolean
}

/** The record of an attachment that is about to be made; those `before` it decide whether it is the way out. */
export function planAttachment(
  lab: Pick<Lab, 'name' | 'attachments'>,
  spec: AttachmentSpec,
  before: readonly LabAttachment[] = lab.attachments,
): LabAttachment {
  const { network, ip, mac, ports = [], hostIf } = spec
  if (hostIf !== undefined) checkHostIf(hostIf)
  const ifName = spec.ifName ?? freeInterfaceName(lab.attachments)
  refuseTaken(lab, network.name, ifName)
  const config = configFor(before, spec)
  if (ports.length > 0 && !config.plugins.some(publishesPorts))
    throw new CliError(
      'usage',
      `network "${network.name}" cannot publish ports`,
      'its conflist needs { "type": "portmap", "capabilities": { "portMappings": true } }',
    )
  if (mac && !takesMac(network))
    throw new CliError(
      'usage',
      `network "${network.name}" takes no MAC address`,
      `only those of plugin ${macTakers.join(', ')} do`,
    )
  return {
    network: network.name,
    ifName,
    addresses: [],
    config,
    ...((ip || mac) && { args: { ...(ip && { IP: ip }), ...(mac && { MAC: mac }) } }),
    ...(ports.length > 0 && { ports }),
    ...(hostIf !== undefined && { hostIf }),
  }
}

const macTakers = ['bridge', 'ptp', 'veth', 'macvlan']

/** Whether its plugin reads MAC of CNI_ARGS. */
export const takesMac = (network: ConfList): boolean => macTakers.includes(interfacePlugin(network).type)

export const publishesPorts = ({ capabilities }: PluginConf): boolean =>
  (capabilities as Record<string, unknown> | undefined)?.portMappings === true

function freeInterfaceName(attachments: readonly LabAttachment[]): string {
  for (let n = 0; ; n++) if (!attachments.some(({ ifName }) => ifName === `eth${n}`)) return `eth${n}`
}

function refuseTaken({ name, attachments }: Pick<Lab, 'name' | 'attachments'>, network: string, ifName: string): void {
  const same = attachments.find((attachment) => attachment.network === network)
  if (same)
    throw new CliError(
      'conflict',
      `"${name}" is attached to network "${network}" already, by ${same.ifName}`,
      `ns-net show ${name}`,
    )
  if (attachments.some((attachment) => attachment.ifName === ifName))
    throw new CliError('conflict', `"${name}" has an interface ${ifName} already`, 'choose another name with --if')
}

/** The network's conflist with what this attachment asks to be different. The first way out stays the only one. */
function configFor(
  attachments: readonly LabAttachment[],
  { network, mtu, internal = false }: AttachmentSpec,
): ConfList {
  const hasWayOut = attachments.some(({ config }) => givesDefaultRoute(interfacePlugin(config)))
  if (!hasWayOut && !internal && mtu === undefined) return network
  const subject = interfacePlugin(network)
  const plugins = network.plugins.map((plugin) => {
    if (plugin !== subject) return plugin
    return { ...(hasWayOut || internal ? withoutDefaultRoute(plugin, internal) : plugin), ...(mtu && { mtu }) }
  })
  return { ...network, plugins }
}

function withoutDefaultRoute(plugin: PluginConf, internal: boolean): PluginConf {
  const { isDefaultGateway, ipMasq, ipam, ...rest } = plugin
  const { routes = [], ...range } = (ipam ?? {}) as { routes?: { dst?: string }[] }
  return {
    ...rest,
    ...(isDefaultGateway === true && { isGateway: true }),
    ...(ipMasq !== undefined && !internal && { ipMasq }),
    ...(ipam !== undefined && { ipam: { ...range, routes: routes.filter((route) => !isDefaultRoute(route)) } }),
  } as PluginConf
}

export function targetOf(lab: string, { ifName, args, ports }: LabAttachment): Target {
  return {
    containerId: lab,
    netns: netnsPath(lab),
    ifName,
    ...(args && { args: new Map([...Object.entries(args), ['IgnoreUnknown', '1']]) }),
    ...(ports && { capabilityArgs: { portMappings: ports } }),
  }
}

/** Runs ADD; the record as it is afterwards. When the name of the host's end is refused, nothing is left. */
export function attach(lab: string, planned: LabAttachment, host: Host): { attachment: LabAttachment; result: Result } {
  const { network, config, hostIf } = planned
  const result = addNetwork(config, targetOf(lab, planned), host)
  try {
    if (hostIf !== undefined) nameHostEnd(hostIf, network, result, host)
  } catch (error) {
    detach(lab, planned, host)
    throw error
  }
  return { attachment: { ...planned, ...summary(result) }, result }
}

export const detach = (lab: string, attachment: LabAttachment, host: Host): void =>
  delNetwork(attachment.config, targetOf(lab, attachment), host)

/** Every network raises `lo`, and none may lower it while others are there: so the lab does it for all of them. */
export function withoutLoopback(attachment: LabAttachment): LabAttachment {
  const { config } = attachment
  const plugins = config.plugins.filter(({ type }) => type !== 'loopback')
  return plugins.length === 0 ? attachment : { ...attachment, config: { ...config, plugins } }
}

/** What `ls` and `show` tell of an attachment without asking the kernel. */
function summary(result: Result): Pick<LabAttachment, 'addresses' | 'gateway' | 'bridge'> {
  return {
    addresses: result.ips.map(({ address }) => formatCidr(address)),
    gateway: result.ips.find(({ gateway }) => gateway)?.gateway,
    bridge: result.interfaces.find(({ sandbox, name }) => !sandbox && !name.startsWith('veth'))?.name,
  }
}
