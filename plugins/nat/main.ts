import { runExecutable } from '../contract/executable.ts'

void runExecutable('nat', async () => (await import('./nat.ts')).nat)
