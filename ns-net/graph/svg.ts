import { type Card, chipRows, type Row, sizes } from './card.ts'
import { type Graph, GraphIndex, type GraphLink } from './graph.ts'
import { printable } from './labels.ts'
import { arrange, type Wire } from './layout.ts'

/** A picture without references to anything else, for light and dark pages. */
export function drawSvg(graph: Graph): string {
  const index = new GraphIndex(graph)
  const { width, height, cards, wires } = arrange(index)
  const [w, h] = [Math.ceil(width), Math.ceil(height)]
  return `<svg xmlns="http://www.w3.org/2000/svg" class="ns-net" width="${w}" height="${h}" viewBox="0 0 ${w} ${h}" role="img">
<title>${escaped(summary(graph))}</title>
<style>${style}</style>
<rect class="page" width="${w}" height="${h}" rx="12"/>
${[...drawings(index, cards, wires)].join('\n')}
</svg>
`
}

/** Ends of wires lie on top of the cards that hide the rest of them. */
const drawings = (index: GraphIndex, cards: readonly Card[], wires: readonly Wire[]): string[] => [
  ...cards.flatMap((card) => gatewaysOf(card).map(({ y }) => drawOutside(card.x, y))),
  ...wires.map(drawWire),
  ...cards.map((card) => drawCard(card, index)),
  ...cards.flatMap((card) => gatewaysOf(card).map(({ y, link }) => dot(card.x, y, link))),
  ...wires.flatMap(({ from, to }) => [from, to].map(({ x, y, link }) => dot(x, y, link))),
]

function summary({ places, edges }: Graph): string {
  const cables = edges.filter(({ kind }) => kind === 'cable').length
  const count = (n: number, word: string) => `${n} ${word}${n === 1 ? '' : 's'}`
  return `${count(places.length, 'network namespace')} and ${count(cables, 'cable')}`
}

