import type { Executable } from '../contract/executable.ts'

export const natExecutable: Executable = {
  type: 'nat',
  call: async () => (await import('#call/nat')).call(),
}
