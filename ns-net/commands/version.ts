import os from 'node:os'
import { specVersions } from '../../plugins/contract/versions.ts'
import type { Report } from '../output.ts'
import { version as own } from '../version.ts'

export function version(): Report {
  const engine = process.versions.bun ? `bun ${process.versions.bun}` : `node ${process.versions.node}`
  const json = { version: own(), engine, kernel: os.release(), arch: process.arch, cniVersions: specVersions }
  const text = [`ns-net ${json.version}`, engine, `Linux ${json.kernel} ${json.arch}`, `CNI ${specVersions.join(' ')}`]
  return { json, text: `${text.join('\n')}\n` }
}
