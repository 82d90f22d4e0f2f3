import { expect, test } from 'vitest'
import { drawDot } from './dot.ts'
import { GraphIndex } from './graph.ts'
import { arrange } from './layout.ts'
import { drawMermaid } from './mermaid.ts'
import { sample } from './sample.ts'
import { drawSvg } from './svg.ts'
import { drawText, plainStrokes } from './text.ts'

test('text: a tree for each place, cables with both ends, names that cannot steer a terminal', () => {
  expect(drawText(sample)).toBe(`host
├─ eth0             192.0.2.1/24  default via 192.0.2.254  + web:mac0 macvlan
├─ nsbr0 bridge     10.88.0.1/16
│  ├─ veth1  ═══ web:eth0  10.88.0.2/16  nat  nat by r1  8080->80/tcp
│  │      53->53/udp
│  └─ veth2  ═══ api:eth0  10.88.0.3/16  default via 10.88.0.1  nat
├─ x"<&             ═══ <b>&"'\\u{1b}[31m:eth0
└─ lost NO CARRIER  ═╳═ another namespace:link 7

api
├─ eth0       10.88.0.3/16  default via 10.88.0.1  nat  ═══ host:veth2
└─ eth1 DOWN  172.16.0.1/30  ═╳═ web:eth1 NO CARRIER  172.16.0.2/30

not connected:  bare
`)
})

test('text: every line fits, however narrow, and plain letters do where there is no Unicode', () => {
  for (const width of [80, 60, 40]) {
    const lines = drawText(sample, { strokes: plainStrokes, width }).split('\n')
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(width)
    expect(lines.every((line) => /^[\x20-\x7e…]*$/.test(line))).toBe(true)
  }
  expect(drawText(sample, { strokes: plainStrokes })).toContain('`- veth2  === api:eth0  10.88.0.3/16')
})

test('mermaid', () => {
  expect(drawMermaid(sample)).toBe(`flowchart LR
  subgraph p0["host"]
    n1["eth0<br/>192.0.2.1/24<br/>default via 192.0.2.254"]
    n2{{"nsbr0 bridge<br/>10.88.0.1/16"}}
    n3["veth1"]
    n4["veth2"]
    n5["x#34;#60;#38;"]
    n6["lost NO CARRIER"]
  end
  subgraph p1["api"]
    n7["eth0<br/>10.88.0.3/16<br/>default via 10.88.0.1<br/>nat"]
    n8["eth1 DOWN<br/>172.16.0.1/30"]
  end
  subgraph p2["bare"]
    n9["lo"]
  end
  subgraph p3["web"]
    n10["eth0<br/>10.88.0.2/16<br/>nat<br/>nat by r1<br/>8080-#62;80/tcp<br/>53-#62;53/udp"]
    n11["eth1 NO CARRIER<br/>172.16.0.2/30"]
    n12["mac0 macvlan"]
  end
  subgraph p4["#60;b#62;#38;#34;'#92;u{1b}[31m"]
    n13["eth0"]
  end
  subgraph p5["another namespace"]
    n14["link 7"]
  end
  n3 --- n2
  n3 === n10
  n4 --- n2
  n4 === n7
  n5 === n13
  n6 -. down .- n14
  n8 -. down .- n11
  n12 -.- n1
`)
})

