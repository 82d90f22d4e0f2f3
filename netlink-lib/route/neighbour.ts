import { flags, type Request } from '../socket.ts'
import type { LinkRef } from './link.ts'
import { familyNumber, messageTypes, type NeighbourMessage, neighbourMessage, neighbourStates } from './wire.ts'

/** An entry of the ARP or ND table; `state` is NUD_*. */
export interface Neighbour {
  readonly address: string
  readonly mac?: string
  readonly state: number
}

export const setNeighbour = (link: LinkRef, address: string, mac: string): Request => ({
  type: messageTypes.newNeighbour,
  flags: flags.create | flags.replace,
  body: neighbourMessage.encode({
    family: familyNumber(address),
    index: link.index,
    state: neighbourStates.permanent,
    dst: address,
    mac,
  }),
  operation: `set neighbour ${address} ${mac} on`,
  subject: link.name,
})

export const deleteNeighbour = (link: LinkRef, address: string): Request => ({
  type: messageTypes.deleteNeighbour,
  body: neighbourMessage.encode({ family: familyNumber(address), index: link.index, dst: address }),
  operation: `delete neighbour ${address} from`,
  subject: link.name,
})

export const listNeighbours = (link: LinkRef): Request => ({
  type: messageTypes.getNeighbour,
  body: neighbourMessage.encode({ link: link.index }),
  operation: 'list neighbours of',
  subject: link.name,
})

export const toNeighbour = ({ dst, mac, state }: NeighbourMessage): Neighbour => ({
  address: dst!,
  mac,
  state: state!,
})
