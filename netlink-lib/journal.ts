import type { NetlinkSocket, Request } from './socket.ts'
import type { SysctlName } from './sysctl.ts'

/*
 * Who wants to know what is changed: `ns-net --explain`. The calls that change something tell it here, so that what is
 * explained is what was sent. Nobody listens in a plugin, where this costs one comparison for each call.
 */

/** Something that is about to be changed. */
export type Change =
  | { readonly kind: 'request'; readonly socket: NetlinkSocket; readonly request: Request }
  /** Of nf_tables: all commands or none. */
  | { readonly kind: 'transaction'; readonly socket: NetlinkSocket; readonly commands: readonly Request[] }
  | {
      readonly kind: 'netns'
      readonly verb: 'create' | 'name' | 'delete'
      readonly name: string
      /** Path of the namespace that gets a name. */
      readonly netns?: string
    }
  /** In the namespace that the thread is in now. */
  | { readonly kind: 'sysctl'; readonly name: SysctlName; readonly value: string }
  | {
      readonly kind: 'program'
      readonly command: readonly string[]
      readonly input: string
      /** Variables that the program is told by. */
      readonly env?: Readonly<Record<string, string>>
    }

export interface Journal {
  /** A socket was opened, in the namespace that the thread is in now. */
  opened(socket: NetlinkSocket): void
  /** Called before each request, those included that only ask. What it returns is called when the request was obeyed. */
  before(change: Change): (() => void) | undefined
}

export let journal: Journal | undefined

/** From now on everything is told to this one; undefined: to nobody. */
export function keepJournal(by: Journal | undefined): void {
  journal = by
}
