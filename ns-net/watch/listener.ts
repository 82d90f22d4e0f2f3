import { isKernelError } from '../../netlink-lib/errors.ts'
import { EventSocket, netfilterGroups, routeGroups } from '../../netlink-lib/events.ts'
import type { Netns } from '../../netlink-lib/netns.ts'
import {
  addressMessage,
  linkMessage,
  messageTypes,
  neighbourMessage,
  routeMessage,
} from '../../netlink-lib/route/wire.ts'
import { NetlinkSocket, protocols } from '../../netlink-lib/socket.ts'
import type { EventAction, WatchEvent } from './event.ts'
import { type Notice, readNotice } from './notice.ts'
import { RulesetChanges } from './ruleset.ts'

/** An event without its time and place. */
export type Happening = Omit<WatchEvent, 'time' | 'place'>

/** Kinds of objects whose state is remembered, so that only changes are told. Of routes the kernel does not tell all. */
const remembered: readonly string[] = ['link', 'address', 'neighbour', 'fdb']

const dumps = [
  [messageTypes.getLink, 'links', linkMessage.encode({})],
  [messageTypes.getAddress, 'addresses', addressMessage.encode({})],
  [messageTypes.getNeighbour, 'neighbours', neighbourMessage.encode({})],
  [messageTypes.getRoute, 'routes', routeMessage.encode({})],
] as const

/** Hears what happens in one network namespace. It keeps the namespace alive. */
export class Listener implements Disposable {
  readonly #route: EventSocket
  readonly #nftables: EventSocket | undefined
  readonly #ruleset = new RulesetChanges()
  readonly #netlink: NetlinkSocket
  #known = new Map<string, Notice>()
  readonly #names = new Map<number, string>()
  readonly #beginning: readonly Notice[]

  constructor(netns: Netns) {
    // First listen, then look: what happens between is told twice rather than never.
    const [route, nftables, netlink] = netns.run<[EventSocket, EventSocket | undefined, NetlinkSocket]>(() => [
      new EventSocket(protocols.route, Object.values(routeGroups)),
      listenToNftables(),
      new NetlinkSocket(protocols.route),
    ])
    this.#route = route
    this.#nftables = nftables
    this.#netlink = netlink
    this.#beginning = this.#look()
    this.#known = new Map(this.#beginning.map((notice) => [notice.key, notice]))
  }

  [Symbol.dispose](): void {
    for (const socket of [this.#route, this.#nftables, this.#netlink]) socket?.[Symbol.dispose]()
  }

  readonly #nameOf = (index: number | undefined): string => this.#names.get(index ?? 0) ?? `link ${index}`

  /** All objects that there are now. */
  #look(): Notice[] {
    return dumps.flatMap(([type, subject, body]) =>
      this.#netlink.dump({ type, body, operation: 'list', subject }).flatMap((reply) => this.#read(reply) ?? []),
    )
  }

  #read(reply: Parameters<typeof readNotice>[0]): Notice | undefined {
    const notice = readNotice(reply, this.#nameOf)
    // A link that is gone keeps its name: what hung from it is still to be told.
    if (notice?.link) this.#names.set(notice.link.index, notice.link.name)
    return notice
  }

  /** What was there when listening began, for a place that has just appeared. */
  found(): Happening[] {
    return this.#beginning
      .filter(({ kind, details }) => kind !== 'neighbour' && details.link !== 'lo')
      .map((notice) => happening(notice, 'found'))
  }

  /** What has happened since the last call. */
  receive(): Happening[] {
    const route = this.#route.receive()
    const nftables = this.#nftables?.receive()
    const events = route.messages.flatMap((reply) => {
      const notice = this.#read(reply)
      return (notice && this.#compare(notice)) ?? []
    })
    if (nftables?.overrun) this.#ruleset.forget()
    for (const reply of nftables?.messages ?? []) {
      const change = this.#ruleset.add(reply)
      if (change) events.push({ kind: 'nftables', action: 'changed', ...change })
    }
    if (route.overrun || nftables?.overrun)
      events.push(
        { kind: 'lost', action: 'changed', what: 'too much at once, some events are lost' },
        ...this.#catchUp(),
      )
    return events
  }

  /** Undefined when it is as it was. */
  #compare(notice: Notice): Happening | undefined {
    const before = this.#known.get(notice.key)
    if (notice.isDeleted) {
      this.#known.delete(notice.key)
      return happening(notice, 'deleted')
    }
    if (!remembered.includes(notice.kind)) {
      // The look at the beginning may have seen the same.
      this.#known.delete(notice.key)
      return before ? undefined : happening(notice, 'added')
    }
    this.#known.set(notice.key, notice)
    if (!before) return happening(notice, 'added')
    const news = [
      ...(notice.link && before.what !== notice.what ? [`was ${before.what}`] : []),
      ...notice.state.filter((word) => !before.state.includes(word)),
      ...before.state
        .filter((word) => !notice.state.some((other) => kindOfWord(other) === kindOfWord(word)))
        .map(without),
    ]
    return news.length > 0 ? happening(notice, 'changed', news) : undefined
  }

  /** Looks again after events were lost, and tells the difference. */
  #catchUp(): Happening[] {
    const now = this.#look().filter(({ kind }) => remembered.includes(kind))
    const keys = new Set(now.map(({ key }) => key))
    const gone = [...this.#known.values()].filter(
      ({ key, kind }) => kind !== 'fdb' && remembered.includes(kind) && !keys.has(key),
    )
    return [...gone.map((notice) => ({ ...notice, isDeleted: true })), ...now].flatMap(
      (each) => this.#compare(each) ?? [],
    )
  }
}

/** `mtu` of `mtu 1400`: a word that says something else of the same. */
const kindOfWord = (word: string): string =>
  states.includes(word) ? 'state' : word.includes(':') ? 'mac' : word.split(' ')[0]!
const states: readonly string[] = [
  'up',
  'down',
  'no carrier',
  'permanent',
  'reachable',
  'stale',
  'delay',
  'probe',
  'incomplete',
  'failed',
]
const without = (word: string): string => `no longer ${word}`

function happening({ kind, what, state, details }: Notice, action: EventAction, news = state): Happening {
  const remark = action === 'deleted' ? undefined : news.join(', ') || undefined
  return { kind, action, what, remark, details }
}

/** Undefined on a kernel without nf_tables, and for users that may not listen to it. */
function listenToNftables(): EventSocket | undefined {
  try {
    return new EventSocket(protocols.netfilter, Object.values(netfilterGroups))
  } catch (error) {
    if (isKernelError(error, 'EPERM', 'ENOENT', 'EINVAL', 'EPROTONOSUPPORT')) return undefined
    throw error
  }
}
