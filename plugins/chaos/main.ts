import type { Executable } from '../contract/executable.ts'

export const chaosExecutable: Executable = {
  type: 'chaos',
  call: async () => (await import('#call/chaos')).call(),
}
