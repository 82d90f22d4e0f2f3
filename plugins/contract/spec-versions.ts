/** Spec versions that the plugins speak, oldest first. */
export const specVersions = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const
export type SpecVersion = (typeof specVersions)[number]

export const newestVersion: SpecVersion = '1.1.0'

/** True when `version` is `other` or newer. */
export const atLeast = (version: SpecVersion, other: SpecVersion): boolean =>
  specVersions.indexOf(version) >= specVersions.indexOf(other)
