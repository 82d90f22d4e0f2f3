import { runExecutable } from '../contract/executable.ts'

void runExecutable('static', async () => (await import('../contract/ipam-plugin.ts')).ipamPlugin('static'))
