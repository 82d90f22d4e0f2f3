import type { Section } from '../../config/reader.ts'
import type { TokenBucket } from '../../netlink-lib/route/traffic-control.ts'
import { CniError, codes } from '../contract/errors.ts'
import type { Request } from '../contract/request.ts'

/** Limits of one attachment; a direction without one is not limited. */
export interface BandwidthConf {
  /** Of what the container receives. */
  readonly ingress: TokenBucket | undefined
  /** Of what the container sends. */
  readonly egress: TokenBucket | undefined
}

export function parseBandwidth(request: Request): BandwidthConf {
  // A teardown needs no limits, and nothing may stop it.
  if (request.command === 'DEL' || request.command === 'GC') return { ingress: undefined, egress: undefined }
  const section = sectionOf(request)
  return { ingress: section && bucketOf(section, 'ingress'), egress: section && bucketOf(section, 'egress') }
}

const keys = ['ingressRate', 'ingressBurst', 'egressRate', 'egressBurst'] as const

/** The configuration itself as soon as it says anything, else the bandwidth capability: never a mixture. */
function sectionOf({ config }: Request): Section | undefined {
  const capability = config.get('runtimeConfig')?.object().get('bandwidth')?.object()
  for (const section of [config, capability]) section && refuseSubnets(section)
  return keys.some((key) => config.get(key) && config.get(key)?.json !== 0) ? config : capability
}

/** What newer reference plugins know: to ignore it would limit other traffic than is asked for. */
function refuseSubnets(section: Section): void {
  for (const key of ['unshapedSubnets', 'shapedSubnets']) {
    const value = section.get(key)
    if (!value || value.list((subnet) => subnet).length === 0) continue
    throw new CniError(
      codes.unsupportedField,
      `unsupported field ${value.path}: ${JSON.stringify(value.json)}`,
      'limits are for all traffic of the interface; remove the key',
    )
  }
}

/** A packet waits at most so long for its turn; what would wait longer is dropped. */
const latency = 0.025 // seconds, as with the reference plugin

const u32 = 0xffffffff

/** Configured in bits, where the kernel counts bytes; undefined for 0 or nothing. */
function bucketOf(section: Section, direction: 'ingress' | 'egress'): TokenBucket | undefined {
  const bytes = (key: string, max: number) => {
    const bits = section.get(key)?.integer(0, max) ?? 0
    if (bits > 0 && bits < 8) section.fail(key, `expected 0 or at least 8 bits, got ${bits}`)
    return Math.floor(bits / 8)
  }
  const [rateKey, burstKey] = [`${direction}Rate`, `${direction}Burst`]
  const rate = bytes(rateKey, Number.MAX_SAFE_INTEGER)
  const burst = bytes(burstKey, u32 * 8 + 7)
  if (rate === 0 && burst === 0) return undefined
  if (burst === 0) section.fail(burstKey, `missing; ${rateKey} needs a burst, the bits that may pass at once`)
  if (rate === 0) section.fail(rateKey, `missing; ${burstKey} without a rate limits nothing`)
  return { rate, burst, limit: Math.min(Math.floor(rate * latency) + burst, u32) }
}
