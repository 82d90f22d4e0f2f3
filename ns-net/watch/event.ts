import { printable } from '../graph/labels.ts'

/** Something that happened. */
export interface WatchEvent {
  /** ISO 8601: when ns-net heard of it. */
  readonly time: string
  readonly place: string
  readonly kind: EventKind
  readonly action: EventAction
  /** The object, as a person calls it; empty when it is the place itself. */
  readonly what: string
  /** The rest in words. */
  readonly remark?: string
  /** The same as fields, by kind: docs/seeing.md. */
  readonly details?: Readonly<Record<string, unknown>>
}

export type EventKind = 'place' | 'link' | 'address' | 'route' | 'neighbour' | 'fdb' | 'rule' | 'nftables' | 'lost'

/** `found`: it was there when its place appeared. */
export type EventAction = 'appeared' | 'disappeared' | 'found' | 'added' | 'changed' | 'deleted'

/** `14:02:11.123  web         link       eth0 added: veth, down, mtu 1500` */
export function lineOf({ time, place, kind, action, what, remark }: WatchEvent): string {
  const head = [clockTime(time), printable(place).padEnd(12), kind.padEnd(9)].join('  ')
  const sentence = printable(kind === 'lost' ? what : [what, action].filter(Boolean).join(' '))
  return `${head}  ${sentence}${remark ? `: ${printable(remark)}` : ''}\n`
}

/** The time of day where the user is. */
function clockTime(time: string): string {
  const date = new Date(time)
  const digits = [date.getHours(), date.getMinutes(), date.getSeconds()].map((n) => String(n).padStart(2, '0'))
  return `${digits.join(':')}.${String(date.getMilliseconds()).padStart(3, '0')}`
}
