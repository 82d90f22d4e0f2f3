import { atLeast, specVersions } from '../contract/spec-versions.ts'

/** As with the reference plugin, which came with 0.4.0. */
export const firewallVersions = specVersions.filter((version) => atLeast(version, '0.4.0'))
