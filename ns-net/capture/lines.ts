import type { LinkType } from '../pcapng.ts'
import { type Frame, readFrame } from './frame.ts'
import type { TappedPacket } from './taps.ts'

/** A packet as it is told on stdout. */

export interface Told extends Frame {
  /** ISO 8601 with nanoseconds. */
  readonly time: string
  readonly interface: string
  readonly direction: 'in' | 'out'
  /** Bytes on the wire. */
  readonly length: number
}

export function tell(packet: TappedPacket, { name, linkType }: { name: string; linkType: LinkType }): Told {
  const { time, direction, length, data } = packet
  return { time: isoTime(time), interface: name, direction, ...readFrame(data, linkType), length }
}

/** `14:02:11.123456 web:eth0 out 10.88.0.2 > 10.88.0.3 ICMP echo request id 7 seq 1, 98 bytes` */
export function lineOf(told: Told, time: bigint, nameWidth: number): string {
  const { interface: name, direction, protocol, info, vlans = [], length } = told
  const from = endpoint(told.source, told.sourcePort)
  const to = endpoint(told.destination, told.destinationPort)
  const tags = vlans.map((vlan) => `vlan ${vlan} `).join('')
  const place = `${name.padEnd(nameWidth)}  ${direction.padEnd(3)}`
  return `${clockTime(time)}  ${place}  ${from} > ${to}  ${tags}${[protocol, info].filter(Boolean).join(' ')}, ${length} bytes\n`
}

function endpoint(address: string, port: number | undefined): string {
  if (port === undefined) return address
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}

const second = 1_000_000_000n

export function isoTime(time: bigint): string {
  const seconds = new Date(Number(time / second) * 1000).toISOString().slice(0, 19)
  return `${seconds}.${String(time % second).padStart(9, '0')}Z`
}

/** The time of day where the user is, in microseconds, as tcpdump has it. */
function clockTime(time: bigint): string {
  const date = new Date(Number(time / second) * 1000)
  const digits = [date.getHours(), date.getMinutes(), date.getSeconds()].map((n) => String(n).padStart(2, '0'))
  return `${digits.join(':')}.${String((time % second) / 1000n).padStart(6, '0')}`
}
