import { KernelError } from '../../netlink-lib/errors.ts'
import { readSome } from '../../netlink-lib/files.ts'
import { lastErrno, libc } from '../../netlink-lib/libc.ts'
import { pause } from '../../netlink-lib/pause.ts'
import { BareHost, type HeavyModules } from './bare-host.ts'
import { dispatch } from './dispatch.ts'
import { CniError, codes, toCniError } from './errors.ts'
import type { Plugin } from './plugin.ts'
import { parseEnvironment } from './request.ts'
import { newestVersion, specVersions } from './spec-versions.ts'

declare const require: (path: string) => unknown // Bun's loads modules of every kind, at once

const onDemand: HeavyModules = {
  get translation() {
    return require('../../nat/masquerade.ts') as HeavyModules['translation']
  },
  get netfilter() {
    return require('../../netlink-lib/nftables/netfilter-socket.ts') as HeavyModules['netfilter']
  },
}

/**
 * One call of a plugin: reads environment and stdin, carries out the verb, prints once, exits. The only place that
 * does any of these. Plain file descriptors, because process.stdin and process.stdout cost milliseconds under Bun.
 */
export function serve<Conf>(plugin: Plugin<Conf>): never {
  let document = ''
  try {
    const environment = parseEnvironment(process.env)
    document = readStdin()
    let result: Record<string, unknown> | undefined
    {
      using host = new BareHost(onDemand)
      result = dispatch(plugin, environment, document, host)
    }
    if (result) print(JSON.stringify(result, undefined, 4))
    process.exit(0)
  } catch (error) {
    print(formatError(toCniError(error), document))
    process.exit(1)
  }
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
    const size = writeSome(bytes.subarray(at))
    if (size >= 0) at += size
    else if (lastErrno() === 11)
      pause(1) // EAGAIN
    else if (lastErrno() !== 4) process.exit(1) // not EINTR: nobody reads, there is nothing left to say
  }
}

function writeSome(bytes: Buffer): number {
  try {
    return libc.write(1, bytes, bytes.length)
  } catch {
    console.log(bytes.toString()) // the C library cannot be called, which is what there is to say
    return bytes.length
  }
}
