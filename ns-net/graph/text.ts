import { type Graph, GraphIndex, type GraphLink, type GraphPlace } from './graph.ts'
import { givenAddresses, kindAndState, labelLines, printable, remarks } from './labels.ts'

/** What trees and cables are drawn with. */
export interface Strokes {
  readonly branch: string
  readonly last: string
  readonly rail: string
  readonly cable: string
  readonly broken: string
}

export const boxStrokes: Strokes = { branch: '├─ ', last: '└─ ', rail: '│  ', cable: '═══', broken: '═╳═' }
export const plainStrokes: Strokes = { branch: '|- ', last: '`- ', rail: '|  ', cable: '===', broken: '=x=' }

/** Names are padded to the longest beside them, but not to one of these lengths. */
const widestHeading = 26

/**
 * A tree for each place, the host first. A cable is shown once with both of its ends; a place all of whose links have
 * been shown as far ends gets no tree of its own.
 */
export function drawText(graph: Graph, { strokes = boxStrokes, width = 80 } = {}): string {
  const drawing = new Drawing(new GraphIndex(graph), strokes, width)
  const isBare = ({ id }: GraphPlace) => drawing.index.linksOf(id).every(({ kind }) => kind === 'loopback')
  const trees = graph.places
    .filter(({ kind }) => kind !== 'unknown')
    .filter((place) => place.kind === 'host' || !isBare(place))
    .map((place) => drawing.tree(place))
  const bare = graph.places.filter((place) => place.kind !== 'host' && place.kind !== 'unknown' && isBare(place))
  if (bare.length > 0) trees.push(wrap([['not connected:', ...bare.map(({ name }) => printable(name))]], '', '', width))
  return trees.filter((tree) => tree !== '').join('\n')
}

class Drawing {
  readonly #shown = new Set<string>()

  constructor(
    readonly index: GraphIndex,
    readonly strokes: Strokes,
    readonly width: number,
  ) {}

  tree(place: GraphPlace): string {
    const links = this.index.linksOf(place.id)
    if (place.kind !== 'host' && links.every(({ id }) => this.#shown.has(id))) return ''
    const roots = links.filter((link) => !this.index.isChild(link))
    return `${printable(place.name)}\n${this.#branches(roots, '')}`
  }

  #branches(links: readonly GraphLink[], rails: string): string {
    const { branch, last, rail } = this.strokes
    const headings = links.map((link) => labelLines(link)[0]!.length)
    const widest = Math.min(widestHeading, Math.max(...headings))
    return links
      .map((link, i) => {
        const isLast = i === links.length - 1
        const inner = rails + (isLast ? ' '.repeat(rail.length) : rail)
        const children = this.index.childrenOf(link)
        const head = rails + (isLast ? last : branch)
        const hanging = inner + (children.length > 0 ? rail : '  ')
        return wrap(this.#tell(link, widest), head, hanging, this.width) + this.#branches(children, inner)
      })
      .join('')
  }

  /** A link, and what its cable leads to: words that may be broken apart, in groups that had better stay together. */
  #tell(link: GraphLink, padding: number): string[][] {
    this.#shown.add(link.id)
    const [head, ...rest] = labelLines(link)
    const far = this.index.farEnd(link)
    const below = this.index.graph.edges.find(({ kind, a }) => kind === 'parent' && a === link.id)
    const parent = below && this.index.link(below.b)
    const { cable, broken } = this.strokes
    const works = (other: GraphLink) => link.state === 'up' && other.state === 'up'
    return [
      [
        head!.padEnd(padding),
        ...rest,
        ...(parent && parent.place !== link.place ? [`on ${this.#nameOf(parent)}`] : []),
      ],
      ...(far ? [this.#tellFar(far, works(far) ? cable : broken)] : []),
      ...this.index.outsideOf(link).map((child) => this.#tellFar(child, '+')),
    ]
  }

  #tellFar(link: GraphLink, stroke: string): string[] {
    this.#shown.add(link.id)
    const name = [stroke, this.#nameOf(link), ...kindAndState(link)].join(' ')
    return [name, ...givenAddresses(link), ...remarks(link)]
  }

  #nameOf(link: GraphLink): string {
    return printable(`${this.index.place(link.place).name}:${link.name}`)
  }
}

/**
 * Words with two spaces between, broken where the line ends, and before a group that would not fit. A word that does not
 * fit alone is cut.
 */
function wrap(groups: readonly (readonly string[])[], head: string, hanging: string, width: number): string {
  const lines = [{ start: head, words: [] as string[] }]
  const room = () => {
    const { start, words } = lines.at(-1)!
    return width - start.length - words.reduce((sum, word) => sum + word.length + 2, 0)
  }
  const isEmpty = () => lines.at(-1)!.words.length === 0
  const breakLine = () => lines.push({ start: `${hanging}  `, words: [] })
  for (const group of groups) {
    if (lines.at(-1)!.words.length > 1 && group.join('  ').length > room()) breakLine()
    for (const word of group) {
      if (!isEmpty() && word.length > room()) breakLine()
      lines.at(-1)!.words.push(word.length > room() ? `${word.slice(0, Math.max(room() - 1, 1))}…` : word)
    }
  }
  return lines.map(({ start, words }) => `${(start + words.join('  ')).trimEnd()}\n`).join('')
}
