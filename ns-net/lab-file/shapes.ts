import { isDeepStrictEqual } from 'node:util'
import type { Netns } from '../../netlink-lib/netns.ts'
import { qdiscIn } from '../../netlink-lib/route/shaping.ts'
import { getQdisc, trafficMessage } from '../../netlink-lib/route/traffic-control.ts'
import { NetlinkSocket, protocols } from '../../netlink-lib/socket.ts'
import { parseShape } from '../commands/shape.ts'
import { netnsPath } from '../labs.ts'
import { clearShape, openCable, readDirections, type Shape, setShape } from '../shaping.ts'
import type { ShapeEntry } from './document.ts'

/** Shapes as a lab file has them, by the texts of `ns-net shape`. */

const rateUnits = [
  [1e9, 'gbit'],
  [1e6, 'mbit'],
  [1e3, 'kbit'],
  [1, 'bit'],
] as const

function formatRate(bits: number): string {
  const [factor, unit] = rateUnits.find(([each]) => bits % each === 0)!
  return `${bits / factor}${unit}`
}

const formatTime = (microseconds: number): string =>
  microseconds % 1000 === 0 ? `${microseconds / 1000}ms` : `${microseconds}us`

/** The burst is left to `ns-net shape`, which derives it from the rate. */
function textsOf({ bucket, lateness, loss }: Shape): ShapeEntry {
  return {
    ...(bucket && { rate: formatRate(bucket.rate * 8) }),
    ...(lateness && { delay: formatTime(lateness.delay) }),
    ...(lateness?.jitter && { jitter: formatTime(lateness.jitter) }),
    ...(loss && { loss: `${loss / 10}%` }),
  }
}

const usualMtu = 1500

/** The same shape in one spelling; throws CliError when it cannot be understood. */
export const canonicalShape = (entry: ShapeEntry): ShapeEntry => textsOf(parseShape(entry, usualMtu))

/** What a link has; not `whole` when only one direction has it, or both have another one. */
export interface LiveShape {
  readonly entry: ShapeEntry
  readonly whole: boolean
}

export function readShape(place: string, ifName: string): LiveShape | undefined {
  using cable = openCable(netnsPath(place), ifName)
  const { sends, receives } = readDirections(cable)
  const [there, back] = [textsOf(sends), textsOf(receives)]
  const entry = { ...there, ...back }
  return Object.keys(entry).length > 0 ? { entry, whole: isDeepStrictEqual(there, back) } : undefined
}

export function applyShape(place: string, ifName: string, entry: ShapeEntry | undefined): void {
  using cable = openCable(netnsPath(place), ifName)
  if (entry) setShape(cable, parseShape(entry, cable.inner.link.mtu))
  else clearShape(cable)
}

/** Indexes of the links of a namespace that are slow or late by us. */
export function shapedLinks(netns: Netns): Set<number> {
  using netlink = netns.run(() => new NetlinkSocket(protocols.route))
  const request = { ...getQdisc({ index: 0, name: '' }, 'root'), flags: 0, body: trafficMessage.encode({}) }
  const ours = netlink.dump(request).filter((reply) => qdiscIn(reply).owner === 'us')
  return new Set(ours.flatMap(({ body }) => trafficMessage.decode(body).index ?? []))
}
