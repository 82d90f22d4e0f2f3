import type { Executable } from '../contract/executable.ts'

export const chaosExecutable: Executable = {
  type: 'chaos',
  load: async () => (await import('./chaos.ts')).chaos,
}
