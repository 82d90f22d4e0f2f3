import { runExecutable } from '../contract/executable.ts'

void runExecutable('host-local', async () => (await import('../contract/ipam-plugin.ts')).ipamPlugin('host-local'))
