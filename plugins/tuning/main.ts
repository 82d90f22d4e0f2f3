import { runExecutable } from '../contract/executable.ts'

void runExecutable('tuning', async () => (await import('./tuning.ts')).tuning)
