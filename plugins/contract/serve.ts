import { KernelError } from '../../netlink-lib/errors.ts'
import { readSome, write } from '../../netlink-lib/files.ts'
import { lastErrno, libc } from '../../netlink-lib/libc.ts'
import { pause } from '../../netlink-lib/pause.ts'
import { dispatch } from './dispatch.ts'
import { CniError, codes, toCniError } from './errors.ts'
import { Host } from './host.ts'
import type { Plugin } from './plugin.ts'
import { parseEnvironment } from './request.ts'
import { newestVersion, specVersions } from './spec-versions.ts'

declare const NS_NET_VERSION: string | undefined // defined by scripts/bundle.mjs

/**
 * One call of a plugin: reads environment and stdin, carries out the verb, prints once, exits. The only place that
 * does any of these.
 */
export function serve<Conf>(plugin: Plugin<Conf>): never {
  const { CNI_COMMAND } = process.env
  if (!CNI_COMMAND) introduce(plugin)
  if (CNI_COMMAND === 'VERSION') answerVersion(plugin)
  let document = ''
  try {
    const environment = parseEnvironment(process.env)
    document = readStdin()
    let result: Record<string, unknown> | undefined
    {
      using host = new Host()
      result = dispatch(plugin, environment, document, host)
    }
    if (result) print(JSON.stringify(result, undefined, 4))
    process.exit(0)
  } catch (error) {
    print(formatError(toCniError(error), document))
    process.exit(1)
  }
}

/** Whoever starts it by hand is told what it is. */
function introduce<Conf>({ type, versions = specVersions }: Plugin<Conf>): never {
  const version = typeof NS_NET_VERSION === 'undefined' ? 'development' : NS_NET_VERSION
  const known = `CNI protocol versions supported: ${versions.join(', ')}`
  write(2, `CNI ${type} plugin of ns-net ${version}\n${known}\n`, 'stderr')
  process.exit(0)
}

/** Whatever stdin holds: podman asks hundreds of times in one run. */
function answerVersion<Conf>({ versions = specVersions }: Plugin<Conf>): never {
  print(`${JSON.stringify({ cniVersion: newestVersion, supportedVersions: versions })}\n`)
  process.exit(0)
}

/** The error object of the CNI spec, in the version the configuration speaks, whether or not it is JSON. */
function formatError({ code, message, details }: CniError, document: string): string {
  const version = /"cniVersion"\s*:\s*"([^"]*)"/i.exec(document)?.[1]
  const cniVersion = specVersions.find((known) => known === version) ?? newestVersion
  return JSON.stringify({ cniVersion, code, msg: message, details }, undefined, 4)
}

function readStdin(): string {
  const parts: Buffer[] = []
  for (;;) {
    try {
      const part = readSome(0, 'stdin')
      if (part.length === 0) return Buffer.concat(parts).toString('utf8')
      parts.push(Buffer.from(part))
    } catch (error) {
      if (!(error instanceof KernelError)) throw error
      if (error.code !== 'EAGAIN')
        throw new CniError(codes.io, `cannot read the configuration from stdin: ${error.code}`)
      pause(1) // a runtime may hand over non-blocking pipes
    }
  }
}

function print(text: string): void {
  const bytes = Buffer.from(text)
  for (let at = 0; at < bytes.length; ) {
    const size = libc.write(1, bytes.subarray(at), bytes.length - at)
    if (size >= 0) at += size
    else if (lastErrno() === 11)
      pause(1) // EAGAIN
    else if (lastErrno() !== 4) process.exit(1) // not EINTR: nobody reads, there is nothing left to say
  }
}
