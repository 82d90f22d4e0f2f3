import { KernelError } from '../netlink-lib/errors.ts'
import { deleteNamedNetns } from '../netlink-lib/netns.ts'
import type { Link } from '../netlink-lib/route/link.ts'
import { type Host, linkMark } from '../plugins/contract/host.ts'
import { targetOf } from './attachments.ts'
import { type End, findCables, unplugCables } from './cables.ts'
import { listEmptyCgroups, removeEmptyCgroup } from './cgroup.ts'
import { CliError, toCliError } from './errors.ts'
import { removeEtc, rewriteHosts } from './etc.ts'
import { HostInPortions } from './host-in-portions.ts'
import { forgetCommands } from './lab-file/background.ts'
import { forgetLab, type Lab, type LabAttachment, listLabs } from './labs.ts'
import { releaseNetwork } from './networks.ts'
import { delNetwork, isOwnList } from './runtime.ts'
import { forgetShapes, hasShapeTable } from './shaping.ts'

/** How labs go: one, or a thousand at the cost of one wait of the kernel. The caller holds the lock. */

export interface RemovalOptions {
  /** Processes keep the namespaces: nothing may be left to go with them. */
  readonly lingering?: boolean
}

/** Detaches and removes labs. Steps that fail do not stop the others; the record stays until all of a lab is gone. */
export function removeLabs(labs: readonly Lab[], host: Host, { lingering = false }: RemovalOptions = {}): void {
  const failures = new Map<Lab, unknown[]>(labs.map((lab) => [lab, []]))
  const attempt = (lab: Lab, step: () => unknown) => {
    try {
      step()
    } catch (error) {
      failures.get(lab)!.push(error)
    }
  }
  const shaped = hasShapes(host)
  const going = new Set(lingering ? [] : labs.map(({ name }) => name))
  for (const lab of labs)
    attempt(lab, () => {
      const staying = endsThatStay(lab, going, host)
      if (shaped || staying.length > 0) forgetShapes(lab.name, host)
      if (staying.length > 0) unplugCables(host, lab.name)
    })
  if (labs.length > 1) deleteLinksTogether(labs, host)
  const cgroups = new Set(listEmptyCgroups(0))
  using hosts = new HostInPortions()
  for (const lab of labs) {
    for (const attachment of lab.attachments.toReversed())
      attempt(lab, () => detachForGood(lab, attachment, hosts.next()))
    attempt(lab, () => removeEtc(lab.name))
    attempt(lab, () => deleteNamedNetns(lab.name))
    if (cgroups.has(lab.name)) attempt(lab, () => removeEmptyCgroup(lab.name))
    attempt(lab, () => forgetCommands(lab.name))
    if (failures.get(lab)!.length === 0) forgetLab(lab.name)
  }
  const rest = listLabs()
  rewriteHosts(rest)
  const networks = new Map(labs.flatMap(({ attachments }) => attachments.map(({ config }) => [config.name, config])))
  for (const config of networks.values()) releaseNetwork(config, host, rest)
  tell([...failures].flatMap(([lab, [first]]) => (first ? failureOf(lab, first) : [])))
}

/** Where nf_tables cannot be asked, nothing of it can be there. */
function hasShapes(host: Host): boolean {
  try {
    return hasShapeTable(host)
  } catch (error) {
    if (error instanceof KernelError) return false
    throw error
  }
}

/** Cables that somebody would still have an end of: they are unplugged, while the others go with their namespaces. */
function endsThatStay(lab: Lab, going: ReadonlySet<string>, host: Host): End[] {
  return findCables(host, lab.name)
    .flatMap(({ a, b }) => [a, b])
    .filter(({ place }) => lab.adopted || !going.has(place))
}

/** `ns-d`: whoever wants this number for links of his own gets the next one. */
const firstGroup = 0x6e732d64

/**
 * The ends on the host of all links of the labs, in one request: the kernel waits for RCU before it frees a link, 14 to
 * 30 ms for one and as long for a thousand. DEL finds them gone. Where one is left the plugins delete it themselves.
 */
function deleteLinksTogether(labs: readonly Lab[], host: Host): void {
  const marks = new Set(
    labs.flatMap(({ name, attachments }) =>
      attachments
        .filter(({ config }) => isOwnList(config))
        .map(({ network, ifName }) => linkMark({ network, containerId: name, ifName })),
    ),
  )
  const links = host.route.listLinks()
  const ours = links.filter(({ alias }) => alias !== undefined && marks.has(alias))
  if (ours.length < 2) return
  const group = freeGroup(links, ours)
  try {
    for (const link of ours) host.route.setLink(link, { group })
    host.route.deleteLinkGroup(group)
  } catch (error) {
    if (!(error instanceof KernelError)) throw error // one at a time, then
  }
}

/** A group that nothing is in but, perhaps, what a removal that was killed has put there. */
function freeGroup(links: readonly Link[], ours: readonly Link[]): number {
  let group = firstGroup
  while (links.some((link) => link.group === group && !ours.includes(link))) group++
  return group
}

/**
 * A namespace that goes needs nothing to be tidied inside: without its path our plugins leave it alone, and lowering `lo`
 * alone would be another wait.
 */
function detachForGood(lab: Lab, attachment: LabAttachment, host: Host): void {
  const target = targetOf(lab.name, attachment)
  const isTidied = lab.adopted || !isOwnList(attachment.config)
  delNetwork(attachment.config, isTidied ? target : { ...target, netns: '' }, host)
}

function failureOf({ name }: Lab, error: unknown): CliError {
  const { kind, message, hint } = toCliError(error, `cannot delete "${name}" completely`)
  return new CliError(kind, message, hint ?? `what remains is still recorded: run ns-net del ${name} again`)
}

function tell(failures: readonly CliError[]): void {
  const [first] = failures
  if (!first) return
  throw failures.length === 1 ? first : new CliError('failed', failures.map(({ message }) => message).join('; '))
}
