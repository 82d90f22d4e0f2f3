import { type Card, type Measured, measure, type Row, sizes } from './card.ts'
import type { GraphEdge, GraphIndex, GraphLink, GraphPlace } from './graph.ts'

/*
 * Where things are in the picture. Cards stand in columns: the host in the first, what is connected with it in the
 * second, and so on, so that a cable leads to the next column or to a card of the same one.
 */

export interface Wire {
  readonly kind: 'cable' | 'parent'
  readonly works: boolean
  /** Ends, and where they leave their cards. */
  readonly from: { readonly x: number; readonly y: number; readonly link: GraphLink }
  readonly to: { readonly x: number; readonly y: number; readonly link: GraphLink }
  /** Of a wire between two rows of one column: where it runs down. */
  readonly lane?: number
}

export interface Layout {
  readonly width: number
  readonly height: number
  readonly cards: readonly Card[]
  readonly wires: readonly Wire[]
}

export function arrange(index: GraphIndex): Layout {
  const columns = columnsOf(index)
  const gateways = Math.max(
    0,
    ...index.graph.nodes.map(({ place, gateways: all }) => (isHost(index, place) ? all.length : 0)),
  )
  let x = sizes.margin + (gateways > 0 ? 150 : 0)
  const cards: Card[] = []
  const wires: Wire[] = []
  const heights = columns.map((places) => stackHeight(places.map((place) => measure(index, place))))
  const tallest = Math.max(0, ...heights)
  for (const [i, places] of columns.entries()) {
    const ordered = i === 0 ? places : byNeighbours(index, places, cards)
    const column = stack(
      ordered.map((place) => measure(index, place)),
      x,
      sizes.margin + (tallest - heights[i]!) / 2,
    )
    cards.push(...column)
    const right = Math.max(x, ...column.map((card) => card.x + card.width))
    const inside = wiresInside(index, column, right)
    wires.push(...inside.wires)
    x = right + (inside.lanes > 0 ? inside.lanes * sizes.lane + 28 : 0) + sizes.columnGap
  }
  wires.push(...wiresBetween(index, cards))
  return { width: x - sizes.columnGap + sizes.margin, height: tallest + 2 * sizes.margin, cards, wires }
}

const isHost = (index: GraphIndex, place: string): boolean => index.place(place).kind === 'host'

/** Places by their distance from the host; those that it does not reach begin in the second column. */
function columnsOf(index: GraphIndex): GraphPlace[][] {
  const neighbours = new Map<string, Set<string>>()
  for (const { a, b } of index.between()) {
    for (const [one, other] of [
      [a, b],
      [b, a],
    ] as const) {
      const place = index.link(one).place
      neighbours.set(place, (neighbours.get(place) ?? new Set()).add(index.link(other).place))
    }
  }
  const distance = new Map<string, number>()
  const spread = (start: string, from: number) => {
    distance.set(start, from)
    for (const waiting = [start]; waiting.length > 0; ) {
      const place = waiting.shift()!
      for (const next of neighbours.get(place) ?? []) {
        if (distance.has(next)) continue
        distance.set(next, distance.get(place)! + 1)
        waiting.push(next)
      }
    }
  }
  const { places } = index.graph
  for (const { id, kind } of places) if (kind === 'host') spread(id, 0)
  for (const { id } of places) if (!distance.has(id)) spread(id, 1)
  const columns: GraphPlace[][] = []
  for (const place of places) {
    const column = distance.get(place.id)!
    columns[column] = [...(columns[column] ?? []), place]
  }
  return columns.filter((column) => column !== undefined)
}

const stackHeight = (cards: readonly Measured[]): number =>
  cards.reduce((sum, { height }) => sum + height + sizes.cardGap, -sizes.cardGap)

function stack(cards: readonly Measured[], x: number, top: number): Card[] {
  let y = top
  return cards.map((card) => {
    const placed = { ...card, x, y, rows: card.rows.map((row) => ({ ...row, y: y + row.y })) }
    y += card.height + sizes.cardGap
    return placed
  })
}

/** In the order in which their cables leave the columns before. */
function byNeighbours(index: GraphIndex, places: readonly GraphPlace[], before: readonly Card[]): GraphPlace[] {
  const heightOf = new Map(before.flatMap(({ rows }) => rows.map(({ link, y }) => [link.id, y])))
  const key = ({ id }: GraphPlace) => {
    const ends = index
      .between()
      .flatMap(({ a, b }) => (index.link(a).place === id ? [b] : index.link(b).place === id ? [a] : []))
    return Math.min(Number.MAX_SAFE_INTEGER, ...ends.flatMap((end) => heightOf.get(end) ?? []))
  }
  const keys = new Map(places.map((place) => [place, key(place)]))
  return places.toSorted((a, b) => keys.get(a)! - keys.get(b)!)
}

interface Point {
  readonly card: Card
  readonly row: Row
}

const findRow = (cards: readonly Card[], id: string): Point | undefined => {
  for (const card of cards) {
    const row = card.rows.find(({ link }) => link.id === id)
    if (row) return { card, row }
  }
  return undefined
}

/** The edges that are wires: a bridge and its ports are drawn inside their card. */
const wired = (index: GraphIndex): GraphEdge[] =>
  index.graph.edges.filter(
    ({ kind, a, b }) => kind === 'cable' || (kind === 'parent' && index.link(a).place !== index.link(b).place),
  )

const wireOf = ({ kind }: GraphEdge, from: Wire['from'], to: Wire['to'], lane?: number): Wire => ({
  kind: kind === 'cable' ? 'cable' : 'parent',
  works: from.link.state === 'up' && to.link.state === 'up',
  from,
  to,
  lane,
})

const rightOf = ({ card, row }: Point): Wire['from'] => ({ x: card.x + card.width, y: row.y, link: row.link })
const leftOf = ({ card, row }: Point): Wire['from'] => ({ x: card.x, y: row.y, link: row.link })

/** Wires between rows of one column run on its right side, each in a lane where it meets no other. */
function wiresInside(index: GraphIndex, column: readonly Card[], right: number): { wires: Wire[]; lanes: number } {
  const found = wired(index).flatMap((edge) => {
    const [one, other] = [findRow(column, edge.a), findRow(column, edge.b)]
    if (!one || !other) return []
    const [from, to] = one.row.y <= other.row.y ? [one, other] : [other, one]
    return { edge, from, to, length: to.row.y - from.row.y }
  })
  const lanes: { from: number; to: number }[][] = []
  const wires = found
    .toSorted((a, b) => a.length - b.length)
    .map(({ edge, from, to }) => {
      const [top, bottom] = [from.row.y - 4, to.row.y + 4]
      const isFree = (lane: { from: number; to: number }[]) => lane.every((used) => used.to < top || used.from > bottom)
      const first = lanes.findIndex(isFree)
      const lane = first < 0 ? lanes.length : first
      lanes[lane] = [...(lanes[lane] ?? []), { from: top, to: bottom }]
      return wireOf(edge, rightOf(from), rightOf(to), right + 20 + lane * sizes.lane)
    })
  return { wires, lanes: lanes.length }
}

function wiresBetween(index: GraphIndex, cards: readonly Card[]): Wire[] {
  return wired(index).flatMap((edge) => {
    const [one, other] = [findRow(cards, edge.a), findRow(cards, edge.b)]
    if (!one || !other || one.card.x === other.card.x) return []
    const [left, right] = one.card.x < other.card.x ? [one, other] : [other, one]
    return wireOf(edge, rightOf(left), leftOf(right))
  })
}
