import type { Executable } from '../contract/executable.ts'

export const hostLocalExecutable: Executable = {
  type: 'host-local',
  call: async () => (await import('#call/host-local')).call(),
}
