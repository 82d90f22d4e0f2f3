import { messageOf } from './errors.ts'

/**
 * The undo list of an ADD. Each step that succeeded says how to take it back; leaving the block without
 * {@link commit} takes all back, newest first. A failing undo is reported and never hides the error that caused it.
 */
export class Rollback implements Disposable {
  readonly #undo: { readonly what: string; readonly action: () => void }[] = []
  #committed = false

  constructor(private readonly warn: (message: string) => void) {}

  onFailure(what: string, action: () => void): void {
    this.#undo.push({ what, action })
  }

  commit(): void {
    this.#committed = true
  }

  [Symbol.dispose](): void {
    if (this.#committed) return
    for (const { what, action } of this.#undo.reverse()) {
      try {
        action()
      } catch (error) {
        this.warn(`rollback: cannot ${what}: ${messageOf(error)}`)
      }
    }
  }
}
