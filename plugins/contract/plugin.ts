import type { Host } from './host.ts'
import type { Request } from './request.ts'
import type { Result } from './result.ts'
import type { SpecVersion } from './versions.ts'

/**
 * A plugin is a value. `parse` reads its configuration completely, before anything is touched; the verbs then do the
 * work over a {@link Host} and return or throw. They never print and never exit.
 */
export interface Plugin<Conf = unknown> {
  /** The name in `type` and of the executable. */
  readonly type: string
  readonly versions?: readonly SpecVersion[]
  parse(request: Request): Conf
  /** All or nothing: what it throws after, it has undone. */
  add(conf: Conf, request: Request, host: Host): Result
  /** Succeeds on what is not there, goes on past a failing step, and throws all failures together. */
  del(conf: Conf, request: Request, host: Host): void
  /** Throws naming the first thing that is missing or different. */
  check?(conf: Conf, request: Request, host: Host): void
  /** Puts back rules of a live attachment that a flush or a firewall reload took away; what is there stays. */
  reload?(conf: Conf, request: Request, host: Host): void
  /** Removes everything of the network that no valid attachment owns. */
  gc?(conf: Conf, request: Request, host: Host): void
  /** Throws when an ADD could not be served. */
  status?(conf: Conf, request: Request, host: Host): void
}
