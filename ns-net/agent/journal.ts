import fs from 'node:fs'

/** The log: a line of JSON on stdout for everything that changes, and none while nothing does. */
export class Journal {
  readonly #standing = new Map<string, string>()

  write(event: string, facts: Readonly<Record<string, unknown>> = {}): void {
    fs.writeSync(1, `${JSON.stringify({ time: new Date().toISOString(), event, ...facts })}\n`)
  }

  /** What is wrong with something: told when it begins, when it is another thing, and when it ends (undefined). */
  problem(subject: string, message: string | undefined): void {
    if (this.#standing.get(subject) === message) return
    if (message === undefined) {
      this.#standing.delete(subject)
      this.write('resolved', { subject })
    } else {
      this.#standing.set(subject, message)
      this.write('problem', { subject, message })
    }
  }
}
