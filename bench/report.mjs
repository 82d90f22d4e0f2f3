// Rows become tables, for the terminal and in markdown.

import { ratio } from './figures.mjs'

export const titles = {
  latency: 'Latency: one call, ms',
  memory: 'Peak memory: the largest process of a call, MB',
  cpu: 'CPU time: all processes of a call, ms',
  ipam: 'Address management: one call of host-local, ms',
  scale: 'Scale: the next attachment beside as many others, ms',
  burst: 'Burst: as many at once, calls per second',
}

export const number = (value) => (value === undefined ? '-' : value.toFixed(value < 99.95 ? 1 : 0))

/** The rows of each kind that has some, with the systems that were measured. */
export function sections(rows) {
  const kinds = Object.keys(titles).filter((kind) => rows.some((row) => row.kind === kind))
  return kinds.map((kind) => {
    const own = rows.filter((row) => row.kind === kind)
    return {
      kind,
      title: titles[kind],
      rows: own,
      systems: [...new Set(own.flatMap(({ figures }) => Object.keys(figures)))],
    }
  })
}

/** A table as lists of cells, the heading first. */
function cellsOf({ rows, systems }) {
  const hasSizes = rows.some(({ at }) => at !== undefined)
  const figure = (summary) =>
    summary ? `${number(summary.median)} (${number(summary.min)} to ${number(summary.max)})` : '-'
  return [
    ['workload', 'verb', ...(hasSizes ? ['count'] : []), ...systems, 'ratio'],
    ...rows.map((row) => [
      row.workload,
      row.verb,
      ...(hasSizes ? [String(row.at)] : []),
      ...systems.map((name) => figure(row.figures[name])),
      ratio(row)?.toFixed(2) ?? '-',
    ]),
  ]
}

/** What went wrong, or of bursts that nothing did. */
function remarksOf({ kind, rows }) {
  const remarks = rows.flatMap(({ workload, at, problems = [] }) =>
    problems.map((problem) => `${workload}${at === undefined ? '' : `, ${at} at once`}: ${problem}`),
  )
  if (kind === 'burst' && remarks.length === 0)
    return ['No call failed, no address was given twice, and nothing was left behind.']
  return [...new Set(remarks)]
}

function padded(cells) {
  const widths = cells[0].map((_, column) => Math.max(...cells.map((row) => row[column].length)))
  return cells.map((row) => row.map((text, i) => text.padEnd(widths[i])))
}

export function terminalReport({ machine, rows }) {
  const tables = sections(rows).map((section) => {
    const lines = padded(cellsOf(section)).map((row) => row.join('  ').trimEnd())
    return [section.title, '', ...lines, '', ...remarksOf(section)].join('\n').trimEnd()
  })
  return `${machine}\n\n${tables.join('\n\n')}\n`
}

export function markdownReport({ machine, rows }) {
  const tables = sections(rows).map((section) => {
    const [heading, ...body] = padded(cellsOf(section))
    const line = (cells) => `| ${cells.join(' | ')} |`
    const rule = heading.map((cell) => '-'.repeat(cell.length))
    const remarks = remarksOf(section)
    const table = [heading, rule, ...body].map(line).join('\n')
    return [`## ${section.title}`, table, ...remarks].join('\n\n')
  })
  return `${machine}\n\n${tables.join('\n\n')}\n`
}
