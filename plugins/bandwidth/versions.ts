import { atLeast, specVersions } from '../contract/spec-versions.ts'

/** Older results name no interfaces, and the host's one is what is limited. */
export const bandwidthVersions = specVersions.filter((version) => atLeast(version, '0.3.0'))