test('dot', () => {
  const drawn = drawDot(sample)
  expect(drawn).toMatch(/^graph "ns-net" \{\n {2}rankdir=LR\n/)
  expect(drawn).toContain(`  subgraph cluster_1 {
    label="api"
    "api/eth0" [label="eth0\\n10.88.0.3/16\\ndefault via 10.88.0.1\\nnat"]
    "api/eth1" [label="eth1 DOWN\\n172.16.0.1/30"]
  }
`)
  expect(drawn).toContain('    "host/nsbr0" [label="nsbr0 bridge\\n10.88.0.1/16", shape=hexagon]\n')
  expect(drawn).toContain('    label="<b>&\\"\'\\\\u{1b}[31m"\n')
  expect(drawn.slice(drawn.indexOf('  "host/veth1" --'))).toBe(`  "host/veth1" -- "host/nsbr0" [style=dotted]
  "host/veth1" -- "web/eth0" [penwidth=2]
  "host/veth2" -- "host/nsbr0" [style=dotted]
  "host/veth2" -- "api/eth0" [penwidth=2]
  "host/x\\"<&" -- "<b>&\\"'\\\\u{1b}[31m/eth0" [penwidth=2]
  "host/lost" -- "unknown:host:4/link 7" [style=dashed, label="down"]
  "api/eth1" -- "web/eth1" [style=dashed, label="down"]
  "web/mac0" -- "host/eth0" [style=dashed]
}
`)
})

/** Names and texts of a document whose every element is closed; throws for one that is not XML. */
function readXml(document: string): { elements: string[]; texts: string[] } {
  const [elements, texts, open]: string[][] = [[], [], []]
  const token = /<(\/?)([a-z]+)((?:\s+[\w:-]+="[^"<&]*")*)\s*(\/?)>|([^<]+)/gy
  while (token.lastIndex < document.length) {
    const at = token.lastIndex
    const match = token.exec(document)
    if (!match) throw new Error(`not XML: ${document.slice(at, at + 80)}`)
    const [, slash, name = '', , selfClosing, text] = match
    if (text !== undefined) {
      if (/&(?!(amp|lt|gt|quot|#39);)/.test(text)) throw new Error(`not XML: ${text}`)
      if (text.trim()) texts!.push(text)
    } else if (slash) {
      if (open!.pop() !== name) throw new Error(`</${name}> closes something else`)
    } else {
      elements!.push(name)
      if (!selfClosing) open!.push(name)
    }
  }
  if (open!.length > 0) throw new Error(`not closed: ${open}`)
  return { elements: elements!, texts: texts! }
}

test('svg: well-formed, on its own, with every name, for light and dark pages', () => {
  const drawn = drawSvg(sample)
  const { elements, texts } = readXml(drawn)
  expect(new Set(elements)).toEqual(new Set(['svg', 'title', 'style', 'rect', 'g', 'path', 'text', 'circle']))
  expect(drawn.replace('http://www.w3.org/2000/svg', '')).not.toMatch(/https?:|href|url\(|@import|<script|\bon\w+=/)
  expect(drawn).toContain('@media (prefers-color-scheme:dark)')
  expect(texts).toEqual(
    expect.arrayContaining([
      'host',
      'veth1',
      '10.88.0.2/16',
      '8080-&gt;80/tcp',
      'x&quot;&lt;&amp;',
      'outside',
      'NO CARRIER',
    ]),
  )
  expect(texts).toContain('&lt;b&gt;&amp;&quot;&#39;\\u{1b}[31m')
  expect(texts).toContain('6 network namespaces and 5 cables')
})

test('svg: a document that is not XML would be noticed', () => {
  expect(() => readXml('<svg><g></svg>')).toThrow('closes something else')
  expect(() => readXml('<svg><text>a & b</text></svg>')).toThrow('not XML')
  expect(() => readXml('<svg a="<"></svg>')).toThrow('not XML')
})

test('layout: no card overlaps another, all is inside, and no two wires share a lane', () => {
  const many = ['a', 'b', 'c', 'd', 'e']
  const node = (place: string, name: string) => ({ ...sample.nodes[3]!, id: `${place}/${name}`, place, name })
  const graph = {
    places: [...sample.places, ...many.map((id) => ({ id, name: id, kind: 'lab' as const }))],
    nodes: [...sample.nodes, ...many.flatMap((place) => many.map((other) => node(place, other)))],
    edges: [
      ...sample.edges,
      ...many.flatMap((a, i) =>
        many.slice(i + 1).map((b) => ({ kind: 'cable' as const, a: `${a}/${b}`, b: `${b}/${a}` })),
      ),
    ],
  }
  const { width, height, cards, wires } = arrange(new GraphIndex(graph))
  expect(cards).toHaveLength(graph.places.length)
  for (const [i, one] of cards.entries()) {
    expect(one.x).toBeGreaterThanOrEqual(0)
    expect(one.y).toBeGreaterThanOrEqual(0)
    expect(one.x + one.width).toBeLessThanOrEqual(width)
    expect(one.y + one.height).toBeLessThanOrEqual(height)
    for (const other of cards.slice(i + 1)) {
      const apart =
        one.x + one.width <= other.x ||
        other.x + other.width <= one.x ||
        one.y + one.height <= other.y ||
        other.y + other.height <= one.y
      expect(apart, `${one.title} and ${other.title}`).toBe(true)
    }
  }
  expect(wires).toHaveLength(graph.edges.filter(({ kind }) => kind !== 'port').length)
  const inLanes = wires.filter(({ lane }) => lane !== undefined)
  expect(inLanes.length).toBeGreaterThan(3)
  for (const [i, one] of inLanes.entries())
    for (const other of inLanes.slice(i + 1))
      if (one.lane === other.lane) expect(one.to.y < other.from.y || other.to.y < one.from.y).toBe(true)
})

test('nothing at all can be drawn too', () => {
  const empty = { places: [{ id: 'host', name: 'host', kind: 'host' as const }], nodes: [], edges: [] }
  for (const draw of [drawText, drawMermaid, drawDot, drawSvg]) expect(draw(empty)).toContain('host')
})
