import type { Executable } from '../contract/executable.ts'

export const loopbackExecutable: Executable = {
  type: 'loopback',
  call: async () => (await import('#call/loopback')).call(),
}
