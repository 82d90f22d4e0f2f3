import { Host } from '../../plugins/contract/host.ts'
import { targetOf } from '../attachments.ts'
import { addCable, type Cable, deleteCable, type End, listCables, parseEnd, switchLink } from '../cables.ts'
import { CliError } from '../errors.ts'
import { exclusively, findLab } from '../labs.ts'
import { type Report, table } from '../output.ts'
import { readCache } from '../result-cache.ts'
import { reloadNetwork } from '../runtime.ts'
import { unshape } from '../shaping.ts'

export interface LinkAddOptions {
  /** `A,B`: an address with prefix length for each end; either may be empty. */
  readonly addr?: string
  readonly mtu?: number
}

/** A direct cable between two labs. */
export function addLink(a: string, b: string, { addr, mtu }: LinkAddOptions): Report {
  const ends = [parseEnd(a), parseEnd(b)] as const
  const addresses = addr?.split(',').map((address) => address || undefined)
  if (addresses && addresses.length > 2) throw new CliError('usage', `--addr ${addr}: expected two addresses`)
  const cable = exclusively(() => {
    using host = new Host()
    return addCable(host, ends, { addresses: addresses?.map((each) => (each ? [each] : [])), mtu })
  })
  return { json: { ...cable, ...(addresses && { addresses }) }, text: `${format(cable.a)}  <->  ${format(cable.b)}\n` }
}

export function lsLinks(): Report {
  using host = new Host()
  const cables = listCables(host)
  const row = ({ a, b, up }: Cable) => [format(a), format(b), up ? 'up' : 'down']
  return { json: cables, text: table(['A', 'B', 'STATE'], cables.map(row)) }
}

export function delLink(text: string): Report {
  const end = requireEnd(text)
  exclusively(() => {
    using host = new Host()
    if (end.place !== 'host') unshape(end.place, end.ifName)
    deleteCable(host, end)
  })
  return { json: { ...end, deleted: true }, text: `${format(end)}  deleted\n` }
}

/** Breaks or mends a link, as pulling a plug does. */
export function setLinkState(text: string, up: boolean): Report {
  const end = requireEnd(text)
  exclusively(() => {
    using host = new Host()
    switchLink(host, end, up)
    if (up) restoreAttachment(end, host)
  })
  const state = up ? 'up' : 'down'
  return { json: { ...end, state }, text: `${format(end)}  ${state}\n` }
}

/** What the plugins had on the host's end, and the kernel forgot when it went down. */
function restoreAttachment({ place, ifName }: End, host: Host): void {
  const attachment = findLab(place)?.attachments.find((each) => each.ifName === ifName)
  const cached = attachment && readCache(attachment.config, targetOf(place, attachment))
  if (cached) reloadNetwork(cached, host)
}

const format = ({ place, ifName }: End): string => `${place}:${ifName}`

function requireEnd(text: string): End {
  const { place, ifName } = parseEnd(text)
  if (ifName === undefined) throw new CliError('usage', `"${text}" names no interface`, 'expected NAME:IF, as web:eth0')
  return { place, ifName }
}
