import { isKernelError } from '../../netlink-lib/errors.ts'
import { echo } from '../../netlink-lib/icmp.ts'
import { canonicalIp } from '../../netlink-lib/ip.ts'
import { Netns } from '../../netlink-lib/netns.ts'
import { CliError, toCliError } from '../errors.ts'
import { checkLabName, findLab, netnsPath } from '../labs.ts'
import type { Report } from '../output.ts'
import { missing } from './del.ts'

export interface PingOptions {
  /** How many echo requests. */
  readonly count: number
}

const timeoutMs = 1000

/** ICMP echo from inside a lab, to an address or another lab, else to the lab's gateway. Needs no ping program. */
export async function ping(name: string, to: string | undefined, { count }: PingOptions): Promise<Report> {
  checkLabName(name)
  const address = destination(name, to)
  const replies: { sequence: number; milliseconds?: number }[] = []
  try {
    using netns = Netns.open(netnsPath(name))
    for (let sequence = 1; sequence <= count; sequence++) {
      const milliseconds = netns.run<number | undefined>(() => echo(address, sequence, timeoutMs))
      replies.push({ sequence, milliseconds })
      if (sequence < count) await new Promise((resolve) => setTimeout(resolve, 200))
    }
  } catch (error) {
    if (isKernelError(error, 'ENETUNREACH', 'EHOSTUNREACH'))
      throw new CliError('negative', `${name} has no route to ${address}`, `ns-net show ${name} lists its routes`)
    throw toCliError(error, `cannot ping ${address} from "${name}"`)
  }
  const received = replies.filter(({ milliseconds }) => milliseconds !== undefined).length
  const text = replies
    .map(({ sequence, milliseconds }) =>
      milliseconds === undefined
        ? `no reply from ${address}: seq=${sequence} after ${timeoutMs} ms\n`
        : `reply from ${address}: seq=${sequence} time=${milliseconds.toFixed(3)} ms\n`,
    )
    .join('')
  if (received === 0) throw new CliError('negative', `no reply from ${address} to ${count} echo requests of ${name}`)
  return { json: { from: name, to: address, sent: count, received, replies }, text }
}

function destination(name: string, to: string | undefined): string {
  const lab = findLab(name)
  if (!lab) throw missing(name)
  if (to === undefined) {
    const gateway = lab.attachments.find((attachment) => attachment.gateway)?.gateway
    if (gateway) return gateway
    throw new CliError('usage', `"${name}" has no gateway to ping`, `give an address: ns-net ping ${name} ADDRESS`)
  }
  const address = canonicalIp(to) ?? findLab(to)?.attachments[0]?.addresses[0]?.split('/')[0]
  if (address) return address
  throw new CliError('usage', `"${to}" is neither an IP address nor a lab`, 'ns-net ls shows all labs')
}
