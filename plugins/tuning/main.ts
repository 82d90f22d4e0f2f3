import type { Executable } from '../contract/executable.ts'

export const tuningExecutable: Executable = {
  type: 'tuning',
  call: async () => (await import('#call/tuning')).call(),
}
