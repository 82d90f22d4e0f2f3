import fs from 'node:fs'
import { pause } from '../../netlink-lib/pause.ts'
import { dispatch } from './dispatch.ts'
import { CniError, codes, toCniError } from './errors.ts'
import { Host } from './host.ts'
import type { Plugin } from './plugin.ts'
import { parseEnvironment } from './request.ts'
import { newestVersion, specVersions } from './versions.ts'

/**
 * One call of a plugin: reads environment and stdin, carries out the verb, prints once, exits. The only place that
 * does any of these. Plain file descriptors, because process.stdin and process.stdout cost milliseconds under Bun.
 */
export async function serve<Conf>(load: () => Promise<Plugin<Conf>>): Promise<never> {
  let version: string | undefined
  try {
    const environment = parseEnvironment(process.env)
    const document = readStdin()
    version = /"cniVersion"\s*:\s*"([^"]*)"/i.exec(document)?.[1]
    const plugin = await load()
    let result: Record<string, unknown> | undefined
    {
      using host = new Host()
      result = dispatch(plugin, environment, document, host)
    }
    if (result) write(1, JSON.stringify(result, undefined, 4))
    process.exit(0)
  } catch (error) {
    write(1, formatError(toCniError(error), version))
    process.exit(1)
  }
}

/** The error object of the CNI spec, in the version the configuration speaks. */
function formatError({ code, message, details }: CniError, version: string | undefined): string {
  const cniVersion = specVersions.find((known) => known === version) ?? newestVersion
  return JSON.stringify({ cniVersion, code, msg: message, details }, undefined, 4)
}

function readStdin(): string {
  const chunks: Buffer[] = []
  const chunk = Buffer.allocUnsafe(64 * 1024)
  for (;;) {
    try {
      const size = fs.readSync(0, chunk, 0, chunk.length, null)
      if (size === 0) return Buffer.concat(chunks).toString('utf8')
      chunks.push(Buffer.from(chunk.subarray(0, size)))
    } catch (error) {
      const { code } = error as { code?: string }
      if (code === 'EOF') return Buffer.concat(chunks).toString('utf8')
      if (code === 'EAGAIN')
        pause(1) // a runtime may hand over non-blocking pipes
      else throw new CniError(codes.io, `cannot read the configuration from stdin: ${code}`)
    }
  }
}

function write(fd: number, text: string): void {
  const bytes = Buffer.from(text)
  for (let at = 0; at < bytes.length; ) {
    try {
      at += fs.writeSync(fd, bytes, at)
    } catch (error) {
      if ((error as { code?: string }).code !== 'EAGAIN') process.exit(1) // nobody reads: there is nothing left to say
      pause(1)
    }
  }
}
