import type { Change, Journal } from '../../netlink-lib/journal.ts'
import { messageTypes as nftTypes, setMessage } from '../../netlink-lib/nftables/messages.ts'
import { addressFamilies, type LinkMessage, messageTypes } from '../../netlink-lib/route/wire.ts'
import type { NetlinkSocket } from '../../netlink-lib/socket.ts'
import { findSysctl } from '../../netlink-lib/sysctl.ts'
import { CliError } from '../errors.ts'
import { inodeOf } from '../labs.ts'
import { changesSomething } from './ip.ts'
import { namesIn, Peers } from './neighbourhood.ts'
import { nftCommand } from './nft.ts'
import { host, inside, labPlace, type Place, Places } from './place.ts'
import { programStep } from './program.ts'
import { deleteFlow, flowStep, requestText } from './request-text.ts'
import { sysctlCommand } from './sysctl.ts'
import { Tables } from './tables.ts'
import { recreateNetns } from './undo-netns.ts'
import { tableOf, tablesMadeBy, undoTransaction } from './undo-nft.ts'
import { undoRequest } from './undo-request.ts'
import { whyOf } from './why.ts'
import { hereDocument, word } from './words.ts'

/** One thing that was done. */
export interface Step {
  /** Pastes into a shell; a here-document has several lines. */
  readonly command: string
  /** One line. */
  readonly why: string
  /** Commands that take it back; none where something else takes it along. */
  undo: readonly string[]
  /** `host`, the name of a lab, … */
  readonly place: string
}

/** What a change amounts to, and the names of what it makes and ends. */
interface Told extends Step {
  readonly makes?: readonly string[]
  readonly ends?: readonly string[]
}

const netnsKey = (name: string) => `netns ${name}`
const linkKey = ({ name }: Place, link: string | undefined) => `link ${name} ${link}`
const tableKey = ({ name }: Place, table: string) => `table ${name} ${table}`

/**
 * Writes down what is changed, as commands: those that do it, and those that take it back, for which it looks before the
 * change is made. What goes with something that was made here needs none.
 */
export class Recorder implements Journal, Disposable {
  constructor(readonly isRehearsal: boolean) {}

  readonly steps: Step[] = []
  readonly #places = new Places()
  readonly #sockets = new WeakMap<NetlinkSocket, Place>()
  /** Other ends of pairs that an undo brings back; see {@link recreateNetns}. */
  readonly #restored = new Set<string>()
  /** What was made here, by the step that takes it back. */
  readonly #made = new Map<string, Step>();

  [Symbol.dispose](): void {
    this.#places[Symbol.dispose]()
  }

  /** While it looks by itself nothing is written down. */
  #isLooking = false

  opened(socket: NetlinkSocket): void {
    this.#sockets.set(socket, this.#places.here())
  }

  before(change: Change): (() => void) | undefined {
    if (this.#isLooking || asksOnly(change)) return undefined
    if (this.isRehearsal) refuseDaemon(change)
    this.#isLooking = true
    try {
      const told = this.#tell(change)
      return told && (() => this.#write(told))
    } catch (error) {
      const place = 'socket' in change ? this.#placeOf(change.socket) : host
      const command = `# ${change.kind}: there is no command for it: ${(error as Error).message}`
      return () => this.steps.push({ command, why: 'done all the same', undo: [], place: place.name })
    } finally {
      this.#isLooking = false
    }
  }

  #write({ makes = [], ends = [], ...step }: Told): void {
    this.steps.push(step)
    for (const key of makes) this.#made.set(key, step)
    for (const key of ends) {
      const maker = this.#made.get(key)
      if (maker) maker.undo = []
      this.#made.delete(key)
    }
  }

  #placeOf(socket: NetlinkSocket): Place {
    return this.#sockets.get(socket) ?? host
  }

