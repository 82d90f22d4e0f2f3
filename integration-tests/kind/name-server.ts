import { createSocket } from 'node:dgram'

/** A stand-in for the resolver that docker gives to a node of kind: addresses of names, and NXDOMAIN (RFC 1035). */
export interface NameServer extends Disposable {
  /** Addresses by name, read for every question. */
  readonly names: Map<string, readonly string[]>
  /** The names that were asked for. */
  readonly asked: readonly string[]
  /** While set, questions get no answer. */
  silent: boolean
}

const types = { A: 1, AAAA: 28 } as const
const noSuchName = 3

/** Starts to listen. Called in the network namespace that it is to be in, where the socket then stays. */
export function serveNames(address: string, port = 53): NameServer {
  const names = new Map<string, readonly string[]>()
  const asked: string[] = []
  // The socket is made before this returns: no name has to be looked up for it.
  const socket = createSocket({ type: 'udp4', lookup: (host, _options, done) => done(null, host, 4) })
  socket.on('message', (query, { address: client, port: from }) => {
    const { name, type, end } = questionOf(query)
    asked.push(name)
    if (server.silent) return
    const known = names.get(name)
    const wanted = (known ?? []).filter((each) => each.includes(':') === (type === types.AAAA))
    const answers = type === types.A || type === types.AAAA ? wanted.map((each) => recordOf(each, type)) : []
    const header = Buffer.alloc(12)
    header.writeUInt16BE(query.readUInt16BE(0), 0)
    header.writeUInt16BE(0x8580 | (known ? 0 : noSuchName), 2) // a response with authority, recursion offered
    header.writeUInt16BE(1, 4)
    header.writeUInt16BE(answers.length, 6)
    socket.send(Buffer.concat([header, query.subarray(12, end), ...answers]), from, client)
  })
  socket.bind({ address, port })
  socket.unref()
  const server: NameServer = { names, asked, silent: false, [Symbol.dispose]: () => void socket.close() }
  return server
}

/** The only question of a query, and where it ends. */
function questionOf(query: Buffer): { name: string; type: number; end: number } {
  const labels: string[] = []
  let at = 12
  for (let length = query[at]!; length > 0; length = query[at]!) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length))
    at += 1 + length
  }
  return { name: labels.join('.'), type: query.readUInt16BE(at + 1), end: at + 5 }
}

/** A record whose name is that of the question, valid for no time at all. */
function recordOf(address: string, type: number): Buffer {
  const data = type === types.A ? Buffer.from(address.split('.').map(Number)) : bytesOf6(address)
  const head = Buffer.alloc(12)
  head.writeUInt16BE(0xc00c, 0)
  head.writeUInt16BE(type, 2)
  head.writeUInt16BE(1, 4)
  head.writeUInt16BE(data.length, 10)
  return Buffer.concat([head, data])
}

function bytesOf6(address: string): Buffer {
  const [front = [], back = []] = address.split('::').map((half) => half.split(':').filter(Boolean))
  const words = [...front, ...Array<string>(8 - front.length - back.length).fill('0'), ...back]
  return Buffer.from(words.map((word) => word.padStart(4, '0')).join(''), 'hex')
}
