import fs from 'node:fs'
import { isatty } from 'node:tty'
import { retireMilliseconds } from '../../netlink-lib/packet.ts'
import { pause } from '../../netlink-lib/pause.ts'
import { type Filter, parseFilter } from '../capture/filter.ts'
import { readFrame } from '../capture/frame.ts'
import { InOrder } from '../capture/order.ts'
import { fileSink, lineSink, type Sink } from '../capture/sink.ts'
import { parseEnd, type TappedPacket, Taps } from '../capture/taps.ts'
import { CliError } from '../errors.ts'
import { untilStopped } from '../live.ts'

export interface CaptureOptions {
  /** A pcapng file, `-` for stdout; without it each packet is a line. */
  readonly write?: string
  readonly force?: boolean
  readonly count?: number
  readonly snaplen: number
  /** Seconds. */
  readonly timeout?: number
  readonly filter?: string
  /** commander's way to say `--no-promiscuous`. */
  readonly promiscuous: boolean
  readonly json?: boolean
  /** Who writes the file: `ns-net 0.1.0`. */
  readonly application: string
}

/** Listens on links of any number of namespaces at once, until told to stop. What it says besides goes to stderr. */
export async function capture(targets: readonly string[], options: CaptureOptions): Promise<void> {
  const filter = options.filter === undefined ? undefined : parseFilter(options.filter)
  const ends = targets.map(parseEnd)
  if (options.write === '-' && isatty(1))
    throw new CliError(
      'usage',
      '-w - would write a binary file to the terminal',
      'ns-net capture … -w - | wireshark -k -i -',
    )
  using taps = new Taps(ends, { promiscuous: options.promiscuous, snapLength: options.snaplen })
  const { interfaces } = taps
  using sink = openSink(interfaces, options)
  const say = sayer(options.json ?? false)
  const names = interfaces.map(({ name }) => name)
  say(`capturing on ${names.join(', ')}; Ctrl-C ends`, { capturing: names })

  const session = new Session(taps, sink, options.count, filter)
  await untilStopped(() => {
    const state = session.step()
    for (const { name, change } of taps.changes()) say(`${name} is ${change}`, { interface: name, change })
    return taps.allGone ? 'done' : state
  }, options.timeout)
  session.end()
  summarize(taps, session.captured, say, options.write)
}

const openSink = (interfaces: Taps['interfaces'], options: CaptureOptions): Sink => {
  const { write: file, force = false, application, snaplen: snapLength, filter, json = false } = options
  return file === undefined
    ? lineSink(interfaces, json)
    : fileSink(interfaces, { file, force, application, snapLength, filter })
}

type Say = (text: string, json: object) => void

const sayer =
  (asJson: boolean): Say =>
  (text, json) =>
    void fs.writeSync(2, asJson ? `${JSON.stringify(json)}\n` : `${text}\n`)

/** What runs from the first packet to the last. */
class Session {
  readonly #order = new InOrder<TappedPacket>(retireMilliseconds * 2)
  #captured = 0
  #hasReader = true

  constructor(
    readonly taps: Taps,
    readonly sink: Sink,
    readonly count: number | undefined,
    readonly filter: Filter | undefined,
  ) {}

  get captured(): number {
    return this.#captured
  }

  step(): 'busy' | 'idle' | 'done' {
    const arrived = this.taps.receive()
    this.#write(this.#order.add(arrived, performance.now()))
    if (!this.#hasReader || this.#captured === this.count) return 'done'
    return arrived.length > 100 ? 'busy' : 'idle'
  }

  /** The last packets are still on their way to us. */
  end(): void {
    if (this.#captured !== this.count) {
      pause(retireMilliseconds * 2)
      this.#order.add(this.taps.receive(), 0)
      this.#write(this.#order.rest())
    }
    if (this.#hasReader) this.sink.end(this.taps.counts())
  }

  #write(packets: readonly TappedPacket[]): void {
    const { interfaces } = this.taps
    const wanted = packets
      .filter(
        ({ data, interface: number }) => !this.filter || this.filter(readFrame(data, interfaces[number]!.linkType)),
      )
      .slice(0, this.count === undefined ? undefined : this.count - this.#captured)
    if (wanted.length === 0 || !this.#hasReader) return
    this.#hasReader = this.sink.write(wanted)
    this.#captured += wanted.length
  }
}

function summarize(taps: Taps, captured: number, say: Say, file: string | undefined): void {
  const counts = taps.counts()
  const sum = (key: 'received' | 'dropped') => counts.reduce((total, count) => total + count[key], 0)
  const place = file === undefined ? '' : ` to ${file === '-' ? 'stdout' : file}`
  const [received, dropped] = [sum('received'), sum('dropped')]
  say(`${captured} packets captured${place}, ${received} received, ${dropped} dropped by the kernel`, {
    captured,
    received,
    dropped,
    file,
    interfaces: counts,
  })
}
