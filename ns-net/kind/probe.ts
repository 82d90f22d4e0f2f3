import dns from 'node:dns/promises'
import http from 'node:http'
import os from 'node:os'

/** The two ends of a check: a server that tells who asks, and a client. They are all that the check's pods run. */

/** `/clientip`, `/hostname` and `/echo?msg=TEXT` on a port, for both families. */
export function serveProbes(port: number): void {
  const server = http.createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://probe')
    const client = (request.socket.remoteAddress ?? '').replace(/^::ffff:/, '')
    const answers: Readonly<Record<string, string>> = {
      '/clientip': client,
      '/hostname': os.hostname(),
      '/echo': searchParams.get('msg') ?? '',
    }
    const answer = answers[pathname]
    response.statusCode = answer === undefined ? 404 : 200
    response.end(`${answer ?? 'expected /clientip, /hostname or /echo?msg=TEXT'}\n`)
  })
  server.listen(port, '::')
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => process.exit(0))
}

/** What a URL answers, or the addresses of a name; throws when nothing comes within three seconds. */
export async function probe(target: string): Promise<string> {
  if (!target.includes('://')) {
    const found = await dns.lookup(target, { all: true })
    return found.map(({ address }) => address).join(' ')
  }
  const response = await fetch(target, { signal: AbortSignal.timeout(3000) })
  return (await response.text()).trim()
}
