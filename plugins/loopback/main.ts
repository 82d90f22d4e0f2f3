import { runExecutable } from '../contract/executable.ts'

void runExecutable('loopback', async () => (await import('./loopback.ts')).loopback)
