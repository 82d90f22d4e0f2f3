import type { ClientRequest, IncomingMessage } from 'node:http'
import https from 'node:https'
import { canonicalIp } from '../../netlink-lib/ip.ts'
import type { ApiAccess } from './api-access.ts'

/*
 * The two requests that the agent has for the API server, list and watch. Not by @kubernetes/client-node (2.0.1, tried in
 * the compiled image): it hands its CA to undici as a dispatcher, which bun's stand-in for undici ignores, so the
 * cluster's own CA is refused ("unable to verify the first certificate"). With NODE_EXTRA_CA_CERTS it got through, but it
 * keeps a token for a minute after its file has changed, and what it needs a dozen of its 65 packages for is below.
 */

/** The API server said no. */
export class ApiRefusal extends Error {
  override readonly name = 'ApiRefusal'
  constructor(
    /** Of HTTP, or of the Status object in a watch: 410 says that the history has gone. */
    readonly status: number,
    message: string,
  ) {
    super(`API server: ${status} ${message}`)
  }
}

export interface ApiList {
  readonly items: readonly unknown[]
  /** Where a watch begins that misses nothing. */
  readonly resourceVersion: string
}

export interface ApiEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR'
  readonly object: unknown
}

/** Milliseconds to the head of an answer, and to its end. */
const patience = 10_000

/** Longest line of a watch: an object has at most 1.5 MiB in etcd. */
const longestLine = 8 * 1024 * 1024

export async function list(access: ApiAccess, path: string, signal: AbortSignal): Promise<ApiList> {
  const { items, metadata } = JSON.parse(await textOf(await open(access, path, signal))) as {
    items?: unknown[]
    metadata?: { resourceVersion?: string }
  }
  return { items: items ?? [], resourceVersion: metadata?.resourceVersion ?? '' }
}

/**
 * Tells `onEvent` what happens after a version, until the server ends the watch or `signal` aborts it. Bookmarks are
 * asked for: they say how far the history is known when nothing else does. An ERROR event is thrown.
 */
export async function watch(
  access: ApiAccess,
  path: string,
  resourceVersion: string,
  signal: AbortSignal,
  onEvent: (event: ApiEvent) => void,
): Promise<void> {
  const query = new URLSearchParams({ watch: '1', allowWatchBookmarks: 'true', timeoutSeconds: '300', resourceVersion })
  const response = await open(access, `${path}?${query}`, signal)
  for await (const line of linesOf(response)) {
    const event = JSON.parse(line) as ApiEvent
    if (event.type === 'ERROR') {
      const { code = 500, message = 'watch failed' } = event.object as { code?: number; message?: string }
      throw new ApiRefusal(code, message)
    }
    onEvent(event)
  }
}

/** Sends a GET and waits for the head of the answer; anything but 200 is thrown. */
async function open(access: ApiAccess, path: string, signal: AbortSignal): Promise<IncomingMessage> {
  const token = access.token()
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const request: ClientRequest = https.get(
      `${access.server}${path}`,
      {
        ca: access.ca(),
        ...access.clientCertificate(),
        // A connection of its own: one that was kept could be dead, and it knows only the CA of its day.
        agent: false,
        signal,
        headers: { accept: 'application/json', ...(token && { authorization: `Bearer ${token}` }) },
      },
      (answer) => {
        clearTimeout(timer)
        resolve(answer)
      },
    )
    const { hostname } = new URL(access.server)
    const timer = setTimeout(() => request.destroy(new Error(silence(hostname))), patience)
    request.on('error', (error) => {
      clearTimeout(timer)
      reject(unresolved(error, hostname) ?? error)
    })
  })
  if (response.statusCode === 200) return response
  throw new ApiRefusal(response.statusCode ?? 0, messageIn(await textOf(response)))
}

/** Nobody tells when a name has been resolved, so the resolver may be to blame. */
function silence(hostname: string): string {
  const isName = canonicalIp(hostname.replace(/^\[|\]$/g, '')) === undefined
  return `no answer within ${patience / 1000} s${isName ? `, with the time that the name ${hostname} took` : ''}`
}

/** What getaddrinfo(3) says of names. */
const reasons: Readonly<Record<string, string>> = {
  ENOTFOUND: 'no resolver knows it',
  EAI_AGAIN: 'no resolver answered',
}

/** Undefined when the name is not to blame. */
function unresolved(error: Error & { code?: string }, name: string): Error | undefined {
  const reason = reasons[error.code ?? '']
  if (!reason) return undefined
  const sentence = `the name ${name} cannot be resolved: ${reason}; /etc/hosts and /etc/resolv.conf decide that`
  return new Error(sentence, { cause: error })
}

function messageIn(body: string): string {
  try {
    return String((JSON.parse(body) as { message?: unknown }).message)
  } catch {
    return body.slice(0, 200) // not from the API server itself, a proxy perhaps
  }
}

async function textOf(response: IncomingMessage): Promise<string> {
  const timer = setTimeout(() => response.destroy(new Error('the answer stopped in the middle')), patience)
  try {
    const chunks: Buffer[] = []
    for await (const chunk of response) chunks.push(chunk as Buffer)
    return Buffer.concat(chunks).toString('utf8')
  } finally {
    clearTimeout(timer)
  }
}

async function* linesOf(response: IncomingMessage): AsyncGenerator<string> {
  let rest = ''
  response.setEncoding('utf8')
  for await (const chunk of response) {
    rest += chunk as string
    const lines = rest.split('\n')
    rest = lines.pop()!
    if (rest.length > longestLine) throw new Error(`a line of the watch is longer than ${longestLine} bytes`)
    for (const line of lines) if (line.trim() !== '') yield line
  }
}
