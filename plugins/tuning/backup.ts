import type { Attachment, AttachmentId } from '../../config/attachment.ts'
import { Section } from '../../config/reader.ts'
import { deleteFile, findFile, findNames, makeDirectory, openFlags, writeFile } from '../../netlink-lib/files.ts'
import type { LinkTuning } from './config.ts'

/*
 * The settings an interface had before ADD, on file until DEL: `<dataDir>/<container id>_<interface>.json` with the
 * reference plugin's keys, so that either plugin restores what the other one changed. `network` is ours: without it
 * nobody could tell whose file is stale.
 */

const suffix = '.json'
const nameOf = ({ containerId, ifName }: AttachmentId): string => `${containerId}_${ifName}${suffix}`
const fileOf = (dataDir: string, attachment: Attachment): string => `${dataDir}/${nameOf(attachment)}`

export function writeBackup(dataDir: string, attachment: Attachment, old: LinkTuning): void {
  makeDirectory(dataDir, 0o700)
  const content = {
    mac: old.mac,
    promisc: old.promiscuous,
    mtu: old.mtu,
    allmulti: old.allMulticast,
    txQLen: old.txQueueLength,
    network: attachment.network,
  }
  const text = JSON.stringify(content, undefined, 1)
  writeFile(fileOf(dataDir, attachment), text, openFlags.create | openFlags.truncate, 0o600)
}

/** Undefined when there is no file. One that was cut short was written by an ADD that changed nothing after it. */
export function findBackup(dataDir: string, attachment: Attachment): LinkTuning | undefined {
  const content = read(fileOf(dataDir, attachment))
  return content && settingsIn(content)
}

export function deleteBackup(dataDir: string, attachment: Attachment): void {
  deleteFile(fileOf(dataDir, attachment))
}

/** Files of the network that no valid attachment owns. Those of the reference plugin name no network and stay. */
export function staleBackups(dataDir: string, network: string, valid: readonly AttachmentId[]): string[] {
  const keep = new Set(valid.map(nameOf))
  return (findNames(dataDir) ?? [])
    .filter((name) => name.endsWith(suffix) && !keep.has(name))
    .map((name) => `${dataDir}/${name}`)
    .filter((file) => read(file)?.get('network')?.json === network)
}

function read(file: string): Section | undefined {
  const text = findFile(file)
  if (text === undefined) return undefined
  try {
    return new Section(JSON.parse(text) as Record<string, unknown>)
  } catch {
    return new Section({}) // it says nothing that could be restored
  }
}

function settingsIn(content: Section): LinkTuning {
  try {
    return {
      mac: content.get('mac')?.mac(),
      promiscuous: content.get('promisc')?.boolean(),
      mtu: content.get('mtu')?.integer(1, 0xffffffff),
      allMulticast: content.get('allmulti')?.boolean(),
      txQueueLength: content.get('txQLen')?.integer(0, 0xffffffff),
    }
  } catch {
    return {} // as above: a file that makes no sense must not stop a teardown
  }
}
