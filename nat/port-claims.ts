import {
  deleteFile,
  deleteIfEmpty,
  findFile,
  findNames,
  makeDirectory,
  openFlags,
  readFile,
  writeFile,
} from '../netlink-lib/files.ts'
import type { Family } from '../netlink-lib/ip.ts'
import { PortTaken } from './errors.ts'
import { type Forward, portText } from './forwards.ts'
import { ChainUsers } from './users.ts'

/*
 * Who has which port, for the iptables backend, whose rules cannot be asked for it:
 *
 *   /run/ns-net/nat/ports/claims/v4-tcp-8080/any             the mark of the owner
 *   /run/ns-net/nat/ports/attachments/lab 7c1f… eth0         what it made, as JSON
 *   /run/ns-net/nat/ports/NS-NET-PORTS.v4/lab 7c1f… eth0     empty: a user of what is shared
 *
 * on the tmpfs that a reboot clears together with the rules. To be changed under the lock of users.ts.
 */

/** What an ADD made, so that DEL finds it whatever its own configuration says. */
export interface Installation {
  readonly forwards: readonly Forward[]
  readonly families: readonly FamilyInstallation[]
}

export interface FamilyInstallation {
  readonly family: Family
  readonly chain: string
  /** Rules that lead to the chain, without `-A`. */
  readonly entries: readonly string[]
  /** The rules of the chain, without `-A`. */
  readonly rules: readonly string[]
  /** Shared things it uses, by name. */
  readonly shared: readonly string[]
}

const folderOf = (root: string) => `${root}/ports`
const attachmentFile = (root: string, mark: string) => `${folderOf(root)}/attachments/${mark}`
const portFolder = (root: string, { family, protocol, port }: Forward) =>
  `${folderOf(root)}/claims/v${family}-${protocol}-${port}`

/** Users of something that attachments share. */
export const usersOfShared = (root: string, name: string, family: Family): ChainUsers =>
  new ChainUsers(name, family, `${folderOf(root)}/${name}.v${family}`)

export function findInstallation(root: string, mark: string): Installation | undefined {
  const text = findFile(attachmentFile(root, mark))
  return text === undefined ? undefined : (JSON.parse(text) as Installation)
}

/** The marks of all attachments with ports. */
export const listAttachments = (root: string): string[] => findNames(`${folderOf(root)}/attachments`) ?? []

/** A port of every address and the same port of one address would compete for the packets of that one. */
export function refuseClaimed(root: string, forwards: readonly Forward[], mark: string): void {
  for (const forward of forwards)
    for (const address of findNames(portFolder(root, forward)) ?? []) {
      const overlaps = forward.address === undefined || address === 'any' || address === forward.address
      if (!overlaps) continue
      const holder = readFile(`${portFolder(root, forward)}/${address}`)
      const taken = { ...forward, address: address === 'any' ? undefined : address }
      if (holder !== mark) throw new PortTaken(portText(taken), mark, holder)
    }
}

/** Written before the rules are made, so that DEL finds them when we are killed in between. */
export function writeInstallation(root: string, mark: string, installation: Installation): void {
  const write = (path: string, text: string) => {
    makeDirectory(path.slice(0, path.lastIndexOf('/')), 0o700)
    writeFile(path, text, openFlags.create | openFlags.truncate, 0o600)
  }
  write(attachmentFile(root, mark), JSON.stringify(installation))
  for (const forward of installation.forwards) write(`${portFolder(root, forward)}/${forward.address ?? 'any'}`, mark)
  for (const { family, shared } of installation.families)
    for (const name of shared) usersOfShared(root, name, family).add(mark)
}

/** Deleted after the rules, the file that names them last. */
export function deleteInstallation(root: string, mark: string, installation: Installation): void {
  const claims = installation.forwards.map((forward) => portFolder(root, forward))
  for (const [i, forward] of installation.forwards.entries()) {
    deleteFile(`${claims[i]}/${forward.address ?? 'any'}`)
    deleteIfEmpty(claims[i]!)
  }
  for (const { family, shared } of installation.families)
    for (const name of shared) {
      const users = usersOfShared(root, name, family)
      users.delete(mark)
      deleteIfEmpty(users.folder)
    }
  deleteFile(attachmentFile(root, mark))
  for (const name of ['claims', 'attachments', '']) deleteIfEmpty(`${folderOf(root)}/${name}`)
}
