import fs from 'node:fs'
import { canonicalIp } from '../../netlink-lib/ip.ts'
import { addressTowards } from '../diagnosis/destination.ts'
import { type Place, World } from '../diagnosis/places.ts'
import { type Answer, askAll, type Question } from '../diagnosis/reachability.ts'
import { labIn } from '../diagnosis/records.ts'
import { CliError, toCliError } from '../errors.ts'
import { listLabs } from '../labs.ts'
import { type Report, table } from '../output.ts'

export interface MatrixOptions {
  /** TCP instead of echo requests. */
  readonly port?: number
  /** Addresses besides those of the labs. */
  readonly to?: readonly string[]
}

/** One cell: a lab, and whom it is to reach. */
interface Pair extends Answer {
  readonly from: string
  readonly to: string
  readonly address?: string
}

/** Which labs reach which, their gateways and further addresses. */
export function matrix(names: readonly string[], { port, to = [] }: MatrixOptions): Report {
  using world = new World()
  try {
    const labs = names.length > 0 ? [...new Set(names)] : listLabs().map(({ name }) => name)
    if (labs.length === 0) throw new CliError('notFound', 'there is no lab', 'ns-net add NAME makes one')
    const addresses = to.map(requireAddress)
    const places = labs.map((name) => world.open(name))
    const pairs = ask(
      places.flatMap((place) => wanted(place, places, addresses, port)),
      places,
    )
    return report(labs, pairs, port)
  } catch (error) {
    throw toCliError(error, 'cannot measure')
  }
}

function requireAddress(text: string): string {
  const address = canonicalIp(text)
  if (!address) throw new CliError('usage', `"${text}" is not an IP address`, 'ns-net matrix --to 192.0.2.1')
  return address
}

type Wanted = { readonly from: Place; readonly to: string; readonly address?: string; readonly port?: number }

/** A gateway answers echo requests; that it listens on a port is not to be expected. */
function wanted(from: Place, places: readonly Place[], addresses: readonly string[], port?: number): Wanted[] {
  const lab = labIn(from)
  const address = port === undefined ? lab?.attachments.find((attachment) => attachment.gateway)?.gateway : undefined
  return [
    ...(address ? [{ from, to: gateway, address }] : []),
    ...places
      .filter((place) => place !== from)
      .map((place) => ({ from, to: place.label, address: addressTowards(place, from), port })),
    ...addresses.map((each) => ({ from, to: each, address: each, port })),
  ]
}

function ask(all: readonly Wanted[], places: readonly Place[]): Pair[] {
  const questions = all.filter((each): each is Wanted & Question => each.address !== undefined)
  const tell = progress(questions.length)
  const answers = askAll(questions, { tell, places })
  tell?.(undefined)
  const byQuestion = new Map(questions.map((question, i) => [question as Wanted, answers[i]!]))
  return all.map((each) => ({
    from: each.from.label,
    to: each.to,
    ...(each.address !== undefined && { address: each.address }),
    ...(byQuestion.get(each) ?? { reachable: false, reason: 'no address' }),
  }))
}

/** A line that is written over, for people who wait; undefined as the number takes it away. */
function progress(total: number): ((done: number | undefined) => void) | undefined {
  if (!process.stderr.isTTY || total < 400) return undefined
  return (done) => void fs.writeSync(2, done === undefined ? '\r\x1b[K' : `\r${done} of ${total}`)
}

/** The heading of that column. */
const gateway = 'gateway'

/** More columns fit no screen. */
const widest = 16

function report(labs: readonly string[], pairs: readonly Pair[], port: number | undefined): Report {
  const failed = pairs.filter(({ reachable }) => !reachable)
  const reachable = pairs.length - failed.length
  const json = {
    protocol: port === undefined ? 'icmp' : 'tcp',
    ...(port !== undefined && { port }),
    labs,
    total: pairs.length,
    reachable,
    pairs,
  }
  const rows = labs.length <= widest ? grid(labs, pairs) : ''
  const list =
    failed.length === 0
      ? ''
      : table(
          ['FROM', 'TO', 'ADDRESS', 'REASON'],
          failed.map(({ from, to, address = '', reason = '' }) => [from, to, address, reason]),
        )
  const parts = [rows, list, `${reachable} of ${pairs.length} reachable\n`].filter((part) => part !== '')
  return { json, text: parts.join('\n'), negative: failed.length > 0 }
}

function grid(labs: readonly string[], pairs: readonly Pair[]): string {
  const others = [...new Set(pairs.map(({ to }) => to))].filter((to) => !labs.includes(to))
  const columns = [...others.filter((to) => to === gateway), ...labs, ...others.filter((to) => to !== gateway)]
  const cell = (from: string, to: string) => {
    const pair = pairs.find((each) => each.from === from && each.to === to)
    return pair ? (pair.reachable ? 'ok' : 'FAIL') : ''
  }
  return table(
    ['FROM', ...columns],
    labs.map((from) => [from, ...columns.map((to) => cell(from, to))]),
  )
}
