import type { Executable } from '../contract/executable.ts'

export const portmapExecutable: Executable = {
  type: 'portmap',
  call: async () => (await import('#call/portmap')).call(),
}
