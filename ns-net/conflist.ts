import { ConfigError, Section } from '../config/reader.ts'
import { gateVersion, type SpecVersion, specVersions } from '../plugins/contract/versions.ts'

/** A network configuration list (CNI spec, section 1), checked as far as a runtime must. */
export interface ConfList {
  readonly name: string
  readonly cniVersion: SpecVersion
  readonly disableCheck: boolean
  readonly plugins: readonly PluginConf[]
}

export type PluginConf = Readonly<Record<string, unknown>> & { readonly type: string }

/** Parses a conflist; throws ConfigError naming the place. */
export function parseConfList(json: unknown): ConfList {
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new ConfigError('conflist', 'expected a JSON object')
  const section = new Section(json as Record<string, unknown>)
  const name = section.require('name', 'the name of the network').string()
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(name))
    section.fail('name', `expected letters, digits, "_", "." and "-", got "${name}"`)
  const plugins = section.require('plugins', 'a list of plugin configurations').list((value) => {
    const plugin = value.object()
    const type = plugin.require('type', 'the name of a plugin').string()
    if (type === '' || type.includes('/')) plugin.fail('type', `expected the name of a plugin, got "${type}"`)
    return value.json as PluginConf
  })
  if (plugins.length === 0) section.fail('plugins', 'expected at least one plugin')
  return { name, cniVersion: chooseVersion(section), disableCheck: looseBoolean(section, 'disableCheck'), plugins }
}

/** The highest of `cniVersions` that we speak, or `cniVersion`. */
function chooseVersion(section: Section): SpecVersion {
  const listed = section.list('cniVersions', (value) => value.string())
  const own = section.get('cniVersion')?.string()
  if (listed.length === 0) return gateVersion(own)
  const usable = specVersions.filter((version) => version === own || listed.includes(version))
  return usable.at(-1) ?? gateVersion(listed[0])
}

/** libcni also takes the words "true" and "false". */
function looseBoolean(section: Section, key: string): boolean {
  const value = section.get(key)
  if (typeof value?.json === 'string' && /^(true|false)$/i.test(value.json)) return value.json.toLowerCase() === 'true'
  return value?.boolean() ?? false
}
