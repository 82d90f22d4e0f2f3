import type { GraphIndex, GraphLink, GraphPlace } from './graph.ts'
import { gatewayWords, givenAddresses, kindAndState, printable, translationWords } from './labels.ts'

/*
 * A place in the picture is a card with a row for each of its links. Text is set in a font of one width, so its size is
 * known without drawing it.
 */

export interface Row {
  readonly link: GraphLink
  /** How deep below a bridge, or another link. */
  readonly depth: number
  readonly name: string
  /** Behind the name. */
  readonly remark: string
  readonly lines: readonly string[]
  readonly chips: readonly string[]
  /** Of the middle of its first line. */
  readonly y: number
  /** From the top of its first line to the bottom of its last. */
  readonly height: number
}

export interface Card {
  readonly place: GraphPlace
  readonly title: string
  readonly x: number
  readonly y: number
  readonly width: number
  readonly height: number
  readonly rows: readonly Row[]
}

export const sizes = {
  margin: 24,
  /** Of one character in names and addresses, at 12 pixels; a font a little wider still fits. */
  character: 7.4,
  line: 16,
  title: 34,
  padding: 14,
  indent: 18,
  rowGap: 8,
  cardGap: 22,
  columnGap: 96,
  lane: 14,
  chip: 17,
} as const

/** A card without its place in the picture. */
export type Measured = Omit<Card, 'x' | 'y'>

export function measure(index: GraphIndex, place: GraphPlace): Measured {
  const title = printable(place.name)
  const rows: Row[] = []
  let y: number = sizes.title
  const add = (link: GraphLink, depth: number): void => {
    const row = rowFor(link, depth)
    rows.push({ ...row, y: y + sizes.line / 2 })
    y += row.height + sizes.rowGap
    for (const child of index.childrenOf(link)) add(child, depth + 1)
  }
  for (const link of index.linksOf(place.id)) if (!index.isChild(link)) add(link, 0)
  const widths = [title.length * 1.15 + 12, ...rows.map(widthOf)]
  const width = Math.ceil(Math.max(...widths) * sizes.character + 2 * sizes.padding)
  return { place, title, width, height: y + sizes.padding - sizes.rowGap, rows }
}

function rowFor(link: GraphLink, depth: number): Row {
  const lines = [...givenAddresses(link), ...gatewayWords(link)]
  const chips = translationWords(link)
  const height = sizes.line * (1 + lines.length) + (chips.length > 0 ? sizes.chip * chipRows(chips).length : 0)
  return { link, depth, name: printable(link.name), remark: kindAndState(link).join(' '), lines, chips, y: 0, height }
}

/** Chips that fit beside one another. */
export function chipRows(chips: readonly string[]): string[][] {
  const rows: string[][] = []
  for (const chip of chips) {
    const last = rows.at(-1)
    if (last && [...last, chip].join('   ').length <= 28) last.push(chip)
    else rows.push([chip])
  }
  return rows
}

/** In characters. */
function widthOf({ name, remark, lines, chips, depth }: Row): number {
  const heading = name.length + (remark ? remark.length + 2 : 0)
  const texts = [
    heading,
    ...lines.map((line) => line.length),
    ...chipRows(chips).map((row) => row.join('   ').length + 2),
  ]
  return Math.max(...texts) + 2 + depth * (sizes.indent / sizes.character)
}
