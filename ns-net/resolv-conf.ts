import fs from 'node:fs'
import type { Dns } from '../ipam/result.ts'
import { removeIfEmpty } from './labs.ts'

/**
 * DNS of a lab: /etc/netns/NAME/resolv.conf, which `ip netns exec` and `ns-net exec` put over /etc/resolv.conf.
 */
const directoryOf = (name: string) => `/etc/netns/${name}`

/** Where the host's real resolvers stand, systemd's own list first: its stub at 127.0.0.53 is not reachable from a lab. */
const hostFiles = ['/run/systemd/resolve/resolv.conf', '/etc/resolv.conf']

/** The text of a lab's resolv.conf: what the network says, else what the host uses, without loopback addresses. */
export function resolvConf(dns: Dns | undefined): string {
  if (dns?.nameservers?.length) {
    const lines = dns.nameservers.map((server) => `nameserver ${server}`)
    if (dns.domain) lines.push(`domain ${dns.domain}`)
    if (dns.search?.length) lines.push(`search ${dns.search.join(' ')}`)
    if (dns.options?.length) lines.push(`options ${dns.options.join(' ')}`)
    return `# written by ns-net from the network's configuration\n${lines.join('\n')}\n`
  }
  const file = hostFiles.find((candidate) => fs.existsSync(candidate))
  const lines = file ? fs.readFileSync(file, 'utf8').split('\n') : []
  const usable = lines.filter((line) => /^\s*(nameserver|search|domain|options)\s/.test(line))
  const reachable = usable.filter((line) => !/^\s*nameserver\s+(127\.|::1\s*$)/.test(line))
  return `# written by ns-net from ${file ?? 'nothing: the host has no resolv.conf'}\n${reachable.join('\n')}\n`
}

export function writeResolvConf(name: string, dns: Dns | undefined): void {
  fs.mkdirSync(directoryOf(name), { recursive: true })
  fs.writeFileSync(`${directoryOf(name)}/resolv.conf`, resolvConf(dns))
}

/** Removes what {@link writeResolvConf} made; other files that somebody put there stay. */
export function removeResolvConf(name: string): void {
  fs.rmSync(`${directoryOf(name)}/resolv.conf`, { force: true })
  for (const directory of [directoryOf(name), '/etc/netns']) {
    try {
      removeIfEmpty(directory)
    } catch (error) {
      if ((error as { code?: string }).code !== 'EBUSY') throw error // a mount point
    }
  }
}
