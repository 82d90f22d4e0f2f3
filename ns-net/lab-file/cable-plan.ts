import { familyOf } from '../../netlink-lib/ip.ts'
import type { Cable } from '../cables.ts'
import type { EndEntry, LabDocument, LinkEntry } from './document.ts'
import { formatEnd } from './format.ts'
import type { Live, LiveLink } from './live.ts'
import { isShaped } from './node-plan.ts'
import type { Wish } from './plan.ts'
import type { Step } from './steps.ts'

type End = Pick<EndEntry, 'place' | 'ifName'>

/** The same for both directions of looking at it. */
const keyOf = ({ a, b }: { readonly a: End; readonly b: End }): string => [formatEnd(a), formatEnd(b)].sort().join(' ')

/** Cables to be plugged in, changed or pulled out. `going`: labs that take their cables with them. */
export function planCables(
  { document, restore }: Wish,
  live: Live,
  going: ReadonlySet<string>,
  gone: ReadonlySet<string>,
): Step[] {
  const present = presentCables(live)
  const wanted = new Map(document.links.map((link) => [keyOf(link), link]))
  const extra = restore ? [] : [...present].filter(([key, cable]) => !wanted.has(key) && isOurs(cable, document, going))
  return [
    ...extra.map(([, { a, b }]) => ({ kind: 'delete cable', a, b }) as const),
    ...[...wanted].flatMap(([key, link]) => (present.has(key) ? changesOf(link, live, gone) : createCable(link))),
  ]
}

/** Only a file's own nodes and the host: what leads elsewhere is somebody else's as well. */
function isOurs({ a, b }: Cable, { nodes }: LabDocument, going: ReadonlySet<string>): boolean {
  const isInside = ({ place }: End) => place === 'host' || nodes.has(place)
  return isInside(a) && isInside(b) && !going.has(a.place) && !going.has(b.place)
}

const linksOf = (live: Live, place: string): ReadonlyMap<string, LiveLink> | undefined =>
  place === 'host' ? live.hostLinks : live.labs.get(place)?.links

/** Cables whose ends are both where they say. */
function presentCables(live: Live): Map<string, Cable> {
  const found = new Map<string, Cable>()
  const all = [live.hostLinks, ...[...live.labs.values()].map(({ links }) => links)]
  for (const { cable } of all.flatMap((links) => [...links.values()])) {
    if (!cable) continue
    const isThere = ({ place, ifName }: End) => {
      const other = linksOf(live, place)?.get(ifName)?.cable
      return other !== undefined && keyOf(other) === keyOf(cable)
    }
    if (isThere(cable.a) && isThere(cable.b)) found.set(keyOf(cable), cable)
  }
  return found
}

const createCable = (link: LinkEntry): Step[] => [
  { kind: 'add cable', link },
  ...(link.shape ? [{ kind: 'shape', end: nodeEnd(link), shape: link.shape } as const] : []),
]

/** A shape is put on a node's end, as the host is no lab. */
const nodeEnd = ({ a, b }: { readonly a: End; readonly b: End }): End => {
  const { place, ifName } = a.place === 'host' ? b : a
  return { place, ifName }
}

function changesOf(link: LinkEntry, live: Live, gone: ReadonlySet<string>): Step[] {
  if (gone.has(formatEnd(link.a)) || gone.has(formatEnd(link.b))) return createCable(link)
  const steps: Step[] = []
  for (const { addresses, mac, place, ifName } of [link.a, link.b]) {
    const there = linksOf(live, place)!.get(ifName)!
    const end = { place, ifName }
    if (mac && mac !== there.mac) steps.push({ kind: 'set link', end, mac })
    if (link.mtu && link.mtu !== there.mtu) steps.push({ kind: 'set link', end, mtu: link.mtu })
    steps.push(...changeAddresses(end, addresses, there.addresses))
  }
  steps.push(...changeState(link, live))
  const end = nodeEnd(link)
  const shape = live.labs.get(end.place)?.shapes.get(end.ifName)
  if (!isShaped(link.shape, shape)) steps.push({ kind: 'shape', end, shape: link.shape })
  return steps
}

/** An end whose addresses the file knows has no others of their families. */
function changeAddresses(end: End, wanted: readonly string[], present: readonly string[]): Step[] {
  const families = wanted.map(familyOf)
  const others = present.filter((each) => !wanted.includes(each) && families.includes(familyOf(each)))
  const missing = wanted.filter((each) => !present.includes(each))
  return [
    ...others.map((address) => ({ kind: 'delete address', end, address }) as const),
    ...missing.map((address) => ({ kind: 'add address', end, address }) as const),
  ]
}

/** A cable works when both ends are up, and is broken by its first. */
function changeState({ a, b, up }: LinkEntry, live: Live): Step[] {
  const isUp = ({ place, ifName }: End) => linksOf(live, place)!.get(ifName)!.up
  const set = ({ place, ifName }: End, state: boolean): Step => ({
    kind: 'set link',
    end: { place, ifName },
    up: state,
  })
  if (up) return [a, b].filter((end) => !isUp(end)).map((end) => set(end, true))
  return isUp(a) && isUp(b) ? [set(a, false)] : []
}
