import { runExecutable } from '../contract/executable.ts'

void runExecutable('portmap', async () => (await import('./portmap.ts')).portmap)
