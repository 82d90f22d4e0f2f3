import type { Host } from '../../plugins/contract/host.ts'
import type { ConfList } from '../conflist.ts'
import { CliError } from '../errors.ts'
import { findLab, type Lab, type LabAttachment } from '../labs.ts'

/** What the steps of one plan have in common. */
export interface Site {
  readonly host: Host
  /** Networks by name; steps add to them. */
  readonly lists: Map<string, ConfList>
  /** The file that labs belong to from now on; none when they are restored. */
  readonly file?: string
}

export function labOf(name: string): Lab {
  const lab = findLab(name)
  if (lab) return lab
  throw new CliError('notFound', `lab "${name}" is gone`, 'somebody deleted it meanwhile: apply again')
}

export function attachmentOf(lab: Lab, ifName: string): LabAttachment {
  const found = lab.attachments.find((attachment) => attachment.ifName === ifName)
  if (found) return found
  throw new CliError(
    'notFound',
    `"${lab.name}" has no ${ifName} any more`,
    'somebody detached it meanwhile: apply again',
  )
}
