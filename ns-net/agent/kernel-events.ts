import { EventSocket, routeGroups } from '../../netlink-lib/events.ts'
import { protocols } from '../../netlink-lib/socket.ts'

const { link, ipv4Address, ipv6Address, ipv4Route, ipv6Route } = routeGroups
const groups = [link, ipv4Address, ipv6Address, ipv4Route, ipv6Route]

/** Milliseconds between two looks: nothing waits for the socket, as a thread that sleeps in the kernel hears no SIGTERM. */
const period = 200
/** Milliseconds: who changes routes without an end neither keeps others from being answered nor is answered more often. */
const interval = 1000

/**
 * Calls `onChange` when links, addresses or routes of this network namespace have changed and a moment of rest has come:
 * who replaces an address takes the old one away first. What the call itself changes is told of as well, once.
 */
export function followKernel(onChange: () => void): void {
  const socket = new EventSocket(protocols.route, groups)
  let told = Number.NEGATIVE_INFINITY
  /** When the first change came that was not told of. */
  let changed: number | undefined
  const look = () => {
    const { messages, overrun } = socket.receive()
    const now = performance.now()
    const isBusy = messages.length > 0 || overrun
    if (isBusy) changed ??= now
    if (changed === undefined || now - told < interval || (isBusy && now - changed < interval)) return
    changed = undefined
    told = now
    onChange()
  }
  setInterval(look, period)
}
