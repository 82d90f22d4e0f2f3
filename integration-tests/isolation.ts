import { readFileSync, readlinkSync } from 'node:fs'

/**
 * Run by vitest before the integration tests: refuses to start them in the network namespace that this machine lives in.
 * Tests make hosts of their own, but one that forgets to must not meet the real links.
 */
export function setup(): void {
  if (process.env.NS_NET_PRIVATE_HOST || hasOwnNamespace()) return
  throw new Error('integration tests need a private host; use: npm run test:integration')
}

/**
 * True when some process above this one lives in another network namespace, or may not be looked at because this is a
 * user namespace. Asking pid 1 alone is not enough: it's out of reach for a root with fewer capabilities.
 */
function hasOwnNamespace(): boolean {
  const own = readlinkSync('/proc/self/ns/net')
  for (let pid = process.ppid; pid > 0; pid = parentOf(pid)) {
    try {
      if (readlinkSync(`/proc/${pid}/ns/net`) !== own) return true
    } catch {
      return isUserNamespace()
    }
  }
  return false
}

function parentOf(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/^PPid:\s+(\d+)/m)?.[1] ?? 0)
}

function isUserNamespace(): boolean {
  return readFileSync('/proc/self/uid_map', 'utf8').trim().split(/\s+/).join(' ') !== '0 0 4294967295'
}
