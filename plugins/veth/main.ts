import { runExecutable } from '../contract/executable.ts'

void runExecutable('veth', async () => (await import('./veth.ts')).veth)
