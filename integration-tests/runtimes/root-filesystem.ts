import type { TestContext } from 'vitest'
import type { Place } from '../host.ts'
import { until } from './until.ts'

const programs = ['sh', 'sleep', 'cat', 'echo', 'hostname', 'httpd', 'ip', 'kill', 'nc', 'ping']

/** Serves one page on port 80, IPv4 and IPv6: its own name, and the address that it sees the client under. */
export const webServer = ['/bin/httpd', '-f', '-p', '80', '-h', '/www']

/**
 * Makes a root filesystem for containers: busybox and nothing else, since there is no registry to ask for an image.
 * Skips the test when busybox is the one that needs libraries.
 */
export function makeRootFilesystem(place: Place, directory: string, context: TestContext): void {
  place.sh(`
    mkdir -p ${directory}/bin ${directory}/www/cgi-bin
    cd ${directory}
    cp "$(command -v busybox)" bin/busybox
    for program in ${programs.join(' ')}; do ln -s busybox bin/$program; done
    mkdir dev etc proc run sys tmp
    printf '%s\\n' '#!/bin/sh' 'echo "Content-Type: text/plain"' echo 'echo "$(hostname) $REMOTE_ADDR"' >www/cgi-bin/page
    chmod 755 www/cgi-bin/page`)
  const trial = place.run(['chroot', directory, '/bin/busybox', 'true'], { expectFailure: 'maybe' })
  if (trial.status === 0) return
  const reason = 'busybox is not the static one (Debian: busybox-static)'
  if (process.env.CI) throw new Error(`${reason}; under CI every judge must be there`)
  console.warn(`skipped: ${context.task.name}: ${reason}`)
  context.skip(reason)
}

/** Makes a {@link webServer} of a place that runs no containers. */
export async function serve(place: Place, context: TestContext): Promise<void> {
  const directory = '/run/web-server'
  makeRootFilesystem(place, directory, context)
  place.start(['chroot', directory, ...webServer])
  await firstPage(place, '127.0.0.1', 80)
}

export interface Page {
  /** Who answered. */
  readonly hostname: string
  /** Whom it saw. */
  readonly client: string
}

/** The page of a {@link webServer}, undefined when nobody answers. The client may be a container of busybox. */
export function getPage(client: Pick<Place, 'run'>, address: string, port: number): Page | undefined {
  // By a pipe: nc ends without reading its stdin when it's refused.
  const request = `printf 'GET /cgi-bin/page HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 2 ${address} ${port}`
  return parsePage(client.run(['sh', '-c', request], { expectFailure: 'maybe' }).stdout)
}

/** The same for a server that has just been started. */
export async function firstPage(client: Pick<Place, 'run'>, address: string, port: number): Promise<Page> {
  let page: Page | undefined
  await until(`somebody answers at ${address} port ${port}`, () => {
    page = getPage(client, address, port)
    return page !== undefined
  })
  return page!
}

/** What busybox prints: a header, an empty line, the page. An IPv4 client of a socket for both families is mapped. */
function parsePage(response: string): Page | undefined {
  const [, hostname, client] = response.match(/\r?\n\r?\n(\S+) \[(?:::ffff:(?=\d+\.))?(.*)\]/) ?? []
  return hostname && client ? { hostname, client } : undefined
}
