import { createNamedNetns, deleteNamedNetns } from '../netlink-lib/netns.ts'
import { messageOf } from '../plugins/contract/errors.ts'
import type { Host } from '../plugins/contract/host.ts'
import type { Result } from '../plugins/contract/result.ts'
import {
  type AttachmentSpec,
  attach,
  detach,
  planAttachment,
  publishesPorts,
  targetOf,
  withoutLoopback,
} from './attachments.ts'
import { CliError, toCliError } from './errors.ts'
import { addToHosts, removeEtc, rewriteHosts, writeEtc } from './etc.ts'
import { findLab, forgetLab, isNetnsName, type Lab, type LabAttachment, netnsPath, writeLab } from './labs.ts'
import { releaseNetwork } from './networks.ts'
import type { PortMapping } from './port-mappings.ts'
import { changeCapabilities } from './runtime.ts'
import { unshape } from './shaping.ts'

/**
 * Labs come into being and change; removal.ts is how they go. Every change is whole or not at all; the caller holds the lock.
 */

export interface LabSpec {
  readonly name: string
  readonly attachments: readonly AttachmentSpec[]
  readonly labels?: Readonly<Record<string, string>>
  readonly dns?: readonly string[]
}

type Undo = [what: string, action: () => unknown][]

/** Runs `work`; when it throws, what it has pushed is undone, newest first, and the error is told as `what`. */
function wholly<T>(what: string, host: Host, work: (undo: Undo) => T): T {
  const undo: Undo = []
  try {
    return work(undo)
  } catch (error) {
    for (const [step, action] of undo.reverse()) {
      try {
        action()
      } catch (failure) {
        host.warn(`ns-net: rollback: cannot ${step}: ${messageOf(failure)}`)
      }
    }
    throw toCliError(error, what)
  }
}

/** Makes a namespace and attaches it. */
export function createLab(spec: LabSpec, host: Host): Lab {
  const { name } = spec
  refuseTaken(name)
  return wholly(`cannot add "${name}"`, host, (undo) => {
    const planned: LabAttachment[] = []
    for (const each of spec.attachments) planned.push(planAttachment({ name, attachments: planned }, each))
    const lab: Lab = { name, created: new Date().toISOString(), attachments: planned, ...optional(spec) }
    for (const { network } of spec.attachments) undo.push(['release network', () => releaseNetwork(network, host)])
    // The record comes first: whatever happens from here on, `ns-net del` knows what to take back.
    undo.push(['forget lab', () => forgetLab(name)])
    writeLab(lab)
    undo.push(['delete namespace', () => deleteNamedNetns(name)])
    createNamedNetns(name)
    if (planned.length === 0 || planned.some(raisesLoopback)) raiseLoopback(name, host)
    const made: LabAttachment[] = []
    let first: Result | undefined
    for (const each of planned) {
      const { attachment, result } = attach(name, withoutLoopback(each), host)
      undo.push([`detach ${each.network}`, () => detach(name, withoutLoopback(each), host)])
      made.push({ ...attachment, config: each.config })
      first ??= result
    }
    undo.push(['remove files in /etc/netns', () => removeEtc(name)])
    writeEtc(name, spec.dns ? { nameservers: [...spec.dns] } : first?.dns)
    const complete = { ...lab, attachments: made }
    writeLab(complete)
    addToHosts(complete)
    return complete
  })
}

const optional = ({ labels, dns }: LabSpec): Pick<Lab, 'labels' | 'dns'> => ({
  ...(labels && Object.keys(labels).length > 0 && { labels }),
  ...(dns && dns.length > 0 && { dns }),
})

function refuseTaken(name: string): void {
  if (findLab(name))
    throw new CliError('conflict', `lab "${name}" already exists`, `ns-net show ${name}, or ns-net del ${name}`)
  if (isNetnsName(name))
    throw new CliError(
      'conflict',
      `a network namespace "${name}" already exists and was not made by ns-net`,
      `choose another name, take it over: ns-net adopt ${name}, or remove it: ip netns del ${name}`,
    )
}

const raisesLoopback = ({ config }: LabAttachment): boolean => config.plugins.some(({ type }) => type === 'loopback')

/** What the loopback plugin does, once for all networks, and for a lab without any. */
function raiseLoopback(name: string, host: Host): void {
  using container = host.openContainer(netnsPath(name))
  container.route.setLink({ index: 1, name: 'lo' }, { up: true }) // LOOPBACK_IFINDEX, in every namespace
}

/** One network more, as the last one or at a place among the others: only those before it decide about the way out. */
export function connect(lab: Lab, spec: AttachmentSpec, host: Host, at = lab.attachments.length): Lab {
  return wholly(`cannot attach "${lab.name}"`, host, (undo) => {
    const planned = planAttachment(lab, spec, lab.attachments.slice(0, at))
    undo.push(['release network', () => releaseNetwork(spec.network, host)])
    undo.push(['restore record', () => writeLab(lab)])
    const withAttachment = (attachment: LabAttachment) => ({
      ...lab,
      attachments: lab.attachments.toSpliced(at, 0, attachment),
    })
    writeLab(withAttachment(planned))
    undo.push([`detach ${planned.network}`, () => detach(lab.name, withoutLoopback(planned), host)])
    // Also when it is not the first: the lab may have been killed on its way into being.
    if (raisesLoopback(planned)) raiseLoopback(lab.name, host)
    const { attachment } = attach(lab.name, withoutLoopback(planned), host)
    const complete = withAttachment({ ...attachment, config: planned.config })
    writeLab(complete)
    return complete
  })
}

/** One network less. What the network leaves behind without its last lab is the caller's business. */
export function disconnect(lab: Lab, attachment: LabAttachment, host: Host): Lab {
  try {
    detach(lab.name, withoutLoopback(attachment), host)
  } catch (error) {
    throw toCliError(error, `cannot detach "${lab.name}" from "${attachment.network}" completely`)
  }
  const rest = { ...lab, attachments: lab.attachments.filter((each) => each !== attachment) }
  writeLab(rest)
  return rest
}

/** One network more, and the names of the labs with the new address. */
export function attachLab(lab: Lab, spec: AttachmentSpec, host: Host): Lab {
  const complete = connect(lab, spec, host)
  rewriteHosts()
  return complete
}

/** One network less; `which` is its name or the interface's. */
export function detachLab(lab: Lab, which: string, host: Host): Lab {
  const found = lab.attachments.find(({ network, ifName }) => network === which || ifName === which)
  if (!found)
    throw new CliError(
      'notFound',
      `"${lab.name}" is not attached to "${which}"`,
      `ns-net show ${lab.name} lists its networks`,
    )
  unshape(lab.name, found.ifName)
  const rest = disconnect(lab, found, host)
  rewriteHosts()
  releaseNetwork(found.config, host)
  return rest
}

/** Publishes these ports of an attachment and no others. */
export function republish(lab: Lab, attachment: LabAttachment, ports: readonly PortMapping[], host: Host): Lab {
  const { ports: _, ...bare } = attachment
  const changed: LabAttachment = ports.length > 0 ? { ...bare, ports } : bare
  try {
    const targets = [targetOf(lab.name, attachment), targetOf(lab.name, changed)] as const
    changeCapabilities(attachment.config, targets, publishesPorts, host)
  } catch (error) {
    throw toCliError(error, `cannot change the ports of "${lab.name}"`)
  }
  const next = { ...lab, attachments: lab.attachments.map((each) => (each === attachment ? changed : each)) }
  writeLab(next)
  return next
}
