import fs from 'node:fs'
import type { Dns } from '../ipam/result.ts'
import { type Lab, listLabs, removeIfEmpty, stateDirectory } from './labs.ts'

/**
 * The files of /etc that a lab has of its own: what stands in /etc/netns/NAME, `ip netns exec` and `ns-net exec` put over
 * the file of the same name in /etc.
 */
const directoryOf = (name: string) => `/etc/netns/${name}`

/** Gives a lab its resolv.conf, and the names of the other labs. */
export function writeEtc(name: string, dns: Dns | undefined): void {
  fs.mkdirSync(directoryOf(name), { recursive: true })
  fs.writeFileSync(`${directoryOf(name)}/resolv.conf`, resolvConf(dns))
  try {
    fs.symlinkSync(hostsFile, `${directoryOf(name)}/hosts`)
  } catch (error) {
    if ((error as { code?: string }).code !== 'EEXIST') throw error // somebody put a file of his own there
  }
}

/** True when the lab has a resolv.conf of its own. */
export const hasEtc = (name: string): boolean => fs.existsSync(`${directoryOf(name)}/resolv.conf`)

/** Removes what {@link writeEtc} made; other files that somebody put there stay. */
export function removeEtc(name: string): void {
  fs.rmSync(`${directoryOf(name)}/resolv.conf`, { force: true })
  if (linkTarget(`${directoryOf(name)}/hosts`) === hostsFile) fs.unlinkSync(`${directoryOf(name)}/hosts`)
  for (const directory of [directoryOf(name), '/etc/netns']) {
    try {
      removeIfEmpty(directory)
    } catch (error) {
      if ((error as { code?: string }).code !== 'EBUSY') throw error // a mount point
    }
  }
}

function linkTarget(path: string): string | undefined {
  try {
    return fs.readlinkSync(path)
  } catch {
    return undefined // absent, or a file of somebody's own
  }
}

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

/**
 * Names of the labs for each other: one file for all of them. It is written in place and never replaced, so that it
 * changes also for the processes that have it mounted already.
 */
const hostsFile = `${stateDirectory}/hosts`

const hostsLines = ({ name, attachments }: Pick<Lab, 'name' | 'attachments'>): string =>
  attachments
    .flatMap(({ addresses }) => addresses)
    .map((address) => `${address.split('/')[0]}\t${name}\n`)
    .join('')

/** A new lab is some lines more. */
export function addToHosts(lab: Pick<Lab, 'name' | 'attachments'>): void {
  if (fs.existsSync(hostsFile)) fs.appendFileSync(hostsFile, hostsLines(lab))
  else rewriteHosts()
}

/** All labs anew, behind what the host's own file says; without labs the file goes. */
export function rewriteHosts(labs: readonly Lab[] = listLabs()): void {
  if (labs.length === 0) {
    fs.rmSync(hostsFile, { force: true })
    return
  }
  const own = fs.existsSync('/etc/hosts') ? fs.readFileSync('/etc/hosts', 'utf8').trimEnd() : '127.0.0.1\tlocalhost'
  fs.writeFileSync(
    hostsFile,
    `# written by ns-net: the host's own names, then the labs\n${own}\n${labs.map(hostsLines).join('')}`,
  )
}