  /** True when it goes with something that was made here. */
  #isCovered(place: Place, link?: string): boolean {
    return this.#made.has(netnsKey(place.name)) || (link !== undefined && this.#made.has(linkKey(place, link)))
  }

  #tell(change: Change): Told | undefined {
    switch (change.kind) {
      case 'request':
        return change.request.type === deleteFlow
          ? flowStep(change.request, this.#placeOf(change.socket))
          : this.#tellRequest(change)
      case 'transaction':
        return this.#tellTransaction(change)
      case 'netns':
        return this.#tellNetns(change)
      case 'sysctl':
        return this.#tellSysctl(change)
      case 'program':
        return programStep(change)
    }
  }

  #tellRequest(change: Change & { kind: 'request' }): Told {
    const { socket: netlink, request } = change
    const place = this.#placeOf(netlink)
    const { command, subject, created, peer } = requestText(request, place, netlink, this.#places)
    const peers = new Peers(this.#places, netlink, place)
    const isLinkGone = request.type === messageTypes.deleteLink && request.body[0] !== addressFamilies.bridge
    const names = namesIn(this.#places, netlink)
    const context = { place, names, netlink, places: this.#places, peerOf: (link: LinkMessage) => peers.of(link) }
    return {
      command,
      why: whyOf(change, place, subject, peer?.place),
      undo: this.#isCovered(place, subject?.name) ? [] : undoRequest(request, context),
      place: place.name,
      makes: created ? [linkKey(place, created.name), ...(peer ? [linkKey(peer.place, peer.name)] : [])] : [],
      ends: isLinkGone ? [linkKey(place, subject?.name)] : [],
    }
  }

  #tellTransaction(change: Change & { kind: 'transaction' }): Told {
    const { socket, commands } = change
    const place = this.#placeOf(socket)
    const tables = new Tables(socket)
    const created = commands.filter(({ type }) => type === nftTypes.newSet).map(({ body }) => setMessage.decode(body))
    const findSet = (family: number, table: string, name: string) =>
      created.find((set) => set.table === table && set.name === name) ?? tables.set({ family, table, name })
    const uncovered = commands.filter((command) => !this.#made.has(tableKey(place, tableOf(command))))
    const undo = this.#isCovered(place) ? [] : undoTransaction(uncovered, tables)
    const deleted = commands.filter(({ type }) => type === nftTypes.deleteTable).map(tableOf)
    return {
      command: nftText(
        place,
        commands.map((command) => nftCommand(command, findSet)),
      ),
      why: whyOf(change, place, undefined),
      undo: undo.length > 0 ? [nftText(place, undo)] : [],
      place: place.name,
      makes: tablesMadeBy(commands).map((table) => tableKey(place, table)),
      ends: deleted.map((table) => tableKey(place, table)),
    }
  }

  #tellNetns(change: Change & { kind: 'netns' }): Told | undefined {
    const { verb, name, netns = '' } = change
    const place = labPlace(name)
    const told = { why: whyOf(change, place, undefined), place: host.name }
    const remove = `ip netns del ${name}`
    if (verb === 'delete') {
      if (inodeOf(name) === undefined) return undefined
      const undo = this.#isCovered(place) ? [] : recreateNetns(place, this.#places, this.#restored)
      return { ...told, command: remove, undo, ends: [netnsKey(name)] }
    }
    const [, pid] = /^\/proc\/(\d+)\/ns\/net$/.exec(netns) ?? []
    const pin = `/run/netns/${name}`
    const byHand = `touch ${pin} && mount --bind ${word(netns)} ${pin}`
    const command = verb === 'create' ? `ip netns add ${name}` : pid ? `ip netns attach ${name} ${pid}` : byHand
    // What is in a namespace that only got a name does not go with that name.
    return { ...told, command, undo: [remove], makes: verb === 'create' ? [netnsKey(name)] : [] }
  }

  #tellSysctl(change: Change & { kind: 'sysctl' }): Told {
    const { name, value } = change
    const place = this.#places.here()
    const old = findSysctl(name)
    const link = name[1] === 'conf' ? name[2] : undefined
    const undo = old === undefined || this.#isCovered(place, link) ? [] : [sysctlCommand(place, name, old)]
    return { command: sysctlCommand(place, name, value), why: whyOf(change, place, undefined), undo, place: place.name }
  }
}

/** True for what changes nothing. */
function asksOnly(change: Change): boolean {
  if (change.kind === 'request') {
    const { type } = change.request
    return type < 256 ? !changesSomething(type) : type !== deleteFlow
  }
  if (change.kind !== 'program') return false
  const [program = ''] = change.command
  return (
    /tables(-save)?$/.test(program) || (program === 'firewall-cmd' && !/--(add|remove)-/.test(change.command.join(' ')))
  )
}

/** A daemon is outside of every namespace that a rehearsal could make: what it is asked for would be real. */
function refuseDaemon(change: Change): void {
  const program = change.kind === 'program' ? (change.command[0] ?? '') : ''
  if (program !== 'firewall-cmd' && !program.endsWith('/dhcp')) return
  throw new CliError('unsupported', `cannot rehearse ${program}: it asks a daemon, which would do it`, 'use --explain')
}

/** A transaction of one command needs no document. */
function nftText(place: Place, lines: readonly string[]): string {
  const [only = ''] = lines
  if (lines.length === 1 && !only.includes("'")) return inside(place, `nft '${only}'`)
  return hereDocument(inside(place, 'nft -f -'), lines)
}
