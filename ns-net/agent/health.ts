import http from 'node:http'
import { CliError } from '../errors.ts'

/** What is not well; undefined when all is. */
export interface Health {
  alive(): string | undefined
  ready(): string | undefined
}

/** Answers the kubelet's probes. */
export function serveHealth(address: string, health: Health): Promise<void> {
  const [, host, port] = address.match(/^\[?([0-9a-fA-F.:]+?)\]?:(\d+)$/) ?? []
  if (!host)
    throw new CliError('usage', `"${address}" is no address to listen on`, 'expected 127.0.0.1:19090 or [::1]:19090')
  const probes: Readonly<Record<string, () => string | undefined>> = {
    '/healthz': () => health.alive(),
    '/readyz': () => health.ready(),
  }
  const server = http.createServer((request, response) => {
    const probe = probes[request.url ?? '']
    const trouble = probe ? probe() : 'only /healthz and /readyz are here'
    response.writeHead(probe ? (trouble ? 503 : 200) : 404, { 'content-type': 'text/plain' })
    response.end(`${trouble ?? 'ok'}\n`)
  })
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(new CliError('conflict', `cannot listen on ${address}: ${error.message}`)))
    server.listen(Number(port), host, resolve)
  })
}
