import type { Attachment, AttachmentId } from '../../config/attachment.ts'
import { PortTaken } from '../../nat/errors.ts'
import type { PortForwarding } from '../../nat/forwards.ts'
import { ownerMark } from '../../nat/mark.ts'
import type { PortForwardBackend } from '../../nat/port-forward.ts'
import {
  deleteDirectory,
  deleteFile,
  exists,
  findNames,
  makeDirectory,
  readFile,
  replaceFile,
} from '../../netlink-lib/files.ts'

/*
 * A container on two networks asks for its ports twice: podman repeats them for every interface (network connect). The
 * first interface serves; the claim of another waits in a file until the first is detached, and then gets the ports.
 */
const root = '/run/ns-net/nat/waiting'

export interface WaitingClaim {
  readonly attachment: Attachment
  readonly backend: PortForwardBackend
  readonly forwarding: PortForwarding
}

const fileOf = ({ containerId, network, ifName }: Attachment) => `${root}/${containerId}/${network}:${ifName}`

/** True when the port that is taken belongs to another interface of the same container. */
export function isOwnContainer(error: unknown): error is PortTaken {
  // Marks are `network container interface`, see nat/mark.ts.
  return error instanceof PortTaken && error.holder.split(' ')[1] === error.wanted.split(' ')[1]
}

export const isWaiting = (attachment: Attachment): boolean => exists(fileOf(attachment))

export function wait(claim: WaitingClaim): void {
  const { network, containerId, ifName } = claim.attachment
  makeDirectory(`${root}/${containerId}`)
  replaceFile(fileOf(claim.attachment), JSON.stringify({ ...claim, attachment: { network, containerId, ifName } }))
}

/** Forgets a claim, and the folders with the last one. Absent is done. */
export function giveUp(attachment: Attachment): void {
  deleteFile(fileOf(attachment))
  for (const folder of [`${root}/${attachment.containerId}`, root, '/run/ns-net/nat', '/run/ns-net']) {
    const names = findNames(folder)
    if (!names) continue
    if (names.length > 0) return
    deleteDirectory(folder)
  }
}

/** The claims that wait, of one container or of all. */
export function waitingClaims(containerId?: string): WaitingClaim[] {
  const containers = containerId === undefined ? (findNames(root) ?? []) : [containerId]
  return containers.flatMap((container) =>
    (findNames(`${root}/${container}`) ?? [])
      .filter((name) => !name.endsWith('.new'))
      .map((name) => JSON.parse(readFile(`${root}/${container}/${name}`)) as WaitingClaim),
  )
}

/** The claims of a network that no valid attachment owns. */
export function staleClaims(network: string, valid: readonly AttachmentId[]): WaitingClaim[] {
  const keep = new Set(valid.map((attachment) => ownerMark({ network, ...attachment })))
  return waitingClaims().filter(({ attachment }) => attachment.network === network && !keep.has(ownerMark(attachment)))
}
