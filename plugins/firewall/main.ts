import type { Executable } from '../contract/executable.ts'
import { firewallVersions } from './versions.ts'

export const firewallExecutable: Executable = {
  type: 'firewall',
  versions: firewallVersions,
  call: async () => (await import('#call/firewall')).call(),
}
