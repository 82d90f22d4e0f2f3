import { familyOf } from '../../netlink-lib/ip.ts'
import { pause } from '../../netlink-lib/pause.ts'
import { World } from '../diagnosis/places.ts'
import { openProber, sendingFailure } from '../diagnosis/probe.ts'

const attempts = 2
const patience = 500 // milliseconds for each

/** Whether an address answers a place: an echo request, or with a port the beginning of a TCP connection. */
export function reaches(from: string, address: string, port?: number): boolean {
  using world = new World()
  const place = world.open(from)
  const decision = place.decide({ destination: address })
  if ('refused' in decision) return false
  const source = decision.source ?? ''
  const protocol = port === undefined ? 'icmp' : 'tcp'
  using prober = openProber(place, { family: familyOf(address), protocol, source, destination: address, port })
  for (let attempt = 0; attempt < attempts; attempt++) {
    try {
      prober.send()
    } catch (error) {
      if (sendingFailure(error) === undefined) throw error
      return false
    }
    const sent = performance.now()
    for (let wait = 0.2; performance.now() - sent < patience; wait = Math.min(2 * wait, 20)) {
      const answers = prober.receive()
      if (answers.some(({ kind }) => kind === 'reply')) return true
      if (answers.length > 0) return false
      pause(wait)
    }
  }
  return false
}
