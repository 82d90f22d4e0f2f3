import type { Executable } from '../contract/executable.ts'

export const portmapExecutable: Executable = {
  type: 'portmap',
  load: async () => (await import('./portmap.ts')).portmap,
}
