import type { Value } from '../../config/reader.ts'
import type { MasqueradeBackend } from '../../nat/masquerade.ts'
import type { Translation } from '../../nat/policy.ts'
import { cidr, contains, type Family, familyOf } from '../../netlink-lib/ip.ts'
import type { Request } from '../contract/request.ts'

export interface NatConf {
  readonly backend: MasqueradeBackend
  readonly translation: Translation
  /** Whether to let the container's packets through where iptables drops what is forwarded. */
  readonly forward: boolean
}

export function parseNat({ config, command }: Request): NatConf {
  if (command === 'DEL' || command === 'GC') return { backend: 'auto', translation: {}, forward: true } // it goes by what is there
  const snat = config.get('snat')
  return {
    backend: config.get('backend')?.oneOf('auto', 'nftables', 'iptables') ?? 'auto',
    translation: {
      exempt: config.list('nonMasqueradeCIDRs', (value) => value.cidr()),
      snat: snat ? sourcesOf(snat) : [],
    },
    forward: config.get('forward')?.boolean() ?? true,
  }
}

/** One address, or a list with at most one of each family. */
function sourcesOf(value: Value): string[] {
  const sources = Array.isArray(value.json) ? value.list(sourceOf) : [sourceOf(value)]
  const [first, second] = sources
  if (sources.length > 2 || (first && second && familyOf(first) === familyOf(second)))
    value.fail(`expected at most one IPv4 and one IPv6 address, got ${JSON.stringify(value.json)}`)
  return sources
}

/** 0.0.0.0/8, multicast and broadcast; ::, ::1 and multicast: nobody could answer these. */
const unanswerable: Readonly<Record<Family, readonly string[]>> = {
  4: ['0.0.0.0/8', '127.0.0.0/8', '224.0.0.0/3'],
  6: ['::/127', 'ff00::/8'],
}

function sourceOf(value: Value): string {
  const address = value.ip()
  if (unanswerable[familyOf(address)].some((range) => contains(cidr(range), address)))
    value.fail(`expected an address that the world can answer, got ${JSON.stringify(value.json)}`)
  return address
}
