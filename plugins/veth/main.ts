import type { Executable } from '../contract/executable.ts'

export const vethExecutable: Executable = {
  type: 'veth',
  load: async () => (await import('./veth.ts')).veth,
}
