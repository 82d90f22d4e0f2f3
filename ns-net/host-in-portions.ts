import { Host } from '../plugins/contract/host.ts'

/** Plugin calls between two closings. */
const portion = 100

/**
 * A host for many plugin calls. Plugins keep their sockets open until the host is closed, so a thousand calls would keep
 * thousands; but closing one that has changed rules is a wait of the kernel, 10 ms, and closing a hundred is no longer one.
 */
export class HostInPortions implements Disposable {
  #host = new Host()
  #calls = 0

  next(): Host {
    if (this.#calls++ === portion) {
      this.#host[Symbol.dispose]()
      this.#host = new Host()
      this.#calls = 1
    }
    return this.#host
  }

  [Symbol.dispose](): void {
    this.#host[Symbol.dispose]()
  }
}
