import { specVersions } from '../contract/spec-versions.ts'

/** As with the reference plugin, which came with 0.4.0. */
export const firewallVersions = specVersions.slice(specVersions.indexOf('0.4.0'))
