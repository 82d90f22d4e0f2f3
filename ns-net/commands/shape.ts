import { type Lateness, longestDelay } from '../../netlink-lib/route/shaping.ts'
import type { TokenBucket } from '../../netlink-lib/route/traffic-control.ts'
import { CliError, toCliError } from '../errors.ts'
import { exclusively } from '../labs.ts'
import { type Report, table } from '../output.ts'
import { clearShape, type Directions, linkNames, openCable, readDirections, type Shape, setShape } from '../shaping.ts'
import { parseTarget } from '../targets.ts'

export interface ShapeOptions {
  /** As tc(8) writes it: `1mbit`. */
  readonly rate?: string
  /** Bytes, or `32kb`. */
  readonly burst?: string
  readonly loss?: string
  readonly delay?: string
  readonly jitter?: string
  readonly reset?: boolean
}

/** Shows, sets or takes away what makes a target's links slow, late and lossy. */
export function shape(text: string, action: string | undefined, options: ShapeOptions): Report {
  if (action !== undefined && action !== 'reset')
    throw new CliError('usage', `unknown word "${action}"`, 'ns-net shape TARGET reset')
  const { reset = action === 'reset', ...wanted } = options
  const asked = Object.values(wanted).some((value) => value !== undefined)
  if (reset && asked) throw new CliError('usage', 'reset takes no other options', 'it takes away all of a shape')
  const { target, netns, ifName } = parseLink(text)
  try {
    if (reset) {
      exclusively(() => namesOf(netns, ifName).forEach((name) => void withCable(netns, name, clearShape)))
    } else if (asked) {
      const name = theOne(target, namesOf(netns, ifName))
      exclusively(() => withCable(netns, name, (cable) => setShape(cable, parseShape(wanted, cable.inner.link.mtu))))
    }
    return report(target, netns, namesOf(netns, ifName))
  } catch (error) {
    throw toCliError(error, `cannot shape "${text}"`)
  }
}

/** `TARGET` or `TARGET:IF`; a target may have a colon itself. */
function parseLink(text: string): { target: string; netns: string; ifName?: string } {
  const [, target = text, ifName] = /^((?:(?:pid|podman|docker|path):)?[^:]+)(?::([^:/]{1,15}))?$/.exec(text) ?? []
  return { target, netns: parseTarget(target).netns, ifName }
}

const namesOf = (netns: string, ifName: string | undefined): string[] =>
  ifName === undefined ? linkNames(netns) : [ifName]

function theOne(target: string, names: readonly string[]): string {
  if (names.length === 1) return names[0]!
  if (names.length === 0) throw new CliError('notFound', `"${target}" has no link but lo`)
  throw new CliError(
    'usage',
    `"${target}" has several links: ${names.join(' ')}`,
    `name one: ns-net shape ${target}:${names[0]}`,
  )
}

function withCable<T>(netns: string, ifName: string, work: (cable: ReturnType<typeof openCable>) => T): T {
  using cable = openCable(netns, ifName)
  return work(cable)
}

const fail = (option: string, text: string, hint: string): never => {
  throw new CliError('usage', `--${option} ${text}: not understood`, hint)
}

export function parseShape({ rate, burst, loss, delay, jitter }: ShapeOptions, mtu: number): Shape {
  if (burst !== undefined && rate === undefined) throw new CliError('usage', '--burst needs --rate')
  if (jitter !== undefined && delay === undefined) throw new CliError('usage', '--jitter needs --delay')
  return {
    ...(rate !== undefined && { bucket: parseBucket(rate, burst, mtu) }),
    ...(delay !== undefined && { lateness: parseLateness(delay, jitter) }),
    ...(loss !== undefined && { loss: parseLoss(loss) }),
  }
}

/** Units of tc(8): bits per second, or with bps bytes. */
const rateUnits = { bit: 1 / 8, kbit: 125, mbit: 125e3, gbit: 125e6, bps: 1, kbps: 1e3, mbps: 1e6, gbps: 1e9 }
const sizeUnits = { b: 1, k: 1024, kb: 1024, m: 1024 ** 2, mb: 1024 ** 2, kbit: 128, mbit: 128 * 1024 }
const timeUnits = { us: 1, ms: 1e3, s: 1e6 }

