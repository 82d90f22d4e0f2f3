import { type Graph, type GraphEdge, GraphIndex } from './graph.ts'
import { labelLines, printable } from './labels.ts'

/** Mermaid's entity codes: what would end a label or be read as HTML or Markdown. */
const escaped = (text: string): string =>
  printable(text).replace(/["#&<>`\\]/g, (character) => `#${character.codePointAt(0)};`)

/** A flowchart for Markdown pages: GitHub and GitLab draw it (https://mermaid.js.org). */
export function drawMermaid(graph: Graph): string {
  const index = new GraphIndex(graph)
  const names = new Map(graph.nodes.map(({ id }, i) => [id, `n${i}`]))
  const lines = ['flowchart LR']
  for (const [i, place] of graph.places.entries()) {
    lines.push(`  subgraph p${i}["${escaped(place.name)}"]`)
    for (const link of index.linksOf(place.id)) {
      const label = labelLines(link).map(escaped).join('<br/>')
      lines.push(
        link.kind === 'bridge' ? `    ${names.get(link.id)}{{"${label}"}}` : `    ${names.get(link.id)}["${label}"]`,
      )
    }
    lines.push('  end')
  }
  for (const edge of graph.edges) lines.push(`  ${names.get(edge.a)} ${strokeOf(edge, index)} ${names.get(edge.b)}`)
  return `${lines.join('\n')}\n`
}

function strokeOf({ kind, a, b }: GraphEdge, index: GraphIndex): string {
  if (kind === 'parent') return '-.-'
  if (kind === 'port') return '---'
  return index.link(a).state === 'up' && index.link(b).state === 'up' ? '===' : '-. down .-'
}
