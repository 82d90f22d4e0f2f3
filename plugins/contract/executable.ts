import fs from 'node:fs'
import type { Plugin } from './plugin.ts'
import { newestVersion, type SpecVersion, specVersions } from './versions.ts'

declare const NS_NET_VERSION: string | undefined // defined by scripts/build.mjs

/**
 * The start of every plugin's process. VERSION is answered before anything else is loaded: podman asks for it hundreds
 * of times in one run. Written with fs.writeSync and ended with process.exit, because process.stdout and a natural exit
 * cost 8 ms under Bun.
 */
export async function runExecutable<Conf>(
  type: string,
  load: () => Promise<Plugin<Conf>>,
  versions: readonly SpecVersion[] = specVersions,
): Promise<never> {
  const { CNI_COMMAND } = process.env
  if (!CNI_COMMAND) {
    const version = typeof NS_NET_VERSION === 'undefined' ? 'development' : NS_NET_VERSION
    fs.writeSync(
      2,
      `CNI ${type} plugin of ns-net ${version}\nCNI protocol versions supported: ${versions.join(', ')}\n`,
    )
    process.exit(0)
  }
  if (CNI_COMMAND === 'VERSION') {
    fs.writeSync(1, `${JSON.stringify({ cniVersion: newestVersion, supportedVersions: versions })}\n`)
    process.exit(0)
  }
  const { serve } = await import('./serve.ts')
  return serve(load)
}
