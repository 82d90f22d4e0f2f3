import type { Host } from '../../plugins/contract/host.ts'
import { addCable, deleteCable, openPlace } from '../cables.ts'
import { unshape } from '../shaping.ts'
import type { EndEntry, LinkEntry } from './document.ts'
import type { Step } from './steps.ts'

type Of<Kind extends Step['kind']> = Extract<Step, { kind: Kind }>

export function plugIn({ a, b, mtu, up }: LinkEntry, host: Host): void {
  addCable(host, [a, b], { addresses: [a.addresses, b.addresses], macs: [a.mac, b.mac], mtu })
  if (!up) setLink({ end: a, up }, host)
}

/** Either end takes the other one along. */
export function pullOut({ a, b }: Of<'delete cable'>, host: Host): void {
  const end = a.place === 'host' ? b : a
  unshape(end.place, end.ifName)
  deleteCable(host, end)
}

export function setLink(
  { end, mtu, mac, up }: Omit<Of<'set link'>, 'kind'> & { readonly end: Pick<EndEntry, 'place' | 'ifName'> },
  host: Host,
): void {
  using container = openPlace(host, end.place)
  container.route.setLink(container.route.getLink(end.ifName), { mtu, mac, up })
}
