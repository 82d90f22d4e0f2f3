import type { Executable } from '../contract/executable.ts'

export const natExecutable: Executable = {
  type: 'nat',
  load: async () => (await import('./nat.ts')).nat,
}
