import { CniError, codes } from './errors.ts'
import { atLeast, type SpecVersion, specVersions } from './spec-versions.ts'

export * from './spec-versions.ts'

/** The config's version, which must be exactly one of those supported; absent or empty counts as 0.1.0. */
export function gateVersion(
  version: string | undefined,
  supported: readonly SpecVersion[] = specVersions,
): SpecVersion {
  const wanted = version || '0.1.0'
  const known = supported.find((candidate) => candidate === wanted)
  if (known) return known
  throw new CniError(
    codes.incompatibleVersion,
    'incompatible CNI versions',
    `cniVersion of the configuration is "${wanted}", this plugin supports ${supported.join(', ')}`,
  )
}

/** Since which version a configuration may be used with a verb. */
const verbSince: Readonly<Record<string, SpecVersion>> = { CHECK: '0.4.0', GC: '1.1.0', STATUS: '1.1.0' }

export function gateVerb(command: string, version: SpecVersion): void {
  const since = verbSince[command]
  if (since && !atLeast(version, since))
    throw new CniError(
      codes.incompatibleVersion,
      `config version does not allow ${command}`,
      `${command} needs cniVersion ${since} or later, the configuration has ${version}`,
    )
}
