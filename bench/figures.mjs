// Samples become rows: one row is one workload, verb and size, with a figure for each system.

export function summary(values) {
  const sorted = [...values].sort((a, b) => a - b)
  return { median: sorted[Math.floor(sorted.length / 2)], min: sorted[0], max: sorted.at(-1) }
}

/** Samples by a key of several words, such as a verb and a system. */
export class Samples {
  #values = new Map()

  add(value, ...key) {
    const name = key.join('\0')
    const values = this.#values.get(name)
    if (values) values.push(value)
    else this.#values.set(name, [value])
  }

  /** Figures of the systems that have samples under this key. */
  figures(systems, ...key) {
    const measured = systems.filter(({ name }) => this.#values.has([...key, name].join('\0')))
    return Object.fromEntries(measured.map(({ name }) => [name, summary(this.#values.get([...key, name].join('\0')))]))
  }
}

/** How many times better the first of our figures is than the reference's; undefined where one of them is missing. */
export function ratio({ figures, unit }) {
  const [name, own] = Object.entries(figures).find(([name]) => name.startsWith('ours')) ?? []
  const [, theirs] = Object.entries(figures).find(([name]) => name.startsWith('reference')) ?? []
  if (!name || !theirs) return undefined
  return unit === 'per s' ? own.median / theirs.median : theirs.median / own.median
}
