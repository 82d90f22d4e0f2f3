import type { Executable } from '../contract/executable.ts'

export const bridgeExecutable: Executable = {
  type: 'bridge',
  call: async () => (await import('#call/bridge')).call(),
}
