import type { Executable } from '../contract/executable.ts'

export const tuningExecutable: Executable = {
  type: 'tuning',
  load: async () => (await import('./tuning.ts')).tuning,
}
