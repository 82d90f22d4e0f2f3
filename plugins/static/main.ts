import type { Executable } from '../contract/executable.ts'

export const staticExecutable: Executable = {
  type: 'static',
  call: async () => (await import('#call/static')).call(),
}
