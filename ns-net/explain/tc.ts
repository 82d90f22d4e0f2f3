import { netemParameters } from '../../netlink-lib/route/shaping.ts'
import { bucketOptions, trafficMessage, u32Options } from '../../netlink-lib/route/traffic-control.ts'
import { flags, type Request } from '../../netlink-lib/socket.ts'
import type { Names } from './ip-link.ts'
import { option, phrase } from './words.ts'

/* Queueing disciplines and filters, as tc(8) has them. */

/** RTM_*. */
const messageTypes = { newQdisc: 36, deleteQdisc: 37, newFilter: 44, deleteFilter: 45 } as const

/** TC_H_ROOT, TC_H_INGRESS. */
const places = new Map([
  [0xffffffff, 'root'],
  [0xfffffff1, 'ingress'],
])
const allProtocols = 0x0300 // htons(ETH_P_ALL)

const hex = (value: number): string => value.toString(16)
/** `1:`, `ffff:`, `1:10`. */
const handleText = (handle: number): string => `${hex(handle >>> 16)}:${handle & 0xffff ? hex(handle & 0xffff) : ''}`

export function trafficCommand(tc: string, request: Request, names: Names): string {
  const { type, body } = request
  const { index = 0, handle = 0, parent = 0, info = 0, kind, options } = trafficMessage.decode(body)
  const dev = `dev ${names.link(index)}`
  const place = places.get(parent) ?? `parent ${handleText(parent)}`
  if (type === messageTypes.deleteQdisc) return `${tc} qdisc del ${dev} ${place}`
  if (type === messageTypes.deleteFilter) return `${tc} filter del ${dev} ${place}`
  if (type === messageTypes.newQdisc) {
    const verb = (request.flags ?? 0) & flags.replace ? 'replace' : 'add'
    if (kind === 'ingress') return `${tc} qdisc ${verb} ${dev} ingress`
    const own = handle !== 0 && `handle ${handleText(handle)}`
    return phrase(`${tc} qdisc ${verb} ${dev} ${place}`, own, kind, options && optionsText(kind, options))
  }
  if (type !== messageTypes.newFilter) throw new Error(`no command is known for message type ${type} of rtnetlink`)
  const protocol = (info & 0xffff) === allProtocols ? 'all' : `0x${hex(info & 0xffff)}`
  const filter = phrase(
    `${tc} filter add ${dev} parent ${handleText(parent)} protocol ${protocol}`,
    `prio ${info >>> 16}`,
  )
  return phrase(filter, kind, options && redirectText(options, names))
}

function optionsText(kind: string | undefined, options: Buffer): string {
  if (kind === 'tbf') return bucketText(options)
  if (kind === 'netem') return latenessText(options)
  throw new Error(`no words are known for the options of qdisc ${kind}`)
}

const tick = 64e-9 // seconds; PSCHED_SHIFT, include/net/pkt_sched.h

/** In bits per second; a size without a unit is bytes. The kernel keeps the burst as the time that it takes. */
function bucketText(options: Buffer): string {
  const { parameters = {}, rate64, burst } = bucketOptions.decode(options)
  const rate = BigInt(rate64 ?? parameters.rate ?? 0)
  const size = burst ?? Math.round((parameters.buffer ?? 0) * tick * Number(rate))
  return phrase('rate', `${rate * 8n}bit`, option('burst', size), option('limit', parameters.limit))
}

function latenessText(options: Buffer): string {
  const { latency = 0, jitter = 0, limit } = netemParameters.decode(options)
  const time = (ticks: number) => `${Math.round(ticks * tick * 1e6)}us`
  return phrase(option('limit', limit), 'delay', time(latency), jitter > 0 && time(jitter))
}

function redirectText(options: Buffer, names: Names): string {
  const { actions = [] } = u32Options.decode(options)
  const target = actions[0]?.options?.parameters?.target ?? 0
  return `match u32 0 0 action mirred egress redirect dev ${names.link(target)}`
}
