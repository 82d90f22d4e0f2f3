import { ConfigError, type Section, type Value } from '../../config/reader.ts'
import { backendOfConditions, parseConditions } from '../../nat/conditions.ts'
import type { PortForwarding, PortMapping, Protocol } from '../../nat/forwards.ts'
import { protocols } from '../../nat/forwards.ts'
import type { PortForwardBackend } from '../../nat/port-forward.ts'
import { messageOf } from '../contract/errors.ts'
import type { Request } from '../contract/request.ts'

/** All that the configuration says; the container's addresses come with prevResult. */
export interface PortmapConf extends Omit<PortForwarding, 'targets'> {
  readonly backend: PortForwardBackend
}

/** DEL and GC go by what is there; mappings only help a DEL where the kernel's state was tampered with. */
const forTeardown = (config: Section): PortmapConf => ({
  backend: 'auto',
  mappings: mappingsIfReadable(config),
  masquerade: 'none',
  conditions: { 4: [], 6: [] },
  markBit: 13,
})

export function parsePortmap({ config, command }: Request): PortmapConf {
  if (command === 'DEL' || command === 'GC') return forTeardown(config)
  const conditions = { 4: parseTokens(config, 'conditionsV4'), 6: parseTokens(config, 'conditionsV6') }
  const backend = parseBackend(config, conditions)
  if (backend !== 'iptables') for (const family of [4, 6] as const) checkConditions(conditions[family], family)
  const setMarkChain = parseSetMarkChain(config)
  const snat = config.get('snat')?.boolean() ?? true
  const masqAll = config.get('masqAll')?.boolean() ?? false
  return {
    backend,
    mappings: parseMappings(config),
    masquerade: snat ? (masqAll ? 'all' : 'local') : 'none',
    conditions,
    markBit: config.get('markMasqBit')?.integer(0, 31) ?? 13,
    setMarkChain,
  }
}

function mappingsIfReadable(config: Section): PortMapping[] {
  try {
    return parseMappings(config)
  } catch {
    return []
  }
}

function parseMappings(config: Section): PortMapping[] {
  const taken = new Map<string, { path: string; containerPort: number }>()
  return (config.get('runtimeConfig')?.object().get('portMappings')?.list(parseMapping) ?? []).map((mapping, i) => {
    const path = `runtimeConfig.portMappings[${i}]`
    const { protocol, hostPort, hostIp, containerPort } = mapping
    const key = `${protocol} ${hostIp ?? ''} ${hostPort}`
    const earlier = taken.get(key)
    if (earlier && earlier.containerPort !== containerPort)
      throw new ConfigError(
        `${path}.hostPort`,
        `${protocol} port ${hostPort} leads to container port ${earlier.containerPort} by ${earlier.path} already, got ${containerPort}`,
      )
    if (!earlier) taken.set(key, { path, containerPort })
    return mapping
  })
}

function parseMapping(value: Value): PortMapping {
  const mapping = value.object()
  const hostIp = mapping.get('hostIP')
  return {
    protocol: parseProtocol(mapping.get('protocol')),
    hostPort: mapping.require('hostPort', 'an integer from 1 to 65535').integer(1, 65535),
    containerPort: mapping.require('containerPort', 'an integer from 1 to 65535').integer(1, 65535),
    hostIp: hostIp === undefined || hostIp.json === '' ? undefined : hostIp.ip(),
  }
}

function parseProtocol(value: Value | undefined): Protocol {
  if (value === undefined || value.json === '') return 'tcp'
  const name = value.string().toLowerCase()
  const known = (Object.keys(protocols) as Protocol[]).find((protocol) => protocol === name)
  return known ?? value.fail(`expected "tcp", "udp" or "sctp", got ${JSON.stringify(value.json)}`)
}

function parseTokens(config: Section, key: string): string[] {
  return config.list(key, (value) => {
    const token = value.string()
    // biome-ignore lint/suspicious/noControlCharactersInRegex: a line break would begin another rule
    if (/[\x00-\x1f\x7f\\]/.test(token)) value.fail('expected a token without control characters and backslashes')
    return token
  })
}

/** Keys that only one backend can carry out decide, unless `backend` says otherwise: then that is an error. */
function parseBackend(config: Section, conditions: PortForwarding['conditions']): PortForwardBackend {
  const asked = config.get('backend')?.oneOf('auto', 'nftables', 'iptables') ?? 'auto'
  const needs: [key: string, backend: 'iptables' | 'nftables' | undefined][] = [
    ['externalSetMarkChain', config.get('externalSetMarkChain') ? 'iptables' : undefined],
    ['conditionsV4', backendOfConditions(conditions[4])],
    ['conditionsV6', backendOfConditions(conditions[6])],
  ]
  let [chosen, because]: [PortForwardBackend, string] = [asked, `"backend" is "${asked}"`]
  for (const [key, backend] of needs) {
    if (backend === undefined) continue
    if (chosen === 'auto') [chosen, because] = [backend, `"${key}" is for ${backend}`]
    else if (chosen !== backend) throw new ConfigError(key, `is for the backend ${backend}, but ${because}`)
  }
  return chosen
}

function checkConditions(tokens: readonly string[], family: 4 | 6): void {
  try {
    parseConditions(tokens, family)
  } catch (error) {
    throw new ConfigError(`conditionsV${family}`, messageOf(error))
  }
}

/** A name that iptables takes for a chain: no option, at most 28 characters. */
function parseSetMarkChain(config: Section): string | undefined {
  const value = config.get('externalSetMarkChain')
  if (value === undefined) return undefined
  if (config.get('markMasqBit'))
    throw new ConfigError('externalSetMarkChain', 'cannot be set together with markMasqBit: the chain sets the mark')
  const name = value.string()
  return /^[\w.:][\w.:-]{0,27}$/.test(name) ? name : value.fail(`expected the name of a chain, got "${name}"`)
}
