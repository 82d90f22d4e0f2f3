import type { Executable } from '../contract/executable.ts'

export const staticExecutable: Executable = {
  type: 'static',
  load: async () => (await import('../contract/ipam-plugin.ts')).ipamPlugin('static'),
}
