import type { Executable } from '../contract/executable.ts'

export const hostLocalExecutable: Executable = {
  type: 'host-local',
  load: async () => (await import('../contract/ipam-plugin.ts')).ipamPlugin('host-local'),
}
