import { isKernelError } from '../../netlink-lib/errors.ts'
import { echoReplySequence, echoRequest, RawSocket } from '../../netlink-lib/icmp.ts'
import { type Family, familyOf } from '../../netlink-lib/ip.ts'
import { pause } from '../../netlink-lib/pause.ts'
import { parseDestination } from './destination.ts'
import { Neighbours } from './neighbours.ts'
import { type Place, World } from './places.ts'
import { synAnswer, synPacket } from './syn.ts'

/**
 * Who reaches whom, for many at once: all requests of some labs are sent, then all answers are collected, so that a lab
 * that does not answer costs its time once and not once for each of the others.
 */

export interface Question {
  readonly from: Place
  readonly address: string
  /** TCP; without, an echo request. */
  readonly port?: number
}

export interface Answer {
  readonly reachable: boolean
  readonly milliseconds?: number
  /** Why not, where somebody told. */
  readonly reason?: string
}

/** Questions that are open at a time: the kernel's neighbour table has room for about a thousand entries, of all labs. */
const atOnce = 200
/** Milliseconds without any answer after which the rest are put off, and after which they are given up. */
const quiet = 100
const patience = 1000

export interface Asking {
  /** Hears how many questions are answered. */
  readonly tell?: (done: number) => void
  /** Those who are asked, as far as they are known. */
  readonly places?: readonly Place[]
}

/** The answers in the order of the questions. */
export function askAll(questions: readonly Question[], { tell, places = [] }: Asking = {}): Answer[] {
  const answers = new Map<Question, Answer>()
  const neighbours = questions.length > atOnce ? new Neighbours(places) : undefined
  const round = (open: readonly Question[], wait: number, isLast: boolean) => {
    const put: Question[] = []
    const deaf = new Set<string>()
    for (const some of chunks(open)) {
      ask(some, answers, wait, isLast ? new Set() : deaf)
      neighbours?.forgetNew()
      for (const question of some) {
        if (answers.has(question)) continue
        if (isLast) answers.set(question, { reachable: false, reason: 'no answer' })
        else {
          put.push(question)
          deaf.add(question.address)
        }
      }
      tell?.(answers.size)
    }
    return put
  }
  round(round(round(questions, quiet, false), patience, false), patience, true)
  return questions.map((question) => answers.get(question)!)
}

/** Whole senders together, as each needs sockets of its own. */
function* chunks(questions: readonly Question[]): Generator<readonly Question[]> {
  let chunk: Question[] = []
  for (const [i, question] of questions.entries()) {
    const isNewSender = questions[i - 1]?.from !== question.from
    if (chunk.length > 0 && isNewSender && chunk.length + sentBy(questions, i) > atOnce) {
      yield chunk
      chunk = []
    }
    chunk.push(question)
  }
  if (chunk.length > 0) yield chunk
}

function sentBy(questions: readonly Question[], at: number): number {
  const end = questions.findIndex(({ from }, i) => i > at && from !== questions[at]!.from)
  return (end < 0 ? questions.length : end) - at
}

/** Nobody waits for who has not answered somebody else before: those are asked again later, all together. */
function ask(
  questions: readonly Question[],
  answers: Map<Question, Answer>,
  wait: number,
  deaf: ReadonlySet<string>,
): void {
  const awaited = questions.filter(({ address }) => !deaf.has(address))
  const senders: Sender[] = []
  try {
    for (const group of grouped(questions)) senders.push(new Sender(group, answers))
    for (const sender of senders) sender.send()
    let last = performance.now()
    while (performance.now() - last < wait && awaited.some((question) => !answers.has(question))) {
      const before = answers.size
      for (const sender of senders) sender.receive()
      if (answers.size === before) pause(1)
      else if (wait === quiet) last = performance.now()
    }
  } finally {
    for (const sender of senders) sender[Symbol.dispose]()
  }
}

/** By sender and kind of socket. */
function grouped(questions: readonly Question[]): Question[][] {
  const groups = new Map<string, Question[]>()
  for (const question of questions) {
    const { from, address, port } = question
    const key = `${from.label} ${familyOf(address)} ${port === undefined ? 'icmp' : 'tcp'}`
    const known = groups.get(key)
    if (known) known.push(question)
    else groups.set(key, [question])
  }
  return [...groups.values()]
}

/** The number of the first port of TCP; a question has the one that is its place in the list. */
const firstPort = 21_000

/** One socket in one place, with all that it asks. */
class Sender implements Disposable {
  readonly #socket: RawSocket
  readonly #sent: number[] = []
  readonly #identifier = (process.pid ^ Math.floor(Math.random() * 0xffff)) & 0xffff
  readonly #family: Family

  constructor(
    readonly questions: readonly Question[],
    readonly answers: Map<Question, Answer>,
  ) {
    const { from, address, port } = questions[0]!
    this.#family = familyOf(address)
    this.#socket = from.inside<RawSocket>(() => new RawSocket(port === undefined ? 'icmp' : 'tcp', this.#family))
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]()
  }

  send(): void {
    for (const [i, question] of this.questions.entries()) {
      try {
        this.#sent[i] = performance.now()
        const packet = this.#packet(question, i)
        if (packet) this.#socket.send(packet, question.address)
        else this.answers.set(question, { reachable: false, reason: 'no route' })
      } catch (error) {
        const reason = reasonFor(error)
        if (reason) this.answers.set(question, { reachable: false, reason })
      }
    }
  }

  #packet({ from, address, port }: Question, i: number): Buffer | undefined {
    if (port === undefined) return echoRequest(this.#family, this.#identifier, i)
    const decision = from.decide({ destination: address })
    const source = 'refused' in decision ? undefined : decision.source
    return source === undefined ? undefined : synPacket(source, firstPort + i, address, port)
  }

  receive(): void {
    for (const { packet } of this.#socket.receive()) {
      const answered = this.#answered(packet)
      const question = answered && this.questions[answered.index]
      if (!question || this.answers.has(question)) continue
      const milliseconds = performance.now() - this.#sent[answered.index]!
      this.answers.set(
        question,
        answered.isOpen ? { reachable: true, milliseconds } : { reachable: false, reason: 'refused' },
      )
    }
  }

  #answered(packet: Buffer): { index: number; isOpen: boolean } | undefined {
    if (this.questions[0]!.port === undefined) {
      const index = echoReplySequence(this.#family, packet, this.#identifier)
      return index === undefined ? undefined : { index, isOpen: true }
    }
    const answer = synAnswer(packet)
    const index = (answer?.sourcePort ?? 0) - firstPort
    return answer && answer.port === this.questions[index]?.port
      ? { index, isOpen: answer.state === 'open' }
      : undefined
  }
}

/** Undefined for what may be different the next time, as a full neighbour table. */
function reasonFor(error: unknown): string | undefined {
  if (isKernelError(error, 'ENETUNREACH', 'EHOSTUNREACH', 'ENETDOWN', 'EINVAL', 'EACCES')) return 'no route'
  if (isKernelError(error, 'EPERM')) return 'refused by a rule of its own'
  if (isKernelError(error, 'ENOBUFS', 'EAGAIN')) return undefined
  throw error
}

/**
 * True when `to` answers `from`: an echo request, or with a port TCP. `from` is a lab, `pid:N`, `path:FILE` or `host`;
 * `to` a lab, `host` or an address, each with or without `:PORT`. For the tests of a lab file.
 */
export function reach(from: string, to: string, port?: number): boolean {
  using world = new World()
  const place = world.open(from)
  const target = parseDestination(to, world, place)
  const [answer] = askAll([{ from: place, address: target.address, port: port ?? target.port }])
  return answer!.reachable
}
