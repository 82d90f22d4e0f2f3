import { type Graph, type GraphEdge, GraphIndex } from './graph.ts'
import { labelLines, printable } from './labels.ts'

/** In double quotes only these two mean something; `printable` has spelt out line ends. */
const escaped = (text: string): string => text.replace(/["\\]/g, '\\$&')

const quoted = (text: string): string => `"${escaped(printable(text))}"`

/** For Graphviz: `ns-net graph --format dot | dot -Tpng`. */
export function drawDot(graph: Graph): string {
  const index = new GraphIndex(graph)
  const lines = [
    'graph "ns-net" {',
    '  rankdir=LR',
    '  node [shape=box, style=rounded, fontname="monospace", fontsize=10]',
  ]
  for (const [i, place] of graph.places.entries()) {
    lines.push(`  subgraph cluster_${i} {`, `    label=${quoted(place.name)}`)
    for (const link of index.linksOf(place.id)) {
      const label = labelLines(link).map(escaped).join('\\n')
      lines.push(`    ${quoted(link.id)} [label="${label}"${link.kind === 'bridge' ? ', shape=hexagon' : ''}]`)
    }
    lines.push('  }')
  }
  for (const edge of graph.edges) lines.push(`  ${quoted(edge.a)} -- ${quoted(edge.b)}${attributesOf(edge, index)}`)
  return `${[...lines, '}'].join('\n')}\n`
}

function attributesOf({ kind, a, b }: GraphEdge, index: GraphIndex): string {
  if (kind === 'parent') return ' [style=dashed]'
  if (kind === 'port') return ' [style=dotted]'
  return index.link(a).state === 'up' && index.link(b).state === 'up'
    ? ' [penwidth=2]'
    : ' [style=dashed, label="down"]'
}
