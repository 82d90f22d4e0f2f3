/** What there is, as a graph: places, the links in them, and what connects links. The schema is in docs/seeing.md. */
export interface Graph {
  readonly places: readonly GraphPlace[]
  readonly nodes: readonly GraphLink[]
  readonly edges: readonly GraphEdge[]
}

/** A network namespace. */
export interface GraphPlace {
  /** A target as the verbs take it; of an unknown place a text that is none. */
  readonly id: string
  readonly name: string
  /** `unknown`: a namespace that has no name and no process that this user can see, only the other end of a link. */
  readonly kind: 'host' | 'lab' | 'namespace' | 'process' | 'unknown'
  /** Path of the namespace; the host and unknown places have none that means anything to others. */
  readonly netns?: string
}

/** A link in a place. */
export interface GraphLink {
  /** `PLACE/NAME`. */
  readonly id: string
  readonly place: string
  readonly name: string
  readonly index: number
  /** The kernel's word (`veth`, `bridge`, …), else `loopback` or `device`. */
  readonly kind: string
  readonly state: LinkState
  readonly mac?: string
  readonly mtu: number
  /** With prefix length. */
  readonly addresses: readonly string[]
  /** Of the default routes that leave by this link; `direct` for one without. */
  readonly gateways: readonly string[]
  /** Places whose rules put another source address in, when this link's addresses leave them. */
  readonly nat: readonly string[]
  /** Published ports, as `8080->80/tcp`. */
  readonly ports: readonly string[]
}

/** `no-carrier`: it is up, and nothing is at the other end. */
export type LinkState = 'up' | 'no-carrier' | 'down'

export interface GraphEdge {
  /**
   * `cable`: the two ends of a veth pair. `port`: `a` is a port of the bridge `b`. `parent`: `a` is a link on top of `b`,
   * as a macvlan is.
   */
  readonly kind: 'cable' | 'port' | 'parent'
  readonly a: string
  readonly b: string
}

/** A graph with the questions that every drawing asks of it. */
export class GraphIndex {
  readonly #links: ReadonlyMap<string, GraphLink>
  readonly #places: ReadonlyMap<string, GraphPlace>

  constructor(readonly graph: Graph) {
    this.#links = new Map(graph.nodes.map((link) => [link.id, link]))
    this.#places = new Map(graph.places.map((place) => [place.id, place]))
  }

  link(id: string): GraphLink {
    return this.#links.get(id)!
  }

  place(id: string): GraphPlace {
    return this.#places.get(id)!
  }

  /** The links of a place that are worth drawing: the loopback only when there is nothing else. */
  linksOf(place: string): GraphLink[] {
    const all = this.graph.nodes.filter((link) => link.place === place)
    const others = all.filter(({ kind }) => kind !== 'loopback')
    return others.length > 0 ? others : all
  }

  /** Links of the same place that hang from this one: ports of a bridge, links on top of it. */
  childrenOf(link: GraphLink): GraphLink[] {
    return this.#below(link).filter(({ place }) => place === link.place)
  }

  /** Links of other places on top of this one. */
  outsideOf(link: GraphLink): GraphLink[] {
    return this.#below(link).filter(({ place }) => place !== link.place)
  }

  #below({ id }: GraphLink): GraphLink[] {
    return this.graph.edges.filter(({ kind, b }) => kind !== 'cable' && b === id).map(({ a }) => this.link(a))
  }

  /** True when it hangs from another link of its place. */
  isChild({ id, place }: GraphLink): boolean {
    return this.graph.edges.some(({ kind, a, b }) => kind !== 'cable' && a === id && this.link(b).place === place)
  }

  /** Edges between two places. */
  between(): GraphEdge[] {
    return this.graph.edges.filter(({ a, b }) => this.link(a).place !== this.link(b).place)
  }

  /** The other end of the cable. */
  farEnd({ id }: GraphLink): GraphLink | undefined {
    const edge = this.graph.edges.find(({ kind, a, b }) => kind === 'cable' && (a === id || b === id))
    return edge && this.link(edge.a === id ? edge.b : edge.a)
  }
}
