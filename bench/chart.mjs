// Rows become one SVG image that needs nothing else, readable on light and on dark ground.

import { number, sections } from './report.mjs'

const width = 900
const margin = 20
const labelWidth = 330
const barHeight = 10

const light = {
  paper: '#ffffff',
  ink: '#1f2328',
  faint: '#d0d7de',
  systems: ['#0969da', '#1a7f37', '#8250df', '#bc4c00'],
}
const dark = {
  paper: '#0d1117',
  ink: '#e6edf3',
  faint: '#30363d',
  systems: ['#58a6ff', '#3fb950', '#bc8cff', '#f0883e'],
}

const colours = ({ paper, ink, faint, systems }) => [
  `.paper { fill: ${paper} } text { fill: ${ink} } .axis { stroke: ${faint} }`,
  ...systems.map((colour, i) => `.bar${i} { fill: ${colour} } .line${i} { stroke: ${colour} }`),
]

const style = [
  'text { font: 12px system-ui, "DejaVu Sans", sans-serif } .title { font-weight: 600; font-size: 15px }',
  '.small { font-size: 10px } .end { text-anchor: end } .middle { text-anchor: middle }',
  '.line { fill: none; stroke-width: 2 } .line1 { stroke-dasharray: 8 3 } .line2 { stroke-dasharray: 3 3 }',
  ...colours(light),
  '@media (prefers-color-scheme: dark) {',
  ...colours(dark),
  '}',
].join('\n')

const escaped = (text) => String(text).replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')

const text = (x, y, content, classes = '') =>
  `<text x="${Math.round(x)}" y="${Math.round(y)}" class="${classes}">${escaped(content)}</text>`

/** The reference always has the last colour, ours have the others. */
const colourOf = (systems, name) => (name.startsWith('reference') ? 3 : systems.indexOf(name))

function legend(systems, y) {
  return systems
    .map((name, i) => {
      const x = margin + i * 200
      return `<rect x="${x}" y="${y - 9}" width="10" height="10" class="bar${colourOf(systems, name)}"/>${text(x + 16, y, name)}`
    })
    .join('')
}

/** Horizontal bars, one group for each row. */
function bars({ rows, systems }, top) {
  const parts = []
  let y = top
  const longest = Math.max(...rows.flatMap(({ figures }) => Object.values(figures).map(({ median }) => median)))
  for (const { workload, verb, at, figures } of rows) {
    const names = Object.keys(figures)
    const height = names.length * (barHeight + 1)
    const label = [workload, verb, at].filter((word) => word !== undefined).join('  ')
    parts.push(text(margin + labelWidth - 10, y + height / 2 + 4, label, 'end'))
    for (const [i, name] of names.entries()) {
      const { median } = figures[name]
      const length = Math.max(1, (median / longest) * (width - labelWidth - 2 * margin - 60))
      const at = { x: margin + labelWidth, y: y + i * (barHeight + 1) }
      parts.push(
        `<rect x="${at.x}" y="${at.y}" width="${length.toFixed(1)}" height="${barHeight}" class="bar${colourOf(systems, name)}"/>`,
        text(at.x + length + 5, at.y + barHeight - 1, number(median), 'small'),
      )
    }
    y += height + 8
  }
  return { svg: parts.join('\n'), bottom: y }
}

/** The powers of ten that enclose all values. */
function decades(values) {
  const [low, high] = [Math.floor(Math.log10(Math.min(...values))), Math.ceil(Math.log10(Math.max(...values)))]
  return Array.from({ length: Math.max(high, low + 1) - low + 1 }, (_, i) => 10 ** (low + i))
}

/** One verb's lines over the sizes, both axes logarithmic. */
function panel({ rows, systems }, verb, { left, top, size }) {
  const own = rows.filter((row) => row.verb === verb)
  const sizes = own.map(({ at }) => at)
  const ticks = decades(own.flatMap(({ figures }) => Object.values(figures).map(({ median }) => median)))
  const place = (value, [from, to]) => Math.log(value / from) / Math.log(to / from)
  const x = (at) => left + place(at, [sizes[0], sizes.at(-1)]) * size.width
  const y = (value) => top + size.height - place(value, [ticks[0], ticks.at(-1)]) * size.height
  const grid = [
    ...ticks.map(
      (tick) =>
        `<path class="axis" d="M${left} ${y(tick)}h${size.width}"/>${text(left - 6, y(tick) + 4, tick, 'end small')}`,
    ),
    ...sizes.map((at) => text(x(at), top + size.height + 16, at, 'middle small')),
    text(left, top - 10, `${verb}, ms`),
  ]
  const lines = systems.map((name) => {
    const points = own.filter(({ figures }) => figures[name]).map(({ at, figures }) => [x(at), y(figures[name].median)])
    const colour = colourOf(systems, name)
    const path = points.map((point) => point.map((value) => value.toFixed(1)).join(' ')).join('L')
    const dots = points.map(
      ([cx, cy]) => `<circle cx="${cx.toFixed(1)}" cy="${cy.toFixed(1)}" r="3" class="bar${colour}"/>`,
    )
    return `<path class="line line${colour}" d="M${path}"/>${dots.join('')}`
  })
  return [...grid, ...lines].join('\n')
}

function lines(section, top) {
  const size = { width: (width - 2 * margin) / 2 - 60, height: 200 }
  const verbs = ['ADD', 'DEL']
  const panels = verbs.map((verb, i) =>
    panel(section, verb, { left: margin + 40 + i * (size.width + 60), top: top + 20, size }),
  )
  return { svg: panels.join('\n'), bottom: top + size.height + 50 }
}

export function chart({ machine, rows }) {
  let y = margin + 20
  const parts = []
  for (const line of machine.split('\n')) {
    parts.push(text(margin, y, line, 'small'))
    y += 14
  }
  for (const section of sections(rows)) {
    y += 26
    parts.push(text(margin, y, section.title, 'title'), legend(section.systems, y + 22))
    const { svg, bottom } = section.kind === 'scale' ? lines(section, y + 40) : bars(section, y + 36)
    parts.push(svg)
    y = bottom
  }
  const height = y + margin
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">
<title>ns-net beside the reference plugins</title>
<style>
${style}
</style>
<rect width="${width}" height="${height}" class="paper"/>
${parts.join('\n')}
</svg>
`
}
