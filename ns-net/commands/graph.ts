import fs from 'node:fs'
import { messageOf } from '../../plugins/contract/errors.ts'
import { CliError } from '../errors.ts'
import { drawDot } from '../graph/dot.ts'
import type { Graph } from '../graph/graph.ts'
import { drawMermaid } from '../graph/mermaid.ts'
import { readGraph } from '../graph/model.ts'
import { drawSvg } from '../graph/svg.ts'
import { boxStrokes, drawText, plainStrokes } from '../graph/text.ts'
import type { Report } from '../output.ts'

const drawings = {
  text: (graph: Graph) => drawText(graph, { strokes: speaksUnicode() ? boxStrokes : plainStrokes }),
  svg: drawSvg,
  mermaid: drawMermaid,
  dot: drawDot,
} as const
type GraphFormat = keyof typeof drawings

/** How file names end. */
const endings: Readonly<Record<string, GraphFormat>> = {
  svg: 'svg',
  mmd: 'mermaid',
  mermaid: 'mermaid',
  dot: 'dot',
  gv: 'dot',
}

export interface GraphOptions {
  /** What the name of the file says, else text. */
  readonly format?: GraphFormat
  readonly output?: string
  readonly json?: boolean
}

/** A picture of all that is there now: the host, the labs, and how they are connected. */
export function graph({ format, output, json }: GraphOptions): Report {
  const ending = output?.slice(output.lastIndexOf('.') + 1).toLowerCase() ?? ''
  const found = readGraph()
  const report = { json: found, text: drawings[format ?? endings[ending] ?? 'text'](found) }
  if (output === undefined || output === '-') return report
  try {
    fs.writeFileSync(output, json ? `${JSON.stringify(found, undefined, 2)}\n` : report.text)
  } catch (error) {
    const kind = (error as { code?: string }).code === 'ENOENT' ? 'notFound' : 'failed'
    throw new CliError(kind, `cannot write ${output}: ${messageOf(error)}`)
  }
  return { json: { file: output }, text: `${output}\n` }
}

/** As the locale says, which is what other tools go by too. */
function speaksUnicode(): boolean {
  const { LC_ALL, LC_CTYPE, LANG } = process.env
  return /utf-?8/i.test(LC_ALL || LC_CTYPE || LANG || '')
}
