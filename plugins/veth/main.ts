import type { Executable } from '../contract/executable.ts'

export const vethExecutable: Executable = {
  type: 'veth',
  call: async () => (await import('#call/veth')).call(),
}
