import type { Executable } from '../contract/executable.ts'
import { bandwidthVersions } from './versions.ts'

export const bandwidthExecutable: Executable = {
  type: 'bandwidth',
  versions: bandwidthVersions,
  call: async () => (await import('#call/bandwidth')).call(),
}