/** A number with a unit, as a number of the smallest one. */
function quantity(option: string, text: string, units: Readonly<Record<string, number>>, bare?: string): number {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)([a-z]*)$/i.exec(text) ?? []
  const factor = units[(unit || bare || '').toLowerCase()]
  if (digits === undefined || factor === undefined)
    return fail(option, text, `a number with a unit: ${Object.keys(units).join(', ')}`)
  return Number(digits) * factor
}

/** An Ethernet header, and what the kernel counts besides. */
const overhead = 18

/** A burst of 10 ms, a queue of 50 ms, and never less than some whole packets. */
function parseBucket(rateText: string, burstText: string | undefined, mtu: number): TokenBucket {
  const rate = Math.floor(quantity('rate', rateText, rateUnits, 'bit'))
  if (rate < 1) fail('rate', rateText, 'at least 8bit')
  const packet = mtu + overhead
  const burst =
    burstText === undefined ? Math.max(2 * packet, rate / 100) : quantity('burst', burstText, sizeUnits, 'b')
  if (burst < packet)
    throw new CliError(
      'usage',
      `--burst ${burstText}: less than a packet`,
      `at least ${packet} bytes with an MTU of ${mtu}`,
    )
  const whole = Math.min(Math.floor(burst), 0x7fffffff)
  return { rate, burst: whole, limit: Math.floor(Math.min(whole + Math.max(rate / 20, 10 * packet), 0xffffffff)) }
}

function parseLateness(delayText: string, jitterText: string | undefined): Lateness {
  const delay = Math.round(quantity('delay', delayText, timeUnits))
  const jitter = jitterText === undefined ? 0 : Math.round(quantity('jitter', jitterText, timeUnits))
  if (delay < 1 || delay > longestDelay) fail('delay', delayText, 'from 1us to 274s')
  if (jitter > delay) throw new CliError('usage', `--jitter ${jitterText} is more than --delay ${delayText}`)
  return { delay, jitter }
}

function parseLoss(text: string): number {
  const [, digits] = /^(\d+(?:\.\d)?)%?$/.exec(text) ?? []
  const perThousand = Math.round(Number(digits) * 10)
  if (!(perThousand >= 1 && perThousand <= 1000)) fail('loss', text, 'from 0.1% to 100%, in steps of 0.1')
  return perThousand
}

function report(target: string, netns: string, names: readonly string[]): Report {
  const links = names.flatMap((ifName) => {
    const directions = readIfVeth(netns, ifName, names.length === 1)
    return directions ? [{ ifName, sends: tell(directions.sends), receives: tell(directions.receives) }] : []
  })
  const row = (ifName: string, direction: string, told: Told) => [
    `${target}:${ifName}`,
    direction,
    told.rate === undefined ? '' : formatRate(told.rate),
    told.burst === undefined ? '' : `${told.burst}b`,
    told.loss === undefined ? '' : `${told.loss}%`,
    told.delay === undefined ? '' : `${told.delay}ms`,
    told.jitter === undefined ? '' : `${told.jitter}ms`,
  ]
  return {
    json: { target, links },
    text: table(
      ['LINK', 'DIRECTION', 'RATE', 'BURST', 'LOSS', 'DELAY', 'JITTER'],
      links.flatMap(({ ifName, sends, receives }) => [row(ifName, 'sends', sends), row(ifName, 'receives', receives)]),
    ),
  }
}

/** Of several links those that cannot be shaped are left out. */
function readIfVeth(netns: string, ifName: string, only: boolean): Directions | undefined {
  try {
    return withCable(netns, ifName, readDirections)
  } catch (error) {
    if (!only && error instanceof CliError && error.kind === 'unsupported') return undefined
    throw error
  }
}

/** Bits per second, bytes, percent, milliseconds; what is absent is as usual. */
interface Told {
  readonly rate?: number
  readonly burst?: number
  readonly loss?: number
  readonly delay?: number
  readonly jitter?: number
}

const tell = ({ bucket, lateness, loss }: Shape): Told => ({
  ...(bucket && { rate: bucket.rate * 8, burst: bucket.burst }),
  ...(loss && { loss: loss / 10 }),
  ...(lateness && { delay: lateness.delay / 1000, ...(lateness.jitter > 0 && { jitter: lateness.jitter / 1000 }) }),
})

function formatRate(bits: number): string {
  const [factor, unit] = (
    [
      [1e9, 'gbit'],
      [1e6, 'mbit'],
      [1e3, 'kbit'],
    ] as const
  ).find(([each]) => bits % each === 0) ?? [1, 'bit']
  return `${bits / factor}${unit}`
}
