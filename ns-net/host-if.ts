import { isKernelError } from '../netlink-lib/errors.ts'
import type { Link } from '../netlink-lib/route/link.ts'
import type { Host } from '../plugins/contract/host.ts'
import type { Result } from '../plugins/contract/result.ts'
import { CliError } from './errors.ts'

/**
 * The name that a person gives to the host's end of an attachment. It is an alternative name (ip-link(8), `altname`): the
 * link's own name stays the derived one, by which DEL finds it.
 */

/** What ip(8) and the paths of sysctl take; ALTIFNAMSIZ is 128, with the zero at the end. */
export function checkHostIf(name: string): void {
  if (/^[^-\s/:%][^\s/:%]*$/.test(name) && Buffer.byteLength(name) <= 127 && name !== '.' && name !== '..') return
  throw new CliError(
    'usage',
    `bad name "${name}" for the host's end`,
    'a name has at most 127 bytes, no spaces, "/", ":" or "%", and no "-" in front',
  )
}

/** Gives the host's end of a new attachment one name more. */
export function nameHostEnd(name: string, network: string, { interfaces }: Result, { route }: Host): void {
  const outside = interfaces.filter(({ sandbox }) => !sandbox).map((each) => route.findLink(each.name))
  const end = outside.find((link) => link?.kind === 'veth' && link.peerNetnsId !== undefined)
  if (!end)
    throw new CliError(
      'usage',
      `network "${network}" has no end on the host that could be called ${name}`,
      'networks with a bridge and routed links (--ptp) have one for each lab; macvlan and the like have none',
    )
  try {
    route.addAltName(end, name)
  } catch (error) {
    if (!isKernelError(error, 'EEXIST')) throw error
    const holder = route.listLinks().find((link) => link.name === name || link.altNames.includes(name))
    throw new CliError(
      'conflict',
      `the name ${name} is taken on the host${holder ? ` by ${describe(holder, name)}` : ''}`,
      'choose another with --host-if; ip link shows all',
    )
  }
}

const describe = ({ name, kind, alias }: Link, wanted: string): string =>
  [name === wanted ? `a ${kind ?? 'physical'} link` : `link ${name}`, alias && `(${alias})`].filter(Boolean).join(' ')
