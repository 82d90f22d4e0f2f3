import type { Place } from '../host.ts'
import { plugins } from './machine.ts'

/* The plugin chaos under a container runtime, in a network that is called `lab`. */

export interface Chaos {
  /** `ns-net chaos`. */
  chaos(...args: readonly string[]): string
  /** The rules that struck and the verbs they did, in their order. */
  struck(): string[]
  /** GC of every plugin of the list, with no attachment valid. */
  collect(): void
}

export function chaosOn(place: Place, list: readonly { readonly type: string }[]): Chaos {
  const chaos = (...args: readonly string[]) => place.run([`${plugins}/ns-net`, 'chaos', ...args]).stdout
  return {
    chaos,
    struck: () =>
      JSON.parse(chaos('report', '--json')).map(({ rule, verb }: { rule: string; verb: string }) => `${rule} ${verb}`),
    collect() {
      for (const plugin of list) {
        const config = { ...plugin, name: 'lab', cniVersion: '1.1.0', 'cni.dev/valid-attachments': [] }
        const call = { CNI_COMMAND: 'GC', CNI_PATH: plugins }
        place.run([`${plugins}/${plugin.type}`], { env: call, input: JSON.stringify(config) })
      }
    },
  }
}
