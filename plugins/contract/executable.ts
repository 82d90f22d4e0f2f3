import { newestVersion, type SpecVersion, specVersions } from './spec-versions.ts'

declare const NS_NET_VERSION: string | undefined // defined by scripts/build.mjs

/** What the image knows of a plugin before it loads it. */
export interface Executable {
  readonly type: string
  readonly versions?: readonly SpecVersion[]
  /** Loads the plugin, which carries out its verb and exits. */
  call(): Promise<never>
}

/**
 * The start of every plugin's process. VERSION is answered before anything else is loaded: podman asks for it hundreds
 * of times in one run. Printed by console.log, which Bun writes at once: process.stdout would cost 8 ms, node:fs 0.9.
 */
export async function runExecutable({ type, versions = specVersions, call }: Executable): Promise<never> {
  const { CNI_COMMAND } = process.env
  if (!CNI_COMMAND) {
    const version = typeof NS_NET_VERSION === 'undefined' ? 'development' : NS_NET_VERSION
    console.error(`CNI ${type} plugin of ns-net ${version}\nCNI protocol versions supported: ${versions.join(', ')}`)
    process.exit(0)
  }
  if (CNI_COMMAND === 'VERSION') {
    console.log(JSON.stringify({ cniVersion: newestVersion, supportedVersions: versions }))
    process.exit(0)
  }
  return call()
}
