import { Findings } from './findings.ts'
import { Firewall } from './firewall.ts'
import type { Packet } from './packet.ts'
import type { End, Place, World } from './places.ts'
import { driftOf, labIn } from './records.ts'

export interface Endpoint {
  readonly address: string
  readonly port?: number
}

/** What a place does to the addresses of this connection, and takes back in its answers. */
export interface Connection {
  readonly source?: { readonly from: Endpoint; readonly to: Endpoint }
  readonly destination?: { readonly from: Endpoint; readonly to: Endpoint }
}

/** A packet that has come to a place by a link. */
export interface Arrival {
  readonly at: End
  readonly packet: Packet
  readonly sourceMac?: string
}

/** Everything that one diagnosis shares. */
export class Walk implements Disposable {
  readonly findings = new Findings()
  readonly connections = new Map<Place, Connection>()
  /** The address that the packet leaves its origin from. */
  source: string | undefined
  /** Where the packet has left what can be seen from here, and as what. */
  left: { readonly from: End; readonly packet: Packet } | undefined
  /** Where the packet has come to its end. */
  delivered: Arrival | undefined
  /** The last place that forwarded the packet. */
  router: { readonly place: Place; readonly out: End['link'] } | undefined
  /** The packet as it came to each place, by its label: what to look for there. */
  readonly seen = new Map<Place, Packet>()
  readonly #firewalls = new Map<Place, Firewall>()
  #drift: boolean | undefined

  constructor(
    readonly world: World,
    /** Where the way begins and, as far as it is known, where it ends. */
    readonly parties: readonly Place[],
  ) {}

  [Symbol.dispose](): void {
    for (const firewall of this.#firewalls.values()) firewall[Symbol.dispose]()
  }

  /** True when something of a party's network is missing or different. */
  get hasDrift(): boolean {
    this.#drift ??= this.parties.some((place) => {
      const lab = labIn(place)
      return lab !== undefined && driftOf(lab).length > 0
    })
    return this.#drift
  }

  firewall(place: Place): Firewall {
    const known = this.#firewalls.get(place) ?? new Firewall(place)
    this.#firewalls.set(place, known)
    return known
  }
}
