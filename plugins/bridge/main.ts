import { runExecutable } from '../contract/executable.ts'

void runExecutable('bridge', async () => (await import('./bridge.ts')).bridge)
