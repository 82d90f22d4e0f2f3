import { formatIp } from '../../netlink-lib/ip.ts'

/** ICMP (RFC 792) and ICMPv6 (RFC 4443, RFC 4861) messages in words. */

const unreachable4 = ['network', 'host', 'protocol', 'port', 'without fragmentation', 'source route']
const unreachable6 = ['no route', 'administratively prohibited', 'beyond scope', 'address', 'port']

export function describeIcmp(data: Buffer): string {
  if (data.length < 8) return 'cut off'
  const [type, code] = [data[0]!, data[1]!]
  switch (type) {
    case 8:
      return `echo request ${identity(data)}`
    case 0:
      return `echo reply ${identity(data)}`
    case 3:
      if (code === 4) return `too big, MTU ${data.readUInt16BE(6)}`
      if ([9, 10, 13].includes(code)) return 'unreachable: administratively prohibited'
      return `unreachable: ${unreachable4[code] ?? `code ${code}`}`
    case 5:
      return `redirect to ${formatIp(data.subarray(4, 8))}`
    case 11:
      return code === 0 ? 'time to live exceeded' : 'fragments are missing'
    default:
      return `type ${type} code ${code}`
  }
}

const identity = (data: Buffer): string => `id ${data.readUInt16BE(4)} seq ${data.readUInt16BE(6)}`

export function describeIcmpv6(data: Buffer): string {
  if (data.length < 8) return 'cut off'
  const [type, code] = [data[0]!, data[1]!]
  const target = () => (data.length < 24 ? '' : formatIp(data.subarray(8, 24)))
  switch (type) {
    case 1:
      return `unreachable: ${unreachable6[code] ?? `code ${code}`}`
    case 2:
      return `too big, MTU ${data.readUInt32BE(4)}`
    case 3:
      return 'hop limit exceeded'
    case 128:
      return `echo request ${identity(data)}`
    case 129:
      return `echo reply ${identity(data)}`
    case 130:
    case 131:
    case 132:
    case 143:
      return 'multicast listener'
    case 133:
      return 'router solicitation'
    case 134:
      return 'router advertisement'
    case 135:
      return `who has ${target()}?`
    case 136:
      return `${target()} is here`
    default:
      return `type ${type} code ${code}`
  }
}
