import type { Attachment, AttachmentId } from '../../config/attachment.ts'
import { NatError } from '../errors.ts'
import { ownerMark, ownerMarks } from '../mark.ts'
import { type ChainUsers, join, release, usersOf } from '../users.ts'
import { type Means, type Part, uninstallPart } from './backend.ts'

/** Rules of forwarding: which parts there are say `partsOf` and `partsWhereDropped`, and attachments share them. */
export interface Filter {
  /** Of all parts or of none. Repeating it is fine, and puts back what somebody took away. */
  add(attachment: Attachment, parts: readonly Part[]): void
  /** Succeeds when there is nothing to delete; goes by what is on file. */
  del(attachment: Attachment): void
  /** Throws, naming what {@link add} would have made and is not there. */
  check(attachment: Attachment, parts: readonly Part[]): void
  /** Deletes what belongs to this network and to none of the valid attachments. */
  collect(network: string, valid: readonly AttachmentId[]): void
}

/** Whether rules of both plugins are there or of one, their lock is the same: each plans by the whole table. */
const root = '/run/ns-net/firewall'

/**
 * With `nat` and `firewall` in one list an attachment has two users, told apart by the last word of
 * `lab 7c1f… eth0 nat`. So a part that both ask for is there once and goes with the second, and neither can take away
 * what the other one asked for. Rejected: marks of their own, as every packet would then pass the same rules twice.
 */
export function openFilter(plugin: 'nat' | 'firewall', means: Means): Filter {
  const userOf = (attachment: Attachment) => `${ownerMark(attachment)} ${plugin}`
  const uninstall = ({ chain, family }: ChainUsers) => uninstallPart(chain, family, means)
  const usersOfPart = (network: string, { name, family }: Part) => usersOf(root, network, name, family)
  return {
    add(attachment, parts) {
      const shared = parts.map((part) => ({ users: usersOfPart(attachment.network, part), install: part.install }))
      join(root, attachment.network, userOf(attachment), shared, uninstall)
    },
    del: (attachment) => release(root, attachment.network, (users) => users.delete(userOf(attachment)), uninstall),
    check(attachment, parts) {
      const user = userOf(attachment)
      for (const part of parts) {
        const users = usersOfPart(attachment.network, part)
        if (!users.has(user))
          throw new NatError(
            'missing',
            `forwarding: "${user}" is not among the users in ${users.folder}`,
            'the rules were not needed, or not asked for, at the time of ADD; ns-net reload makes them',
          )
        part.check()
      }
    },
    collect(network, valid) {
      const keep = ownerMarks(network, valid)
      const isValid = (user: string) => keep.has(user.slice(0, user.lastIndexOf(' ')))
      release(root, network, (users) => users.keepOnly(isValid), uninstall)
    },
  }
}
