import { type Cidr, formatCidr, parseCidr } from '../../netlink-lib/ip.ts'
import { messageOf } from '../../plugins/contract/errors.ts'
import { Host } from '../../plugins/contract/host.ts'
import { targetOf } from '../attachments.ts'
import { findLab, type Lab, type LabAttachment, listLabs } from '../labs.ts'
import { readCache } from '../result-cache.ts'
import { checkNetwork } from '../runtime.ts'
import type { Place } from './places.ts'

/** What ns-net has on file about a place, to be compared with what is there. */

export const labIn = ({ door }: Place): Lab | undefined => (door.kind === 'name' ? findLab(door.name) : undefined)

/** A route that the network gave to the lab. */
export interface GivenRoute {
  readonly dst: Cidr
  readonly gateway?: string
}

/** The routes of an attachment, from the cached result of its ADD. */
export function routesOf(lab: Lab, attachment: LabAttachment): GivenRoute[] {
  const result = readCache(attachment.config, targetOf(lab.name, attachment))?.result
  const listed = (result?.routes ?? []) as readonly { readonly dst?: string; readonly gw?: string }[]
  const gateways = ((result?.ips ?? []) as readonly { readonly gateway?: string }[]).flatMap(
    ({ gateway }) => gateway ?? [],
  )
  return listed.flatMap(({ dst = '', gw }) => {
    const range = parseCidr(dst)
    if (!range) return []
    const gateway = gw ?? gateways.find((each) => each.includes(':') === (range.family === 6))
    return [{ dst: range, ...(gateway && { gateway }) }]
  })
}

/** A network that keeps its labs apart, because it was made so. */
export const isIsolated = ({ config }: LabAttachment): boolean =>
  config.plugins.some(({ ingressPolicy, portIsolation }) => ingressPolicy === 'isolated' || portIsolation === true)

/** A network that nothing is forwarded into or out of. */
export const isInternal = ({ config }: LabAttachment): boolean =>
  config.plugins.some(({ internal }) => internal === true)

/** Which lab an address was given to. */
export function labGiven(address: string): { lab: Lab; attachment: LabAttachment; cidr: Cidr } | undefined {
  for (const lab of listLabs())
    for (const attachment of lab.attachments)
      for (const text of attachment.addresses) {
        const range = parseCidr(text)
        if (range?.address === address) return { lab, attachment, cidr: range }
      }
  return undefined
}

/** What CHECK of the lab's networks finds missing or different. */
export function driftOf(lab: Lab): string[] {
  using host = new Host()
  return lab.attachments.flatMap((attachment) => {
    try {
      checkNetwork(attachment.config, targetOf(lab.name, attachment), host)
      return []
    } catch (error) {
      return [`${attachment.network}: ${messageOf(error).replace(/^CHECK: /, '')}`]
    }
  })
}

/** Commands that give a lab's interface back what the network gave it, without those that would change nothing. */
export function restoration(place: Place, lab: Lab, attachment: LabAttachment): string[] {
  const link = place.link(attachment.ifName)
  if (!link) return []
  const present = new Set(place.addressesOf(link).map(formatCidr))
  const missing = attachment.addresses.filter((address) => !present.has(address))
  const routes = ([4, 6] as const).flatMap((family) => place.route.listRoutes(family))
  const isThere = ({ dst, gateway }: GivenRoute) =>
    routes.some((route) => formatCidr(route.dst) === formatCidr(dst) && route.gateway === gateway)
  return [
    ...missing.map((address) => `ip addr add ${address} dev ${link.name}`),
    ...(link.up ? [] : [`ip link set ${link.name} up`]),
    ...routesOf(lab, attachment)
      .filter((route) => !isThere(route))
      .map(({ dst, gateway }) => `ip route add ${formatCidr(dst)} ${gateway ? `via ${gateway}` : ''} dev ${link.name}`),
  ].map((line) => place.command(line.replace(/ {2,}/g, ' ')))
}
