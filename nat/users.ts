import {
  deleteDirectory,
  deleteFile,
  deleteIfEmpty,
  exists,
  makeDirectory,
  namesIn,
  openFlags,
  writeFile,
} from '../netlink-lib/files.ts'
import { withLock } from '../netlink-lib/flock.ts'
import type { Family } from '../netlink-lib/ip.ts'
import { networkMark } from './mark.ts'

/*
 * Which attachments use a chain or a set of rules, for backends whose rules cannot carry that: one empty file for each,
 * named by its mark,
 *
 *   /run/ns-net/nat/network-lab/NS-NET-e1….v4/lab 7c1f… eth0
 *
 * on the tmpfs that a reboot clears together with the rules. Whether a user was the last is one look into the folder.
 */

const lockTimeout = 10_000

/** The users of one chain, or of something else with a name that they share. */
export class ChainUsers {
  constructor(
    readonly chain: string,
    readonly family: Family,
    readonly folder: string,
  ) {}

  has(mark: string): boolean {
    return exists(`${this.folder}/${mark}`)
  }

  add(mark: string): void {
    makeDirectory(this.folder, 0o700)
    writeFile(`${this.folder}/${mark}`, '', openFlags.create, 0o600)
  }

  delete(mark: string): void {
    deleteFile(`${this.folder}/${mark}`)
  }

  list(): string[] {
    return namesIn(this.folder)
  }

  /** Deletes those that are not valid any more. */
  keepOnly(isValid: (mark: string) => boolean): void {
    for (const mark of this.list()) if (!isValid(mark)) this.delete(mark)
  }

  /** False before the first user. */
  get exists(): boolean {
    return exists(this.folder)
  }

  /** True when nobody else is a user. Reads two entries, however many there are. */
  isOnly(mark: string): boolean {
    return !this.exists || namesIn(this.folder, 2).every((user) => user === mark)
  }

  /** Reads one entry, however many there are. */
  get isEmpty(): boolean {
    return namesIn(this.folder, 1).length === 0
  }

  /** To be called when it is empty. */
  forget(): void {
    deleteDirectory(this.folder)
  }
}

/** The prefix keeps a network named `..` inside the folder. */
const networkFolder = (root: string, network: string): string => `${root}/network-${networkMark(network).trim()}`

export function usersOf(root: string, network: string, chain: string, family: Family): ChainUsers {
  return new ChainUsers(chain, family, `${networkFolder(root, network)}/${chain}.v${family}`)
}

/** The users of every chain of the network; none when it never had any. */
export function listUsers(root: string, network: string): ChainUsers[] {
  const folder = networkFolder(root, network)
  if (!exists(folder)) return []
  return namesIn(folder).map((name) => {
    const [, chain, family] = name.match(/^(.*)\.v([46])$/) ?? []
    if (!chain) throw new Error(`${folder}/${name}: not made by ns-net, expected CHAIN.v4 or CHAIN.v6`)
    return new ChainUsers(chain, Number(family) as Family, `${folder}/${name}`)
  })
}

let held: number | undefined

/**
 * Descriptor of the lock that {@link exclusively} holds now. A program that changes the rules inherits it: when we are
 * killed it goes on, and nobody may look at the rules before it has ended.
 */
export const heldLock = (): number | undefined => held

/** True when the network has users, or a process that was killed may have left its folder or the lock. */
function mayHaveUsers(root: string, network: string): boolean {
  if (!exists(root)) return false
  return exists(networkFolder(root, network)) || namesIn(root).every((name) => name === 'lock')
}

/** Runs `work` while nobody else does; afterwards what is empty is deleted, in the end the lock itself. */
export function exclusively(root: string, network: string, work: () => void): void {
  for (let entered = false; !entered; ) {
    makeDirectory(root, 0o700)
    try {
      withLock(`${root}/lock`, lockTimeout, (fd) => {
        entered = true
        const outer = held
        held = fd
        try {
          work()
        } finally {
          held = outer
          tidy(root, network)
        }
      })
    } catch (error) {
      // ENOENT before we were in: another process deleted the folder between our mkdir and open.
      if (entered || (error as { code?: string }).code !== 'ENOENT') throw error
    }
  }
}

/** What several attachments share, and how it is made where it is not there. */
export interface Shared {
  readonly users: ChainUsers
  install(): void
}

/** Takes away what the users had shared. */
export type Uninstall = (users: ChainUsers) => void

/** Makes the attachment with this mark a user of each, and each be there: of all or of none. */
export function join(
  root: string,
  network: string,
  mark: string,
  shared: readonly Shared[],
  uninstall: Uninstall,
): void {
  if (shared.length === 0) return
  exclusively(root, network, () => {
    const joined: ChainUsers[] = []
    try {
      for (const { users, install } of shared) {
        if (!users.has(mark)) {
          users.add(mark) // before the rules, so that DEL finds them when we are killed in between
          joined.push(users)
        }
        install() // even when there are users: someone may have emptied the table since
      }
    } catch (error) {
      for (const users of joined) leaveAfterFailure(users, mark, uninstall)
      throw error
    }
  })
}

/** What cannot be undone now is on file for DEL; the error that made us undo is the one to report. */
function leaveAfterFailure(users: ChainUsers, mark: string, uninstall: Uninstall): void {
  try {
    leave(users, (each) => each.delete(mark), uninstall)
  } catch {}
}

/** Lets `change` remove users all over the network, and uninstalls what has none left; goes on past failures. */
export function release(
  root: string,
  network: string,
  change: (users: ChainUsers) => void,
  uninstall: Uninstall,
): void {
  if (!mayHaveUsers(root, network)) return
  exclusively(root, network, () => {
    const errors: Error[] = []
    for (const users of listUsers(root, network)) {
      try {
        leave(users, change, uninstall)
      } catch (error) {
        errors.push(error as Error)
      }
    }
    if (errors.length > 0) throw errors.length === 1 ? errors[0] : new AggregateError(errors, messagesOf(errors))
  })
}

const messagesOf = (errors: readonly Error[]): string => errors.map(({ message }) => message).join('; ')

function leave(users: ChainUsers, change: (users: ChainUsers) => void, uninstall: Uninstall): void {
  change(users)
  if (!users.isEmpty) return
  uninstall(users)
  users.forget() // after the rules: the empty folder reminds the next DEL when we are killed in between
}

/** Last under the lock: who waits for the file that goes here notices and begins anew (see {@link withLock}). */
function tidy(root: string, network: string): void {
  deleteIfEmpty(networkFolder(root, network))
  if (namesIn(root).some((name) => name !== 'lock')) return
  deleteFile(`${root}/lock`)
  deleteIfEmpty(root)
}
