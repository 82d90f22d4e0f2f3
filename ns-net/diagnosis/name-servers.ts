import { socketAddress } from '../../netlink-lib/icmp.ts'
import { canonicalIp, familyOf } from '../../netlink-lib/ip.ts'
import { checked, libc } from '../../netlink-lib/libc.ts'
import { pause } from '../../netlink-lib/pause.ts'
import { type Check, ok } from './checkup.ts'
import { read } from './settings.ts'

/** Whether labs will find names: they are told the host's servers, without those that only the host can reach. */

const files = ['/run/systemd/resolve/resolv.conf', '/etc/resolv.conf']
const check = 'name-servers'
const patience = 1000 // milliseconds

export function checkNameServers(): Check[] {
  const file = files.find((path) => read(path) !== undefined)
  const listed = [...(file ? (read(file) ?? '') : '').matchAll(/^\s*nameserver\s+(\S+)/gm)].map(([, server]) => server!)
  const usable = listed.flatMap((server) => canonicalIp(server) ?? []).filter((server) => !isLoopback(server))
  const advice = `write one that labs can reach into ${file ?? files[1]}, or give it with ns-net add --dns`
  if (usable.length === 0) {
    const what = listed.length === 0 ? 'none' : `${listed.join(', ')} only, which no lab can reach`
    return [{ check, state: 'warn', finding: `${what}: labs will find no names`, advice }]
  }
  const answering = whoAnswers(usable)
  if (answering.length > 0) return [ok(check, `${answering.join(', ')} of ${file}`)]
  const servers = usable.join(', ')
  return [{ check, state: 'warn', finding: `${servers} of ${file}: no answer within ${patience / 1000} s`, advice }]
}

const isLoopback = (address: string): boolean => address.startsWith('127.') || address === '::1'

/** A question for the name servers of the root (RFC 1035): everybody answers it, if only to refuse. */
const question = Buffer.from('6e73 0100 0001 0000 0000 0000 00 0002 0001'.replaceAll(' ', ''), 'hex')

/** All are asked at once. */
function whoAnswers(servers: readonly string[]): string[] {
  const open = servers.flatMap((server) => {
    const nonblocking = 2 | 0o2004000 // SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK
    const fd = checked(
      libc.socket(familyOf(server) === 4 ? 2 : 10, nonblocking, 17),
      'open datagram socket for',
      server,
    )
    const address = socketAddress(server, 53)
    const sent = Number(libc.sendto(fd, question, question.length, 0, address, address.length))
    if (sent >= 0) return [{ server, fd }]
    libc.close(fd)
    return [] // no route to it
  })
  const answered = new Set<string>()
  const buffer = Buffer.alloc(1024)
  try {
    for (const end = performance.now() + patience; performance.now() < end && answered.size < open.length; pause(5))
      for (const { server, fd } of open) if (Number(libc.recv(fd, buffer, buffer.length, 0)) >= 12) answered.add(server)
  } finally {
    for (const { fd } of open) libc.close(fd)
  }
  return [...answered]
}
