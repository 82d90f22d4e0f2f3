import { Host } from '../../plugins/contract/host.ts'
import { checkLabName, exclusively, findLab, type Lab } from '../labs.ts'
import { attachLab, detachLab } from '../lifecycle.ts'
import type { Report } from '../output.ts'
import { parsePortMappings } from '../port-mappings.ts'
import { describe, parseNet, requireIp, summaryOf, withoutUndefined } from './add.ts'
import { missing } from './del.ts'

export interface AttachOptions {
  readonly ip?: string
  readonly mac?: string
  readonly mtu?: number
  readonly if?: string
  readonly hostIf?: string
  readonly publish?: readonly string[]
}

/** The lab of that name; throws when there is none. */
export function requireLab(name: string): Lab {
  checkLabName(name)
  const lab = findLab(name)
  if (!lab) throw missing(name)
  return lab
}

/** One network more for a lab that runs. */
export function attach(
  name: string,
  network: string,
  { ip, publish = [], if: ifName, ...rest }: AttachOptions,
): Report {
  const lab = exclusively(() => {
    const found = requireLab(name)
    using host = new Host()
    const asked = { ...rest, ip: ip && requireIp(ip), ifName, ports: publish.flatMap(parsePortMappings) }
    return attachLab(found, { ...asked, ...withoutUndefined(parseNet(network, host)) }, host)
  })
  return { json: describe(lab), text: `${summaryOf(lab)}\n` }
}

export function detach(name: string, which: string): Report {
  const lab = exclusively(() => {
    const found = requireLab(name)
    using host = new Host()
    return detachLab(found, which, host)
  })
  return { json: describe(lab), text: `${summaryOf(lab)}\n` }
}
