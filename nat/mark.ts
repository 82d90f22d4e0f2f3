import type { Attachment, AttachmentId } from '../config/attachment.ts'

/*
 * The text by which our objects are known again: an element comment says whose it is, so that DEL and GC need no state
 * of their own, and only what carries our mark is ever deleted.
 */

/**
 * Whose an element or rule is: `lab 7c1f… eth0`. At most 127 bytes without quotes, because nft(8) loads no longer
 * comment and has no way to escape a quote when a saved ruleset is restored.
 */
export function ownerMark({ network, containerId, ifName }: Attachment): string {
  return `${networkMark(network)}${part(containerId, 64)} ${part(ifName, 15)}`
}

/** What the marks of all attachments of a network begin with. */
export const networkMark = (network: string): string => `${part(network, 46)} `

export const ownerMarks = (network: string, attachments: readonly AttachmentId[]): ReadonlySet<string> =>
  new Set(attachments.map((attachment) => ownerMark({ network, ...attachment })))

/**
 * The text itself when it is short and harmless. Otherwise a cut of it, `~` and a hash; the network names and container
 * ids that CNI allows hold no `~`, so no name can pass for another.
 */
function part(text: string, longest: number): string {
  if (text.length <= longest && /^[\w.@:+-]+$/.test(text)) return text
  const hash = fnv1a(text)
  const cut = text.slice(0, longest).replaceAll(/[^\w.@:+-]/g, '_')
  return hash.length < longest ? `${cut.slice(0, longest - 1 - hash.length)}~${hash}` : `~${hash.slice(0, longest - 1)}`
}

/**
 * FNV-1a, 64 bits, as 16 hex digits. Not node:crypto: these are names, not secrets, and its import costs a start. In
 * halves of 32 bits, as a BigInt is slow in a process that has just begun; the prime is 2^40 + 0x1b3.
 */
export function fnv1a(text: string): string {
  let [high, low] = [0xcbf29ce4, 0x84222325]
  for (const byte of Buffer.from(text)) {
    low = (low ^ byte) >>> 0
    const product = low * 0x1b3
    high = (high * 0x1b3 + Math.floor(product / 2 ** 32) + low * 256) % 2 ** 32
    low = product % 2 ** 32
  }
  return [high, low].map((half) => half.toString(16).padStart(8, '0')).join('')
}
