import { Netns } from '../../netlink-lib/netns.ts'
import { listNetnsNames } from '../labs.ts'
import { untilStopped, writeWhole } from '../live.ts'
import { identityOf, type Place, placeAt, placeNamed } from '../places.ts'
import { lineOf, type WatchEvent } from '../watch/event.ts'
import { type Happening, Listener } from '../watch/listener.ts'

export interface WatchOptions {
  readonly count?: number
  /** Seconds. */
  readonly timeout?: number
  readonly json?: boolean
}

/** Tells what happens in the given places, or in all and the host, until told to stop. */
export async function watch(targets: readonly string[], options: WatchOptions): Promise<void> {
  using watched = new Watched(targets.length > 0 ? targets.map(placeAt) : undefined)
  watched.receive()
  const names = watched.names
  const beginning = options.json ? JSON.stringify({ watching: names }) : `watching ${names.join(', ')}; Ctrl-C ends`
  writeWhole(2, `${beginning}\n`)
  let left = options.count ?? Number.POSITIVE_INFINITY
  await untilStopped(() => {
    const events = watched.receive().slice(0, left)
    left -= events.length
    const lines = events.map((event) => (options.json ? `${JSON.stringify(event)}\n` : lineOf(event)))
    const isRead = writeWhole(1, lines.join(''))
    return isRead && left > 0 && !watched.isOver ? 'idle' : 'done'
  }, options.timeout)
}

interface Ear {
  readonly place: Place
  readonly identity: string
  readonly listener: Listener
}

/** The places that are listened to; they come and go. */
class Watched implements Disposable {
  readonly #ears = new Map<string, Ear>()
  /** By their names in /run/netns. */
  readonly #named = new Map<string, Place>()
  #given: readonly Place[] | undefined
  #isBeginning = true

  /** `given` are the only places; without, it is all that there are at any time. */
  constructor(given: readonly Place[] | undefined) {
    this.#given = given
  }

  [Symbol.dispose](): void {
    for (const { listener } of this.#ears.values()) listener[Symbol.dispose]()
  }

  /** Nothing is left that could be heard of again. */
  get isOver(): boolean {
    return this.#given?.length === 0
  }

  get names(): string[] {
    return [...this.#ears.keys()]
  }

  /** What has happened everywhere since the last call. */
  receive(): WatchEvent[] {
    const events: WatchEvent[] = []
    const add = (place: string, happenings: readonly Happening[]) => {
      const time = new Date().toISOString()
      for (const each of happenings) events.push({ time, place, ...each })
    }
    const places = new Map(this.#places().map((place) => [place.name, place]))
    for (const [name, ear] of this.#ears) {
      add(name, ear.listener.receive())
      const place = places.get(name)
      if (place && identityOf(place.netns) === ear.identity) continue
      // At once: what we hold open keeps the namespace and all that is in it.
      ear.listener[Symbol.dispose]()
      this.#ears.delete(name)
      add(name, [{ kind: 'place', action: 'disappeared', what: '' }])
      // A name may come again; a number of a process would be somebody else's.
      if (ear.place.kind === 'process') this.#given = this.#given?.filter((each) => each.name !== name)
    }
    for (const place of places.values()) {
      if (this.#ears.has(place.name)) continue
      const listener = this.#listen(place)
      if (!listener || this.#isBeginning) continue
      add(place.name, [{ kind: 'place', action: 'appeared', what: '' }, ...listener.found()])
    }
    this.#isBeginning = false
    return events
  }

  /** Undefined as long as the name is there but no namespace behind it: `ip netns add` makes the file first. */
  #listen(place: Place): Listener | undefined {
    using netns = Netns.find(place.netns)
    const identity = identityOf(place.netns)
    if (!netns || identity === undefined) return undefined
    const listener = new Listener(netns)
    this.#ears.set(place.name, { place, identity, listener })
    return listener
  }

  #places(): readonly Place[] {
    if (this.#given) return this.#given
    const host = this.#ears.get('host')?.place ?? placeAt('host')
    const own = identityOf(host.netns)
    const named = listNetnsNames().map((name) => {
      const place = this.#named.get(name) ?? placeNamed(name)
      this.#named.set(name, place)
      return place
    })
    return [host, ...named.filter(({ netns }) => identityOf(netns) !== own)]
  }
}
