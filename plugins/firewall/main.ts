import { runExecutable } from '../contract/executable.ts'
import { firewallVersions } from './versions.ts'

void runExecutable('firewall', async () => (await import('./firewall.ts')).firewall, firewallVersions)
