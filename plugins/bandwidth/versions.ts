import { specVersions } from '../contract/spec-versions.ts'

/** Older results name no interfaces, and the host's one is what is limited. */
export const bandwidthVersions = specVersions.slice(specVersions.indexOf('0.3.0'))
