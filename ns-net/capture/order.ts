/**
 * Puts what comes from several rings into the order of time. Each ring is in order by itself, but gives its packets late,
 * by at most `delay` milliseconds: a packet waits that long, and then no older one can follow.
 */
export class InOrder<T extends { readonly time: bigint }> {
  #waiting: T[] = []
  /** The newest packet there was at some moment. */
  #mark: { readonly time: bigint; readonly at: number } | undefined

  constructor(readonly delay: number) {}

  /** Takes what has come and returns what is next, oldest first. `now` is in milliseconds. */
  add(arrived: readonly T[], now: number): T[] {
    if (arrived.length > 0) this.#waiting = [...this.#waiting, ...arrived].sort(byTime)
    const ready = this.#mark && now - this.#mark.at >= this.delay ? this.#takeUntil(this.#mark.time) : []
    if (ready.length > 0 || !this.#mark) {
      const newest = this.#waiting.at(-1)
      this.#mark = newest && { time: newest.time, at: now }
    }
    return ready
  }

  #takeUntil(time: bigint): T[] {
    const count = this.#waiting.findIndex((packet) => packet.time > time)
    return this.#waiting.splice(0, count < 0 ? this.#waiting.length : count)
  }

  /** What is left, when nothing more can come. */
  rest(): T[] {
    return this.#waiting.splice(0)
  }
}

const byTime = (a: { readonly time: bigint }, b: { readonly time: bigint }): number =>
  a.time < b.time ? -1 : a.time > b.time ? 1 : 0
