import { type Cidr, type Family, familyOf, formatCidr, formatIp, ipBytes } from '../ip.ts'
import { flags, type Request } from '../socket.ts'
import type { LinkRef } from './link.ts'
import {
  type AddressMessage,
  addressFamilies,
  addressFlags,
  addressMessage,
  familyNumber,
  messageTypes,
} from './wire.ts'

export interface Address extends Cidr {
  readonly index: number
  readonly scope: number
  readonly tentative: boolean
  readonly dadFailed: boolean
}

/** The broadcast address of an IPv4 prefix, as ip(8) sets it; undefined for /31, /32. */
export function broadcastOf(address: Buffer, prefix: number): string | undefined {
  if (address.length !== 4 || prefix > 30) return undefined
  const value = (address.readUInt32BE() | (0xffffffff >>> prefix)) >>> 0
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return formatIp(bytes)
}

export const addAddress = (link: LinkRef, address: Cidr, dad: boolean): Request => ({
  type: messageTypes.newAddress,
  flags: flags.create | flags.exclusive,
  body: addressMessage.encode({
    family: familyNumber(address.address),
    prefix: address.prefix,
    index: link.index,
    local: address.address,
    address: address.address,
    broadcast: broadcastOf(ipBytes(address.address), address.prefix),
    flags: address.family === 6 && !dad ? addressFlags.noDad : undefined,
  }),
  operation: `add address ${formatCidr(address)} to`,
  subject: link.name,
})

export const deleteAddress = (link: LinkRef, { address, ...rest }: Cidr): Request => ({
  type: messageTypes.deleteAddress,
  body: addressMessage.encode({
    family: familyNumber(address),
    prefix: rest.prefix,
    index: link.index,
    local: address,
  }),
  operation: `delete address ${address}/${rest.prefix} from`,
  subject: link.name,
})

/** Of one family the kernel goes straight to the link; of both it looks at all links of the host. */
export const listAddresses = (link?: LinkRef, family?: Family): Request => ({
  type: messageTypes.getAddress,
  body: addressMessage.encode({ family: family && addressFamilies[`ipv${family}`], index: link?.index }),
  operation: 'list addresses of',
  subject: link?.name ?? 'all links',
})

export function toAddress(message: AddressMessage): Address {
  const address = message.local ?? message.address!
  const state = message.flags ?? message.shortFlags!
  return {
    address,
    prefix: message.prefix!,
    family: familyOf(address),
    index: message.index!,
    scope: message.scope!,
    tentative: (state & addressFlags.tentative) !== 0,
    dadFailed: (state & addressFlags.dadFailed) !== 0,
  }
}