const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}
const escaped = (text: string): string => printable(text).replace(/[&<>"']/g, (character) => entities[character]!)

const number = (value: number): string => String(Math.round(value * 10) / 10)

const text = (x: number, y: number, className: string, content: string): string =>
  `<text class="${className}" x="${number(x)}" y="${number(y)}">${escaped(content)}</text>`

/** The colours of a page, then those of a dark one. Class names are ours alone where the picture is put into a page. */
const style = `
.ns-net text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono","Liberation Mono",monospace;dominant-baseline:central;fill:#1e293b}
.ns-net .page{fill:#ffffff}
.ns-net .card{fill:#f8fafc;stroke:#cbd5e1;stroke-width:1.2}
.ns-net .host{fill:#eff6ff;stroke:#93c5fd}
.ns-net .unknown{fill:none;stroke-dasharray:5 4}
.ns-net .title{font-size:13.5px;font-weight:700}
.ns-net .kind,.ns-net .muted{fill:#64748b}
.ns-net .kind{text-anchor:end;font-size:11px}
.ns-net .middle{text-anchor:middle}
.ns-net .name{font-weight:600}
.ns-net .bridge{fill:#dbeafe}
.ns-net .bad{fill:#b91c1c;font-weight:600}
.ns-net .chip{fill:#e0e7ff}
.ns-net .chiptext{font-size:11px;fill:#3730a3}
.ns-net .wire{fill:none;stroke:#64748b;stroke-width:2}
.ns-net .rail{fill:none;stroke:#94a3b8;stroke-width:1.2}
.ns-net .parent{stroke-dasharray:2 4}
.ns-net .broken{stroke:#dc2626;stroke-dasharray:7 5}
.ns-net .cross{stroke:#dc2626;stroke-width:2.4;stroke-linecap:round}
.ns-net .up{fill:#16a34a}
.ns-net .down{fill:#dc2626}
.ns-net .no-carrier{fill:#d97706}
@media (prefers-color-scheme:dark){
.ns-net text{fill:#e2e8f0}
.ns-net .page{fill:#0f172a}
.ns-net .card{fill:#1e293b;stroke:#475569}
.ns-net .host{fill:#14213d;stroke:#3b82f6}
.ns-net .unknown{fill:none}
.ns-net .kind,.ns-net .muted{fill:#94a3b8}
.ns-net .bridge{fill:#1e3a8a}
.ns-net .bad{fill:#fca5a5}
.ns-net .chip{fill:#3730a3}
.ns-net .chiptext{fill:#e0e7ff}
.ns-net .wire{stroke:#94a3b8}
.ns-net .rail{stroke:#64748b}
.ns-net .broken,.ns-net .cross{stroke:#f87171}
.ns-net .up{fill:#4ade80}
.ns-net .down{fill:#f87171}
.ns-net .no-carrier{fill:#fbbf24}
}
`

/** The links of the host by which default routes leave. */
const gatewaysOf = ({ place, rows }: Card): Row[] =>
  place.kind === 'host' ? rows.filter(({ link }) => link.gateways.length > 0) : []

/** The world, left of the host. */
function drawOutside(hostEdge: number, y: number): string {
  const [left, width] = [sizes.margin, 96]
  return [
    `<path class="wire" d="M${number(left + width)} ${number(y)}H${number(hostEdge)}"/>`,
    `<rect class="card" x="${left}" y="${number(y - 17)}" width="${width}" height="34" rx="17"/>`,
    text(left + width / 2, y, 'muted middle', 'outside'),
  ].join('')
}

const dot = (x: number, y: number, { state }: GraphLink): string =>
  `<circle class="${state}" cx="${number(x)}" cy="${number(y)}" r="4"/>`

function drawWire({ kind, works, from, to, lane }: Wire): string {
  const classes = ['wire', kind === 'parent' ? 'parent' : '', works ? '' : 'broken'].filter(Boolean).join(' ')
  const middle = { x: lane ?? (from.x + to.x) / 2, y: (from.y + to.y) / 2 }
  const d = lane === undefined ? curve(from, to, middle.x) : aroundCorners(from, to, lane)
  const cross = works ? '' : crossAt(middle.x, middle.y)
  const name = (link: GraphLink) => `${link.place}:${link.name}`
  const title = `${name(from.link)} to ${name(to.link)}${works ? '' : ', down'}`
  return `<g><title>${escaped(title)}</title><path class="${classes}" d="${d}"/>${cross}</g>`
}

const curve = (from: Wire['from'], to: Wire['to'], middle: number): string =>
  `M${number(from.x)} ${number(from.y)}C${number(middle)} ${number(from.y)} ${number(middle)} ${number(to.y)} ${number(to.x)} ${number(to.y)}`

/** Out to the right, down, and back, with round corners. */
function aroundCorners(from: Wire['from'], to: Wire['to'], lane: number): string {
  const radius = Math.min(8, (to.y - from.y) / 2)
  const [x, beside] = [number(lane), number(lane - radius)]
  const down = `Q${x} ${number(from.y)} ${x} ${number(from.y + radius)}V${number(to.y - radius)}`
  const back = `Q${x} ${number(to.y)} ${beside} ${number(to.y)}H${number(to.x)}`
  return `M${number(from.x)} ${number(from.y)}H${beside}${down}${back}`
}

const crossAt = (x: number, y: number): string =>
  `<path class="cross" d="M${number(x - 5)} ${number(y - 5)}l10 10m0 -10l-10 10"/>`

function drawCard(card: Card, index: GraphIndex): string {
  const { place, title, x, y, width, height, rows } = card
  const classes = ['card', place.kind === 'host' || place.kind === 'unknown' ? place.kind : '']
    .filter(Boolean)
    .join(' ')
  const kind = place.kind === 'host' || place.kind === 'unknown' ? '' : place.kind
  return [
    '<g>',
    `<rect class="${classes}" x="${number(x)}" y="${number(y)}" width="${number(width)}" height="${number(height)}" rx="10"/>`,
    text(x + sizes.padding, y + 18, 'title', title),
    kind && text(x + width - sizes.padding, y + 18, 'kind', kind),
    ...rows.map((row) => drawRow(card, row, index)),
    '</g>',
  ]
    .filter(Boolean)
    .join('')
}

function drawRow(card: Card, row: Row, index: GraphIndex): string {
  const { link, depth, name, remark, lines, chips, y } = row
  const x = card.x + sizes.padding + depth * sizes.indent
  const parts: string[] = []
  if (link.kind === 'bridge') {
    const width = card.x + card.width - sizes.padding / 2 - x + 6
    parts.push(
      `<rect class="bridge" x="${number(x - 6)}" y="${number(y - 11)}" width="${number(width)}" height="${number(row.height + 6)}" rx="6"/>`,
    )
  }
  parts.push(...drawRails(card, row, index, x))
  parts.push(text(x, y, 'name', name))
  const remarkClass = link.state === 'up' ? 'muted' : 'bad'
  if (remark) parts.push(text(x + (name.length + 2) * sizes.character, y, remarkClass, remark))
  for (const [i, line] of lines.entries()) parts.push(text(x, y + (i + 1) * sizes.line, 'muted', line))
  const top = y + (lines.length + 1) * sizes.line
  for (const [i, chipRow] of chipRows(chips).entries()) parts.push(drawChips(chipRow, x, top + i * sizes.chip))
  return parts.join('')
}

/** From the row down to those that hang from it. */
function drawRails({ rows }: Card, { link, y, height }: Row, index: GraphIndex, x: number): string[] {
  const children = new Set(index.childrenOf(link).map(({ id }) => id))
  return rows
    .filter((row) => children.has(row.link.id))
    .map(
      (child) =>
        `<path class="rail" d="M${number(x + 4)} ${number(y + height - sizes.line / 2 + 4)}V${number(child.y)}h${sizes.indent - 8}"/>`,
    )
}

function drawChips(chips: readonly string[], left: number, y: number): string {
  let x = left
  return chips
    .map((chip) => {
      const width = chip.length * 6.8 + 12
      const drawn = `<rect class="chip" x="${number(x)}" y="${number(y - 7.5)}" width="${number(width)}" height="15" rx="7.5"/>${text(x + 6, y, 'chiptext', chip)}`
      x += width + 6
      return drawn
    })
    .join('')
}
