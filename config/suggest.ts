/** Keys of a configuration that nobody reads and that look like a key that is read: probably typing errors. */
export interface Suspicion {
  readonly key: string
  readonly suggestion: string
}

/** Compares what was not read with what could have been; keys that resemble nothing are the business of others. */
export function suspectKeys(unread: readonly string[], known: readonly string[]): Suspicion[] {
  return unread.flatMap((key) => {
    const [best] = known
      .map((candidate) => ({ candidate, distance: editDistance(key.toLowerCase(), candidate.toLowerCase()) }))
      .sort((a, b) => a.distance - b.distance)
    const tolerance = key.length > 5 ? 2 : 1
    return best && key.length > 3 && best.distance <= tolerance ? [{ key, suggestion: best.candidate }] : []
  })
}

/** Insertions, deletions, substitutions and swaps of neighbours between two words (optimal string alignment). */
export function editDistance(a: string, b: string): number {
  let previous: number[] = []
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      let best = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (same ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) best = Math.min(best, previous[j - 2]! + 1)
      next.push(best)
    }
    previous = row
    row = next
  }
  return row[b.length]!
}
