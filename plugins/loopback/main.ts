import type { Executable } from '../contract/executable.ts'

export const loopbackExecutable: Executable = {
  type: 'loopback',
  load: async () => (await import('./loopback.ts')).loopback,
}
