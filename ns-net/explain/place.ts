import fs from 'node:fs'
import { Netns, netnsDirectory } from '../../netlink-lib/netns.ts'
import { NetlinkSocket, protocols } from '../../netlink-lib/socket.ts'
import { listNetnsNames, netnsPath, processesByNetns } from '../labs.ts'

/** A network namespace, as commands call it. */
export interface Place {
  /** `host`, the name of a lab, or a path. */
  readonly name: string
  /** Undefined for the host's. */
  readonly netns: string | undefined
}

export const host: Place = { name: 'host', netns: undefined }
export const labPlace = (name: string): Place => ({ name, netns: netnsPath(name) })

export const isSame = (a: Place, b: Place): boolean => a.netns === b.netns

const isNamed = ({ netns }: Place): boolean => netns?.startsWith(`${netnsDirectory}/`) ?? false

/** `ip`, `tc` or `bridge` that speaks of the place: `ip -n web`. */
export function toolOf(place: Place, program: 'ip' | 'tc' | 'bridge'): string {
  return isNamed(place) ? `${program} -n ${place.name}` : inside(place, program)
}

/** A command that is run in the place. */
export function inside(place: Place, command: string): string {
  if (place.netns === undefined) return command
  return isNamed(place) ? `ip netns exec ${place.name} ${command}` : `nsenter --net=${place.netns} ${command}`
}

const own = '/proc/thread-self/ns/net'
const identityOf = ({ dev, ino }: fs.Stats): string => `${dev}:${ino}`

/** Finds out which place it is that a socket, a descriptor or the thread is in. The process began on the host. */
export class Places implements Disposable {
  readonly #home = Netns.own();

  [Symbol.dispose](): void {
    this.#home[Symbol.dispose]()
  }

  /** Where the thread is now. */
  here(): Place {
    return this.#find(fs.statSync(own))
  }

  behind(fd: number): Place {
    return this.#find(fs.fstatSync(fd))
  }

  #find(status: fs.Stats): Place {
    const identity = identityOf(status)
    if (identity === identityOf(fs.fstatSync(this.#home.fd))) return host
    const isIt = (path: string) => {
      const found = fs.statSync(path, { throwIfNoEntry: false })
      return found !== undefined && identityOf(found) === identity
    }
    const name = listNetnsNames().find((each) => isIt(netnsPath(each)))
    if (name !== undefined) return labPlace(name)
    const [pid] = processesByNetns().get(status.ino) ?? []
    return { name: pid === undefined ? 'an unnamed namespace' : `pid:${pid}`, netns: `/proc/${pid ?? 'PID'}/ns/net` }
  }

  openHost(): Netns {
    return Netns.open(`/proc/self/fd/${this.#home.fd}`)
  }

  /** Runs `work` in the place, wherever the thread is. Nothing in here waits for a promise. */
  run<T>(place: Place, work: () => T): T {
    if (place.netns === undefined) return this.#home.run(work as () => never)
    using netns = Netns.open(place.netns)
    return netns.run(work as () => never)
  }

  /** A socket there; undefined when the place is gone. */
  connect(place: Place): NetlinkSocket | undefined {
    if (place.netns !== undefined) {
      using netns = Netns.find(place.netns)
      if (!netns) return undefined
    }
    return this.run(place, () => new NetlinkSocket(protocols.route))
  }
}
