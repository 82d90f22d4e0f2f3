import type { Section } from '../../config/reader.ts'
import type { Request } from '../contract/request.ts'
import { parseRules, type Rule } from './rule.ts'

export interface ChaosConf {
  readonly rules: readonly Rule[]
  readonly seed: number
  /** The plugin that this one stands in for; undefined when it is chained. */
  readonly wrapped?: Wrapped
}

export interface Wrapped {
  readonly type: string
  readonly config: Readonly<Record<string, unknown>>
}

export function parseChaos({ config, command }: Request): ChaosConf {
  const wrapped = parseWrapped(config)
  const seed = config.get('seed')?.integer(0, Number.MAX_SAFE_INTEGER) ?? 0
  const rules = parseRules(config)
  const dropped = rules.findIndex(({ fault }) => fault.kind === 'drop')
  // Another plugin's DEL cannot be kept from a runtime, except by standing in for that plugin.
  if (dropped >= 0 && !wrapped && command !== 'DEL')
    config.fail(`rules[${dropped}].fault.drop`, 'needs "plugin", the configuration of the plugin whose DEL is dropped')
  return { rules, seed, wrapped }
}

function parseWrapped(config: Section): Wrapped | undefined {
  const plugin = config.get('plugin')?.object()
  if (!plugin) return undefined
  const type = plugin.require('type', 'the name of a plugin').string()
  if (type === '' || type.includes('/') || type === 'chaos')
    plugin.fail('type', `expected the name of another plugin, got "${type}"`)
  return { type, config: config.get('plugin')!.json as Record<string, unknown> }
}
