import { runExecutable } from '../contract/executable.ts'
import { bandwidthVersions } from './versions.ts'

void runExecutable('bandwidth', async () => (await import('./bandwidth.ts')).bandwidth, bandwidthVersions)
