import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import { isIP, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'

/**
 * A stand-in for the API server of Kubernetes, as far as nodes go: list and watch over TLS with a certificate of a CA
 * of its own, bearer tokens that rotate, bookmarks, a history that expires.
 */

/** What is set of a node. */
export interface NodeFacts {
  readonly podCIDRs?: readonly string[]
  readonly addresses: readonly string[]
}

interface Change {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'
  readonly version: number
  readonly object: object
}

interface Watch {
  readonly response: ServerResponse
  readonly bookmarks: boolean
}

export interface ApiRequest {
  readonly path: string
  readonly watch: boolean
  readonly resourceVersion: string | null
  readonly token: string | undefined
  readonly status: number
}

export interface ApiServer extends Disposable {
  /** Starts to listen. Called in the network namespace that it is to be in, where the socket then stays. */
  listen(port: number): void
  /** Certificate of the CA that signed the server's. */
  readonly ca: string
  /** Lets a client in as a token does. */
  readonly certificate: { readonly cert: string; readonly key: string }
  readonly requests: readonly ApiRequest[]
  /** Number of watches that are open. */
  readonly watches: number
  /** Requests with another token are answered with 401; open watches stay, as with the real one. */
  setToken(token: string): void
  setNode(name: string, facts: NodeFacts): void
  deleteNode(name: string): void
  /** Forgets the history and says so to all watches: in the stream, or by closing it and answering 410 to the next. */
  expire(how: 'event' | 'status'): void
  /** A version for watches to begin at, without a change. */
  bookmark(): void
  /** Tells the open watches nothing any more, with their connections open: as if the network had lost them. */
  loseWatches(): void
  /** Ends the connections. */
  disconnect(): void
  /** While set, new requests get no answer and watches hear nothing, with their connections open. */
  silent: boolean
}

const openssl = (directory: string, ...args: string[]) => {
  const { status, stderr } = spawnSync('openssl', args, { cwd: directory, encoding: 'utf8' })
  if (status !== 0) throw new Error(`openssl ${args.join(' ')}: ${stderr}`)
}

/** A CA, and a certificate of it for these addresses and names. */
export function createCertificates(subjects: readonly string[]): { ca: string; cert: string; key: string } {
  const directory = mkdtempSync(join(tmpdir(), 'ns-net-ca-'))
  try {
    const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
    const v3 = 'basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n'
    writeFileSync(
      join(directory, 'san'),
      `subjectAltName=${subjects.map((each) => `${isIP(each) ? 'IP' : 'DNS'}:${each}`).join(',')}\n`,
    )
    writeFileSync(join(directory, 'v3'), v3)
    openssl(directory, 'req', ...ec, '-keyout', 'ca.key', '-out', 'ca.csr', '-subj', '/CN=test CA')
    openssl(
      directory,
      'x509',
      '-req',
      '-in',
      'ca.csr',
      '-signkey',
      'ca.key',
      '-out',
      'ca.crt',
      '-days',
      '30',
      '-extfile',
      'v3',
    )
    openssl(directory, 'req', ...ec, '-keyout', 'key', '-out', 'csr', '-subj', '/CN=kube-apiserver')
    openssl(
      directory,
      'x509',
      '-req',
      '-in',
      'csr',
      '-CA',
      'ca.crt',
      '-CAkey',
      'ca.key',
      '-CAcreateserial',
      '-out',
      'crt',
      '-days',
      '30',
      '-extfile',
      'san',
    )
    const read = (name: string) => readFileSync(join(directory, name), 'utf8')
    return { ca: read('ca.crt'), cert: read('crt'), key: read('key') }
  } finally {
    rmSync(directory, { recursive: true })
  }
}

const gone = { kind: 'Status', apiVersion: 'v1', status: 'Failure', reason: 'Expired', code: 410, message: 'too old' }

/** It proves that it is any of these addresses and names. */
export function createApiServer(subjects: readonly string[]): ApiServer {
  const { ca, cert, key } = createCertificates(subjects)
  let token = 'first'
  let version = 100
  /** Watches from before this version have missed something. */
  let oldest = version
  const nodes = new Map<string, { object: object; version: number }>()
  const history: Change[] = []
  const watches = new Set<Watch>()
  const requests: ApiRequest[] = []
  const sockets = new Set<Socket>()

  const send = ({ response }: Watch, event: object) => void response.write(`${JSON.stringify(event)}\n`)
  const tell = (type: Change['type'], object: object) => {
    const change = { type, object, version }
    history.push(change)
    if (!server.silent) for (const watch of watches) send(watch, { type, object })
  }

  const answer = (request: IncomingMessage, response: ServerResponse) => {
    if (server.silent) return
    const url = new URL(request.url ?? '/', 'https://api')
    const given = request.headers.authorization?.replace(/^Bearer /, '')
    const watch = ['1', 'true'].includes(url.searchParams.get('watch') ?? '')
    const since = url.searchParams.get('resourceVersion')
    const end = (status: number, body: object) => {
      requests.push({ path: url.pathname, watch, resourceVersion: since, token: given, status })
      response.writeHead(status, { 'content-type': 'application/json' })
      response.end(JSON.stringify(body))
    }
    if (given !== token && !(request.socket as TLSSocket).authorized)
      return end(401, { kind: 'Status', code: 401, reason: 'Unauthorized', message: 'Unauthorized' })
    if (url.pathname !== '/api/v1/nodes') return end(404, { kind: 'Status', code: 404, message: 'not found' })
    if (!watch)
      return end(200, {
        kind: 'NodeList',
        apiVersion: 'v1',
        metadata: { resourceVersion: String(version) },
        items: [...nodes.values()].map(({ object }) => object),
      })
    if (Number(since ?? 0) < oldest) return end(410, gone)
    requests.push({ path: url.pathname, watch, resourceVersion: since, token: given, status: 200 })
    response.writeHead(200, { 'content-type': 'application/json' })
    response.flushHeaders()
    const one: Watch = { response, bookmarks: url.searchParams.get('allowWatchBookmarks') !== null }
    for (const change of history)
      if (change.version > Number(since)) send(one, { type: change.type, object: change.object })
    watches.add(one)
    response.on('close', () => watches.delete(one))
  }

  const http = createServer({ cert, key, ca, requestCert: true, rejectUnauthorized: false }, answer)
  http.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.unref()
  })
  http.unref()

  const server: ApiServer = {
    silent: false,
    ca,
    certificate: { cert, key },
    requests,
    get watches() {
      return watches.size
    },
    // Without an address: then the socket is made before this returns.
    listen: (port) => void http.listen(port),
    setToken: (next) => {
      token = next
    },
    setNode(name, { podCIDRs, addresses }) {
      const type = nodes.has(name) ? 'MODIFIED' : 'ADDED'
      version++
      const object = {
        kind: 'Node',
        apiVersion: 'v1',
        metadata: { name, uid: `uid-${name}`, resourceVersion: String(version) },
        spec: podCIDRs ? { podCIDR: podCIDRs[0], podCIDRs } : {},
        status: {
          addresses: [
            ...addresses.map((address) => ({ type: 'InternalIP', address })),
            { type: 'Hostname', address: name },
          ],
        },
      }
      nodes.set(name, { object, version })
      tell(type, object)
    },
    deleteNode(name) {
      const node = nodes.get(name)
      if (!node) return
      version++
      nodes.delete(name)
      const { metadata, ...rest } = node.object as { metadata: object }
      tell('DELETED', { ...rest, metadata: { ...metadata, resourceVersion: String(version) } })
    },
    expire(how) {
      history.length = 0
      oldest = ++version
      for (const watch of watches) {
        if (how === 'event') send(watch, { type: 'ERROR', object: gone })
        watch.response.end()
      }
      watches.clear()
    },
    bookmark() {
      version++
      const object = {
        kind: 'Node',
        apiVersion: 'v1',
        metadata: { resourceVersion: String(version) },
        spec: {},
        status: {},
      }
      for (const watch of watches) if (watch.bookmarks) send(watch, { type: 'BOOKMARK', object })
    },
    loseWatches: () => watches.clear(),
    disconnect() {
      for (const socket of sockets) socket.destroy()
    },
    [Symbol.dispose]() {
      server.disconnect()
      http.close()
    },
  }
  return server
}
